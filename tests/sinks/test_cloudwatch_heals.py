"""
When CloudWatch comes back, everything catches up by itself, and not all at once.
"""

from __future__ import annotations

import math
import random

import pytest

from tests.contract.sink import make_segment, running
from tests.fakes.cloudwatch import THROTTLED, UNAVAILABLE
from tests.sinks.cloudwatch_bench import GROUP

DESTINATIONS = 100
OUTAGE_S = 600.0


class Timed:
    """
    The sink's client, which notes when every request began and how many were under way.
    """

    def __init__(self, bench):
        self.bench = bench
        #: (when, how many were under way with it)
        self.began: list[tuple[float, int]] = []
        self.in_flight = 0

    def wrap(self, client):
        request = client.request

        async def timed(*arguments, **rest):
            self.in_flight += 1
            self.began.append((self.bench.clock.monotonic(), self.in_flight))
            try:
                return await request(*arguments, **rest)
            finally:
                self.in_flight -= 1

        client.request = timed


async def heal(bench, fake, fault, *, seed: int):
    """
    Let 100 destinations fail for ten minutes, then heal; return the sink's client and when it healed.
    """
    bench.clock.random = random.Random(seed).random
    timed = Timed(bench)
    fake.create(GROUP, *(f"pod-{number}" for number in range(DESTINATIONS)))
    fake.script(*[fault] * 1_000_000)
    async with running(bench) as (sink, _, _):
        timed.wrap(sink._client)
        for number in range(DESTINATIONS):
            sink.accept(make_segment(bench.share, [f"line {number}"], log=f"pod-{number}"))
        began = bench.clock.monotonic()
        while bench.clock.monotonic() < began + OUTAGE_S:
            await bench.clock.sleep(0)
        during = len(timed.began)
        fake._faults.clear()
        timed.began = []
        healed = bench.clock.monotonic()
        await bench.resolve.until(DESTINATIONS)
        limit = sink._limiter.limit
    return timed, during, healed, limit


@pytest.mark.parametrize("fault", [UNAVAILABLE, THROTTLED], ids=["outage", "throttled"])
async def test_a_hundred_destinations_come_back_one_after_the_other(make_cloudwatch, fake, fault):
    """
    While it lasts the node asks as rarely as if it had one stream; then they begin with one request at a time.

    Everything is delivered once, within the longest wait of a retry, and the limit grows again.
    """
    bench = make_cloudwatch(linger_s=0.1)
    timed, during, healed, limit = await heal(bench, fake, fault, seed=1)
    assert OUTAGE_S / 60 <= during < 80, "a service that is down is not asked all the time"
    for number in range(DESTINATIONS):
        assert bench.lines(f"pod-{number}") == [f"line {number}"]
    assert max(timed.began)[0] - healed < 120
    for number, (_, in_flight) in enumerate(timed.began):
        # The limit grows by one after as many answers as it is.
        assert in_flight <= 2 + math.sqrt(2 * number), timed.began[: number + 1]
    assert limit > 4


async def test_several_nodes_do_not_come_back_in_step(make_cloudwatch, fake):
    """
    The same outage on several nodes: they ask again at different moments.
    """
    first = []
    for seed in (1, 2, 3, 4):
        bench = make_cloudwatch(linger_s=0.1)
        timed, _, healed, _ = await heal(bench, fake, UNAVAILABLE, seed=seed)
        first.append(round(timed.began[0][0] - healed, 1))
        fake.groups.clear()
    assert len(set(first)) == len(first), first
