"""
Rows behind a full request that would not fill another one: they wait like any others, and nothing is encoded twice.
"""

from __future__ import annotations

import time

import pytest

from agent.core.batch import LossReason
from tests.contract.sink import LONG_S, make_segment, running
from tests.sinks.cloudwatch_bench import GROUP

EVENTS_MAX = 10_000
#: Rows of a segment: a request and a half.
ROWS = 15_000


def lines_from(first: int, count: int) -> list[str]:
    return [f"{number}" for number in range(first, first + count)]


def rows_from(bench, first: int, count: int, *, begin_ns: int = time.time_ns() - 3600 * 10**9):
    times_ns = [begin_ns + row * 1000 for row in range(first, first + count)]
    return make_segment(bench.share, lines_from(first, count), start=first * 10, times_ns=times_ns)


@pytest.fixture
def bench(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    return make_cloudwatch(linger_s=300.0)


async def test_a_rest_waits_for_more_and_shares_a_request_with_it(bench, fake):
    first, second = rows_from(bench, 0, ROWS), rows_from(bench, ROWS, EVENTS_MAX // 2)
    async with running(bench) as (sink, _, _):
        sink.accept(first)
        await bench.resolve.until(EVENTS_MAX)
        assert (first.rows_open, first.rows_left) == (ROWS - EVENTS_MAX, ROWS - EVENTS_MAX)
        before = bench.clock.seconds
        sink.accept(second)
        await bench.resolve.until(2 * EVENTS_MAX)
        assert bench.clock.seconds - before < 300
        assert first.rows_open == second.rows_open == 0
        assert bench.share.held == 0
        assert sink.idle
    assert fake.count("PutLogEvents") == 2
    assert bench.lines("a") == lines_from(0, 2 * EVENTS_MAX)


async def test_a_rest_is_sent_when_it_is_as_old_as_anything_may_get(bench, fake):
    async with running(bench) as (sink, _, _):
        accepted = bench.clock.seconds
        sink.accept(rows_from(bench, 0, ROWS))
        await bench.resolve.until(ROWS)
        assert 300 <= bench.clock.seconds - accepted < 310
    assert bench.lines("a") == lines_from(0, ROWS)


async def test_a_drain_leaves_no_rest(bench, fake):
    async with running(bench) as (sink, _, _):
        began = bench.clock.seconds
        sink.accept(rows_from(bench, 0, ROWS))
        await sink.drain(LONG_S)
        assert bench.clock.seconds - began < 300
    assert bench.lines("a") == lines_from(0, ROWS)
    assert bench.share.held == 0


async def test_memory_pressure_leaves_no_rest(bench, fake):
    bench.share.guaranteed = 2000
    async with running(bench) as (sink, _, _):
        accepted = bench.clock.seconds
        sink.accept(rows_from(bench, 0, ROWS))
        await bench.resolve.until(ROWS)
        assert bench.clock.seconds - accepted < 300
    assert bench.lines("a") == lines_from(0, ROWS)


async def test_closing_gives_back_the_memory_of_a_rest(bench):
    async with running(bench) as (sink, _, _):
        sink.accept(rows_from(bench, 0, ROWS))
        await bench.resolve.until(EVENTS_MAX)
        assert bench.share.held > 0
    assert bench.share.held == 0
    assert bench.resolve.settled == EVENTS_MAX


async def test_a_rest_goes_first_where_later_rows_are_older(bench, fake):
    """
    Sorted into one request, rows that are on their way already would be encoded again.
    """
    async with running(bench) as (sink, _, _):
        sink.accept(rows_from(bench, 0, ROWS))
        await bench.resolve.until(EVENTS_MAX)
        sink.accept(rows_from(bench, ROWS, ROWS, begin_ns=time.time_ns() - 7200 * 10**9))
        await sink.drain(LONG_S)
    stored = bench.lines("a")
    assert sorted(stored, key=int) == lines_from(0, 2 * ROWS)
    assert stored == lines_from(0, 2 * ROWS)
    assert bench.share.held == 0


async def test_a_row_of_a_rest_that_is_refused_is_lost_with_its_bytes(bench, fake):
    line = f"{ROWS - 7}"
    fake.poison = line.__eq__
    segment = rows_from(bench, 0, ROWS)
    async with running(bench) as (sink, _, _):
        sink.accept(segment)
        await bench.resolve.until(EVENTS_MAX)
        sink.accept(rows_from(bench, ROWS, 100))
        await sink.drain(LONG_S)
    assert bench.lines("a") == [item for item in lines_from(0, ROWS + 100) if item != line]
    (loss,) = bench.resolve.losses
    start = sum(len(item) + 1 for item in lines_from(0, ROWS - 7))
    assert (loss.start, loss.stop, loss.rows) == (start, start + len(line) + 1, 1)
    assert loss.reason is LossReason.REFUSED
    assert segment.rows_open == 0
