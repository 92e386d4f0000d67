"""
Reading a generation that was compressed: offsets are those of the decompressed bytes.

A stream only goes forward.  A place before the stream's is reached by starting anew, and one behind it
by decompressing what is between (ISA-L: about 1 GB/s).  Concatenated members are one stream, as for
gzip(1).  Everything here runs in the executor but `first_bytes`, which needs one page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isal import isal_zlib

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent._fastparse import Chunk
    from agent.core.host import Disk

_IsalError: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment] # the stub says instance
_GZIP = 16 + 15  # wbits: a gzip header, the largest window
_FIRST_BYTES = 4096
_INPUT_BYTES = 128 << 10
_SKIP_BYTES = 256 << 10
_TRAILER_BYTES = 18  # header and trailer of the smallest gzip file
#: A damaged file is given up after this many attempts: what it was made of is gone.
GZIP_ATTEMPTS = 3
#: A deflate stream cannot expand further (zlib, technical details).
_RATIO_MAX = 1032


class GzipError(OSError):
    """
    The file is damaged, or not finished.
    """


class GzipStream:
    """
    One reader's place in one compressed file.
    """

    __slots__ = ("_ended", "_inflate", "_input", "_position", "_raw_offset")

    def __init__(self) -> None:
        self._reset()

    @property
    def ended(self) -> bool:
        """
        Whether the end of the file was read.
        """
        return self._ended

    def _reset(self) -> None:
        self._inflate = isal_zlib.decompressobj(_GZIP)
        self._input = b""
        self._raw_offset = 0
        self._position = 0
        self._ended = False

    def read(self, disk: Disk, fd: int, chunk: Chunk, length: int, offset: int) -> int:
        """
        Fill chunk[:length] with the bytes at *offset*; fewer only at the end of the file.
        """
        if offset < self._position:
            self._reset()
        while self._position < offset and not self._ended:
            self._next(disk, fd, min(_SKIP_BYTES, offset - self._position))
        view = memoryview(chunk)
        filled = 0
        while filled < length and not self._ended:
            data = self._next(disk, fd, length - filled)
            view[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    def forward(self, disk: Disk, fd: int) -> bytes:
        """
        Return the next bytes; none at the end of the file.
        """
        return b"" if self._ended else self._next(disk, fd, _SKIP_BYTES)

    def _next(self, disk: Disk, fd: int, length: int) -> bytes:
        if self._inflate.eof:
            # Zero padding behind a member is legal, however long.
            self._input = self._inflate.unused_data.lstrip(b"\0")
            while not self._input:
                self._fill(disk, fd)
                if not self._input:
                    self._ended = True
                    return b""
                self._input = self._input.lstrip(b"\0")
            self._inflate = isal_zlib.decompressobj(_GZIP)
        if not self._input:
            self._fill(disk, fd)
            if not self._input:
                raise GzipError("the compressed file ends in its middle")
        try:
            data: bytes = self._inflate.decompress(self._input, length)
        except _IsalError as error:
            raise GzipError(f"the compressed file is damaged: {error}") from error
        self._input = self._inflate.unconsumed_tail
        self._position += len(data)
        return data

    def _fill(self, disk: Disk, fd: int) -> None:
        self._input = disk.pread(fd, _INPUT_BYTES, self._raw_offset)
        self._raw_offset += len(self._input)


def first_bytes(disk: Disk, fd: int, length: int) -> bytes:
    """
    Return the first *length* decompressed bytes, or all there are.
    """
    try:
        data: bytes = isal_zlib.decompressobj(_GZIP).decompress(
            disk.pread(fd, _FIRST_BYTES, 0), length
        )
    except _IsalError as error:
        raise GzipError(f"not a gzip file: {error}") from error
    return data


def slices(disk: Disk, fd: int, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """
    Return what is before each of *places*, (offset, length), in one pass; those behind the end are left out.
    """
    wanted = sorted(set(places))
    kept = max(length for _, length in wanted)
    found: dict[tuple[int, int], bytes] = {}
    stream = GzipStream()
    window, position = b"", 0
    while len(found) < len(wanted):
        # An empty answer can stand between two members of the file.
        block = stream.forward(disk, fd)
        if not block and stream.ended:
            break
        window += block
        position += len(block)
        for offset, length in wanted[len(found) :]:
            if offset > position:
                break
            start = offset - length - (position - len(window))
            found[offset, length] = window[start : start + length]
        window = window[-kept:]
    return found


def size_hint(disk: Disk, fd: int, file_size: int) -> int:
    """
    Return the decompressed size that the trailer states; 0 where it cannot be right.

    It is that of the last member, modulo 4 GiB: good enough to report lag, never to stop reading.
    """
    if file_size < _TRAILER_BYTES:
        return 0
    stated = int.from_bytes(disk.pread(fd, 4, file_size - 4), "little")
    return stated if stated <= file_size * _RATIO_MAX else 0
