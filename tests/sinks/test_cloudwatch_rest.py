"""
Rows behind a full request that would not fill another one: they wait like any others, and nothing is encoded twice.
"""

from __future__ import annotations

import time

import pytest

from agent.core.batch import LossReason
from agent.core.errors import PoisonError
from agent.sinks import cloudwatch, cloudwatch_payloads
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


async def deliver(bench, *segments):
    async with running(bench) as (sink, _, _):
        for segment in segments:
            sink.accept(segment)
        await sink.drain(LONG_S)


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
        sink.accept(second)
        await bench.resolve.until(2 * EVENTS_MAX)
        assert first.rows_open == second.rows_open == 0
        assert bench.share.held == 0
        assert sink.idle
    assert fake.count("PutLogEvents") == 2
    assert bench.lines("a") == lines_from(0, 2 * EVENTS_MAX)


async def test_a_rest_follows_within_a_second(bench, fake):
    """
    No checkpoint passes the rows that are delivered before it passes the others of their segment.
    """
    async with running(bench) as (sink, _, _):
        accepted = bench.clock.seconds
        sink.accept(rows_from(bench, 0, ROWS))
        await bench.resolve.until(ROWS)
        assert 1.0 <= bench.clock.seconds - accepted < 3.0
    assert bench.lines("a") == lines_from(0, ROWS)
    assert bench.share.held == 0


async def test_a_rest_waits_no_longer_than_anything(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    bench = make_cloudwatch(linger_s=0.2)
    async with running(bench) as (sink, _, _):
        accepted = bench.clock.seconds
        sink.accept(rows_from(bench, 0, ROWS))
        await bench.resolve.until(ROWS)
        assert bench.clock.seconds - accepted < 0.7


@pytest.mark.parametrize(("lines", "waits"), [(12, True), (20, False)])
async def test_what_fills_a_request_but_for_little_is_no_rest(bench, fake, lines, waits):
    """
    Ten lines of 100 kB fill one: two more are left, and ten more are sent.
    """
    segment = make_segment(bench.share, [f"{number:0100000}" for number in range(lines)])
    async with running(bench) as (sink, _, _):
        accepted = bench.clock.seconds
        sink.accept(segment)
        await bench.resolve.until(lines)
        assert (bench.clock.seconds - accepted >= 1.0) == waits
    assert fake.count("PutLogEvents") == 2


async def test_where_rows_are_mixed_the_last_segment_waits_as_a_whole(bench, fake):
    """
    As much as fills no request is sent, not a request and a little more.
    """
    first, second = rows_from(bench, 0, 8000), rows_from(bench, 4000, 7000)
    async with running(bench) as (sink, _, _):
        accepted = bench.clock.seconds
        sink.accept(first)
        sink.accept(second)
        await bench.resolve.until(8000)
        assert (first.rows_open, second.rows_left) == (0, 7000)
        await bench.resolve.until(15_000)
        # Nothing of it was on its way: it lingers like anything else.
        assert 300 <= bench.clock.seconds - accepted < 310
    assert fake.count("PutLogEvents") == 2
    assert bench.share.held == 0


async def test_the_segment_that_cannot_be_encoded_is_named_behind_unsorted_rows(
    make_cloudwatch, fake, monkeypatch
):
    """
    Also where rows of another, which are not in the order of time, are in a payload already.
    """
    monkeypatch.setattr(cloudwatch_payloads, "BATCH_EVENTS_MAX", 5)
    bench = make_cloudwatch()
    now = time.time_ns()
    good = make_segment(
        bench.share, lines_from(0, 8), times_ns=[now - 10**9 * row for row in range(8)]
    )
    bad = make_segment(bench.share, lines_from(8, 5), start=500, times_ns=[now + 10**9] * 5)
    whole = cloudwatch_payloads.Encoder._payload

    def failing(self, encoded, parts, columns):
        for part, rows in zip(parts, encoded.part_rows, strict=True):
            if rows and part.segment is bad:
                raise ValueError("as scripted")
        return whole(self, encoded, parts, columns)

    monkeypatch.setattr(cloudwatch_payloads.Encoder, "_payload", failing)
    with pytest.raises(ExceptionGroup) as caught:
        await deliver(bench, good, bad)
    (poison,) = caught.value.exceptions
    assert isinstance(poison, PoisonError)
    assert poison.place == ("a", 0, bad.start, bad.stop)
    assert bench.share.held == 0


async def test_the_sink_rests_while_lines_linger_and_looks_often_while_it_works(bench, fake):
    async with running(bench) as (sink, _, _):
        sink.accept(rows_from(bench, 0, 10))
        await bench.resolve.until(10)
        resting = bench.clock.sleeps.count(cloudwatch.REST_MAX_S)
        assert 550 < resting < 650
        # Little memory is left: anything may be due at any time.
        segment = rows_from(bench, 10, 10)
        bench.share.guaranteed = 3 * bench.share.held
        sink.accept(segment)
        assert sink._rest_s() == cloudwatch.TICK_S
        await bench.resolve.until(20)
        assert bench.clock.sleeps.count(cloudwatch.REST_MAX_S) == resting


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
