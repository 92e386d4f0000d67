"""
Multiline: real stack traces, the compiled joiner against the specification, and where its cursor stands.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _fastparse
from agent._fastjoin import LANGUAGES, Joiner
from agent._fastparse import FLAG_EARLIER, FORMAT_CRI
from agent._reference_join import LANGUAGES as NAMES
from agent._reference_join import groups
from agent.config import parse as parse_config
from agent.config.problems import ConfigError
from agent.core import counters as metric
from agent.core.counters import Counters
from agent.core.cursor import StreamCursor, cursor_at
from tests.transforms.kit import RESOURCE, applied, columns_of, messages, parsed, stages
from tests.transforms.traces import JAVA, PYTHON, TRACES, blocks


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("mode", ["own", "auto"])
def test_traces(name: str, mode: str) -> None:
    """
    Nested causes, chained exceptions, goroutines, groups, sources: one row each, in its own mode and in auto.
    """
    expected = blocks(TRACES[name])
    lines = b"\n".join(expected).split(b"\n")
    made = stages({"multiline": name if mode == "own" else "auto"})
    assert messages(applied(made, columns_of(lines))) == expected


@pytest.mark.parametrize("name", TRACES)
def test_windows_line_ends(name: str) -> None:
    """
    A carriage return at the end of a line is not its content, and does not part a trace.
    """
    expected = blocks(TRACES[name])
    lines = b"\n".join(expected).split(b"\n")
    text = b"".join(b"2026-11-22T19:00:01.000000000Z stdout F " + line + b"\r\n" for line in lines)
    assert messages(applied(stages({"multiline": name}), parsed(text))) == expected


def test_two_streams_and_any_split() -> None:
    """
    Two traces interleaved line by line on stdout and stderr, read in pieces of any size, are two rows each.
    """
    expected = {1: blocks(JAVA), 2: blocks(PYTHON)}
    lines: dict[int, list[bytes]] = {
        stream: b"\n".join(events).split(b"\n") for stream, events in expected.items()
    }
    rows: list[tuple[int, int, int, int, int, int, int]] = []
    data = b""
    for index in range(max(map(len, lines.values()))):
        for stream, texts in lines.items():
            if index < len(texts):
                rows.append((index, len(rows), 0, 0, len(data), len(texts[index]), stream))
                data += texts[index]
    for size in (1, 2, 3, 7, len(rows)):
        log = stages({"multiline": "auto"}).begin()
        found: dict[int, list[bytes]] = {1: [], 2: []}
        for start in range(0, len(rows), size):
            columns = _fastparse.Columns.build(data, rows[start : start + size])
            last = start + size >= len(rows)
            applied_ = log.apply(columns, resource=RESOURCE, generation=0, now=0.0, release=last)
            for flags, message in zip(
                applied_.columns.column("flags"), messages(applied_.columns), strict=True
            ):
                found[flags & 3].append(message)
        assert found == expected
        assert log.open_streams == 0


# -- against the specification ------------------------------------------------------------------------

FRAGMENTS = sorted(
    {line for trace in TRACES.values() for line in trace.replace("|", "").split("\n")}
)
odd = st.sampled_from(
    [
        *(
            "",
            " ",
            "\t",
            "at x",
            " at ",
            "Caused by: ",
            "Error",
            "x.Error",
            "a.b.FooException",
            "Error [x]: y",
        ),
        *(
            "Uncaught x",
            "E1122 19:00:01",
            "E, [x",
            "warning",
            "warnings",
            "[x",
            ".rb:1:in '",
            "x.rb:1:in a)",
        ),
        *(
            "goroutine 1 [x]:",
            "goroutine x",
            "}",
            "Node.js v1",
            "fail: x]",
            "a.js:3",
            "a js:3",
            "exit status 1",
        ),
        *(
            "runtime stack:",
            "panic: again",
            "...additional frames elided...",
            "9.Exception",
            'Exception in thread "a',
        ),
    ]
)
lines_of_any = st.lists(
    (st.sampled_from(FRAGMENTS) | odd).map(str.encode) | st.binary(max_size=8), max_size=14
)


@given(
    lines_of_any,
    st.sampled_from([*NAMES, "auto"]),
    st.integers(2, 6),
    st.sampled_from([20, 60, 10_000]),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_meaning(
    lines: list[bytes], language: str, lines_max: int, bytes_max: int, sizes: list[int]
) -> None:
    """
    The same groups as the specification, however the lines are split over calls.
    """
    languages = NAMES if language == "auto" else (language,)
    expected = groups(languages, lines, lines_max=lines_max, bytes_max=bytes_max)
    joiner = Joiner(
        languages=LANGUAGES[language], lines_max=lines_max, bytes_max=bytes_max, hold_max_s=5
    )
    found: list[tuple[int, bytes]] = []
    joined, start, turn = 0, 0, 0
    while True:
        size = sizes[turn % len(sizes)]
        part = lines[start : start + size]
        rows, position = [], 0
        for index, line in enumerate(part, start):
            rows.append((index, index, 0, 0, position, len(line), 1))
            position += len(line)
        columns = _fastparse.Columns.build(b"".join(part), rows)
        start, turn = start + size, turn + 1
        done = start >= len(lines)
        joined += joiner.join(columns, generation=0, now=0.0, release=done).joined
        assert columns.message_bytes == sum(map(len, messages(columns)))
        found += zip(columns.column("offset"), messages(columns), strict=True)
        if done:
            break
        if len(lines):
            assert joiner.open_streams == 2
            open_index = max(index for index, _ in expected if index < start)
            assert joiner.place(1)[1] <= open_index or joiner.place(1)[1] == open_index
    assert found == expected
    assert joined == len(lines) - len(expected)


# -- the carry --------------------------------------------------------------------------------------


def cri(lines: list[str], stream: str = "stdout") -> bytes:
    return b"".join(
        f"2026-11-22T19:00:01.000000000Z {stream} F {line}\n".encode() for line in lines
    )


def test_an_open_group_holds_its_cursor() -> None:
    """
    The place of the stream is where its open group begins; after hold_max_s, or at a release, it is let go.
    """
    log = stages({"multiline": "java", "hold_max_s": 2.0}).begin()
    first = parsed(cri(["one", "two x.y.BadException: z"]))
    behind = cursor_at(3, 200)
    assert log.cursor(behind) == behind
    columns = log.apply(first, resource=RESOURCE, generation=3, now=10.0, release=False).columns
    assert messages(columns) == [b"one"]
    assert log.open_streams == 1 << 1
    assert log.cursor(behind) == (behind[0], StreamCursor(3, len(cri(["one"]))), behind[2])
    assert not log.due(11.9)
    assert log.due(12.0)
    more = parsed(cri(["\tat x.y.Z"]))
    columns = log.apply(more, resource=RESOURCE, generation=3, now=12.0, release=False).columns
    assert messages(columns) == [b"two x.y.BadException: z\n\tat x.y.Z"]
    assert log.open_streams == 0
    assert log.cursor(behind) == behind


def test_a_group_over_a_rotation() -> None:
    """
    It has the place of its first line, and says that this was in the generation before.
    """
    log = stages({"multiline": "java"}).begin()
    log.apply(
        parsed(cri(["a.b.CException: x"])), resource=RESOURCE, generation=4, now=0.0, release=False
    )
    columns = log.apply(
        parsed(cri(["\tat a.b.C", "next", "last"])),
        resource=RESOURCE,
        generation=5,
        now=0.0,
        release=False,
    ).columns
    assert messages(columns) == [b"a.b.CException: x\n\tat a.b.C", b"next"]
    flags = list(columns.column("flags"))
    assert [flag & FLAG_EARLIER for flag in flags] == [FLAG_EARLIER, 0]
    assert columns.earlier_generation(1) == 4
    assert log.cursor(cursor_at(5, 999))[1].generation == 5


def test_limits_and_counts() -> None:
    """
    A group that would join for ever becomes several rows, is counted, and no line is lost.
    """
    counters = Counters()
    made = stages({"multiline": "java", "lines_max": 10}, counters=counters)
    lines = [b"a.b.CException: x"] + [b"\tat a.b.C.m(C.java:%d)" % index for index in range(95)]
    rows = messages(applied(made, columns_of(lines)))
    assert b"\n".join(rows) == b"\n".join(lines)
    assert [row.count(b"\n") + 1 for row in rows] == [10] * 9 + [6]
    assert counters.get(metric.SPLIT_GROUPS, "r") == 9
    assert counters.get(metric.JOINED_ROWS, "r") == 96 - 10


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"start": r"^\d{4}-"}, ["orphan", "2026-1 a\nb\n c", "2026-2 d"]),
        ({"continue_with": r"^\s"}, ["orphan", "2026-1 a", "b\n c", "2026-2 d"]),
        ({"end": "[ad]$"}, ["orphan\n2026-1 a", "b\n c\n2026-2 d"]),
        ({"start": "^2026", "continue_with": "b"}, ["orphan", "2026-1 a\nb", " c", "2026-2 d"]),
        ({"start": "^2026", "end": "b"}, ["orphan", "2026-1 a\nb", " c", "2026-2 d"]),
    ],
)
def test_patterns(settings: dict[str, str], expected: list[str]) -> None:
    """
    Start, continuation and end by patterns of one's own.
    """
    lines = [b"orphan", b"2026-1 a", b"b", b" c", b"2026-2 d"]
    made = stages({"multiline": "custom"} | settings)
    assert messages(applied(made, columns_of(lines))) == [text.encode() for text in expected]


@pytest.mark.parametrize(
    ("transforms", "problem"),
    [
        ([{"parse": "json"}, {"multiline": "java"}], "stands behind another transform"),
        ([{"multiline": "custom"}], "custom needs start, continue_with or end"),
        ([{"multiline": "java", "start": "x"}], "start: set, but multiline is java"),
        ([{"multiline": "custom", "start": "(x"}], "start: a group without its closing"),
        ([{"multiline": "cobol"}], 'got "cobol", expected one of auto, java'),
        ([{"multiline": "java", "lines_max": 1}], "lines_max"),
    ],
)
def test_configuration(transforms: Any, problem: str) -> None:
    route = {"name": "r", "sink": {"type": "blackhole"}, "transforms": transforms}
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps({"routes": [route]}), name="t", environ={})
    assert problem in str(caught.value)


def test_the_format_is_cri() -> None:
    assert parsed(cri(["x"]), format=FORMAT_CRI).rows == 1


@pytest.mark.parametrize(
    ("timeout_s", "hold_s", "fits"), [(2, None, False), (2, 2, True), (1, 3, False)]
)
def test_a_hold_that_is_longer_than_pieces_are_kept_is_refused(
    timeout_s: float, hold_s: float | None, fits: bool
) -> None:
    """
    What is open of a stream is let go after the source's piece_timeout_s: a group would not be held as long as asked.
    """
    hold = {} if hold_s is None else {"hold_max_s": hold_s}
    tree = {
        "sources": [{"paths": ["/x/*.log"], "piece_timeout_s": timeout_s}],
        "routes": [
            {
                "name": "r",
                "sink": {"type": "blackhole"},
                "transforms": [{"multiline": "java"} | hold],
            }
        ],
    }
    if fits:
        parse_config(json.dumps(tree), name="t", environ={})
        return
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps(tree), name="t", environ={})
    assert "routes[0].transforms[0].hold_max_s: is" in str(caught.value)
    assert f"longer than piece_timeout_s of source containers ({timeout_s})" in str(caught.value)
