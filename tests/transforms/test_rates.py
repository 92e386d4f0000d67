"""
`sample`, `limit` and `metric`: fewer rows, and numbers out of rows.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _fastparse
from agent._fastfields import Mask
from agent._fastrate import FLAG_SUMMARY, Bucket, keep_with_summary, narrow_limit
from agent.config import parse as parse_config
from agent.config.problems import ConfigError
from agent.core import counters as metric
from agent.core.batch import Segment
from agent.core.budget import Budget
from agent.core.counters import Counters
from agent.core.cursor import cursor_at
from agent.core.resolve import Resolver
from agent.runtime.exposition import render
from tests.transforms.kit import RESOURCE, applied, columns_of, messages, stages

SECOND = 10**9


def timed(times: list[int], stream: int = 1) -> _fastparse.Columns:
    rows = [(time, 10 * index, 0, 0, index, 1, stream) for index, time in enumerate(times)]
    return _fastparse.Columns.build(b"x" * len(times), rows)


def test_sample_by_trace() -> None:
    """
    All rows of a trace or none, about as many as were asked for, and the same ones again.
    """
    lines = [b'{"trace":"t%d","n":%d}' % (index % 1_000, index) for index in range(4_000)]
    made = stages({"parse": "json"}, {"sample": 0.25, "by": "trace"})
    kept = messages(applied(made, columns_of(lines)))
    traces = {json.loads(line)["trace"] for line in kept}
    assert len(kept) == 4 * len(traces)
    assert 200 < len(traces) < 300
    assert messages(applied(made, columns_of(lines))) == kept


def test_sample_of_some() -> None:
    """
    Rows that the expression does not name are all kept; without a field rows are chosen one by one.
    """
    lines = [
        b'{"level":"%s","n":%d}' % ((b"info", b"error")[index % 2], index) for index in range(2_000)
    ]
    made = stages({"parse": "json"}, {"sample": 0.1, "only": "level <= info"})
    kept = [json.loads(line)["level"] for line in messages(applied(made, columns_of(lines)))]
    assert kept.count("error") == 1_000
    assert 60 < kept.count("info") < 140
    assert messages(applied(stages({"sample": 0.0}), columns_of([b"a"] * 9))) == []
    assert len(messages(applied(stages({"sample": 1.0}), columns_of([b"a"] * 9)))) == 9


@given(
    st.lists(st.integers(0, 20 * SECOND), max_size=30).map(sorted),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.integers(1, 4),
    st.integers(1, 7),
)
def test_limit_against_its_meaning(times: list[int], rate: float, burst: int, size: int) -> None:
    """
    A bucket that fills with the time of the rows, however the rows are split over segments.
    """
    tokens, last, expected = float(burst), 0, []
    for time in times:
        tokens = min(float(burst), tokens + (time - last) / SECOND * rate)
        last = time
        expected.append(tokens >= 1)
        tokens -= tokens >= 1
    bucket, found = Bucket(float(burst), 0), []
    for start in range(0, len(times), size):
        columns = timed(times[start : start + size])
        mask = Mask(columns.rows)
        bucket = narrow_limit(columns, mask, bucket, rate, float(burst))
        found += [bool(bit) for bit in bytes(mask)]
    assert found == expected


def test_limit_says_what_it_dropped() -> None:
    """
    One row a stream: where the first dropped one was, with the number; counted; it passes later transforms.
    """
    counters = Counters()
    made = stages(
        {"parse": "json"},
        {"limit": "container", "lines_per_s_max": 1, "burst_lines": 2},
        {"where": "level != fatal"},
        counters=counters,
    )
    columns = applied(made, timed([100 * SECOND + index for index in range(7)]))
    assert messages(columns) == [
        b"x",
        b"x",
        b"tailrace: 5 lines dropped by limit: more than 1 a second",
    ]
    assert list(columns.column("flags")) == [1, 1, 1 | FLAG_SUMMARY]
    assert list(columns.column("offset")) == [0, 10, 20]
    assert columns.column("time_ns")[2] == 100 * SECOND + 6
    assert columns.message_bytes == sum(map(len, messages(columns)))
    assert counters.get(metric.LIMITED_ROWS, "r") == 5


def test_summary_of_two_streams() -> None:
    rows = [(index, index, 0, 0, index, 1, 1 + index % 2) for index in range(4)]
    columns = _fastparse.Columns.build(b"abcd", rows)
    mask = Mask(4)
    mask.clear()
    assert keep_with_summary(columns, mask, b"<", b">") == 4
    assert messages(columns) == [b"<2>", b"<2>"]
    assert list(columns.column("offset")) == [0, 1]


# -- metrics ----------------------------------------------------------------------------------------


def segment_of(made: Any, lines: list[bytes], start: int) -> Segment:
    done = made.begin().apply(
        columns_of(lines), resource=RESOURCE, generation=0, now=0.0, release=True
    )
    return Segment(
        log="l",
        generation=0,
        file_id="f",
        start=start,
        stop=start + 10,
        resource=RESOURCE,
        columns=done.columns,
        cursor_after=cursor_at(0, start + 10),
        read_ns=0,
        charge=Budget(1 << 20, ("r",)).shares["r"].take(0),  # type: ignore[arg-type]
        rows=done.columns.rows,
        tallies=done.tallies,
    )


def test_metrics_count_what_a_checkpoint_has_passed() -> None:
    """
    Not when lines are read, and not when they are delivered: a route that starts again does not count twice.
    """
    counters = Counters()
    made = stages(
        {"parse": "json"},
        {"metric": "app_lines", "labels": ("namespace", "level"), "when": "exists level"},
        {"metric": "app_seconds", "histogram_of": "s", "buckets": (0.5, 1.0), "labels": ("pod",)},
        {"where": "level >= error"},
    )
    lines = [
        b'{"level":"info","s":0.1}',
        b'{"level":"error","s":"0.7"}',
        b'{"level":"error","s":9}',
        b'{"s":"?"}',
    ]
    share = Budget(1 << 20, ("r",)).shares["r"]
    resolver = Resolver("r", {"l": cursor_at(0, 0)}, counters, share)
    first, second = segment_of(made, lines, 0), segment_of(made, lines, 10)
    for segment in (first, second):
        resolver.track(segment)
    resolver.delivered(second, 2)
    assert b"app_lines" not in render(counters)
    resolver.written(resolver.dirty(), 0)
    assert b"app_lines" not in render(counters)
    resolver.delivered(first, 2)
    cursors = resolver.dirty()
    assert b"app_lines" not in render(counters)
    resolver.written(cursors, 0)
    text = render(counters).decode()
    assert 'app_lines_total{level="error",namespace="shop",route="r"} 4.0' in text
    assert 'app_lines_total{level="info",namespace="shop",route="r"} 2.0' in text
    assert 'app_seconds_bucket{le="0.5",pod="web-1",route="r"} 2.0' in text
    assert 'app_seconds_bucket{le="1",pod="web-1",route="r"} 4.0' in text
    assert 'app_seconds_bucket{le="+Inf",pod="web-1",route="r"} 6.0' in text
    assert 'app_seconds_count{pod="web-1",route="r"} 6.0' in text
    assert 'app_seconds_sum{pod="web-1",route="r"} 19.6' in text
    resolver.written(resolver.dirty(), 0)
    assert render(counters).decode().count("} 4.0") == text.count("} 4.0")
    resolver.close()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"sample": 1.5}, "sample"),
        ({"sample": 0.1, "only": "level =<"}, "only: '=' means nothing"),
        ({"sample": 0.1, "by": "trace"}, "uses fields.trace, but no parse"),
        ({"limit": "pod", "lines_per_s_max": 1}, "expected one of container"),
        ({"limit": "container"}, "lines_per_s_max: is missing"),
        ({"metric": "tailrace_x"}, "does not begin with tailrace_"),
        ({"metric": "process_cpu_seconds"}, "does not begin with tailrace_ or process_"),
        ({"metric": "x", "labels": ["pod", "pod"]}, "labels: got pod, pod, expected each once"),
        ({"metric": "x", "labels": ["path"]}, 'got "path", expected some of cluster'),
        ({"metric": "x", "buckets": [2, 1]}, "not in ascending order"),
        ({"metric": "x", "when": "pod"}, "when: got the end"),
    ],
)
def test_configuration(settings: dict[str, Any], problem: str) -> None:
    route = {"name": "r", "sink": {"type": "blackhole"}, "transforms": [settings]}
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps({"routes": [route]}), name="t", environ={})
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({}, {}, True),
        ({"when": "true"}, {"when": "exists message"}, True),
        ({"labels": ["pod"]}, {"labels": ["node"]}, False),
        ({"labels": ["pod", "node"]}, {"labels": ["node", "pod"]}, False),
        ({"help": "A."}, {"help": "B."}, False),
        ({"histogram_of": "s"}, {}, False),
        ({"metric": "lines_total"}, {"metric": "lines", "labels": ["pod"]}, False),
        ({"histogram_of": "s"}, {"histogram_of": "t"}, True),
        ({"histogram_of": "s", "buckets": [1]}, {"histogram_of": "s"}, False),
    ],
)
@pytest.mark.parametrize("routes", [1, 2])
def test_metrics_of_one_name_are_alike(
    one: dict[str, Any], other: dict[str, Any], alike: bool, routes: int
) -> None:
    """
    In one route or in two: a scrape with two meanings of a name would be refused as a whole.
    """
    made = [[{"parse": "json"}, {"metric": "lines"} | item] for item in (one, other)]
    if routes == 1:
        made = [[*made[0], *made[1]]]
    tree = {
        "routes": [
            {"name": f"r{number}", "sink": {"type": "blackhole"}, "transforms": transforms}
            for number, transforms in enumerate(made)
        ]
    }
    if alike:
        parse_config(json.dumps(tree), name="t", environ={})
        return
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps(tree), name="t", environ={})
    assert "has another type, label, bucket or help at routes[0].transforms[1]" in str(caught.value)
