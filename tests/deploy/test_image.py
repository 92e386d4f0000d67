"""
Dockerfile and config/image: what is pinned, what the probe says, what the build tries.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from agent.core.counters import Counters
from agent.runtime.admin import Admin
from tests.deploy.manifests import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

IMAGE = REPOSITORY / "config" / "image"
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


async def probe(address: str, path: str) -> int:
    """
    Run the probe as the kubelet does, and return its exit code.
    """
    process = await asyncio.create_subprocess_exec(
        "bash",
        str(IMAGE / "tailrace-probe"),
        path,
        env=os.environ | {"TAILRACE_ADMIN": address},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


def admin(*, ready: bool) -> Admin:
    return Admin(
        "127.0.0.1:0",
        counters=Counters(),
        ready=lambda: ready,
        refresh=lambda: None,
        tell=lambda *_, **__: None,
    )


@pytest.mark.parametrize("ready", [True, False])
async def test_probe(ready: bool) -> None:
    """
    An agent whose routes wait for a cloud is healthy, and not ready.
    """
    async with admin(ready=ready) as endpoint:
        assert endpoint.address is not None
        host, port = endpoint.address
        assert await probe(f"{host}:{port}", "/healthz") == 0
        assert await probe(f":{port}", "/healthz") == 0
        assert (await probe(f"{host}:{port}", "/readyz") == 0) is ready
        assert await probe(f"{host}:{port}", "/nowhere") == 1


async def test_probe_of_nobody() -> None:
    """
    Nobody listens, or somebody closes without a word: both are failures.
    """

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert await probe(f"127.0.0.1:{port}", "/healthz") == 1
    assert await probe(f"127.0.0.1:{port}", "/healthz") == 1


def test_constraints() -> None:
    """
    The image's dependencies are pinned, to versions that pyproject.toml accepts.
    """
    lines = (IMAGE / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    for requirement in map(Requirement, wanted):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: {version}"
    for version in pinned.values():
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version)


def test_requirements() -> None:
    """
    The image installs what pyproject.toml names, before the code is there.
    """
    command = [sys.executable, str(IMAGE / "requirements.py")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert done.stdout.splitlines() == project["project"]["dependencies"]


def test_dockerfile() -> None:
    """
    The base has a dated tag and room for a digest; what runs is one layer, not root, and stops on SIGTERM.
    """
    assert re.search(r"^ARG BASE_IMAGE=debian:[a-z]+-\d{8}-slim$", DOCKERFILE, re.MULTILINE)
    stages = re.findall(r"^FROM (.*)$", DOCKERFILE, re.MULTILINE)
    base = "${BASE_IMAGE}${BASE_DIGEST}"
    assert stages == [f"{base} AS build", f"{base} AS root", "scratch"]
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "COPY --from=root / /" in final
    assert "USER 65532:65532" in final
    assert "STOPSIGNAL SIGTERM" in final
    assert 'CMD ["tailrace-probe", "/healthz"]' in final
    assert "\nRUN " not in final
    after_build = DOCKERFILE.partition(" AS root")[2]
    assert not re.search(r"\b(gcc|libc6-dev|python3-dev|binutils)\b", after_build)


def test_the_image_can_read_a_journal() -> None:
    """
    The command and its library come from one list of packages, and are tried after the purge.
    """
    root = DOCKERFILE.partition(" AS root")[2].partition("\nFROM ")[0]
    installed = re.search(r"apt-get install .*", root)
    assert installed is not None
    assert "libsystemd-shared" in installed[0]
    assert " systemd " not in installed[0]
    assert root.index("apt-get download systemd") < root.index("dpkg --purge")
    assert root.index("dpkg --purge") < root.index("journalctl --version")
    purged = re.search(r"apt 'libapt-pkg\*'.*", root)
    assert purged is not None
    # What the library is linked with, or opens when a journal needs it.
    for package in (
        *("libacl1", "libaudit1", "libblkid1", "libcap2", "libcrypt1", "libmount1", "libpam0g"),
        *("libseccomp2", "libselinux1", "libssl3t64", "libzstd1", "liblz4-1", "liblzma5"),
    ):
        assert package not in purged[0].split(), package


def test_what_is_copied_is_sent() -> None:
    """
    .dockerignore lets through what the Dockerfile copies.
    """
    allowed = {
        line[1:]
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for sources in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (REPOSITORY / source).exists(), source
            assert {source, *(source.rsplit("/", n)[0] for n in (1, 2))} & allowed, source


def test_smoke_passes_here(tmp_path: Path) -> None:
    """
    The build's smoke test delivers its lines with the agent of this tree.
    """
    assert run_smoke(tmp_path, "import runpy; runpy.run_module('agent', run_name='__main__')") == 0


def test_smoke_fails(tmp_path: Path) -> None:
    """
    The build ends where the agent does not deliver.
    """
    assert run_smoke(tmp_path, "import sys; sys.exit('--version' not in sys.argv)") != 0


def run_smoke(directory: Path, program: str) -> int:
    """
    Run the smoke test with *program* as the installed command.
    """
    command = directory / "tailrace"
    command.write_text(f"#!{sys.executable}\n{program}\n")
    command.chmod(0o755)
    python = directory / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    arguments: Sequence[str] = ["bash", str(IMAGE / "smoke"), str(command)]
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(arguments, env=environ, capture_output=True, text=True, timeout=150)
    return done.returncode


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give capabilities away")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv (util-linux) is not installed")
def test_root_without_capabilities_reads_logs(tmp_path: Path) -> None:
    """
    Why the DaemonSet adds no capability: the owner reads a file of mode 0640; another owner's is refused.
    """
    log = tmp_path / "0.log"
    log.write_text("line\n")
    log.chmod(0o640)
    tmp_path.chmod(0o750)
    command = [
        "setpriv",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--no-new-privs",
        "cat",
        str(log),
    ]
    assert subprocess.run(command, capture_output=True, timeout=30).stdout == b"line\n"
    os.chown(log, 65532, 65532)
    assert subprocess.run(command, capture_output=True, timeout=30).returncode == 1
