"""
Whose memory it is, how much, and that no Python object is made per line.
"""

from __future__ import annotations

import gc
import os
import tracemalloc

import pytest

from agent import _fastencode, _fastparse, _faststage
from agent._fastparse import FORMAT_CRI, FORMAT_DOCKER, Chunk, Columns, Parser

LINES = {
    FORMAT_CRI: b'2026-11-22T19:00:01.123456789Z stdout F GET "/index.html" 200 \xff\n',
    FORMAT_DOCKER: b'{"log":"GET \\"/\\" 200\\n","stream":"stdout","time":"2026-11-22T19:00:01Z"}\n',
}


def read(parser, text, capacity=0):
    chunk = Chunk(max(capacity, len(text)))
    with memoryview(chunk) as view:
        view[: len(text)] = text
    return parser.parse(chunk, len(text), offset=0, read_time_ns=0)


def whole_path(text, file_format):
    columns = read(Parser(format=file_format, line_bytes_max=1_000), text)
    order = _fastencode.order_rows([columns])
    body = _fastencode.Body()
    for message_format in (_fastencode.MESSAGE_BARE, _fastencode.MESSAGE_CONTAINER_INSIGHTS):
        body.encode(
            b"[",
            [columns],
            [b""],
            order,
            0,
            format=message_format,
            events_max=10_000,
            batch_bytes_max=2**40,
            valid_from_ms=0,
            valid_until_ms=2**62,
        )
    return columns.rows, _faststage.staging_buffers(columns)


def objects_made(text, file_format):
    """
    Python memory blocks at the peak of the path of *text*.
    """
    whole_path(text, file_format)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        rows, _staged = whole_path(text, file_format)
        blocks = sum(trace.count for trace in tracemalloc.take_snapshot().statistics("filename"))
        return rows, blocks
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize("file_format", sorted(LINES))
def test_no_python_object_is_made_per_line(file_format):
    """
    Parse, order, encode and stage allocate as often for 10,000 lines as for 10.
    """
    few, few_blocks = objects_made(LINES[file_format] * 10, file_format)
    many, many_blocks = objects_made(LINES[file_format] * 10_000, file_format)
    assert (few, many) == (10, 10_000)
    assert abs(many_blocks - few_blocks) <= 5


def test_a_chunk_is_read_into_and_parsed_once(tmp_path):
    """
    A read goes into it; its memory goes to the columns.
    """
    path = tmp_path / "0.log"
    path.write_bytes(LINES[FORMAT_CRI])
    chunk = Chunk(4_096)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        length = os.preadv(descriptor, [chunk], 0)
    finally:
        os.close(descriptor)
    parser = Parser(format=FORMAT_CRI, line_bytes_max=1_000)
    with memoryview(chunk) as view:
        assert len(view) == chunk.capacity == 4_096
        with pytest.raises(BufferError):
            parser.parse(chunk, length, offset=0, read_time_ns=0)
    assert parser.parse(chunk, length, offset=0, read_time_ns=0).rows == 1
    with pytest.raises(ValueError):
        parser.parse(chunk, length, offset=length, read_time_ns=0)
    with pytest.raises(BufferError):
        memoryview(chunk)


def test_a_short_read_gives_its_chunk_back():
    """
    300 bytes of lines do not hold a chunk of 256 KiB.
    """
    columns = read(Parser(format=FORMAT_CRI, line_bytes_max=1_000), LINES[FORMAT_CRI] * 4, 262_144)
    assert columns.rows == 4
    assert len(columns.data) <= columns.nbytes < 1_000


def test_columns_are_read_only_views():
    """
    Views keep the memory alive, and cannot change it.
    """
    columns = read(Parser(format=FORMAT_CRI, line_bytes_max=1_000), LINES[FORMAT_CRI])
    views = [columns.data, columns.column("time_ns"), columns.column("flags")]
    message_bytes = columns.message_bytes
    del columns
    gc.collect()
    assert all(view.readonly for view in views)
    assert views[1].tolist() == [1_795_374_001_123_456_789]
    assert views[2].tolist() == [1]
    assert message_bytes == len(LINES[FORMAT_CRI]) - 41
    with pytest.raises(TypeError):
        views[0][0] = 1


def test_build_checks_its_rows():
    """
    Positions outside of the data are refused, so that columns are always safe to read.
    """
    assert Columns.build(b"abc", [(1, 2, 0, 1, 1, 2, 5)]).message_bytes == 2
    for row in ((1, 2, 0, 4, 0, 0, 0), (1, 2, 0, 0, 2, 2, 0), (1, 2, -1, 1, 0, 0, 0)):
        with pytest.raises(ValueError):
            Columns.build(b"abc", [row])
    with pytest.raises(KeyError):
        Columns.build(b"", []).column("time")
    assert len(Columns().data) == len(Columns().column("flags")) == Columns().rows == 0
    assert _faststage.staging_buffers(Columns()).messages == b""


def test_the_compiled_ones_are_loaded():
    """
    The twin is the specification, not a fallback that nobody notices.
    """
    for module in (_fastparse, _fastencode):
        assert not str(module.__file__).endswith(".py")
