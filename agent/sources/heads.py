"""
Open files: how they begin, and where their last line does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.identity import HEAD_BYTES_MAX, Head, Tail, digest_of, head_of
from agent.sources.gunzip import GzipError, first_bytes, slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.host import Disk, FileStat
    from agent.core.rotated_names import RotatedName

#: Block in which the last line start is searched backwards.
ALIGN_BYTES = 64 << 10


#: A rotated file that was written to within this time may be a copy that is still being made.
UNFINISHED_NS = 2_000_000_000


@dataclass(slots=True)
class Opened:
    """
    An open descriptor, and whether gzip has to be undone to read it.
    """

    fd: int
    compressed: bool


def is_whole(parts: RotatedName, mtime_ns: int, now_ns: int) -> bool:
    """
    Whether nobody writes to a file any more, so that a first line without an end is all that there is of it.
    """
    return not parts.is_live and now_ns - mtime_ns > UNFINISHED_NS


def look_at(
    disk: Disk, fd: int, parts: RotatedName, *, now_ns: int
) -> tuple[FileStat, Head | None]:
    """
    Return what an open plain file has, and how it begins: both of one content.

    It can be cut and written anew between two calls; then both are asked again.
    """
    first = _first(disk, fd, compressed=False)
    while True:
        status = disk.fstat(fd)
        before, first = first, _first(disk, fd, compressed=False)
        head = head_of(first, whole=False)
        if first == before or (head is not None and head == head_of(before, whole=False)):
            if head is None and is_whole(parts, status.st_mtime_ns, now_ns):
                head = head_of(first, whole=True)
            return status, head


def head_at(disk: Disk, fd: int, *, compressed: bool, whole: bool) -> Head | None:
    """
    Read the head of an open file.
    """
    first = _first(disk, fd, compressed=compressed)
    return head_of(first, whole=whole or compressed)


def tails_at(
    disk: Disk, fd: int, places: Sequence[tuple[int, int]], *, compressed: bool
) -> tuple[Tail, ...]:
    """
    Read the tails at *places*, each an offset and a length; without a digest where the file ends before.
    """
    if not places:
        return ()
    if compressed:
        try:
            found = slices(disk, fd, places)
        except GzipError:
            found = {}
    else:
        found = {place: disk.pread(fd, place[1], place[0] - place[1]) for place in set(places)}
    return tuple(
        Tail(
            offset,
            length,
            digest_of(content)
            if len(content := found.get((offset, length), b"")) == length
            else b"",
        )
        for offset, length in found.keys() | set(places)
    )


def has_tail(disk: Disk, fd: int, tail: Tail) -> bool:
    """
    Whether the open plain file has *tail*.
    """
    before = disk.pread(fd, tail.length, tail.offset - tail.length)
    return len(before) == tail.length and digest_of(before) == tail.digest


def first_line(disk: Disk, fd: int, *, compressed: bool) -> bytes:
    """
    Read as much of the first line as decides about the format.
    """
    first = _first(disk, fd, compressed=compressed)
    return first.partition(b"\n")[0]


def last_line_start(disk: Disk, fd: int, size: int) -> int:
    """
    Return where the last line before *size* begins: *size* itself behind a newline.
    """
    stop = size
    while stop > 0:
        start = max(0, stop - ALIGN_BYTES)
        newline = disk.pread(fd, stop - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        stop = start
    return 0


def _first(disk: Disk, fd: int, *, compressed: bool) -> bytes:
    if compressed:
        return first_bytes(disk, fd, HEAD_BYTES_MAX)
    return disk.pread(fd, HEAD_BYTES_MAX, 0)
