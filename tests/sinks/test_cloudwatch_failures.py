"""
What the CloudWatch sink does when things go wrong: every row of the table of answers, cancellation, creation.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from agent.core import counters as metric
from agent.core.retry import Failure
from tests.contract.sink import LONG_S, make_segment, running
from tests.fakes.cloudwatch import (
    ACCESS_KEY,
    HANG,
    IMPOSTOR,
    INTERNAL,
    RESET_AFTER,
    RESET_BEFORE,
    SECRET_KEY,
    THROTTLED,
    UNAVAILABLE,
    Fault,
)
from tests.sinks.cloudwatch_bench import GROUP

LINES = tuple(f"line {index}" for index in range(50))


def error(code: str, status: int = 400, **fields) -> Fault:
    return Fault("error", status, code, **fields)


async def deliver(bench, *segments):
    async with running(bench) as (sink, _, _):
        for segment in segments:
            sink.accept(segment)
        await sink.drain(LONG_S)


#: fault → (class of the retry or None, event told or None)
TABLE = [
    (THROTTLED, Failure.THROTTLED, "cloudwatch_throttled"),
    (error("Throttling", 429), Failure.THROTTLED, "cloudwatch_throttled"),
    (error("RequestLimitExceeded", 503), Failure.THROTTLED, "cloudwatch_throttled"),
    (error("TooManyRequestsException", 429), Failure.THROTTLED, "cloudwatch_throttled"),
    (error("", 429), Failure.THROTTLED, "cloudwatch_throttled"),
    (UNAVAILABLE, Failure.OUTAGE, "cloudwatch_unavailable"),
    (INTERNAL, Failure.OUTAGE, "cloudwatch_unavailable"),
    (error("", 502), Failure.OUTAGE, "cloudwatch_unavailable"),
    (error("RequestTimeout"), Failure.OUTAGE, "cloudwatch_unavailable"),
    (RESET_BEFORE, Failure.OUTAGE, "cloudwatch_unavailable"),
    (IMPOSTOR, Failure.OUTAGE, "cloudwatch_unavailable"),
    (error("OperationAbortedException"), Failure.CONFLICT, None),
    (error("InvalidSequenceTokenException"), Failure.CONFLICT, None),
    (error("UnrecognizedClientException"), Failure.SLOW, "cloudwatch_credentials"),
    (error("ExpiredTokenException"), Failure.SLOW, "cloudwatch_credentials"),
    (error("AccessDeniedException"), Failure.SLOW, "cloudwatch_denied"),
    (error("", 403), Failure.SLOW, "cloudwatch_denied"),
    (error("LimitExceededException"), Failure.SLOW, "cloudwatch_refused"),
    (error("SomethingNewException"), Failure.SLOW, "cloudwatch_refused"),
    (error("", 404), Failure.SLOW, "cloudwatch_refused"),
    (error("", 302), Failure.SLOW, "cloudwatch_refused"),
    (
        error("InvalidParameterException", message="Value at 'logGroupName' failed"),
        Failure.SLOW,
        "cloudwatch_refused",
    ),
]


@pytest.mark.parametrize(
    ("fault", "failure", "event"), TABLE, ids=lambda item: getattr(item, "code", None) or str(item)
)
async def test_what_can_be_tried_again_is_tried_again_in_its_class(
    make_cloudwatch, fake, fault, failure, event
):
    fake.create(GROUP, "a")
    fake.script(fault, fault)
    bench = make_cloudwatch()
    await deliver(bench, make_segment(bench.share, LINES))
    assert bench.lines("a") == list(LINES)
    assert not bench.resolve.losses
    assert bench.counters.get(metric.RETRIES, "r", failure.value) == 2
    assert {told for told, _ in bench.told} == ({event} if event else set())


async def test_data_already_accepted_counts_as_delivered_if_the_reply_can_be_trusted(
    make_cloudwatch, fake
):
    fake.create(GROUP, "a")
    fake.script(error("DataAlreadyAcceptedException"))
    bench = make_cloudwatch()
    await deliver(bench, make_segment(bench.share, LINES))
    assert bench.resolve.delivered_rows == {"a": 50}


async def test_a_hanging_request_ends_at_its_timeout_and_is_sent_again(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    fake.script(HANG)
    bench = make_cloudwatch(request_timeout_s=0.2)
    await deliver(bench, make_segment(bench.share, LINES))
    assert bench.lines("a") == list(LINES)
    assert bench.counters.get(metric.RETRIES, "r", "outage") == 1


@pytest.mark.parametrize("status", [400, 413, 415])
async def test_refused_gzip_falls_back_to_plain_and_is_remembered(make_cloudwatch, fake, status):
    fake.create(GROUP, "a", "b")
    fake.gzip_refused = status
    bench = make_cloudwatch()
    async with running(bench) as (sink, _, _):
        sink.accept(make_segment(bench.share, LINES))
        await bench.resolve.until(50)
        sink.accept(make_segment(bench.share, LINES, log="b"))
        await sink.drain(LONG_S)
    assert bench.lines("a") == bench.lines("b") == list(LINES)
    # One was refused, two went plain: nothing was tried gzipped again.
    assert bench.counters.get(metric.REQUESTS, "r", "plain") == 1
    assert [seen.gzipped for seen in fake.requests] == [False, False]


async def test_a_413_that_is_not_about_gzip_divides_the_request(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    fake.script(error("", 413), error("", 413))
    bench = make_cloudwatch()
    await deliver(bench, make_segment(bench.share, LINES))
    assert bench.lines("a") == list(LINES)
    assert not bench.resolve.losses


async def test_retries_wait_longer_and_longer_but_not_for_ever(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    fake.script(*[THROTTLED] * 10)
    bench = make_cloudwatch()
    started = bench.clock.seconds
    await deliver(bench, make_segment(bench.share, LINES))
    # With the middle of the jitter: 3/4 of 2, 4, 8, 16, 32 and five times 60 s.
    assert 270 <= bench.clock.seconds - started <= 285


async def test_retry_after_is_respected(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    fake.script(error("ServiceUnavailableException", 503, headers=(("retry-after", "20"),)))
    bench = make_cloudwatch()
    async with running(bench) as (sink, _, _):
        sink.accept(make_segment(bench.share, LINES))
        started = bench.clock.seconds
        await sink.drain(LONG_S)
    assert bench.clock.seconds - started >= 20


async def test_a_failed_request_goes_before_later_ones_of_its_stream(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    bench = make_cloudwatch(linger_s=0.0)
    fake.script(THROTTLED, UNAVAILABLE, RESET_BEFORE)
    async with running(bench) as (sink, _, _):
        place = 0
        for number in range(5):
            segment = make_segment(bench.share, [f"{number}"], start=place)
            place = segment.stop
            sink.accept(segment)
            await asyncio.sleep(0)
        await sink.drain(LONG_S)
    assert bench.lines("a") == ["0", "1", "2", "3", "4"]


async def test_a_denied_group_does_not_hold_up_another(make_cloudwatch, fake):
    bench = make_cloudwatch(group="/logs/{namespace}")
    from tests.contract.sink import resource

    fake.create("/logs/shop", "a")
    fake.denied.add("CreateLogStream")
    async with running(bench) as (sink, _, _):
        sink.accept(make_segment(bench.share, LINES, log="b", of=resource("b", namespace="other")))
        sink.accept(make_segment(bench.share, LINES))
        await sink.drain(600)
        assert bench.resolve.delivered_rows == {"a": 50}
        ((event, text), *_) = bench.told
        assert event == "cloudwatch_denied"
        assert "logs:CreateLogStream" in text
        assert "/logs/other" in text
        fake.denied.clear()
        await sink.drain(LONG_S)
    assert bench.resolve.delivered_rows == {"a": 50, "b": 50}


async def test_slow_failures_are_said_once_a_minute_and_tried_about_once_a_minute(
    make_cloudwatch, fake
):
    fake.create(GROUP, *"abcd")
    fake.denied.add("PutLogEvents")
    bench = make_cloudwatch()
    async with running(bench) as (sink, _, _):
        for log in "abcd":
            sink.accept(make_segment(bench.share, LINES, log=log))
        await sink.drain(600)
        assert bench.resolve.settled == 0
    tried = fake.count("PutLogEvents")
    assert 4 * 7 <= tried <= 4 * 11
    assert 7 <= len(bench.told) <= 11


async def test_without_credentials_everything_waits_and_nothing_is_lost(
    make_cloudwatch, fake, monkeypatch
):
    fake.create(GROUP, *"ab")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    bench = make_cloudwatch()
    async with running(bench) as (sink, _, _):
        sink.accept(make_segment(bench.share, LINES))
        sink.accept(make_segment(bench.share, LINES, log="b"))
        await sink.drain(300)
        assert bench.resolve.settled == 0
        assert "no AWS credentials found" in bench.told[0][1]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        await sink.drain(LONG_S)
    assert bench.resolve.delivered_rows == {"a": 50, "b": 50}


async def test_replaced_credentials_are_picked_up_at_once(make_cloudwatch, fake, monkeypatch):
    fake.create(GROUP, *"ab")
    fake.keys["AKIANEW"] = (SECRET_KEY, None)
    bench = make_cloudwatch()
    async with running(bench) as (sink, _, _):
        sink.accept(make_segment(bench.share, LINES))
        await bench.resolve.until(50)
        fake.expired_keys.add(ACCESS_KEY)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANEW")
        sink.accept(make_segment(bench.share, LINES, log="b"))
        await bench.resolve.until(100)
        await sink.drain(LONG_S)
    assert not bench.told


CREATION = ["CreateLogStream", "CreateLogGroup", "PutRetentionPolicy"]


@pytest.mark.parametrize("operation", CREATION)
@pytest.mark.parametrize(
    "fault",
    [
        THROTTLED,
        UNAVAILABLE,
        RESET_BEFORE,
        RESET_AFTER,
        IMPOSTOR,
        error("OperationAbortedException"),
        error("AccessDeniedException"),
        error("LimitExceededException"),
        error("SomethingNewException"),
    ],
    ids=lambda fault: fault.code or fault.kind,
)
async def test_creation_survives_every_failure(make_cloudwatch, fake, operation, fault):
    fake.script(fault, fault, operation=operation)
    bench = make_cloudwatch(retention_days=5)
    async with running(bench) as (sink, _, _):
        sink.accept(make_segment(bench.share, LINES))
        await sink.drain(LONG_S)
        # A failed retention does not hold up lines; it is set before some later request.
        for number in range(5):
            bench.clock.seconds += 120
            sink.accept(make_segment(bench.share, [f"{number}"]))
            await sink.drain(LONG_S)
    assert bench.lines("a") == [*LINES, *"01234"]
    assert fake.groups[GROUP].retention_days == 5
    assert not bench.resolve.losses


async def test_somebody_else_creates_the_group_and_the_stream_first(make_cloudwatch, fake):
    bench = make_cloudwatch(retention_days=5)
    first = Fault("none", before=lambda: fake.create(GROUP, "a"))
    fake.script(first, operation="CreateLogGroup")
    await deliver(bench, make_segment(bench.share, LINES))
    assert bench.lines("a") == list(LINES)


async def test_a_group_that_must_not_be_created_is_waited_for(make_cloudwatch, fake):
    bench = make_cloudwatch(create_groups=False)
    async with running(bench) as (sink, _, _):
        sink.accept(make_segment(bench.share, LINES))
        await sink.drain(300)
        assert fake.count("CreateLogGroup") == 0
        assert "create_groups" in bench.told[0][1]
        fake.create(GROUP)
        await sink.drain(LONG_S)
    assert bench.lines("a") == list(LINES)


async def test_a_stream_that_is_not_visible_yet_is_waited_for(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    fake.script(*[error("ResourceNotFoundException")] * 3)
    bench = make_cloudwatch()
    await deliver(bench, make_segment(bench.share, LINES))
    assert bench.lines("a") == list(LINES)
    # Once created, it is waited for and not created again at once.
    assert bench.counters.get(metric.RETRIES, "r", "conflict") >= 1


async def test_the_accounts_rate_limit_is_found_and_kept(make_cloudwatch, fake):
    fake.create(GROUP, *(f"p{i}" for i in range(60)))
    bench = make_cloudwatch()
    # The fake's bucket runs on the same virtual time as the sink's backoff.
    fake.tps = 5.0
    fake.rate_now = bench.clock.monotonic
    await deliver(bench, *(make_segment(bench.share, ["x"], log=f"p{i}") for i in range(60)))
    assert bench.resolve.delivered_rows.total() == 60
    assert bench.counters.get(metric.RETRIES, "r", "throttled") > 0


async def test_a_drain_ends_at_its_time_limit_and_leaves_the_rest_unresolved(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    bench = make_cloudwatch()
    bench.set_reachable(reachable=False)
    async with running(bench) as (sink, _, _):
        sink.accept(make_segment(bench.share, LINES))
        started = bench.clock.seconds
        await sink.drain(30)
        assert bench.clock.seconds - started <= 31
        assert not sink.idle
    assert bench.resolve.settled == 0
    assert bench.share.held == 0


@pytest.mark.parametrize("operation", ["PutLogEvents", *CREATION])
async def test_a_run_cut_during_any_request_resolves_nothing_and_the_next_delivers(
    make_cloudwatch, fake, operation
):
    bench = make_cloudwatch(retention_days=5)
    fake.script(HANG, operation=operation)
    with contextlib.suppress(asyncio.CancelledError):
        async with running(bench) as (sink, run, _), asyncio.timeout(10):
            sink.accept(make_segment(bench.share, LINES))
            await fake.hanging.wait()
            run.cancel()
            await asyncio.wait((run,))
    assert bench.resolve.settled == 0
    assert bench.share.held == 0
    fake.release()
    await deliver(bench, make_segment(bench.share, LINES))
    assert bench.resolve.delivered_rows == {"a": 50}
    assert set(bench.lines("a")) == set(LINES)


async def test_an_answer_after_close_settles_nothing(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    fake.script(HANG)
    bench = make_cloudwatch()
    async with running(bench) as (sink, _, tasks):
        sink.accept(make_segment(bench.share, LINES))
        await fake.hanging.wait()
        await sink.close()
        fake.release()
        await asyncio.wait(tasks.started)
    assert bench.resolve.settled == 0


async def test_while_a_request_is_under_way_only_its_body_is_held(make_cloudwatch, fake):
    """
    What was read is charged in full; from the encoding on it is the compressed body.
    """
    fake.create(GROUP, "a")
    fake.script(HANG)
    bench = make_cloudwatch()
    lines = [f"{number:06d} " + "the same words again and again " * 12 for number in range(2000)]
    async with running(bench) as (sink, _, _):
        segment = make_segment(bench.share, lines)
        charged = bench.share.held
        assert charged > 700_000
        sink.accept(segment)
        async with asyncio.timeout(LONG_S):
            await fake.hanging.wait()
        assert 0 < bench.share.held < charged / 8
        fake.release()
        await sink.drain(LONG_S)
    assert bench.lines("a") == lines
    assert bench.share.held == 0
