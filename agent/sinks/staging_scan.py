"""
Reads staging files (staging.py has the format): whole frames, and damage as stretches that can be named.

Whatever is in the file, it is read to its end: a head, header or data that fail their checksums, or say what cannot be,
are damage.  Only a version that this code does not know is refused.  Everything here blocks on a disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from isal import isal_zlib

from agent.core.errors import StopError
from agent.core.transform import BUFFERS
from agent.sinks.staging import (
    FILE_HEAD,
    FRAME_BYTES_MAX,
    FRAME_HEAD,
    FRAME_LENGTHS,
    MAGIC,
    RAW_DEFLATE,
    VERSION,
    FrameHeader,
    block_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.core.host import StateDisk

_IsalError: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment] # the stub says instance
_header_decoder = msgspec.json.Decoder(FrameHeader)


class Scanned(NamedTuple):
    """
    A stretch [start, stop) of a staging file: a frame, or damage.

    `header` is None where the header is damaged, `data` (decompressed) where the data are.
    """

    start: int
    stop: int
    header: FrameHeader | None
    data: bytes | None


def scan(disk: StateDisk, path: str, length: int, *, decode: bool = True) -> Iterator[Scanned]:
    """
    Yield the frames of the first *length* bytes of the staging file *path*; damage too, as stretches of its own.

    Without *decode* the data are checked and left out of memory: `data` is then b"" where they are whole.
    A file that has vanished is damage from its beginning to its end.
    Raises StopError for a format version that this code does not know.
    """
    try:
        fd = disk.open_read(path)
    except FileNotFoundError:
        yield Scanned(0, length, None, None)
        return
    try:
        available = min(length, disk.size(fd))
        position = FILE_HEAD.size
        if not _head_is_whole(disk.pread(fd, position, 0), path):
            # Only the head: the frames behind it have checksums of their own.
            yield Scanned(0, min(position, length), None, None)
        while position < available:
            found = _read_frame(disk, fd, position, available, decode=decode)
            if found is None:
                break
            yield found
            position = found.stop
        if position < length:
            yield Scanned(position, length, None, None)
    finally:
        disk.close(fd)


def read_created_ns(disk: StateDisk, path: str) -> int | None:
    """
    Return when the staging file *path* was created; None where its head is damaged.
    """
    fd = disk.open_read(path)
    try:
        head = disk.pread(fd, FILE_HEAD.size, 0)
    finally:
        disk.close(fd)
    if not _head_is_whole(head, path):
        return None
    created_ns: int = FILE_HEAD.unpack(head)[3]
    return created_ns


def _head_is_whole(head: bytes, path: str) -> bool:
    if len(head) < FILE_HEAD.size or not head.startswith(MAGIC):
        return False
    if head[7] != VERSION:
        raise StopError(
            f"{path}: staging format version {head[7]}, this version of Tailrace reads {VERSION}: "
            "run the version that wrote it until everything is uploaded",
            exit_code=70,
        )
    return True


def _read_frame(
    disk: StateDisk, fd: int, position: int, available: int, *, decode: bool
) -> Scanned | None:
    """
    Return the frame at *position*, or None where not even its lengths can be trusted.
    """
    head = disk.pread(fd, FRAME_HEAD.size, position)
    if len(head) < FRAME_HEAD.size:
        return None
    header_length, data_length, data_bytes, data_crc, header_crc = FRAME_HEAD.unpack(head)
    stop = position + FRAME_HEAD.size + header_length + data_length
    if stop > available or data_bytes > FRAME_BYTES_MAX:
        return None
    body = memoryview(disk.pread(fd, header_length + data_length, position + FRAME_HEAD.size))
    packed, data = body[:header_length], body[header_length:]
    header = None
    if isal_zlib.crc32(packed, isal_zlib.crc32(head[: FRAME_LENGTHS.size])) == header_crc:
        header = _header(packed, data_bytes)
    elif stop != available and not _frame_follows(disk, fd, stop, available):
        return None
    if header is None or isal_zlib.crc32(data) != data_crc:
        return Scanned(position, stop, header, None)
    if not decode:
        return Scanned(position, stop, header, b"")
    try:
        unpacked = isal_zlib.decompress(data, RAW_DEFLATE, data_bytes or 1)
    except _IsalError:
        unpacked = b""
    return Scanned(position, stop, header, unpacked if len(unpacked) == data_bytes else None)


def _header(packed: memoryview, data_bytes: int) -> FrameHeader | None:
    """
    Return the header; None where it is none for *data_bytes* bytes, whatever its checksum says.
    """
    try:
        header = _header_decoder.decode(isal_zlib.decompress(packed, RAW_DEFLATE))
    except (_IsalError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    named = all(item.resource < len(header.resources) for item in header.segments)
    blocks = sum(block_bytes(item.rows, item.message_bytes) for item in header.segments)
    buffers = sum(BUFFERS.get(kind, 0) for _, kind in header.columns)
    named &= all(
        len(item.typed) in {0, buffers} and min(item.typed, default=0) >= 0
        for item in header.segments
    )
    named &= all(kind in BUFFERS for _, kind in header.columns)
    blocks += sum((length + 7) & ~7 for item in header.segments for length in item.typed)
    return header if named and blocks == data_bytes else None


def _frame_follows(disk: StateDisk, fd: int, position: int, available: int) -> bool:
    """
    Whether a whole frame head and header stand at *position*: the lengths that led here were right.
    """
    head = disk.pread(fd, FRAME_HEAD.size, position)
    if len(head) < FRAME_HEAD.size:
        return False
    header_length, data_length, _, _, header_crc = FRAME_HEAD.unpack(head)
    if position + FRAME_HEAD.size + header_length + data_length > available:
        return False
    packed = disk.pread(fd, header_length, position + FRAME_HEAD.size)
    found: int = isal_zlib.crc32(packed, isal_zlib.crc32(head[: FRAME_LENGTHS.size]))
    return found == int(header_crc)
