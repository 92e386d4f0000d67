"""
Own log lines: readable, bounded, and never in the way.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from agent.runtime.own_log import EVENTS_MAX, LINE_BYTES_MAX, LINES_MAX, WINDOW_S, OwnLog

if TYPE_CHECKING:
    from collections.abc import Iterator


class Log:
    """
    An own log into a pipe.
    """

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        self.now_s = 0.0

    def open(self, **options: Any) -> OwnLog:
        return OwnLog(
            fd=self.write_fd,
            now_ns=lambda: 1_795_428_000_123_000_000,
            monotonic=lambda: self.now_s,
            **options,
        )

    def lines(self) -> list[str]:
        os.set_blocking(self.read_fd, False)
        parts = []
        try:
            while part := os.read(self.read_fd, 65536):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts).decode().splitlines()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]


@pytest.fixture
def log() -> Iterator[Log]:
    pipe = Log()
    yield pipe
    for fd in (pipe.read_fd, pipe.write_fd):
        with contextlib.suppress(OSError):
            os.close(fd)


def test_json(log: Log) -> None:
    """
    One object a line: time, level, event, text, then the fields.
    """
    log.open().tell(
        "state_held", "two\nlines", level="warning", route="a", bytes=3, ok=True, none=None
    )
    (line,) = log.lines()
    assert line == (
        '{"time":"2026-11-23T10:00:00.123Z","level":"warning","event":"state_held","text":"two\\nlines",'
        '"route":"a","bytes":3,"ok":true,"none":null}'
    )


def test_text(log: Log) -> None:
    """
    One line an event, whatever is in it; values with spaces are quoted.
    """
    log.open(format="text").tell("state_held", "two\nlines", route="a", why='no "b"', empty="")
    assert log.lines() == [
        '2026-11-23T10:00:00.123Z info state_held: two\\nlines route=a why="no \\"b\\"" empty=""'
    ]


def test_levels(log: Log) -> None:
    """
    What is below the level is not written.
    """
    own_log = log.open(level="warning")
    for level in ("debug", "info", "warning", "error"):
        own_log.tell("event", level, level=level)
    assert [record["level"] for record in log.records()] == ["warning", "error"]


def test_lines_of_an_event_are_limited_and_counted(log: Log) -> None:
    """
    The line after the pause says how many were not written; other events are not affected.
    """
    own_log = log.open()
    for _ in range(LINES_MAX + 7):
        own_log.tell("noisy", "x")
    own_log.tell("other", "y")
    assert [record["event"] for record in log.records()] == ["noisy"] * LINES_MAX + ["other"]
    log.now_s = WINDOW_S / 2
    own_log.tell("noisy", "x")
    assert log.lines() == []
    log.now_s = WINDOW_S
    own_log.tell("noisy", "x")
    assert sum(record.get("suppressed", 0) for record in log.records()) == 8
    own_log.tell("noisy", "x")
    assert "suppressed" not in log.records()[0]


def test_suppressed_lines_are_reported_by_another_event(log: Log) -> None:
    """
    An event that falls silent has its count reported all the same, and at the end.
    """
    own_log = log.open()
    for _ in range(LINES_MAX + 3):
        own_log.tell("noisy", "x", level="error")
    log.lines()
    log.now_s = WINDOW_S + 1
    own_log.tell("other", "y")
    report, other = log.records()
    assert (report["event"], report["level"], report["suppressed"]) == ("noisy", "error", 3)
    assert other["event"] == "other"
    for _ in range(LINES_MAX + 2):
        own_log.tell("other", "y")
    log.lines()
    own_log.flush()
    own_log.flush()
    assert [record["suppressed"] for record in log.records()] == [3]


def test_odd_fields(log: Log) -> None:
    """
    Anything may be a field: it is written as text, and reserved names do not hide ours.
    """

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    log.open().tell(
        "odd",
        "path \udce9",
        level="info",
        time=1,
        path="caf\udce9",
        raw=b"\xff",
        huge=2**70,
        nan=float("nan"),
        items=[1, 2],
        broken=Broken(),
        error=ValueError("x"),
    )
    (record,) = log.records()
    assert record["time"] == "2026-11-23T10:00:00.123Z"
    assert record["text"] == "path \\udce9"
    assert {key: record[key] for key in list(record)[4:]} == {
        "time_": 1,
        "path": "caf\\udce9",
        "raw": "\\xff",
        "huge": str(2**70),
        "nan": "nan",
        "items": "[1, 2]",
        "broken": "<Broken>",
        "error": "ValueError('x')",
    }


@pytest.mark.parametrize("format", ["json", "text"])
def test_lines_are_bounded(log: Log, format: str) -> None:
    """
    A line is never longer than what a pipe takes at once, and stays one line of its format.
    """
    own_log = log.open(format=format)
    own_log.tell("long", "t" * 10_000, detail="\x00" * 100_000, more="m" * 5000, count=7)
    (line,) = log.lines()
    assert len(line) <= LINE_BYTES_MAX
    assert "ttt" in line
    if format == "json":
        assert json.loads(line)["count"] == 7


def test_nobody_reads(log: Log) -> None:
    """
    A full pipe costs lines, not time.
    """
    own_log = log.open()
    for number in range(1000):
        own_log.tell(f"event{number}", "x" * 1000)
    assert own_log.unwritten > 800
    assert len(log.records()) == 1000 - own_log.unwritten


def test_nobody_is_there(log: Log) -> None:
    """
    A closed stderr is survived.
    """
    own_log = log.open()
    os.close(log.read_fd)
    own_log.tell("event", "x")
    os.close(log.write_fd)
    own_log.tell("event", "x")
    assert own_log.unwritten == 2


def test_event_names_are_bounded(log: Log) -> None:
    """
    Names that are made up by mistake do not grow memory; names that are no names are a bug.
    """
    own_log = log.open(level="error")
    for number in range(EVENTS_MAX * 2):
        own_log.tell(f"event{number}", "x", level="error")
        log.lines()
    assert len(own_log._windows) <= EVENTS_MAX
    with pytest.raises(AssertionError, match="snake_case"):
        own_log.tell("Not a name", "x")
