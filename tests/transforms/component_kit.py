"""
What the tests of components share: lines to values.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent import _fastfields, _fastparse
from agent.core.components import COLUMN_SETS
from agent.transforms.stages import SinkColumn
from tests.transforms.kit import RESOURCE, parsed, stages

if TYPE_CHECKING:
    from agent.core.counters import Counters

NOV_22_19_00_01 = int(dt.datetime(2026, 11, 22, 19, 0, 1, tzinfo=dt.UTC).timestamp())


def read(
    container: str,
    lines: list[str],
    *columns: tuple[str, str, str],
    counters: Counters | None = None,
) -> tuple[_fastparse.Columns, list[list[Any]], list[str]]:
    """
    Return the rows of lines of a raw file, the values of *columns* in each, and what was said.
    """
    said: list[str] = []
    made = stages(
        {"multiline": "component"},
        {"parse": "component"},
        sink_columns=[SinkColumn(*item) for item in columns],
        sink_uses_level=True,
        tell=lambda event, text, **_: said.append(f"{event}: {text}"),
        counters=counters,
    )
    rows = parsed("\n".join(lines).encode() + b"\n", format=_fastparse.FORMAT_RAW)
    resource = replace(RESOURCE, container=container)
    done = made.begin().apply(rows, resource=resource, generation=0, now=0.0, release=True).columns
    values: list[list[Any]] = [[] for _ in range(done.rows)]
    for _, _, field in columns:
        for row, (kind, value) in enumerate(_fastfields.field(done, made.indices[field])):
            values[row].append(value.decode() if kind > 1 else None)
    return done, values, said


def of_set(name: Any, line: str, container: str) -> dict[str, Any]:
    """
    Return what *line* of *container* has in the columns of a set.
    """
    columns = COLUMN_SETS[name]
    _, (values,), said = read(container, [line], *columns)
    assert not said
    return {
        item.name: value for item, value in zip(columns, values, strict=True) if value is not None
    }
