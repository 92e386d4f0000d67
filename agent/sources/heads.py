"""
Open files and how they begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.generations import HEAD_BYTES_MAX, Head, head_of
from agent.sources.gunzip import first_bytes

if TYPE_CHECKING:
    from agent.core.host import Disk


@dataclass(slots=True)
class Opened:
    """
    An open descriptor, and whether gzip has to be undone to read it.
    """

    fd: int
    compressed: bool


def head_at(disk: Disk, fd: int, *, compressed: bool, whole: bool) -> Head | None:
    """
    Read the head of an open file.
    """
    first = _first(disk, fd, compressed=compressed)
    return head_of(first, whole=whole or compressed)


def first_line(disk: Disk, fd: int, *, compressed: bool) -> bytes:
    """
    Read as much of the first line as decides about the format.
    """
    first = _first(disk, fd, compressed=compressed)
    return first.partition(b"\n")[0]


def _first(disk: Disk, fd: int, *, compressed: bool) -> bytes:
    if compressed:
        return first_bytes(disk, fd, HEAD_BYTES_MAX)
    return disk.pread(fd, HEAD_BYTES_MAX, 0)
