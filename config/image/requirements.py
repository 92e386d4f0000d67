"""
Print the runtime dependencies of pyproject.toml, one a line, for pip.
"""

from __future__ import annotations

import tomllib

with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["dependencies"], sep="\n")
