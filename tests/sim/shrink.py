"""
Makes the list of events that breaks a promise as short as it gets (delta debugging).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.world import World

if TYPE_CHECKING:
    from tests.sim.promise import BrokenPromise
    from tests.sim.schedule import Plan

#: Runs that are spent on it: about a minute.
RUNS_MAX = 400


def shrink(plan: Plan, broken: BrokenPromise) -> tuple[Plan, BrokenPromise]:
    """
    Return the run with the fewest events found that breaks the same promise, and how it does.
    """
    events = list(plan.events)
    runs = 0
    parts = 2
    while len(events) > 1 and runs < RUNS_MAX:
        size = max(1, len(events) // parts)
        for start in range(0, len(events), size):
            shorter = plan.with_events(events[:start] + events[start + size :])
            runs += 1
            found = World(shorter).run()
            if found is not None and found.promise == broken.promise:
                events, broken = list(shorter.events), found
                parts = max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(events), parts * 2)
    return plan.with_events(events), broken
