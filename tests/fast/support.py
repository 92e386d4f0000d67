"""
What the tests of this folder share: the two implementations, a reader that feeds them, and material.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import strategies as st

from agent import _fastparse, _reference
from agent._fastparse import FLAG_EARLIER, FLAG_STREAM_MASK, FORMAT_CRI, FORMAT_DOCKER, FORMAT_RAW
from agent.core.cursor import Cursor, resume_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

READ_TIME_NS = 1_800_000_000_000_000_000
PARSERS = [
    pytest.param(_fastparse.Parser, id="compiled"),
    pytest.param(_reference.Parser, id="reference"),
]


class Row(NamedTuple):
    """
    One row, its texts taken out.
    """

    time_ns: int
    offset: int
    time: bytes
    message: bytes
    flags: int
    earlier: int  # the generation, or -1


def rows_of(columns: _fastparse.Columns) -> list[Row]:
    data = columns.data
    names = ("time_ns", "offset", "time_start", "time_len", "message_start", "message_len", "flags")
    rows = []
    for time_ns, offset, time, time_len, message, message_len, flags in zip(
        *(columns.column(name) for name in names), strict=True
    ):
        stream = flags & FLAG_STREAM_MASK
        rows.append(
            Row(
                time_ns,
                offset,
                bytes(data[time : time + time_len]),
                bytes(data[message : message + message_len]),
                flags,
                columns.earlier_generation(stream) if flags & FLAG_EARLIER else -1,
            )
        )
    return rows


def parse(
    parser: Any, text: bytes, *, offset: int = 0, final: bool = False, capacity: int = 0
) -> list[Row]:
    """
    Parse *text* in one call and return its rows.
    """
    return rows_of(parse_columns(parser, text, offset=offset, final=final, capacity=capacity))


def parse_columns(
    parser: Any, text: bytes, *, offset: int = 0, final: bool = False, capacity: int = 0
) -> _fastparse.Columns:
    chunk = _fastparse.Chunk(max(capacity, len(text)))
    with memoryview(chunk) as view:
        view[: len(text)] = text
    columns: _fastparse.Columns = parser.parse(
        chunk, len(text), offset=offset, read_time_ns=READ_TIME_NS, final=final
    )
    return columns


def read_log(
    make: Callable[[], Any],
    generations: list[bytes],
    sizes: Iterable[int],
    restarts: Iterable[bool],
) -> tuple[list[Row], Cursor]:
    """
    Read a Log to its end by reads of *sizes*, and start over from the cursor after those that say so.
    """
    parser = make()
    rows: list[Row] = []
    generation = position = 0
    grown = 0
    size_of: Iterator[int] = iter(sizes)
    restart_of: Iterator[bool] = iter(restarts)
    while True:
        text = generations[generation]
        size = next(size_of, len(text) + 1) + grown
        piece = text[position : position + size]
        final = position + size > len(text)
        rows += parse(parser, piece, offset=position, final=final)
        grown = 0 if parser.consumed else size
        position += parser.consumed
        if next(restart_of, False):
            cursor = parser.cursor()
            parser = make()
            parser.restore(cursor)
            generation, position, _ = resume_place(cursor)
            grown = 0
        elif final:
            assert position == len(text)
            if generation + 1 == len(generations):
                break
            generation, position, grown = generation + 1, 0, 0
            parser.begin(generation)
    cursor = parser.cursor()
    open_streams = parser.open_streams
    rows += rows_of(parser.release(open_streams, read_time_ns=READ_TIME_NS))
    assert parser.open_streams == 0
    return rows, cursor


_TIMES = st.sampled_from(
    [
        b"2026-11-22T19:00:01.123456789Z",
        b"2026-11-22T19:00:01.12345678Z",
        b"2026-11-22T19:00:59Z",
        b"2026-11-22T19:01:00.5+02:00",
        b"2026-02-30T00:00:00Z",
    ]
)
_CONTENTS = st.one_of(
    st.sampled_from([b"", b"x", b"\r", b"ab\r", b"\x00\xff", "grüße".encode(), b"y" * 30]),
    st.binary(max_size=12).map(lambda text: text.replace(b"\n", b"")),
    st.integers(1_000, 2_000).map(lambda size: b"z" * size),
)


@st.composite
def _cri_line(draw: Any) -> bytes:
    tags = draw(st.sampled_from([b"F", b"F", b"P", b"P", b"F:x", b"P:x:y"]))
    stream = draw(st.sampled_from([b"stdout", b"stderr"]))
    return b" ".join([draw(_TIMES), stream, tags, draw(_CONTENTS)])


def _json_text(content: bytes) -> bytes:
    escaped = content.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b"".join(b"\\u%04x" % byte if byte < 32 else bytes([byte]) for byte in escaped)


@st.composite
def _docker_line(draw: Any) -> bytes:
    log = _json_text(draw(_CONTENTS)) + draw(st.sampled_from([b"", b"\\n", b"\\n", b"\\r\\n"]))
    stream = draw(st.sampled_from([b"stdout", b"stderr", b"stderr", b"other"]))
    members = [b'"log":"%s"' % log, b'"stream":"%s"' % stream, b'"time":"%s"' % draw(_TIMES)]
    members += draw(st.sampled_from([[], [b'"attrs":{"a":[1,{}]}'], [b'"attrs":[1,']]))
    return b"{" + b",".join(draw(st.permutations(members))) + b"}"


_LINES = {
    FORMAT_RAW: _CONTENTS,
    FORMAT_CRI: st.one_of(_cri_line(), _cri_line(), _cri_line(), _CONTENTS),
    FORMAT_DOCKER: st.one_of(_docker_line(), _docker_line(), _docker_line(), _CONTENTS),
}


@st.composite
def logs(draw: Any) -> tuple[int, list[bytes]]:
    """
    A format and the generations of a Log in it, the last lines of some without a newline.
    """
    file_format = draw(st.sampled_from(sorted(_LINES)))
    generations = []
    for _ in range(draw(st.integers(1, 3))):
        text = b"\n".join(draw(st.lists(_LINES[file_format], max_size=8)))
        generations.append(text + draw(st.sampled_from([b"", b"\n"])))
    return file_format, generations


def docker(log: Any, **more: Any) -> bytes:
    """
    A line of json-file, as one would write it by hand.
    """
    line = {"log": log, "stream": "stdout", "time": "2026-11-22T19:00:01.5Z"} | more
    return json.dumps(line, ensure_ascii=False).encode()


def shared(*parts: str) -> Path:
    """
    A path in the data that all checkouts share, or a skip.
    """
    root = (
        os.environ.get("TAILRACE_SHARED") or Path(__file__).resolve().parents[2].parent / "shared"
    )
    path = Path(root).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is not there: set TAILRACE_SHARED")
    return path
