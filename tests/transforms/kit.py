"""
What the tests of transforms share: columns out of lines, rows out of columns, a route's transforms.
"""

from __future__ import annotations

from typing import Any

from agent import _fastparse
from agent.core.batch import Resource
from agent.core.counters import Counters
from agent.transforms.registry import KINDS
from agent.transforms.stages import Stages

READ_NS = 1_800_000_000_000_000_000
RESOURCE = Resource(path="/var/log/pods/a/b/0.log", namespace="shop", pod="web-1", container="app")


def columns_of(lines: list[bytes], *, flags: int = 1) -> _fastparse.Columns:
    """
    Make columns whose messages are *lines*, which may hold any bytes.
    """
    data = b"".join(lines)
    rows, position = [], 0
    for index, line in enumerate(lines):
        rows.append((READ_NS + index, position, 0, 0, position, len(line), flags))
        position += len(line)
    return _fastparse.Columns.build(data, rows)


def parsed(text: bytes, *, format: int = _fastparse.FORMAT_CRI) -> _fastparse.Columns:
    """
    Return the columns of a chunk of a file.
    """
    chunk = _fastparse.Chunk(len(text))
    with memoryview(chunk) as view:
        view[:] = text
    parser = _fastparse.Parser(format=format, line_bytes_max=1 << 20)
    return parser.parse(chunk, len(text), offset=0, read_time_ns=READ_NS, final=True)


def messages(columns: _fastparse.Columns) -> list[bytes]:
    data = columns.data
    starts, lengths = columns.column("message_start"), columns.column("message_len")
    return [
        bytes(data[start : start + length]) for start, length in zip(starts, lengths, strict=True)
    ]


def settings(*transforms: dict[str, Any]) -> tuple[Any, ...]:
    """
    Return the Settings of *transforms*.
    """
    made = []
    for item in transforms:
        name = next(name for name in item if name in KINDS)
        made.append(KINDS[name].settings(**item))
    return tuple(made)


def stages(*transforms: dict[str, Any], counters: Counters | None = None, **more: Any) -> Stages:
    return Stages(settings(*transforms), route="r", counters=counters or Counters(), **more)


def applied(made: Stages, columns: _fastparse.Columns, **more: Any) -> _fastparse.Columns:
    """
    Send *columns* through *made* as those of a Log that has nothing open.
    """
    arguments: dict[str, Any] = {"resource": RESOURCE, "generation": 0, "now": 0.0, "release": True}
    return made.begin().apply(columns, **(arguments | more)).columns
