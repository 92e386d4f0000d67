"""
How long the agent's event loop is kept from turning: `python -m bench.loop OUT.json run -c FILE`.

It runs the agent unchanged, with one more timer on its loop; what the timer is late is what somebody else's work, or
the machine, took.  At the end OUT.json has p50, p99 and the greatest, in milliseconds.
"""

from __future__ import annotations

import array
import json
import sys
from typing import TYPE_CHECKING

import uvloop

from agent.cli.main import main as agent_main

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

TICK_S = 0.005
#: Before that the agent starts: imports, first connections, the first look at every file.
SETTLE_S = 5.0


class Probe:
    """
    A timer that notes how late it is.
    """

    def __init__(self) -> None:
        self.late_ms = array.array("d")
        self._due = 0.0
        self._begin = 0.0

    def new_loop(self) -> AbstractEventLoop:
        """
        Make the loop that the agent asks for, with the timer on it.
        """
        loop = uvloop.Loop()
        self._begin = loop.time() + SETTLE_S
        self._due = loop.time()
        loop.call_soon(self._tick, loop)
        return loop

    def _tick(self, loop: AbstractEventLoop) -> None:
        now = loop.time()
        if now >= self._begin:
            self.late_ms.append(max(now - self._due, 0.0) * 1000)
        self._due = now + TICK_S
        loop.call_at(self._due, self._tick, loop)


def summary(late_ms: list[float]) -> dict[str, float]:
    """
    Return percentiles of what was noted.
    """
    ordered = sorted(late_ms)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {
        "ticks": len(ordered),
        "p50": ordered[last // 2],
        "p99": ordered[int(last * 0.99)],
        "max": ordered[last],
    }


def main() -> int:
    """
    Run the agent, then write what was noted.
    """
    target, *arguments = sys.argv[1:]
    probe = Probe()
    uvloop.new_event_loop = probe.new_loop  # type: ignore[assignment]
    try:
        return agent_main(arguments)
    finally:
        with open(target, "w") as file:
            json.dump(summary(list(probe.late_ms)), file)


if __name__ == "__main__":
    sys.exit(main())
