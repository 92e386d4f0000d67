"""
Fields as typed columns: the buffers, and the way through staging into Parquet.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _fastcolumns
from agent._fastcolumns import typed_column
from agent._fastfields import Wanted
from agent._fastobject import extract_json
from agent._reference_fields import moment, number
from agent.config import parse as parse_config
from agent.config.problems import ConfigError
from agent.core import counters as metric
from agent.core.counters import Counters
from agent.transforms.stages import SinkColumn
from tests.transforms.kit import READ_NS, RESOURCE, columns_of, stages

values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "7", "-0", "-", "1.5", "true", "x", "2026-11-22T19:00:01Z", "1700000000", "é"]
    )
    | st.lists(st.integers(), max_size=2)
)


def valid_of(typed: _fastcolumns.Typed, rows: int) -> list[bool]:
    return [bool(typed.valid[row >> 3] >> (row & 7) & 1) for row in range(rows)]


@given(st.lists(values | st.just(...), max_size=20))
def test_types(items: list[Any]) -> None:
    """
    A value is what its type says, or null; what is there and does not fit is counted.
    """
    lines = [b"{}" if item is ... else json.dumps({"a": item}).encode() for item in items]
    columns = columns_of(lines)
    extract_json(columns, Wanted((b"a",)))
    texts = [
        None
        if item is ... or item is None
        else item.encode()
        if isinstance(item, str)
        else json.dumps(item).encode()
        for item in items
    ]
    rows = len(items)
    strings = typed_column(columns, 0, _fastcolumns.TYPE_STRING)
    offsets = struct.unpack(f"{rows + 1}i", strings.values)
    found = [strings.text[offsets[row] : offsets[row + 1]] for row in range(rows)]
    assert valid_of(strings, rows) == [text is not None for text in texts]
    assert found == [text or b"" for text in texts]

    integers = typed_column(columns, 0, _fastcolumns.TYPE_BIGINT)
    fit = [
        text is not None and text.removeprefix(b"-").isdigit() and -(2**63) <= int(text) < 2**63
        for text in texts
    ]
    assert valid_of(integers, rows) == fit
    assert integers.misfits == sum(text is not None for text in texts) - sum(fit)
    for row, value in enumerate(struct.unpack(f"{rows}q", integers.values)):
        assert value == (int(texts[row] or b"0") if fit[row] else 0)

    doubles = typed_column(columns, 0, _fastcolumns.TYPE_DOUBLE)
    numbers = [None if text is None else number(text) for text in texts]
    assert valid_of(doubles, rows) == [item is not None for item in numbers]
    assert list(struct.unpack(f"{rows}d", doubles.values)) == [item or 0.0 for item in numbers]

    booleans = typed_column(columns, 0, _fastcolumns.TYPE_BOOLEAN)
    assert valid_of(booleans, rows) == [text in {b"true", b"false"} for text in texts]
    for row, text in enumerate(texts):
        assert booleans.values[row >> 3] >> (row & 7) & 1 == (text == b"true")

    times = typed_column(columns, 0, _fastcolumns.TYPE_TIMESTAMP)
    moments = [None if text is None else moment(text) for text in texts]
    assert valid_of(times, rows) == [item is not None for item in moments]
    expected = [(item or 0) // 1_000_000 for item in moments]
    assert list(struct.unpack(f"{rows}q", times.values)) == expected


def test_typed_rows_follow_the_rows() -> None:
    """
    Rows that are dropped have no values left; misfits are counted by field.
    """
    counters = Counters()
    made = stages(
        {"parse": "json"},
        {"where": "level >= warn"},
        counters=counters,
        sink_columns=[SinkColumn("status", "bigint", "http.status")],
        sink_uses_level=True,
    )
    lines = [
        b'{"level":"info","http":{"status":1}}',
        b'{"level":"warn","http":{"status":2}}',
        b'{"level":"error","http":{"status":"many"}}',
    ]
    done = made.begin().apply(
        columns_of(lines), resource=RESOURCE, generation=0, now=0.0, release=True
    )
    assert done.typed is not None
    assert done.typed.columns == (("level", "level"), ("status", "bigint"))
    assert done.typed.buffers == (bytes([13, 17]), b"\x01", struct.pack("2q", 2, 0))
    assert counters.get(metric.MISFIT_VALUES, "r", "http.status") == 1
    assert READ_NS


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ([{"name": "level"}], '"level" is there already'),
        ([{"name": "dt"}], '"dt" is there already'),
        ([{"name": "a"}, {"name": "a"}], '"a" is there already'),
        ([{"name": "Status"}], "a name of a-z, 0-9 and _"),
        ([{"name": "a", "type": "int"}], "expected one of string, bigint"),
        ([{"name": "a"}], "are filled by a parse"),
    ],
)
def test_configuration(columns: Any, problem: str) -> None:
    route = {"name": "r", "sink": {"type": "parquet", "url": "file:///x", "columns": columns}}
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps({"routes": [route]}), name="t", environ={})
    assert problem in str(caught.value)
