"""
Counts rows and resolves them; nothing is kept.

For benchmarks, for dry runs, and as the smallest example of a sink.  A delay and a rate of failures
(which are retried, as a real destination's would be) show how a route behaves behind a slow sink.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from agent.core import counters as names
from agent.sinks.protocol import Sink

if TYPE_CHECKING:
    from agent.core.batch import Segment
    from agent.core.budget import Share
    from agent.core.checkpoint import SinkRows
    from agent.core.counters import Counters
    from agent.core.host import Clock
    from agent.sinks.protocol import Resolve

#: How long an idle sink with a delay sleeps before it looks again.
IDLE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackholeSettings:
    """
    A sink that drops everything.
    """

    type: Literal["blackhole"] = "blackhole"
    delay_s: Annotated[
        float,
        Meta(ge=0, description="Seconds to keep every segment before it counts as delivered."),
    ] = 0.0
    failure_rate: Annotated[
        float, Meta(ge=0, lt=1, description="Part of the attempts that fail and are made again.")
    ] = 0.0

    @property
    def linger_s(self) -> float:
        """
        How long a row waits for others: not at all.
        """
        return 0.0


class BlackholeSink(Sink):
    """
    The sink.  Without delay and failures a segment is resolved as it is accepted.
    """

    def __init__(
        self,
        settings: BlackholeSettings,
        *,
        route: str,
        clock: Clock,
        resolve: Resolve,
        share: Share,
        counters: Counters,
    ) -> None:
        self.share = share
        self._settings = settings
        self._route = route
        self._clock = clock
        self._resolve = resolve
        self._counters = counters
        self._waiting: deque[tuple[float, Segment]] = deque()
        self._at_once = not settings.delay_s and not settings.failure_rate

    async def open(self) -> None:
        """
        Do nothing: nothing is kept between runs.
        """

    def accept(self, segment: Segment) -> None:
        """
        Take *segment*.
        """
        if self._at_once:
            self._deliver(segment)
        else:
            self._waiting.append((self._clock.monotonic() + self._settings.delay_s, segment))

    async def run(self) -> None:
        """
        Deliver what was kept for long enough, until cancelled.
        """
        while True:
            self._work(self._clock.monotonic())
            await self._clock.sleep(IDLE_S)

    async def confirm(self) -> None:
        """
        Do nothing: delivered means delivered.
        """

    async def drain(self, timeout_s: float) -> None:
        """
        Deliver everything accepted, within *timeout_s*.
        """
        until = self._clock.monotonic() + timeout_s
        while self._waiting:
            now = self._clock.monotonic()
            self._work(now)
            if not self._waiting or now >= until:
                return
            await self._clock.sleep(min(IDLE_S, until - now))

    def committed(self, rows: SinkRows) -> None:
        """
        Do nothing: `confirm` returns no rows.
        """

    async def finish(self, timeout_s: float) -> None:
        """
        Do nothing: nothing is staged.
        """

    async def close(self) -> None:
        """
        Give back the memory of what was not delivered.
        """
        while self._waiting:
            self._waiting.popleft()[1].release()

    def _work(self, now: float) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            if self._clock.random() < self._settings.failure_rate:
                self._counters.add(names.RETRIES, 1, self._route, "failure_rate")
                return
            self._deliver(self._waiting.popleft()[1])

    def _deliver(self, segment: Segment) -> None:
        columns, rows = segment.columns, segment.rows
        segment.release()
        self._counters.add(names.REQUESTS, 1, self._route, "ok")
        self._counters.add(names.DELIVERED_EVENTS, rows, self._route)
        if columns is not None:
            self._counters.add(names.SENT_BYTES, columns.message_bytes, self._route)
        self._resolve.delivered(segment, rows)
