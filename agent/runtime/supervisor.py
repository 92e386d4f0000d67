"""
Keeps one route running, whatever happens in it.

A run that ends with an error is followed by another one from the committed cursors, after a backoff.
A chunk that makes a run fail again and again is isolated (core/isolation.py).  Only a StopError ends
the process: the store cannot be trusted, or the configuration contradicts it.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.batch import LossReason
from agent.core.errors import PoisonError, StopError
from agent.core.isolation import Isolation, Place, Treatment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.core.counters import Counters
    from agent.core.host import Host
    from agent.runtime.route import Route
    from agent.sources.reader import Reader

#: Seconds before the first restart, doubled up to the largest; a run of that length starts anew.
BACKOFF_S_MIN = 0.5
BACKOFF_S_MAX = 60.0


class Supervisor:
    """
    Runs a route until it is drained.
    """

    def __init__(
        self,
        name: str,
        *,
        host: Host,
        counters: Counters,
        make_route: Callable[[Callable[[Reader], None]], Route],
    ) -> None:
        self.name = name
        self._host = host
        self._counters = counters
        self._make_route = make_route
        self._isolation = Isolation()
        self._drain_timeout_s: float | None = None
        self._drain_wanted = asyncio.Event()
        self.route: Route | None = None

    async def run(self) -> None:
        """
        Run until drained; raises StopError and nothing else.
        """
        backoff_s = BACKOFF_S_MIN
        clock = self._host.clock
        while self._drain_timeout_s is None:
            started = clock.monotonic()
            self.route = self._make_route(self._prepare)
            try:
                await self.route.run()
            except Exception as error:
                # The supervisor's task: every error is classed, told and counted; a stop is raised again.
                self._failed(error, backoff_s)
            else:
                return
            if clock.monotonic() - started > BACKOFF_S_MAX:
                backoff_s = BACKOFF_S_MIN
            try:
                async with asyncio.timeout(backoff_s * (0.5 + clock.random() / 2)):
                    await self._drain_wanted.wait()
            except TimeoutError:
                pass
            backoff_s = min(BACKOFF_S_MAX, backoff_s * 2)

    def drain(self, timeout_s: float) -> None:
        """
        Ask the route to end; one that is between two runs just does not start again.
        """
        self._drain_timeout_s = timeout_s
        self._drain_wanted.set()
        if self.route is not None:
            self.route.drain(timeout_s)

    @property
    def ready(self) -> bool:
        """
        Whether a run is up.
        """
        return self.route is not None and self.route.ready

    def _failed(self, error: Exception, backoff_s: float) -> None:
        leaves = list(_leaves(error))
        for leaf in leaves:
            if isinstance(leaf, StopError):
                raise leaf
        self._counters.add(metric.ROUTE_RESTARTS, 1, self.name)
        first = next((leaf for leaf in leaves if isinstance(leaf, PoisonError)), leaves[0])
        treatment = ""
        if isinstance(first, PoisonError):
            log, generation, start, stop = first.place
            outcome = self._isolation.failed(Place(log, generation, start, stop))
            treatment = f"; {log} generation {generation} bytes {start}-{stop}: {_MEANING[outcome]}"
        self._host.tell(
            "route_failed",
            f"route {self.name} failed and restarts from its checkpoint in about {backoff_s:g} s: "
            f"{type(first).__name__}: {first}{treatment}",
            level="error",
            route=self.name,
            trace="".join(traceback.format_exception(first.__cause__ or first)[-3:]),
        )

    def _prepare(self, reader: Reader) -> None:
        for place, treatment in self._isolation.treatments():
            if treatment is Treatment.SKIP:
                reader.detours.skip(
                    place.log, place.generation, place.start, place.stop, LossReason.POISON
                )
            else:
                reader.detours.use_reference_parser(
                    place.log, place.generation, place.start, place.stop
                )


_MEANING = {
    Treatment.PLAIN: "reading it again",
    Treatment.REFERENCE_PARSER: "reading it through the slow parser",
    Treatment.SKIP: "skipping it with a loss record",
}


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
