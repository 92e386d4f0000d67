"""
What each kind of line becomes, for both implementations.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _fastparse
from agent._fastparse import (
    FLAG_EARLIER,
    FLAG_INVALID,
    FLAG_PARTIAL,
    FLAG_READ_TIME,
    FLAG_TRUNCATED,
    FLAG_UNTERMINATED,
    FORMAT_CRI,
    FORMAT_DOCKER,
    FORMAT_RAW,
)
from agent.core.cursor import StreamCursor, StreamMode, cursor_at
from tests.fast.support import PARSERS, READ_TIME_NS, docker, parse, parse_columns, rows_of

HEAD = b"2026-11-22T19:00:01.5Z stdout F "
TIME_NS = 1_795_374_001_500_000_000

both = pytest.mark.parametrize("make", PARSERS)


def cri(make, line_bytes_max=1_000):
    return make(format=FORMAT_CRI, line_bytes_max=line_bytes_max)


def messages(rows):
    return [row.message for row in rows]


@both
def test_a_line_is_a_row(make):
    """
    Time in nanoseconds and as written, offset, stream, content.
    """
    text = b"2026-11-22T19:00:01.123456789Z stderr F hello\n"
    (row,) = parse(cri(make), text)
    assert row == (1_795_374_001_123_456_789, 0, text[:30], b"hello", 2, -1)


@both
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (HEAD + b"hello", b"hello"),
        (HEAD, b""),
        (HEAD[:-1], b""),
        (HEAD + b"windows\r", b"windows"),
        (HEAD + b"\r", b""),
        (HEAD + b"a\rb", b"a\rb"),
        (HEAD + b"\x00\xff\xfe", b"\x00\xff\xfe"),
        (HEAD + b"  two  ", b"  two  "),
        (HEAD[:-1] + b":x:yy tagged", b"tagged"),
        (HEAD[:-1] + b":x", b""),
    ],
)
def test_contents(make, line, message):
    """
    All bytes but LF are content, and only the line's last CR is not.
    """
    assert parse(cri(make), line + b"\n" + HEAD + b"next\n") == [
        (TIME_NS, 0, HEAD[:22], message, 1, -1),
        (TIME_NS, len(line) + 1, HEAD[:22], b"next", 1, -1),
    ]


@both
@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\r",
        b"plain text",
        b"\x00" * 50,
        b"\x00" * 17 + b"00Z stdout F x",
        HEAD[:-2],
        HEAD[:-3],
        HEAD[:-1] + b"\r",
        HEAD[:-2] + b"X x",
        HEAD[:-2] + b"FF x",
        HEAD.replace(b"stdout", b"stdin1") + b"x",
        HEAD.replace(b" std", b"  std") + b"x",
        HEAD[:-1] + b":" + b"x" * 1_000 + b" y",
    ],
)
def test_invalid_lines_are_kept(make, line):
    """
    Whole, with the read time, as a row of stream 0; the open pieces around them are joined.
    """
    piece = HEAD.replace(b"F ", b"P ") + b"a"
    rows = parse(cri(make), b"\n".join([piece, line, HEAD + b"b", b""]))
    flags = FLAG_INVALID | FLAG_READ_TIME
    message = line.removesuffix(b"\r")
    truncated = len(message) > 1_000
    assert rows[0][:5] == (
        READ_TIME_NS,
        len(piece) + 1,
        b"",
        message[:1_000],
        flags | (FLAG_TRUNCATED if truncated else 0),
    )
    assert messages(rows[1:]) == [b"ab"]


@both
def test_pieces_are_joined_per_stream(make):
    """
    The joined row has the first piece's time and offset; the streams do not disturb each other.
    """
    text = (
        b"2026-11-22T19:00:01Z stdout P out1 \n"
        b"2026-11-22T19:00:02Z stderr P err1 \n"
        b"2026-11-22T19:00:03Z stdout P out2 \n"
        b"2026-11-22T19:00:04Z stderr F err2\r\n"
        b"2026-11-22T19:00:05Z stdout F \r\n"
    )
    parser = cri(make)
    rows = parse(parser, text)
    assert [(row.message, row.time[17:19], row.offset, row.flags) for row in rows] == [
        (b"err1 err2", b"02", 36, 2 | FLAG_PARTIAL),
        (b"out1 out2 ", b"01", 0, 1 | FLAG_PARTIAL),
    ]
    assert parser.counts.lines == 5
    assert parser.counts.joined == 2
    assert parser.open_streams == parser.carry_bytes == 0


@both
def test_a_row_may_end_in_a_later_generation(make):
    """
    It is flagged, and the columns know where it began.
    """
    parser = cri(make)
    piece = HEAD.replace(b"F ", b"P ") + b"a\n"
    assert parse(parser, piece, final=True) == []
    assert parser.open_streams == 2
    assert parser.carry_bytes > 0
    assert parser.cursor()[1] == StreamCursor(0, 0)
    assert parser.cursor()[2] == StreamCursor(0, len(piece))
    parser.begin(3)
    columns = parse_columns(parser, HEAD + b"b\n")
    (row,) = rows_of(columns)
    assert (row.message, row.offset, row.earlier) == (b"ab", 0, 0)
    assert row.flags == 1 | FLAG_PARTIAL | FLAG_EARLIER
    assert columns.earlier_generation(2) == -1


@both
def test_release(make):
    """
    Open pieces become rows that say that their end is missing; the next F is a row of its own.
    """
    parser = cri(make)
    piece = HEAD.replace(b"F ", b"P ")
    text = piece + b"a\n" + piece.replace(b"out", b"err") + b"b\n"
    assert parse(parser, text) == []
    (row,) = rows_of(parser.release(1 << 2, read_time_ns=READ_TIME_NS))
    assert (row.message, row.flags) == (b"b", 2 | FLAG_PARTIAL | FLAG_UNTERMINATED)
    assert parser.counts.rows == parser.counts.unterminated == 1
    assert parser.cursor()[1:] == (StreamCursor(0, 0), StreamCursor(0, len(text)))
    rows = parse(parser, HEAD + b"c\n", offset=len(text))
    assert messages(rows) == [b"ac"]
    assert rows_of(parser.release(7, read_time_ns=READ_TIME_NS)) == []


@both
def test_a_last_line_without_newline(make):
    """
    It waits, until the generation is finished.
    """
    parser = cri(make)
    assert parse(parser, HEAD + b"half") == []
    assert parser.consumed == 0
    (row,) = parse(parser, HEAD + b"half", final=True)
    assert (row.message, row.flags) == (b"half", 1 | FLAG_UNTERMINATED)
    assert parser.consumed == len(HEAD) + 4
    assert parse(parser, b"", offset=parser.consumed, final=True) == []


@both
def test_a_long_line_is_cut_before_its_newline(make):
    """
    One row, at once; the rest is counted, not kept, and a restart in its middle knows where it is.
    """
    parser = cri(make, 100)
    assert parser.chunk_bytes_min == 1_124
    start = HEAD + b"x" * 5_000
    (row,) = parse(parser, start)
    assert (row.message, row.flags) == (b"x" * 100, 1 | FLAG_TRUNCATED)
    assert parser.counts.discarded_bytes == 4_900
    place = StreamCursor(0, len(start), StreamMode.LINE_REST)
    assert parser.cursor() == (place, place, place)
    assert parse(parser, b"y" * 700, offset=len(start)) == []
    assert parser.counts.discarded_bytes == 700
    later = cri(make, 100)
    later.restore(parser.cursor())
    rest = b"zzz\n" + HEAD + b"next\n"
    assert messages(parse(later, rest, offset=len(start) + 700)) == [b"next"]
    assert later.counts == (1, 1, 0, 0, 0, 0, 0, 3)


@both
def test_long_pieces_are_cut_and_discarded_to_their_end(make):
    """
    The cut row comes with the piece that is too much; pieces go up to and including the F.
    """
    parser = cri(make, 10)
    piece = HEAD.replace(b"F ", b"P ")
    text = piece + b"abcdefgh\n"
    assert parse(parser, text) == []
    more = piece + b"ijkl\n"
    (row,) = parse(parser, more, offset=len(text))
    assert (row.message, row.flags) == (b"abcdefghij", 1 | FLAG_PARTIAL | FLAG_TRUNCATED)
    cursor = parser.cursor()
    assert cursor[1] == StreamCursor(0, len(text + more), StreamMode.PIECES_REST)
    assert cursor[2] == StreamCursor(0, len(text + more), StreamMode.LINE)
    rest = piece + b"mm\n" + HEAD.replace(b"out", b"err") + b"e\n" + HEAD + b"n\n" + HEAD + b"new\n"
    rows = parse(parser, rest, offset=len(text + more))
    assert messages(rows) == [b"e", b"new"]
    assert parser.counts.discarded_bytes == 3


@both
@pytest.mark.parametrize("first", [b"", b"P abcdefghij\n"])
def test_a_long_piece_is_cut_in_its_middle(make, first):
    """
    Behind its newline the pieces go on, and all of them are discarded: also after a restart there.
    """
    piece = HEAD.replace(b"F ", b"P ")
    first = first and piece + first[2:]
    start = first + piece + b"x" * 2_000
    parser = cri(make, 10)
    (row,) = parse(parser, start)
    assert row.message == (b"abcdefghij" if first else b"x" * 10)
    assert row.flags == 1 | FLAG_PARTIAL | FLAG_TRUNCATED
    cursor = parser.cursor()
    assert [place.mode for place in cursor] == [
        StreamMode.LINE_REST,
        StreamMode.LINE_PIECES_REST,
        StreamMode.LINE_REST,
    ]
    later = cri(make, 10)
    later.restore(cursor)
    rest = b"yy\n" + piece + b"p\n" + HEAD + b"f\n" + HEAD + b"next\n"
    for one in (parser, later):
        assert messages(parse(one, rest, offset=len(start))) == [b"next"]
        assert one.counts.discarded_bytes == 4


@both
def test_a_carriage_return_is_no_reason_to_cut(make):
    """
    A row of exactly line_bytes_max with CRLF behind it is whole.
    """
    for text in (HEAD + b"x" * 10 + b"\r\n", HEAD[:-2] + b"P xxxxxxxxxx\n" + HEAD + b"\r\n"):
        (row,) = parse(cri(make, 10), text)
        assert row.message == b"x" * 10
        assert not row.flags & FLAG_TRUNCATED


@both
def test_restore_skips_what_a_stream_has_behind_it(make):
    """
    Reading resumes at the lowest place; the others' lines before their own places touch nothing.
    """
    out, err = HEAD, HEAD.replace(b"out", b"err")
    lines = [
        err + b"e1\n",
        b"bad\n",
        out.replace(b"F ", b"P ") + b"o1\n",
        err + b"e2\n",
        out + b"o2\n",
    ]
    third = len(b"".join(lines[:3]))
    parser = cri(make)
    parser.restore((StreamCursor(0, third), StreamCursor(5, 9), StreamCursor(0, 0)))
    assert messages(parse(parser, b"".join(lines))) == [b"e1", b"e2"]
    assert parser.counts.lines == 2
    assert parser.cursor()[1] == StreamCursor(5, 9)
    parser.begin(5)
    assert messages(parse(parser, out + b"1\n" + out + b"2\n")) == [b"2"]


@both
def test_raw_lines(make):
    """
    The line is the row, at the time of reading.
    """
    rows = parse(make(format=FORMAT_RAW, line_bytes_max=5), b"a\r\n\n123456\n", final=True)
    assert [(row.time_ns, row.message, row.flags) for row in rows] == [
        (READ_TIME_NS, b"a", FLAG_READ_TIME),
        (READ_TIME_NS, b"", FLAG_READ_TIME),
        (READ_TIME_NS, b"12345", FLAG_READ_TIME | FLAG_TRUNCATED),
    ]


@both
@given(st.binary(max_size=300), st.sampled_from([FORMAT_RAW, FORMAT_CRI, FORMAT_DOCKER]))
def test_random_bytes_are_kept(make, text, file_format):
    """
    Whatever they are: as many rows as lines, nothing raised.
    """
    rows = parse(make(format=file_format, line_bytes_max=1_000), text + b"\n")
    assert messages(rows) == [line.removesuffix(b"\r") for line in text.split(b"\n")]


@pytest.mark.parametrize(
    ("line", "kubelet", "expected"),
    [
        (HEAD + b"x", False, FORMAT_CRI),
        (HEAD, False, FORMAT_CRI),
        (b"plain", False, FORMAT_RAW),
        (b"plain", True, FORMAT_CRI),
        (b"", False, FORMAT_RAW),
        (docker("x\n"), False, FORMAT_DOCKER),
        (docker("x\n") + b"\n", True, FORMAT_DOCKER),
        (b'{"log":"a very long first line whose end is not', False, FORMAT_DOCKER),
        (b'{"msg":"an application"}', False, FORMAT_RAW),
        (b'{"msg":"an application","log":1}', False, FORMAT_RAW),
    ],
)
def test_detect(line, kubelet, expected):
    """
    The first line says what a file is; a kubelet-shaped path holds CRI unless docker wrote it.
    """
    assert _fastparse.detect(line, kubelet=kubelet) == expected


@both
def test_calls_that_make_no_sense_are_refused(make):
    """
    An offset elsewhere, a length over the chunk, an earlier generation, an unknown format.
    """
    parser = cri(make)
    parser.restore(cursor_at(2, 10))
    with pytest.raises(ValueError):
        parse(parser, b"x\n", offset=0)
    with pytest.raises(ValueError):
        parser.parse(_fastparse.Chunk(5), 6, offset=10, read_time_ns=0)
    with pytest.raises(ValueError):
        parser.begin(2)
    with pytest.raises(ValueError):
        make(format=9, line_bytes_max=10)
    assert messages(parse(parser, HEAD + b"x\n", offset=10)) == [b"x"]
