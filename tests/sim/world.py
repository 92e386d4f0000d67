"""
One run: what happens on a node, and what must be true in the end.

    events happen → everything heals → the agent catches up → it is stopped → started again → stopped

The whole run is a function of its Plan.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from unittest import mock

from agent.sinks import cloudwatch, cloudwatch_payloads
from agent.sinks.blackhole import BlackholeSink
from tests.sim.config import LOGS_DIR
from tests.sim.loop import BusyError, StalledError
from tests.sim.node import Node
from tests.sim.oracle import BLACKHOLE
from tests.sim.promise import BrokenPromise

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.core.batch import Segment
    from tests.sim.pieces import Piece
    from tests.sim.schedule import Event

#: Virtual seconds until a route must have caught up after everything healed: the slowest schedule of
#: core/retry.py waits 90 s.
HEAL_S = 240.0
DRAIN_LONG_S = 300.0
#: Of a request to CloudWatch.
EVENTS_MAX = 7


class World(Node):
    """
    The run.
    """

    # -- events -------------------------------------------------------------------------------

    def happen(self, event: Event) -> None:
        """
        Let *event* happen.
        """
        if not self.healing:
            self.trace(f"event {event}")
            getattr(self, f"_do_{event.kind}")(*event.args)

    def _do_write(self, log: int, lines: int, kind: str) -> None:
        self.logs[log].write(lines, kind)

    def _do_rotate(self, log: int, kind: str) -> None:
        self.logs[log].rotate(kind)

    def _do_delete(self, log: int, kind: str) -> None:
        self.logs[log].delete(kind)

    def _do_kill(self, down_s: float, steps: int) -> None:
        if self.agent is not None and self.kill_after is None:
            self.kill_after = steps
        self.later(down_s, self.start)

    def _do_kill_in_disk(self, down_s: float, changes: int) -> None:
        if self.host is not None:
            self.host.changes_left = changes
        self.later(down_s, self.kill)
        self.later(down_s + 0.5, self.start)

    def _do_power(self, down_s: float) -> None:
        self.kill()
        self.children.lose_power()
        self.tree.lose_power(journaled=LOGS_DIR)
        self.boots += 1
        self.booted_at = self.loop.now
        for index, log in enumerate(self.logs):
            log.lost_power()
            self.logs[index] = self.new_log(index)
        self.later(down_s, self.start)

    def _do_stop(self, down_s: float, timeout_s: float) -> None:
        self.stop(timeout_s)
        self.later(timeout_s + 1 + down_s, self.start)

    def _do_fault(self, service: str, mode: str, rate: float, seconds: float) -> None:
        self.calm = False
        self.services[service].fault(mode, rate)
        self.later(seconds, self._heal_service, service)

    def _heal_service(self, service: str) -> None:
        self.services[service].fault("", 0.0)

    def _do_store(self, seconds: float) -> None:
        self.calm = False
        self.store_fails = True
        self.later(seconds, self._heal_store)

    def _heal_store(self) -> None:
        self.store_fails = False
        # The sink waits for the end of its backoff before it tries again.
        self.store_trouble_until = self.loop.now + 10

    def _do_disk_full(self, seconds: float) -> None:
        self.calm = False
        self.disk_is_full = True
        self.later(seconds, self._heal_disk)

    def _heal_disk(self) -> None:
        self.disk_is_full = False
        self.disk_trouble_until = self.loop.now + 5

    def _do_overflow(self) -> None:
        if self.host is not None:
            self.host.watches.pending = [("", None)]

    def _do_ntp(self, seconds: int) -> None:
        self.wall_offset_ns += seconds * 10**9
        self.oracle.clock_moved()

    # -- the run ------------------------------------------------------------------------------

    def run(self) -> BrokenPromise | None:
        """
        Run to the end; return the promise that was broken.
        """
        asyncio.set_event_loop(self.loop)
        try:
            with (
                mock.patch.object(BlackholeSink, "_deliver", self._see_blackhole()),
                # A few lines fill a request, so that rows are left behind it.
                mock.patch.object(cloudwatch, "BATCH_EVENTS_MAX", EVENTS_MAX),
                mock.patch.object(cloudwatch_payloads, "BATCH_EVENTS_MAX", EVENTS_MAX),
            ):
                self._run()
        except StalledError:
            self.broken = self.broken or BrokenPromise("P8", "everybody waits for everybody")
        except BusyError as error:
            self.broken = self.broken or BrokenPromise("P0", f"something spins: {error}")
        finally:
            self._clear()
            asyncio.set_event_loop(None)
        for context in self.loop.failures:
            # Of what ran out against a dead host nobody asks for the result.
            if "never retrieved" not in context["message"] and "exception" in context:
                raise context["exception"]
        return self.broken

    def _see_blackhole(self) -> Callable[[Any, Segment], None]:
        deliver = BlackholeSink._deliver

        def seen(sink: Any, segment: Segment) -> None:
            columns = segment.columns
            if columns is not None:
                data = bytes(columns.data)
                places = zip(
                    columns.column("message_start"), columns.column("message_len"), strict=True
                )
                self.oracle.blackhole_took(data[start : start + length] for start, length in places)
            deliver(sink, segment)

        return seen

    def _run(self) -> None:
        begin = self.loop.now
        last = 0.0
        for event in self.plan.events:
            self.loop.call_at(begin + event.at, self.happen, event)
            last = max(last, event.at)
        self.later(0.5, self.start)
        self._pass(last + 1.0)
        self._heal()
        self._until(self._caught_up, HEAL_S, "P8", "has not caught up")
        self._stop_whole()
        self.start()
        for log in self.logs:
            log.write(2, "plain")
        self._until(self._caught_up, HEAL_S, "P8", "has not caught up after a stop")
        self._stop_whole()
        if self.broken is None:
            self.oracle.check_end()

    def _heal(self) -> None:
        self.healing = True
        for name in self.services:
            self._heal_service(name)
        self.store_fails = False
        if self.disk_is_full:
            self._heal_disk()
        self.kill_after = None
        if self.host is not None:
            self.host.changes_left = None
        for log in self.logs:
            log.write(1, "plain")
        # Whatever still ends it was decided before.
        self._pass(15.0)
        self.start()

    def _caught_up(self) -> bool:
        return self.agent is not None and all(
            self.oracle.behind(route, float("inf")) is None for route in self.oracle.routes
        )

    def _stop_whole(self) -> None:
        if self.broken is not None:
            return
        self.stop(DRAIN_LONG_S)
        self._until(lambda: self.agent is None, DRAIN_LONG_S + 5, "P8", "does not stop")

    def _until(self, done: Callable[[], bool], limit_s: float, promise: str, text: str) -> None:
        until = self.loop.now + limit_s
        while not done():
            if self.broken is not None:
                return
            if self.loop.now >= until:
                behind = [self.oracle.behind(route, float("inf")) for route in self.oracle.routes]
                self.broke(BrokenPromise(promise, f"the agent {text}: {_shown(behind)}"))
                return
            self._pass(1.0)

    def _pass(self, seconds: float) -> None:
        """
        Let virtual time pass, and look every few seconds at routes without a fault.
        """
        until = self.loop.now + seconds
        while self.broken is None and self.loop.now < until:
            self.loop.call_at(min(until, self.loop.now + 5), self.loop.stop)
            self.loop.run_forever()
            if BLACKHOLE in self.oracle.routes:
                self.oracle.check_lag(BLACKHOLE)

    def _clear(self) -> None:
        if self.host is not None:
            self.host.alive = False
        self.loop.before_step = None
        self.loop.busy_since = self.loop.steps
        for _ in range(20):
            tasks = asyncio.all_tasks(self.loop)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.loop.call_later(0.1, self.loop.stop)
            self.loop.run_forever()
        self.loop.close()


def _shown(pieces: list[Piece | None]) -> str:
    places = [
        (piece.number, piece.content.log.path, piece.content.number, piece.start)
        for piece in pieces
        if piece is not None
    ]
    return f"pieces {places} are missing"
