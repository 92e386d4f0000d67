"""
The CloudWatch sink against the strict fake: delivery, limits, creation, ordering, refusals by event.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from agent.core import counters as metric
from agent.core.batch import LossReason, Resource
from agent.core.errors import PoisonError
from tests.contract.sink import LONG_S, SinkContract, make_segment, resource, running
from tests.fakes.cloudwatch import RESET_AFTER
from tests.sinks.cloudwatch_bench import GROUP, record

MS = 1_000_000
HOUR = 3600 * 1_000_000_000
DAY = 24 * HOUR


async def deliver(bench, *segments):
    async with running(bench) as (sink, _, _):
        for segment in segments:
            sink.accept(segment)
        await sink.drain(LONG_S)


class TestContract(SinkContract):
    @pytest.fixture
    def bench(self, make_cloudwatch):
        return make_cloudwatch()

    async def test_closing_gives_back_memory_and_settles_nothing(self, bench):
        await super().test_closing_gives_back_memory_and_settles_nothing(bench)
        assert bench.fake.messages() == []


async def test_the_default_names_and_record_are_those_of_container_insights(make_cloudwatch, fake):
    bench = make_cloudwatch(
        group="/aws/containerinsights/{cluster}/application",
        stream="{node}-application.var.log.containers.{pod}_{namespace}_{container}",
        format="container_insights",
    )
    await deliver(bench, make_segment(bench.share, ["hello"], of=resource("web-0", pod_uid="u-1")))
    assert set(fake.groups) == {"/aws/containerinsights/c1/application"}
    stream = "n1-application.var.log.containers.web-0_shop_app"
    ((_, message),) = fake.events("/aws/containerinsights/c1/application", stream)
    assert record(message)["log"] == "hello"
    assert record(message)["stream"] == "stdout"
    assert list(record(message)["kubernetes"].items()) == [
        ("pod_name", "web-0"),
        ("namespace_name", "shop"),
        ("pod_id", "u-1"),
        ("host", "n1"),
        ("container_name", "app"),
    ]


async def test_a_file_without_a_pod_has_no_kubernetes_key(make_cloudwatch, fake):
    bench = make_cloudwatch(format="container_insights", stream="{node}-{pod}")
    plain = Resource(path="/var/log/nginx/access.log", node="n1")
    await deliver(bench, make_segment(bench.share, ["x"], of=plain))
    ((_, message),) = fake.events(GROUP, "n1-var.log.nginx.access.log")
    assert "kubernetes" not in record(message)


async def test_group_gets_retention_tags_class_and_key(make_cloudwatch, fake):
    bench = make_cloudwatch(
        retention_days=30,
        tags={"team": "shop"},
        log_group_class="INFREQUENT_ACCESS",
        kms_key_id="arn:aws:kms:eu-central-1:1:key/k",
    )
    await deliver(
        bench, make_segment(bench.share, ["x"]), make_segment(bench.share, ["y"], log="b")
    )
    group = fake.groups[GROUP]
    assert (group.retention_days, group.tags) == (30, {"team": "shop"})
    assert group.log_group_class == "INFREQUENT_ACCESS"
    assert group.kms_key_id == "arn:aws:kms:eu-central-1:1:key/k"
    assert fake.count("CreateLogGroup") == fake.count("PutRetentionPolicy") == 1


async def test_nothing_is_created_that_exists(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    bench = make_cloudwatch(retention_days=30)
    await deliver(bench, make_segment(bench.share, ["x"]))
    assert [seen.operation for seen in fake.requests] == ["PutLogEvents"]
    assert fake.groups[GROUP].retention_days is None


async def test_a_stream_and_a_group_deleted_meanwhile_come_back(make_cloudwatch, fake):
    bench = make_cloudwatch(retention_days=7)
    async with running(bench) as (sink, _, _):
        sink.accept(make_segment(bench.share, ["x"]))
        await bench.resolve.until(1)
        del fake.groups[GROUP].streams["a"]
        sink.accept(make_segment(bench.share, ["y"]))
        await bench.resolve.until(2)
        assert bench.lines("a") == ["y"]
        bench.clock.seconds += 60
        del fake.groups[GROUP]
        sink.accept(make_segment(bench.share, ["z"]))
        await bench.resolve.until(3)
        await sink.drain(LONG_S)
    assert bench.lines("a") == ["z"]
    assert fake.groups[GROUP].retention_days == 7


async def test_many_streams_at_once_create_their_group_once(make_cloudwatch, fake):
    bench = make_cloudwatch(retention_days=1)
    await deliver(bench, *(make_segment(bench.share, ["x"], log=f"p{i}") for i in range(40)))
    assert fake.count("CreateLogGroup") == 1
    assert fake.count("PutRetentionPolicy") == 1
    assert len(fake.groups[GROUP].streams) == 40
    assert bench.resolve.delivered_rows.total() == 40


async def test_limits_hold_for_large_lines_and_many_lines(make_cloudwatch, fake):
    bench = make_cloudwatch()
    large = [f"{i}:" + "ä" * 150_000 for i in range(20)]
    small = [f"{i}" for i in range(25_000)]
    await deliver(
        bench, make_segment(bench.share, large), make_segment(bench.share, small, log="b")
    )
    assert bench.lines("a") == large
    assert bench.lines("b") == small
    assert not bench.resolve.losses
    assert bench.counters.get(metric.DELIVERED_EVENTS, "r") == 25_020


async def test_a_line_larger_than_an_event_is_split_and_counts_once(make_cloudwatch, fake):
    bench = make_cloudwatch()
    line = "x" * 1_048_576 + "end"
    await deliver(bench, make_segment(bench.share, ["before", line, "after"]))
    stored = bench.lines("a")
    assert "".join(stored) == "before" + line + "after"
    assert bench.resolve.delivered_rows == {"a": 3}
    assert bench.counters.get(metric.DELIVERED_EVENTS, "r") == len(stored) > 3


async def test_times_out_of_order_and_over_days_are_all_delivered(make_cloudwatch):
    bench = make_cloudwatch()
    now = time.time_ns()
    times = [now - 3 * DAY, now - 5 * HOUR, now, now - 2 * DAY, now - 13 * DAY]
    lines = [f"{index}" for index in range(5)]
    await deliver(bench, make_segment(bench.share, lines, times_ns=times))
    assert sorted(bench.lines("a")) == lines
    assert not bench.resolve.losses


async def test_old_new_and_expired_events_become_losses_with_their_bytes(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    fake.groups[GROUP].retention_days = 3
    bench = make_cloudwatch()
    now = time.time_ns()
    lines = ["old1", "old2", "good", "stale", "good2", "new"]
    times = [now - 30 * DAY, now - 30 * DAY + HOUR, now - HOUR, now - 5 * DAY, now, now + 5 * HOUR]
    segment = make_segment(bench.share, lines, times_ns=times, start=1000)
    await deliver(bench, segment)
    assert bench.lines("a") == ["good", "good2"]
    assert bench.resolve.delivered_rows == {"a": 2}
    found = sorted((loss.start, loss.stop, loss.reason, loss.rows) for loss in bench.resolve.losses)
    assert found == [
        (1000, 1010, LossReason.TOO_OLD, 2),
        (1015, 1021, LossReason.EXPIRED, 1),
        (1027, 1031, LossReason.TOO_NEW, 1),
    ]
    assert {loss.file_id for loss in bench.resolve.losses} == {segment.file_id}
    assert segment.rows_open == 0
    assert bench.counters.get(metric.DELIVERED_EVENTS, "r") == 2


async def test_one_poison_event_is_isolated_with_a_loss_and_its_neighbours_arrive(
    make_cloudwatch, fake
):
    fake.poison = lambda message: message == "line 137"
    bench = make_cloudwatch()
    lines = [f"line {index}" for index in range(1000)]
    segment = make_segment(bench.share, lines)
    await deliver(bench, segment)
    assert bench.lines("a") == [line for line in lines if line != "line 137"]
    (loss,) = bench.resolve.losses
    start = sum(len(line) + 1 for line in lines[:137])
    assert (loss.start, loss.stop, loss.rows) == (start, start + len("line 137") + 1, 1)
    assert loss.reason is LossReason.REFUSED
    assert "a log event is invalid" in loss.detail
    assert segment.rows_open == 0
    # Bisecting 1,000 rows takes about 2 * log2(1000) requests.
    assert fake.count("PutLogEvents") < 30


async def test_many_poison_events_in_a_row_do_not_hold_up_the_stream(make_cloudwatch, fake):
    fake.poison = lambda message: message.startswith("bad")
    bench = make_cloudwatch()
    lines = [f"bad {i}" for i in range(20)] + [f"good {i}" for i in range(20)]
    await deliver(bench, make_segment(bench.share, lines))
    assert bench.lines("a") == lines[20:]
    assert bench.resolve.rejected_rows == {"a": 20}


async def test_a_destination_that_refuses_everything_loses_nothing(make_cloudwatch, fake):
    fake.refused_groups.add(GROUP)
    bench = make_cloudwatch()
    lines = [f"{i}" for i in range(30)]
    async with running(bench) as (sink, _, _):
        sink.accept(make_segment(bench.share, lines))
        # It keeps trying: each round ends in a wait of about a minute.
        await sink.drain(3600)
        assert bench.resolve.settled == 0
        assert "cloudwatch_refused" in {event for event, _ in bench.told}
        fake.refused_groups.clear()
        await sink.drain(LONG_S)
    assert sorted(bench.lines("a"), key=int) == lines
    assert not bench.resolve.losses


async def test_memory_pressure_flushes_before_linger(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    bench = make_cloudwatch(linger_s=300.0)
    bench.share.guaranteed = 2000
    async with running(bench) as (sink, _, tasks):
        sink.accept(make_segment(bench.share, [f"{i}" for i in range(200)]))
        # The pump that `accept` runs has started it already: no tick, no linger.
        assert len(tasks.started) == 1
        await bench.resolve.until(200)


async def test_without_pressure_a_line_lingers(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    bench = make_cloudwatch(linger_s=300.0)
    async with running(bench) as (sink, _, tasks):
        sink.accept(make_segment(bench.share, ["x"]))
        accepted = bench.clock.seconds
        assert not tasks.started
        await bench.resolve.until(1)
        assert bench.clock.seconds - accepted >= 300


async def test_a_lost_reply_duplicates_and_loses_nothing(make_cloudwatch, fake):
    fake.create(GROUP, "a")
    fake.script(RESET_AFTER)
    bench = make_cloudwatch()
    await deliver(bench, make_segment(bench.share, ["x", "y"]))
    assert bench.lines("a") == ["x", "y", "x", "y"]
    assert bench.resolve.delivered_rows == {"a": 2}


async def test_requests_are_gzipped_and_counted(make_cloudwatch, fake):
    bench = make_cloudwatch()
    await deliver(bench, make_segment(bench.share, ["same line"] * 5000))
    put = [seen for seen in fake.requests if seen.operation == "PutLogEvents"]
    assert all(seen.gzipped for seen in put)
    assert bench.counters.get(metric.SENT_BYTES, "r") == 5000 * (9 + 26)
    assert bench.counters.get(metric.WIRE_BYTES, "r") == sum(seen.size for seen in fake.requests)
    assert put[-1].size < 60_000


async def test_a_segment_that_cannot_be_encoded_is_named(make_cloudwatch, monkeypatch):
    bench = make_cloudwatch()
    good, bad = make_segment(bench.share, ["x"]), make_segment(bench.share, ["y"], start=50)
    from agent.sinks import cloudwatch_payloads

    order_rows = vars(cloudwatch_payloads)["order_rows"]

    def failing(parts):
        if bad.columns in parts:
            raise ValueError("as scripted")
        return order_rows(parts)

    monkeypatch.setattr(cloudwatch_payloads, "order_rows", failing)
    with pytest.raises(ExceptionGroup) as caught:
        await deliver(bench, good, bad)
    (poison,) = caught.value.exceptions
    assert isinstance(poison, PoisonError)
    assert poison.place == ("a", 0, 50, 52)
    assert bench.share.held == 0
    assert bench.resolve.settled == 0


async def test_one_request_of_a_stream_at_a_time_and_several_streams_beside(make_cloudwatch, fake):
    in_flight: dict[str, int] = {}
    seen_together: set[frozenset[str]] = set()
    answer = fake._answer

    async def watched(request, operation, body, fault):
        if operation != "PutLogEvents":
            return await answer(request, operation, body, fault)
        stream = body["logStreamName"]
        in_flight[stream] = in_flight.get(stream, 0) + 1
        assert in_flight[stream] == 1
        seen_together.add(frozenset(name for name, count in in_flight.items() if count))
        for _ in range(20):
            await asyncio.sleep(0)
        in_flight[stream] -= 1
        return await answer(request, operation, body, fault)

    fake._answer = watched
    bench = make_cloudwatch(linger_s=0.0)
    async with running(bench) as (sink, _, _):
        for number in range(10):
            for log in "abcd":
                sink.accept(make_segment(bench.share, [f"{log}{number}"], log=log))
            await asyncio.sleep(0)
        await sink.drain(LONG_S)
    assert max(len(names) for names in seen_together) >= 2
    for log in "abcd":
        assert bench.lines(log) == [f"{log}{number}" for number in range(10)]
