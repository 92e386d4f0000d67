"""
How much time the agent had, on a machine that others use, too.

A promise of a second is a promise of a second in which the agent can run.  Moments in which its threads stood in the
kernel's run queue, or in which the whole machine stood still, do not count.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_S = 0.05
#: Our own loop slept through such a gap: so did the agent.
ASLEEP_S = 0.3


class OwnTime:
    """
    Tells how much time had passed for the agent at a moment of `time.monotonic`; without samples, as much as for all.
    """

    def __init__(self) -> None:
        self._moments = [0.0]
        self._own = [0.0]

    def __call__(self, moment: float) -> float:
        """
        Return the agent's own time at *moment*, in seconds; between two samples it passes evenly.
        """
        last = len(self._moments) - 1
        at = bisect(self._moments, moment) - 1
        if at >= last:
            return self._own[last] + moment - self._moments[last]
        start, stop = self._moments[at], self._moments[at + 1]
        share = (moment - start) / (stop - start)
        return self._own[at] + share * (self._own[at + 1] - self._own[at])

    @property
    def samples(self) -> list[tuple[float, float]]:
        """
        Return what was sampled: moments, and the agent's own time at each.
        """
        return list(zip(self._moments, self._own, strict=True))

    def add(self, moment: float, waited_s: float) -> None:
        """
        Until *moment*, threads of the agent have waited for a core for *waited_s* since the sample before.
        """
        passed = moment - self._moments[-1]
        had = 0.0 if passed > ASLEEP_S else passed - min(passed, max(0.0, waited_s))
        self._moments.append(moment)
        self._own.append(self._own[-1] + had)

    async def sample(self, pid: Callable[[], int | None]) -> None:
        """
        Add samples of the process that *pid* names, until cancelled.
        """
        self._moments.append(time.monotonic())
        self._own.append(self._moments[-1])
        before = 0.0
        while True:
            await asyncio.sleep(STEP_S)
            number = pid()
            waited = waited_for_cpu_s(number) if number is not None else 0.0
            self.add(time.monotonic(), waited - before)
            before = waited


def waited_for_cpu_s(pid: int) -> float:
    """
    Return for how long the threads of *pid* that live could have run and had no core.

    Source: Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat: time on the CPU, time on the run queue (ns).
    """
    found = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):  # A thread that has ended.
            found += int(path.read_text().split()[1])
    return found / 1e9
