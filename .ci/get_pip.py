"""
Install pip into the running interpreter's environment from the package index, without pip.

Debian without python3-venv has `venv` but neither ensurepip nor pip.  A wheel is a zip that Python
can import, so pip's own wheel installs itself.  The index is PIP_INDEX_URL or PyPI; what it gives
is checked against the digest that it lists.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request

INDEX_URL = "https://pypi.org/simple"
TIMEOUT_S = 60
WHEEL_NAME = re.compile(r"pip-(\d+)\.(\d+)(?:\.(\d+))?-py3-none-any\.whl")


def newest_wheel(page_url: str) -> tuple[str, str]:
    """
    Return URL and SHA-256 of the newest final pip on the index page.
    """
    request = urllib.request.Request(
        page_url, headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        files = json.load(response)["files"]
    found = [
        (tuple(int(part or 0) for part in match.groups()), file)
        for file in files
        if (match := WHEEL_NAME.fullmatch(file["filename"])) and not file.get("yanked")
    ]
    newest = max(found, key=lambda item: item[0])[1]
    return urllib.parse.urljoin(page_url, newest["url"]), newest["hashes"]["sha256"]


def main() -> int:
    """
    Download, check, install.
    """
    index = os.environ.get("PIP_INDEX_URL", INDEX_URL).rstrip("/")
    url, digest = newest_wheel(f"{index}/pip/")
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
        wheel = response.read()
    if hashlib.sha256(wheel).hexdigest() != digest:
        print(f"{url}: the digest is not the one that the index lists", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "pip-0-py3-none-any.whl")
        with open(path, "wb") as file:
            file.write(wheel)
        command = [sys.executable, f"{path}/pip", "install", "--quiet", "pip"]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
