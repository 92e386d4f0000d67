"""
`parse: attrs`: what stands beside the message in a line of a spool.
"""

from __future__ import annotations

from typing import Any

import pytest

from agent import _fastparse
from agent._fastfields import Wanted, field, parsed
from agent._fastobject import extract_attrs
from agent.sources.spooled import record
from tests.transforms import kit

DOCKER = _fastparse.FORMAT_DOCKER
NAMES = (b"attrs.event_id", b"attrs.log_type", b"verb")


def texts(columns: Any, names: tuple[bytes, ...] = NAMES) -> list[list[bytes]]:
    """
    Return the values of every row.
    """
    values = [[text for _, text in field(columns, index)] for index in range(len(names))]
    return [list(row) for row in zip(*values, strict=True)]


def test_values_of_every_line_and_no_row_is_recognised() -> None:
    """
    Escapes are undone, also where they make the columns grow; the message is as it was.
    """
    attrs = [{"event_id": str(n), "log_type": 'é"\n' * n} for n in range(200)]
    text = b"".join(
        record(f'{{"verb":"get","n":"{n}"}}', time_ns=n, attrs=item) for n, item in enumerate(attrs)
    )
    columns = kit.parsed(text, format=DOCKER)
    assert extract_attrs(columns, Wanted(NAMES)) == 0
    assert texts(columns) == [
        [item["event_id"].encode(), item["log_type"].encode(), b""] for item in attrs
    ]
    assert not any(parsed(columns))
    assert kit.messages(columns)[7] == b'{"verb":"get","n":"7"}'


def test_the_next_parse_sees_the_message() -> None:
    """
    Fields of both, and a message cannot pretend to have attrs.
    """
    text = record(
        '{"verb":"get","time":"2026-01-01T00:00:00Z","attrs.event_id":5}',
        time_ns=1,
        attrs={"event_id": "7", "log_type": "audit"},
    ) + record("plain", time_ns=2, attrs={"log_type": "api"})
    made = kit.stages(
        {"parse": "attrs"},
        {"where": 'fields["attrs.log_type"] == "audit"'},
        {"parse": "json"},
        {"where": 'fields["verb"] == "get"'},
    )
    columns = kit.applied(made, kit.parsed(text, format=DOCKER))
    assert columns.rows == 1
    assert kit.messages(columns)[0].startswith(b'{"verb"')


@pytest.mark.parametrize(
    "line",
    [
        b'{"log":"a\\n","stream":"stdout","time":"2026-11-22T10:15:00Z"}\n',
        b'{"log":"a\\n","attrs":{"event_id":"1"},"stream":"stdout","time":"2026-11-22T10:15:00Z"}\n',
        b'{"log":"a\\n","stream":"stdout","time":"2026-11-22T10:15:00Z","attrs":[]}\n',
        b'{"log":"a\\n","stream":"stdout","time":"2026-11-22T10:15:00Z","attrs":{}}\n',
        b"no json\n",
        b'{"log":"a","stream":"stdout","time":"2026-11-22T10:15:00Z","attrs":{"event_id":"1"}}\n',
    ],
)
def test_lines_without(line: bytes) -> None:
    """
    Other orders, other kinds, lines of no format, and pieces of a line have none.
    """
    columns = kit.parsed(line, format=DOCKER)
    extract_attrs(columns, Wanted(NAMES))
    assert all(row == [b"", b"", b""] for row in texts(columns))
