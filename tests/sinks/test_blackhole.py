"""
The blackhole passes the contract of sinks; its delay and failures are visible in the counters.
"""

from __future__ import annotations

from typing import Any

import pytest

from agent.core import counters as metric
from agent.core.counters import Counters
from agent.sinks.blackhole import BlackholeSettings, BlackholeSink
from tests.contract.sink import (
    LONG_S,
    FastClock,
    GroupTasks,
    RecordingResolve,
    SinkContract,
    make_segment,
    make_share,
)


class BlackholeBench:
    def __init__(self, **settings: Any) -> None:
        self.clock = FastClock()
        self.resolve = RecordingResolve()
        self.share = make_share()
        self.counters = Counters()
        self.settings = BlackholeSettings(**settings)
        self.accepted: dict[str, list[str]] = {}

    def make(self, tasks: GroupTasks) -> BlackholeSink:
        bench = self

        class Watched(BlackholeSink):
            def accept(self, segment):
                # The destination keeps nothing, so the test looks at what goes in.
                columns = segment.columns
                starts, lengths = columns.column("message_start"), columns.column("message_len")
                bench.accepted.setdefault(segment.log, []).extend(
                    bytes(columns.data[start : start + length]).decode()
                    for start, length in zip(starts, lengths, strict=True)
                )
                super().accept(segment)

        return Watched(
            self.settings,
            route="r",
            clock=self.clock,
            resolve=self.resolve,
            share=self.share,
            counters=self.counters,
        )

    def lines(self, log: str) -> list[str]:
        return self.accepted.get(log, [])

    def set_reachable(self, *, reachable: bool) -> None:
        self.settings = BlackholeSettings(delay_s=0.0 if reachable else 1e12)


@pytest.fixture(params=[0.0, 0.2], ids=["at once", "delayed"])
def bench(request: pytest.FixtureRequest) -> BlackholeBench:
    return BlackholeBench(delay_s=request.param)


class TestContract(SinkContract):
    pass


async def test_failures_are_retried_and_counted():
    bench = BlackholeBench(failure_rate=0.6)
    draws = iter([0.1, 0.2, 0.9])
    bench.clock.random = lambda: next(draws)  # type: ignore[method-assign]
    sink = bench.make(GroupTasks(None))  # type: ignore[arg-type]
    sink.accept(make_segment(bench.share, ["x", "y"]))
    await sink.drain(LONG_S)
    assert bench.resolve.delivered_rows == {"a": 2}
    assert bench.counters.get(metric.RETRIES, "r", "failure_rate") == 2
    assert bench.counters.get(metric.DELIVERED_EVENTS, "r") == 2


async def test_a_drain_ends_at_its_time_limit():
    bench = BlackholeBench(delay_s=100)
    sink = bench.make(GroupTasks(None))  # type: ignore[arg-type]
    segment = make_segment(bench.share, ["x"])
    sink.accept(segment)
    await sink.drain(10)
    assert bench.resolve.settled == 0
    await sink.close()
    assert bench.share.held == 0
