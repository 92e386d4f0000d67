"""
Lines of docker's json-file, for both implementations.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _fastparse
from agent._fastparse import (
    FLAG_INVALID,
    FLAG_PARTIAL,
    FLAG_READ_TIME,
    FLAG_TRUNCATED,
    FORMAT_DOCKER,
)
from tests.fast.support import PARSERS, docker, parse

TIME = b"2026-11-22T19:00:01.5Z"
TIME_NS = 1_795_374_001_500_000_000

both = pytest.mark.parametrize("make", PARSERS)


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
        (TIME_NS, TIME, message, 1),
        (TIME_NS, TIME, b"n", 1),
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
    assert [row.message for row in rows[1:]] == [b"n"]


@both
def test_json_nests_a_hundred_deep(make):
    """
    As deep is fine, and deeper is not read.
    """
    parser = make(format=FORMAT_DOCKER, line_bytes_max=1_000)
    deep = [
        docker("x\n", a=0).replace(b": 0}", b": " + b"[" * n + b"]" * n + b"}") for n in (100, 101)
    ]
    rows = parse(parser, b"\n".join([*deep, b""]))
    assert [row.flags & FLAG_INVALID for row in rows] == [0, FLAG_INVALID]


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
