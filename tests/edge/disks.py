"""
Disks that can be filled, and that fail: real file systems, where the tests may mount them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXT4_BYTES = 24 << 20


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        pytest.skip(f"{command[0]} is not possible here: {done.stderr.strip()[:100]}")


@contextmanager
def tmpfs(path: Path, *, mib: int) -> Iterator[None]:
    """
    Mount a memory disk of *mib* at *path*, or skip the test.
    """
    if os.geteuid():
        pytest.skip("mounting needs root")
    path.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0755", "tmpfs", str(path))
    try:
        yield
    finally:
        subprocess.run(("umount", "-l", str(path)), check=False)


@contextmanager
def ext4(path: Path, image: Path) -> Iterator[None]:
    """
    Mount a file system in the file *image* at *path*, or skip the test.
    """
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("mounting needs root and mkfs.ext4")
    with image.open("wb") as file:
        file.truncate(EXT4_BYTES)
    _run("mkfs.ext4", "-q", "-F", str(image))
    path.mkdir(parents=True, exist_ok=True)
    _run("mount", "-o", "loop", str(image), str(path))
    try:
        yield
    finally:
        subprocess.run(("umount", "-l", str(path)), check=False)


def abort(path: Path) -> None:
    """
    Let the ext4 at *path* do what it does after an error of its disk: refuse every write from now on.
    """
    subprocess.run(("mount", "-o", "remount,abort", str(path)), check=True, timeout=30)


def fill(path: Path) -> Path:
    """
    Write a file that takes all the space at *path*; return it.
    """
    ballast = path / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return ballast
