"""
What is read back from a disk: staged frames, what agent and seal child tell each other, compressed log files.
"""

from __future__ import annotations

import gzip
import os
import random
import re
import zlib

from agent._fastparse import FORMAT_CRI, Chunk, Parser
from agent.cli.seal_rows import pieces, table
from agent.core.batch import Resource, Segment
from agent.core.budget import Budget, Charge
from agent.core.cursor import cursor_at
from agent.core.errors import StopError
from agent.runtime.disk import OsDisk
from agent.runtime.state_disk import OsStateDisk
from agent.sinks.parquet_manifest import damage_of, read_manifest
from agent.sinks.staging import (
    FRAME_HEAD,
    FRAME_LENGTHS,
    block_bytes,
    encode_file_head,
    encode_frame,
)
from agent.sinks.staging_scan import scan
from agent.sources.gunzip import GzipError, GzipStream, first_bytes, size_hint
from tests.fast.support import parse_columns
from tests.fuzz.lines import CRI
from tests.fuzz.registry import Fuzzer, scratch

DISK = OsStateDisk()
GZIP_FLAGS = re.compile(rb"\x1f\x8b\x08(.)", re.DOTALL)
#: Of a file that can be read again, so much is unpacked at most.
UNPACKED_BYTES_MAX = 1 << 20


def _segment(text: bytes, offset: int) -> Segment:
    parser = Parser(format=FORMAT_CRI, line_bytes_max=1 << 20)
    parser.restore(cursor_at(3, offset))
    columns = parse_columns(parser, text, offset=offset, final=True)
    resource = Resource("/l/0.log", "c", "n", "shop", "web-1", "u-1", "web", "0")
    share = Budget(1 << 20, ("a",)).shares["a"]
    return Segment(
        log="/l/0.log",
        generation=3,
        file_id="00112233445566778899aabbccddeeff",
        start=offset,
        stop=offset + len(text),
        resource=resource,
        columns=columns,
        cursor_after=cursor_at(3, offset + len(text)),
        read_ns=1,
        charge=Charge(share, 0),
        rows=columns.rows,
    )


def _staged() -> bytes:
    frames = [encode_frame([_segment(text, 0), _segment(text, len(text))]).encoded for text in CRI]
    return encode_file_head(7, 1) + b"".join(frames)


def _resigned(data: bytes) -> bytes:
    """
    Give every frame head of *data* the checksums of what is behind it, so that damage gets behind them.
    """
    found = bytearray(data)
    at = 24
    while at + FRAME_HEAD.size <= len(found):
        header, body, unpacked, _, _ = FRAME_HEAD.unpack_from(found, at)
        packed = found[at + FRAME_HEAD.size :][:header]
        rest = found[at + FRAME_HEAD.size + header :][:body]
        lengths = FRAME_LENGTHS.pack(header, body, unpacked, zlib.crc32(rest))
        checksum = zlib.crc32(packed, zlib.crc32(lengths))
        found[at : at + FRAME_HEAD.size] = lengths + checksum.to_bytes(4, "little")
        at += FRAME_HEAD.size + header + body
    return bytes(found)


def staging(data: bytes) -> None:
    """
    Stretches tile the file: each is a frame whose rows can be sealed, or damage that can be named.
    """
    resigned = zlib.crc32(data) % 3 == 0
    if resigned:
        data = _resigned(data)
    path = scratch("staging")
    with open(path, "wb") as file:
        file.write(data)
    length = len(data) - zlib.crc32(data) % 5 if len(data) > 5 else len(data)
    try:
        found = list(scan(DISK, path, length))
        checked = list(scan(DISK, path, length, decode=False))
    except StopError:
        return  # Of another version.
    assert [(item.start, item.stop) for item in found] == [
        (item.start, item.stop) for item in checked
    ]
    if not length:
        return
    at = 0
    for item in found:
        assert item.start in (at, 24)
        assert item.stop > item.start
        at = item.stop
        if item.data is None:
            list(damage_of(item))
            continue
        assert item.header is not None
        if not resigned:  # What is behind a right checksum is what we wrote.
            _seal(item.header, item.data)
    assert at == length or (not found and length <= 24)


def _seal(header, data: bytes) -> None:
    at = 0
    for segment in header.segments:
        size = block_bytes(segment.rows, segment.message_bytes)
        block = data[at : at + size]
        at += size
        resource = header.resources[segment.resource]
        for partition, piece in pieces(resource, segment, block):
            partition.path.encode()
            table([piece]).validate(full=True)


def manifest(data: bytes) -> None:
    """
    A manifest that cannot be read is none: the window is sealed again.
    """
    directory = scratch("manifest")
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/manifest.json", "wb") as file:
        file.write(data)
    found = read_manifest(DISK, directory)
    if found is not None:
        assert all(isinstance(item.key, str) for item in found.objects)


class _Disk(OsDisk):
    """
    One file.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return self.data[offset : offset + length]


def gzipped(data: bytes) -> None:
    """
    It is what gzip makes of it, or damaged; and the same from any place on.
    """
    disk = _Disk(data)
    rng = random.Random(zlib.crc32(data))
    size_hint(disk, 0, len(data))
    whole: bytes | None = None
    try:
        whole = _read_all(disk, GzipStream(), rng.choice((1000, 65536)), 0)
        first = first_bytes(disk, 0, 100)
        assert whole.startswith(first) or len(data) > 4096
    except GzipError:
        pass
    try:
        expected = gzip.decompress(data) if len(data) < 4096 else None
    except (OSError, EOFError, zlib.error):
        expected = None
    # ISA-L checks what the standard library does not: the checksum of a header, and bits that mean nothing yet.
    strict = whole is None and any(match[1][0] & 0xE2 for match in GZIP_FLAGS.finditer(data))
    if expected is not None and data and not strict:
        assert whole == expected[:UNPACKED_BYTES_MAX]
    if whole:
        at = rng.randrange(len(whole))
        stream = GzipStream()
        _read_all(disk, stream, 65536, at)
        assert _read_all(disk, stream, 997, at) == whole[at:]


def _read_all(disk: _Disk, stream: GzipStream, size: int, offset: int) -> bytes:
    data = b""
    chunk = Chunk(size)
    while len(data) + offset < UNPACKED_BYTES_MAX:
        got = stream.read(disk, 0, chunk, size, offset + len(data))
        data += bytes(memoryview(chunk)[:got])
        if got < size:
            break
    return data[: max(0, UNPACKED_BYTES_MAX - offset)]


MANIFEST = (
    b'{"window":7,"staging_length":100,"rows":3,"objects":[{"key":"cluster=c/dt=2026-11-22/hour=10/n-00000007-ab.parquet"'
    b',"bytes":5000,"rows":3}],"damage":[{"log":"/l","file_id":"ab","generation":1,"start":0,"stop":9,"rows":2}]}'
)
FUZZERS = (
    Fuzzer(
        "staging",
        staging,
        (_staged(), _staged()[:300]),
        (b"TRSTAGE\x01", b"\xff\xff\xff\xff", bytes(8)),
        cost=4,
    ),
    Fuzzer(
        "manifest",
        manifest,
        (MANIFEST,),
        (b"null", b"{", b"[", b"-1", b"1.5", b"\\ud800", b'"rows":', b"\xff"),
    ),
    Fuzzer(
        "gzip",
        gzipped,
        (
            gzip.compress(CRI[0], mtime=0),
            gzip.compress(CRI[0] * 9, 1, mtime=0) + gzip.compress(CRI[2], mtime=0) + bytes(20),
            gzip.compress(b"", mtime=0),
            b"\x1f\x8b\x08\x1c\x00\x00\x00\x00\x00\x03\x04\x00abcdname\x00comment\x00"
            + gzip.compress(b"x\n", mtime=0)[10:],
        ),
        (b"\x1f\x8b\x08", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", bytes(8), b"\xff" * 8),
        cost=2,
    ),
)
