"""
Rows by the values of fields: the kernel against its specification, and what a route makes of it.
"""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _fastfields
from agent._fastfields import Wanted
from agent._fastobject import extract_json
from agent._fastparse import FLAG_EARLIER, Columns
from agent._fastsplit import SPLIT_FIELDS_MAX, VALUE_BYTES_MAX, Values, split
from agent._reference_records import rows_of
from agent._reference_split import number
from agent.config import parse as parse_config
from agent.config.problems import ConfigError
from agent.core import counters as metric
from agent.core.counters import Counters
from agent.core.templates import NAME_FIELDS_MAX
from agent.transforms.names import OTHER
from agent.transforms.stages import SinkColumn, Stages
from tests.transforms.kit import RESOURCE, columns_of, messages, parsed, stages

if TYPE_CHECKING:
    from agent.core.transform import Applied

NAMES = (b"a", b"b", b"c")
values = st.one_of(
    st.sampled_from(["x", "y", "", "é", "x" * 255, "x" * 256, "x" * 257, 1, 1.0, True, None, [1]]),
    st.text(max_size=3),
)
lines = st.dictionaries(st.sampled_from(["a", "b", "c", "z"]), values).map(
    lambda item: json.dumps(item, ensure_ascii=False).encode()
) | st.binary(max_size=20)


def fields_in(columns: Columns) -> list[list[tuple[int, bytes]]]:
    """
    Return the fields of every row.
    """
    by_field = [_fastfields.field(columns, index) for index in range(len(NAMES))]
    return [list(row) for row in zip(*by_field, strict=True)]


@given(
    st.lists(st.lists(lines, max_size=8), max_size=4),
    st.sampled_from([(0,), (1, 0), (2, 2, 1)]),
    st.integers(1, 6),
    st.integers(0, 4),
    st.booleans(),
)
def test_against_the_specification(
    segments: list[list[bytes]],
    indices: tuple[int, ...],
    limit: int,
    fresh_max: int,
    with_fields: bool,
) -> None:
    """
    Segment after segment every row has its number, and is once in the columns of that number, in order and whole.
    """
    made = Values(indices, limit)
    known: dict[tuple[bytes, ...], int] = {}
    for rows in segments:
        columns = columns_of(rows)
        extract_json(columns, Wanted(NAMES))
        of_rows = fields_in(columns)
        looked_at = [[row[index] for index in indices] for row in of_rows]
        before = len(known)
        expected = number(looked_at, known, limit=limit, fresh_max=fresh_max)
        found = made.number(columns, fresh_max)
        assert array("i", found.numbers).tolist() == expected
        assert (found.fresh, found.beyond) == (len(known) - before, expected.count(0))
        assert len(made) == len(known)
        assert {made.texts(item): item for item in known.values()} == known
        whole = list(zip(expected, rows_of(columns), of_rows, strict=True))
        severities = _fastfields.severities(columns)
        parts = split(columns, found.numbers, fields=with_fields)
        assert [item for item, _ in parts] == list(dict.fromkeys(expected))
        for item, part in parts:
            wanted = [(row, values) for owner, row, values in whole if owner == item]
            assert list(rows_of(part)) == [row for row, _ in wanted]
            assert part.message_bytes == sum(len(row.message) for row, _ in wanted)
            if with_fields:
                assert fields_in(part) == [values for _, values in wanted]
                assert len(_fastfields.severities(part)) == len(wanted) or not severities


def test_a_single_value_is_not_copied() -> None:
    columns = columns_of([b"x", b"y"])
    ((item, part),) = split(columns, array("i", [7, 7]).tobytes(), fields=False)
    assert item == 7
    assert part is columns
    assert split(columns_of([]), b"", fields=True) == []


def test_what_the_kernel_refuses() -> None:
    """
    Mistakes of a caller: none of them reads beyond what is there.
    """
    columns = columns_of([b"x", b"y"])
    for numbers in (b"", bytes(4), bytes(7), bytes(12)):
        with pytest.raises(ValueError, match="bytes of numbers for 2 rows"):
            split(columns, numbers, fields=False)
    with pytest.raises(ValueError, match="number -1"):
        split(columns, array("i", [0, -1]).tobytes(), fields=False)
    for indices in ((), tuple(range(9)), (-1,)):
        with pytest.raises(ValueError, match="field"):
            Values(indices, 1)
    with pytest.raises(ValueError, match="limit"):
        Values((0,), 0)
    extract_json(columns, Wanted(NAMES))
    with pytest.raises(IndexError):
        Values((3,), 1).number(columns, 1)
    with pytest.raises(IndexError):
        Values((0,), 1).texts(1)
    assert SPLIT_FIELDS_MAX == NAME_FIELDS_MAX


def test_a_row_that_began_earlier_keeps_its_generation() -> None:
    columns = Columns.build(
        b"xy", [(1, 7, 0, 0, 0, 1, 1 | FLAG_EARLIER), (2, 0, 0, 0, 1, 1, 1)], (-1, 4, -1)
    )
    parts = split(columns, array("i", [1, 2]).tobytes(), fields=False)
    assert [part.earlier_generation(1) for _, part in parts] == [4, 4]


def named(made: Stages, rows: list[bytes], **more: Any) -> Applied:
    arguments: dict[str, Any] = {"resource": RESOURCE, "generation": 0, "now": 0.0, "release": True}
    return made.begin().apply(columns_of(rows), **(arguments | more))


def by_values(found: Applied) -> dict[tuple[str, ...], list[bytes]]:
    assert len({item.values for item in found.named}) == len(found.named)
    return {item.values: messages(item.columns) for item in found.named}


def test_rows_of_a_segment_by_name() -> None:
    """
    After all transforms: what is redacted is in no name, and rows without the field go together.
    """
    made = stages(
        {"parse": "json"},
        {"redact": ["email"]},
        {"where": 'fields.app != "noise"'},
        name_fields=("app", "n"),
        name_values_max=100,
    )
    rows = [
        b'{"app":"a","n":1}',
        b'{"app":"joe@example.com"}',
        b'{"app":"noise"}',
        b'{"app":"a","n":1.0}',
        b'{"app":"a","n":1}',
        b'{"app":"b","n":{"x":1}}',
    ]
    found = by_values(named(made, rows))
    assert found == {
        ("a", "1"): [rows[0], rows[4]],
        ("[redacted:email]", ""): [b'{"app":"[redacted:email]"}'],
        ("a", "1.0"): [rows[3]],
        ("b", ""): [rows[5]],
    }


def test_values_beyond_the_limit_are_other() -> None:
    """
    A container that writes a new value on each line brings in a tenth of the values, and takes no name from others.
    """
    counters = Counters()
    told: list[str] = []
    made = stages(
        {"parse": "json"},
        counters=counters,
        name_fields=("id",),
        name_values_max=30,
        tell=lambda event, text, **_: told.append(f"{event}: {text}"),
    )
    noisy = made.begin()
    arguments: dict[str, Any] = {"resource": RESOURCE, "generation": 0, "now": 0.0, "release": True}
    total = 0
    for start in range(0, 2_000, 500):
        rows = [b'{"id":%d}' % index for index in range(start, start + 500)]
        found = by_values(noisy.apply(columns_of(rows), **arguments))
        total += sum(map(len, found.values()))
        known = {("0",), ("1",), ("2",), (OTHER,)} if not start else {(OTHER,)}
        assert found.keys() == known
    assert total == 2_000
    assert counters.get(metric.NAME_OTHERS, "r") == 1_997
    assert all(text.startswith("name_values_full: /var/log/pods/a/b/0.log: ") for text in told)
    # Another container still has names, and all know what is known.
    assert by_values(named(made, [b'{"id":"new"}', b'{"id":1}'])).keys() == {("new",), ("1",)}
    # Until the route has as many as it may.
    for index in range(40):
        last = by_values(named(made, [b'{"id":"%d"}' % (index + 10_000)]))
    assert last.keys() == {(OTHER,)}
    assert by_values(named(made, [b'{"id":"%s"}' % (b"x" * (VALUE_BYTES_MAX + 1))])).keys() == {
        (OTHER,)
    }


def test_columns_of_parts() -> None:
    """
    Levels and typed columns are those of the rows of each part.
    """
    made = stages(
        {"parse": "json"},
        name_fields=("app",),
        name_values_max=100,
        sink_columns=[SinkColumn("n", "bigint", "n")],
        sink_uses_level=True,
    )
    rows = [
        b'{"app":"a","n":1,"level":"warn"}',
        b'{"app":"b","n":2,"level":"info"}',
        b'{"app":"a","n":3,"level":"debug"}',
    ]
    found = {item.values[0]: item for item in named(made, rows).named}
    typed = found["a"].typed
    assert typed is not None
    level, valid, numbers = typed.buffers
    assert (list(level), valid, array("q", numbers).tolist()) == ([13, 5], b"\x03", [1, 3])
    typed = found["b"].typed
    assert typed is not None
    assert array("q", typed.buffers[2]).tolist() == [2]


def test_lines_that_no_parse_knows_go_together() -> None:
    text = b'2026-11-22T19:00:01Z stdout F one\n2026-11-22T19:00:01Z stderr F {"app":"a"}\n'
    made = stages({"parse": "json"}, name_fields=("app",), name_values_max=100)
    arguments: dict[str, Any] = {"resource": RESOURCE, "generation": 0, "now": 0.0, "release": True}
    found = by_values(made.begin().apply(parsed(text), **arguments))
    assert found == {("",): [b"one"], ("a",): [b'{"app":"a"}']}
    assert by_values(made.begin().apply(columns_of([b"one"]), **arguments)) == {("",): [b"one"]}


@pytest.mark.parametrize(
    ("sink", "problem"),
    [
        (
            {"type": "cloudwatch", "region": "r", "stream": "{fields.app}"},
            "routes[0].sink.stream: uses {fields.app}, which a parse finds: put one among the transforms",
        ),
        (
            {"type": "parquet", "url": "file:///x", "prefix": "{fields.b}/{fields.a}"},
            "routes[0].sink.prefix: uses {fields.a}, which a parse finds",
        ),
        (
            {
                "type": "cloudwatch",
                "region": "r",
                "group": "".join(f"{{fields.{n}}}" for n in range(9)),
            },
            "9 fields in group and stream, at most 8",
        ),
        (
            {"type": "parquet", "url": "file:///x", "name_values_max": 5_000},
            "name_values_max",
        ),
    ],
)
def test_configuration(sink: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps({"routes": [{"name": "r", "sink": sink}]}), name="t", environ={})
    assert problem in str(caught.value)
