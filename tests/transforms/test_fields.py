"""
Fields out of JSON, levels and times: the compiled kernels against the specification.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent import _fastfields, _reference_fields
from agent._fastfields import Mask, Wanted, keep, severity_of, take_levels, take_times
from agent._fastobject import extract_json
from agent._fastparse import FLAG_SEVERITY_MASK, FLAG_SEVERITY_SHIFT, FLAG_STREAM_MASK
from agent._fastrate import FLAG_SUMMARY
from agent.config import parse as parse_config
from agent.core import counters as metric
from agent.core.counters import Counters
from agent.runtime.transforms import begin_transforms
from agent.transforms.stages import SinkColumn
from tests.transforms.kit import RESOURCE, applied, columns_of, messages, stages

NAMES = (b"a", b"b", b"a.b", b"a.b.c", b"log.level", b"x")
keys = st.sampled_from(["a", "b", "c", "a.b", "a.b.c", "log.level", "level", "x", "ä", 'q"', "log"])
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(keys, values, max_size=4)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """
    Objects, alone, behind a prefix, with members twice, cut, damaged; and anything else.
    """
    text = json.dumps(draw(objects), ensure_ascii=draw(st.booleans())).encode("utf-8", "replace")
    match draw(st.integers(0, 6)):
        case 0:
            return b"2026-01-01 INFO " + text + b" \t"
        case 1:
            other = json.dumps(draw(objects)).encode()
            return (text[:-1] + b", " + other[1:]) if text != b"{}" and other != b"{}" else text
        case 2:
            return text[: draw(st.integers(0, len(text)))]
        case 3:
            place = draw(st.integers(0, len(text) - 1))
            return text[:place] + draw(st.binary(max_size=2)) + text[place + 1 :]
        case 4:
            return draw(st.binary(max_size=20))
        case _:
            return text


def check_extraction(rows: list[bytes]) -> None:
    columns = columns_of(rows)
    unparsed = extract_json(columns, Wanted(NAMES))
    expected = [_reference_fields.extract_json(row, NAMES) for row in rows]
    assert unparsed == expected.count(None)
    assert list(_fastfields.parsed(columns)) == [item is not None for item in expected]
    for index, name in enumerate(NAMES):
        wanted = [(item or {}).get(name, (0, b"")) for item in expected]
        assert _fastfields.field(columns, index) == wanted
    assert messages(columns) == rows


@given(st.lists(lines(), max_size=3))
@example([b'{"a":{"b":1,"b":{"c":"\\u00e4\\ud800"}},"a.b":2}', b'{"a":{"a.b":1}}', b"{}", b"{} x"])
def test_json(rows: list[bytes]) -> None:
    """
    The same fields as the specification, for whatever a line is.
    """
    check_extraction(rows)


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":' * 1_000_000,
        b'{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        b'{"a":1,"b":"cut of',
        b'{"a":"\\x"}',
        b'{"a":"\\ud83',
        b'{"a":1' + b"0" * 400 + b',"b":-9223372036854775809,"x":1e999}',
        b'{"a":1}{"a":2}',
        b'{"a":yes}',
        b"{" * 100,
        b'{"a":\x00}',
    ],
    ids=lambda line: repr(line[:24]),
)
def test_bad_json(line: bytes) -> None:
    """
    Nested without end, cut, beyond 64 bits, damaged: bounded, counted, and the line is still there.
    """
    if line.count(b"{") + line.count(b"[") < 1_000:
        check_extraction([line, b'{"a":"ok"}'])
    counters = Counters()
    made = stages(
        {"parse": "json"},
        counters=counters,
        sink_columns=[SinkColumn("a", "string", "a")],
        sink_uses_level=True,
    )
    columns = applied(made, columns_of([line, b'{"a":"ok","level":"info"}']))
    assert messages(columns) == [line, b'{"a":"ok","level":"info"}']
    assert _fastfields.field(columns, 0)[1] == (_fastfields.FIELD_TEXT, b"ok")
    assert counters.total(metric.UNPARSED_ROWS, "r") == (0 if b"1000" in line else 1)


@given(
    st.sampled_from([_fastfields.SCALE_PINO, _fastfields.SCALE_PYTHON, _fastfields.SCALE_SYSLOG])
    | st.just(_fastfields.SCALE_OTEL),
    st.sampled_from(
        [
            "TRACE",
            "trace",
            "Debug",
            "dbg",
            "info",
            "INFORMATION",
            "Notice",
            "warn",
            "WARNING",
            "wrn",
            "Error",
            "err",
            "severe",
            "fatal",
            "critical",
            "crit",
            "panic",
            "alert",
            "emerg",
            "emergency",
            "verbose",
            "finest",
            "fine",
            "finer",
            "i",
            "W",
            "e",
            "D",
            "t",
            "F",
            "C",
            "10",
            "20",
            "30.0",
            "35",
            "60",
            "0",
            "7",
            "24",
            "25",
            "1e1",
            "informationally",
            "x",
            "inf1",
            "-1",
        ]
    ).map(str.encode)
    | st.binary(max_size=18)
    | st.integers(-5, 99).map(lambda number: str(number).encode()),
)
def test_severity(scale: int, text: bytes) -> None:
    """
    Levels become OpenTelemetry's severity numbers.
    """
    assert severity_of(text, scale) == _reference_fields.severity(text, scale)


def test_levels_of_rows() -> None:
    """
    The first field that means a level counts; one that means none is counted as a misfit.
    """
    columns = columns_of(
        [b'{"a":"WARN"}', b'{"a":"?","b":50}', b'{"a":"?"}', b"text", b'{"a":null}']
    )
    extract_json(columns, Wanted(NAMES))
    assert take_levels(columns, (0, 1), _fastfields.SCALE_PINO) == 1
    assert list(_fastfields.severities(columns)) == [13, 17, 0, 0, 0]


MOMENTS = (
    "2026-11-22T19:00:01Z 2026-11-22T19:00:01.5+02:00 "
    "2026-11-22T19:00:01.123+0100 2026-11-22T19:00:01,5 1700000000 1700000000.123456789123 1700000000123 "
    "1700000000123456 1700000000123456789 1700000000123.25 99999999999 100000000000 9223372036854775807 "
    "9223372036854775808 9223372037 1. .5 -1 1e9 2026-13-22T19:00:01Z 2026-11-22T25:00:01Z yesterday 0"
)


@given(
    st.sampled_from(
        [*MOMENTS.split(), "2026-11-22 19:00:01,123", "2026-11-22 19:00:01 +01:00"]
    ).map(str.encode)
    | st.integers(0, 2**70).map(lambda number: str(number).encode())
    | st.from_regex(
        rb"20[0-9]{2}-0[0-9]-1[0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9]([.,][0-9]{0,10})?( ?[+-][0-9]{2}:?[0-9]{2}|Z)?",
        fullmatch=True,
    )
)
def test_times(text: bytes) -> None:
    """
    Times in fields become the rows' times; what is none is counted, and the row keeps its own.
    """
    line = b'{"a":"%s"}' % text if text.isascii() else b""
    columns = columns_of([line])
    before = columns.column("time_ns")[0]
    extract_json(columns, Wanted(NAMES))
    expected = _reference_fields.moment(text)
    assert take_times(columns, 0) == (expected is None)
    assert columns.column("time_ns")[0] == (before if expected is None else expected)


@given(st.lists(st.tuples(lines(), st.booleans()), max_size=4))
def test_keep(rows: list[tuple[bytes, bool]]) -> None:
    """
    Rows that are taken out take their fields with them, and the others keep theirs.
    """
    columns = columns_of([line for line, _ in rows])
    extract_json(columns, Wanted(NAMES))
    before = [_fastfields.field(columns, index) for index in range(len(NAMES))]
    mask = Mask(len(rows))
    others = Mask(len(rows))
    chosen = columns_of([line if taken else b"" for line, taken in rows])
    from agent._fastwhere import TARGET_MESSAGE, narrow_text

    narrow_text(chosen, others, TARGET_MESSAGE, b"")
    mask.subtract(others)
    kept = [index for index, bit in enumerate(bytes(mask)) if bit]
    assert keep(columns, mask) == len(rows) - len(kept)
    assert messages(columns) == [rows[index][0] for index in kept]
    assert columns.message_bytes == sum(len(rows[index][0]) for index in kept)
    for index, column in enumerate(before):
        assert _fastfields.field(columns, index) == [column[row] for row in kept]


def test_limits() -> None:
    """
    More fields than there may be, and masks and fields that do not belong to the rows, are refused.
    """
    with pytest.raises(ValueError, match="at most 64"):
        Wanted(tuple(b"%d" % number for number in range(65)))
    columns = columns_of([b"{}"])
    extract_json(columns, Wanted(NAMES))
    with pytest.raises(ValueError, match="another route"):
        extract_json(columns, Wanted(NAMES))
    with pytest.raises(ValueError, match="a mask of 3 rows for 1"):
        keep(columns, Mask(3))


@pytest.mark.parametrize(
    ("sink", "numbers"),
    [
        ({"type": "cloudwatch", "region": "r", "format": "otel"}, [13, 13, 0, 13]),
        ({"type": "cloudwatch", "region": "r"}, [0, 0, 0, 0]),
        ({"type": "blackhole"}, [0, 0, 0, 0]),
    ],
)
def test_levels_are_in_the_flags_for_records_of_opentelemetry(
    sink: dict[str, str], numbers: list[int]
) -> None:
    """
    Of parsed rows and of the summary of a limit; flags keep what they had, and other formats cost nothing.
    """
    transforms = [{"parse": "json"}, {"limit": "container", "lines_per_s_max": 1, "burst_lines": 3}]
    text = json.dumps({"routes": [{"name": "r", "sink": sink, "transforms": transforms}]})
    (route,) = parse_config(text, name="t", environ={}).routes
    begin = begin_transforms(route, counters=Counters(), tell=lambda *_, **__: None)
    assert begin is not None
    lines = [b'{"level":"WARNING"}', b'{"severity":"warn"}', b"x", b"y", b"z"]
    arguments: dict[str, Any] = {"resource": RESOURCE, "generation": 0, "now": 0.0, "release": True}
    columns = begin().apply(columns_of(lines, flags=2), **arguments).columns
    flags = list(columns.column("flags"))
    assert [(item & FLAG_SEVERITY_MASK) >> FLAG_SEVERITY_SHIFT for item in flags] == numbers
    assert [item & FLAG_STREAM_MASK for item in flags] == [2] * 4
    assert flags[-1] & FLAG_SUMMARY
