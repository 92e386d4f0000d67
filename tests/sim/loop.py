"""
An event loop on virtual time: when nothing is ready, the clock jumps to the next timer.

One handle runs per iteration, so that a crash can come between any two of them: at any await.
What is ready runs in the order in which it became ready.  There are no sockets, threads, signals or child
processes.

asyncio keeps tasks in sets, and iterates over them when it cancels a group: tasks are numbered, so that the
order does not depend on where they lie in memory.  Sets of strings need PYTHONHASHSEED=0 (`__main__.py`).
"""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


STEP_S = 1e-6


class StalledError(Exception):
    """
    Nothing is ready and no timer is set: everybody waits for everybody.
    """


class BusyError(Exception):
    """
    So many handles ran that something must spin: virtual time does not pass.
    """


class NumberedTask(asyncio.Task[Any]):
    """
    A task whose hash is its number.
    """

    def __init__(self, number: int, coroutine: Any, **options: Any) -> None:
        self.number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.BaseEventLoop):
    """
    The loop.  `step_max` bounds the handles of one moment.
    """

    _ready: Any
    _scheduled: Any

    def __init__(self, *, begin_s: float, step_max: int = 100_000) -> None:
        super().__init__()
        self.now = begin_s
        self.steps = 0
        self._step_max = step_max
        #: Steps when virtual time passed last.
        self.busy_since = 0
        self._tasks_made = 0
        self.set_task_factory(self._numbered)
        #: Called before every handle; the world counts down to a crash in it.
        self.before_step: Callable[[], None] | None = None
        self.failures: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _loop, context: self.failures.append(context))

    def time(self) -> float:
        """
        Return the virtual time.
        """
        return self.now

    def _numbered(self, loop: Any, coroutine: Any, **options: Any) -> Any:
        self._tasks_made += 1
        return NumberedTask(self._tasks_made, coroutine, loop=loop, **options)

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        """
        There are no threads.
        """
        return self.call_soon(callback, *args, context=context)

    def _process_events(self, event_list: Any) -> None:
        raise AssertionError("there are no sockets")

    def _run_once(self) -> None:
        ready, timers = self._ready, self._scheduled
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        if not ready:
            if not timers:
                raise StalledError
            if timers[0]._when > self.now:
                self.now = timers[0]._when
                self.busy_since = self.steps
        while timers and timers[0]._when <= self.now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            ready.append(timer)
        self.steps += 1
        # A step takes a while, as it does in life: sums of floats that are a hair apart come to meet.
        self.now += STEP_S
        if self.steps - self.busy_since > self._step_max:
            raise BusyError(f"{self._step_max} steps at {self.now:.3f}")
        if self.before_step is not None:
            self.before_step()
        if not ready:
            return
        handle = ready.popleft()
        if not handle._cancelled:
            handle._run()
