"""
What each kind of line becomes, for both implementations.
"""

from __future__ import annotations

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _fastparse, _reference_lines
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
from tests.fast.support import PARSERS, READ_TIME_NS, parse, parse_columns, rows_of

HEAD = b"2026-11-22T19:00:01.5Z stdout F "
TIME_NS = 1_795_374_001_500_000_000
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - without a zone, as hypothesis draws them

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


TIMES = [
    (b"1970-01-01T00:00:00Z", 0),
    (b"2026-11-22T19:00:01.5Z", TIME_NS),
    (b"2026-11-22T21:30:01.5+02:30", TIME_NS),
    (b"2026-11-22T18:59:01.5-00:01", TIME_NS),
    (b"2024-02-29T00:00:00.000000001Z", 1_709_164_800_000_000_001),
    (b"2000-12-31T23:59:60Z", 978_307_200_000_000_000),
    (b"2262-04-11T23:47:16.854775807Z", 2**63 - 1),
    (b"2262-04-11T23:47:16.854775808Z", None),
    (b"2262-04-11T23:47:17Z", None),
    (b"1969-12-31T23:59:59Z", None),
    (b"1970-01-01T00:00:00+00:01", None),
    (b"2026-02-29T00:00:00Z", None),
    (b"2026-13-01T00:00:00Z", None),
    (b"2026-00-01T00:00:00Z", None),
    (b"2026-11-00T00:00:00Z", None),
    (b"2026-11-22T24:00:00Z", None),
    (b"2026-11-22T19:60:00Z", None),
    (b"2026-11-22T19:00:61Z", None),
    (b"2026-11-22T19:00:01.Z", None),
    (b"2026-11-22T19:00:01.1234567890Z", None),
    (b"2026-11-22T19:00:01", None),
    (b"2026-11-22T19:00:01z", None),
    (b"2026-11-22 19:00:01Z", None),
    (b"2026-11-22T19:00:01+0200", None),
    (b"2026-11-22T19:00:01+24:00", None),
    (b"2026-11-22T19:00:01+00:60", None),
    (b"2026-11-22T19:00:0xZ", None),
]


@both
@pytest.mark.parametrize(("text", "expected"), TIMES)
def test_times(make, text, expected):
    """
    What a runtime writes is read exactly; what cannot be is no time, in whichever minute it follows.
    """
    before = b"2026-11-22T19:00:01Z stdout F x\n"
    for lines in (b"%s stdout F x\n", before + b"%s stdout F x\n"):
        row = parse(cri(make), lines % text)[-1]
        if expected is None:
            assert row.flags == FLAG_INVALID | FLAG_READ_TIME
        else:
            assert (row.time_ns, row.time, row.flags) == (expected, text, 1)


@both
@given(
    st.datetimes(EPOCH + dt.timedelta(days=1), EPOCH + dt.timedelta(days=106_000)),
    st.integers(0, 9),
    st.integers(-1439, 1439),
)
def test_any_time(make, time, digits, zone_minutes):
    """
    Python's calendar agrees, whatever the number of digits and the zone.
    """
    zone = f"{'-' if zone_minutes < 0 else '+'}{abs(zone_minutes) // 60:02}:{abs(zone_minutes) % 60:02}"
    fraction = f"{time.microsecond:06}000"[:digits]
    text = time.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "") + zone
    seconds = (time.replace(microsecond=0) - EPOCH) // dt.timedelta(seconds=1)
    expected = (seconds - zone_minutes * 60) * 10**9 + int(fraction.ljust(9, "0"))
    (row,) = parse(cri(make), text.encode() + b" stdout F x\n")
    assert row.time_ns == expected
    assert _reference_lines.read_time(text.encode()) == expected


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
    with pytest.raises(ValueError):
        columns.earlier_generation(2)


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


def docker(log, **more):
    line = {"log": log, "stream": "stdout", "time": "2026-11-22T19:00:01.5Z"} | more
    return json.dumps(line, ensure_ascii=False).encode()


@both
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (docker("hello\n"), b"hello"),
        (docker("\n"), b""),
        (docker("windows\r\n"), b"windows"),
        (
            docker('"quotes" \\ / \b\f\t\x01\x00\x7f grüße 🚀\n'),
            '"quotes" \\ / \b\f\t\x01\x00\x7f grüße 🚀'.encode(),
        ),
        (docker("x\n", attrs={"a": [1, {"b": None}]}), b"x"),
        (docker("x\n").replace(b"{", b" { ").replace(b",", b"\t,\r ") + b" \r", b"x"),
        (docker("@\n").replace(b"@", rb"\u00fc\ud83d\ude80\u000a\/"), "ü🚀\n/".encode()),
        (
            docker("@\n").replace(b"@", rb"\ud83d-\ude80\ud83d\ud83d\ude80"),
            "\ufffd-\ufffd\ufffd🚀".encode(),
        ),
        (docker("@\n").replace(b"@", b"\xff"), b"\xff"),
        (docker("x").replace(b"x", rb"y\u000a"), b"y"),
        (b'{"log":"1\\n",' + docker("2\n")[1:], b"2"),
    ],
)
def test_docker_lines(make, line, message):
    """
    Keys in any order, unknown ones passed over, all escapes; a lone surrogate is U+FFFD.
    """
    rows = parse(
        make(format=FORMAT_DOCKER, line_bytes_max=1_000), line + b"\n" + docker("n\n") + b"\n"
    )
    assert [(row.time_ns, row.time, row.message, row.flags) for row in rows] == [
        (TIME_NS, HEAD[:22], message, 1),
        (TIME_NS, HEAD[:22], b"n", 1),
    ]


@both
@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        docker("x\n")[:-1],
        docker("x\n") + b"x",
        docker("x\n").replace(b"log", b"lag"),
        docker("x\n").replace(b"log", rb"\u006cog"),
        docker(5),
        docker("x\n", stream="other"),
        docker("x\n", time="today"),
        docker("x\n", time=""),
        docker("x\n", time=7),
        docker("x\n").replace(b"x", b"\x01"),
        docker("x\n").replace(b"x", rb"\x"),
        docker("x\n").replace(b"x", rb"\u12g4"),
        docker("x\n", a=0).replace(b"0", b"01"),
        docker("x\n", a=0).replace(b"0}", b"1.}"),
        docker("x\n", a=0).replace(b"0}", b"NaN}"),
        docker("x\n", a=0).replace(b"0}", b"[1,]}"),
        docker("x\n", a=0).replace(b"0}", b"0,}"),
        docker("x\n", a=0).replace(b"0}", b"[" * 101 + b"]" * 101 + b"}"),
        b'{"log":"x\\n"' + b" " * 2_100 + docker("x\n")[13:],
    ],
)
def test_invalid_docker_lines_are_kept(make, line):
    """
    Malformed, incomplete, or longer than any line of docker can be.
    """
    rows = parse(
        make(format=FORMAT_DOCKER, line_bytes_max=1_000), line + b"\n" + docker("n\n") + b"\n"
    )
    assert rows[0].message == line[:1_000]
    assert rows[0].flags & ~FLAG_TRUNCATED == FLAG_INVALID | FLAG_READ_TIME
    assert messages(rows[1:]) == [b"n"]


@both
def test_docker_pieces(make):
    """
    A log that does not end in a newline goes on in the next line of its stream.
    """
    lines = [
        docker('one"'),
        docker("err\n", stream="stderr"),
        docker("two\\"),
        docker(""),
        docker("\r\n"),
    ]
    parser = make(format=FORMAT_DOCKER, line_bytes_max=1_000)
    rows = parse(parser, b"\n".join([*lines, b""]))
    assert [(row.message, row.flags) for row in rows] == [
        (b"err", 2),
        (b'one"two\\', 1 | FLAG_PARTIAL),
    ]


@given(st.text(), st.booleans())
def test_any_docker_log(log, ascii_only):
    """
    What json.dumps writes is read back, escaped or not.
    """
    line = {"log": log + "\n", "stream": "stderr", "time": "2026-11-22T19:00:01Z"}
    text = json.dumps(line, ensure_ascii=ascii_only).encode()
    parser = _fastparse.Parser(format=FORMAT_DOCKER, line_bytes_max=100_000)
    (row,) = parse(parser, text + b"\n")
    assert row.message == log.removesuffix("\r").encode()


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
