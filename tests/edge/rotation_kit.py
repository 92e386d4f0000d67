"""
A log file in one of three formats, and everything that can become of it.

The raw format begins every file with the same banner, so that only what follows tells files apart.
"""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

from agent.sources.settings import FilesSettings

if TYPE_CHECKING:
    from pathlib import Path

BANNER = b"=== service starting ==="
#: More than any test rotates.
SIBLINGS_MAX = 30
FORMATS = ("cri", "docker", "raw")


class LogFile:
    """
    `app.log` and its writer.  Every line is numbered, so none is like another but the banner.
    """

    def __init__(self, directory: Path, format_: str) -> None:
        directory.mkdir(exist_ok=True)
        self.path = directory / "app.log"
        self.format = format_
        self.written: list[bytes] = []
        self.count = 0
        self.begin()

    @property
    def settings(self) -> FilesSettings:
        """
        What follows it.
        """
        return FilesSettings(paths=(f"{self.path.parent}/*.log",), format=self.format)  # type: ignore[arg-type]

    def begin(self) -> None:
        """
        Write what every file begins with.
        """
        if self.format == "raw":
            self._append(BANNER)
        else:
            self.path.touch()

    def lines(self, count: int) -> None:
        """
        Append numbered lines.
        """
        for _ in range(count):
            self._append(b"line %05d %s" % (self.count + 1, b"x" * 30))

    def _append(self, message: bytes) -> None:
        self.count += 1
        self.written.append(message)
        stamp = b"2026-11-22T10:15:00.%09dZ" % self.count
        line = {
            "raw": message,
            "cri": b"%s stdout F %s" % (stamp, message),
            "docker": b'{"log":"%s\\n","stream":"stdout","time":"%s"}' % (message, stamp),
        }[self.format]
        with self.path.open("ab") as file:
            file.write(line + b"\n")

    # -- what rotators do ---------------------------------------------------------------------

    def sibling(self, number: int, suffix: str = "") -> Path:
        """
        Return the path of a rotated file.
        """
        return self.path.with_name(f"app.log.{number}{suffix}")

    def shift(self) -> None:
        """
        Make room for one more rotated file.
        """
        for number in range(SIBLINGS_MAX, 0, -1):
            for suffix in ("", ".gz"):
                if self.sibling(number, suffix).exists():
                    self.sibling(number, suffix).rename(self.sibling(number + 1, suffix))

    def rename(self) -> None:
        """
        Shift what is rotated, rename the live file and begin a new one.
        """
        self.shift()
        self.path.rename(self.sibling(1))
        self.begin()

    def compress(self, number: int) -> None:
        """
        Compress a rotated file; its original is gone.
        """
        path = self.sibling(number)
        self.sibling(number, ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()

    def copytruncate(self) -> None:
        """
        Copy the live file and cut it.
        """
        self.sibling(1).write_bytes(self.path.read_bytes())
        self.overwrite()

    def overwrite(self) -> None:
        """
        Cut the live file and write it anew: to a reader the same as deletion and a new file that got its inode.
        """
        os.truncate(self.path, 0)
        self.begin()


def rename(log: LogFile) -> None:
    """
    Rotated once.
    """
    log.rename()
    log.lines(20)


def rename_then_gz(log: LogFile) -> None:
    """
    Rotated, and compressed at once.
    """
    log.rename()
    log.compress(1)
    log.lines(20)


def gz_and_reused_inode(log: LogFile) -> None:
    """
    Compressed, and the live file has the inode that the compressed one had.
    """
    log.sibling(1, ".gz").write_bytes(gzip.compress(log.path.read_bytes()))
    log.overwrite()
    log.lines(20)


def copytruncate(log: LogFile) -> None:
    """
    Copied and cut; the live file has grown beyond what it was.
    """
    log.copytruncate()
    log.lines(20)


def two_rotations(log: LogFile) -> None:
    """
    Rotated twice; the file between is larger than the first.
    """
    log.rename()
    log.lines(15)
    log.rename()
    log.lines(20)


def two_rotations_gz(log: LogFile) -> None:
    """
    Rotated twice, the older one compressed, the live one has its inode.
    """
    old = log.path.stat().st_ino
    log.rename()
    log.lines(15)
    log.rename()
    original = log.sibling(2)
    log.sibling(2, ".gz").write_bytes(gzip.compress(original.read_bytes()))
    # The live file becomes what lies at the inode of the file that was compressed.
    content = log.path.read_bytes()
    original.rename(log.path)
    log.path.write_bytes(content)
    assert log.path.stat().st_ino == old
    log.lines(20)


def two_rotations_small(log: LogFile) -> None:
    """
    Rotated twice; the file between is smaller than what was read of the first.
    """
    log.rename()
    log.lines(1)
    log.rename()
    log.lines(20)


SCENARIOS = (
    rename,
    rename_then_gz,
    gz_and_reused_inode,
    copytruncate,
    two_rotations,
    two_rotations_gz,
    two_rotations_small,
)
