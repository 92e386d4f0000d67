"""
What happens in a run, decided beforehand: a list of events, made of a seed.

Every event can be left out without making another one impossible, so that a list which breaks a promise can be
made shorter (shrink.py).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.sim.services import MODES

if TYPE_CHECKING:
    from collections.abc import Callable

#: Virtual seconds in which events happen; then everything heals.
TICKS = 30
LOGS_MAX = 4
WRITES = ("plain", "plain", "plain", "pieces", "pieces", "torn", "odd", "long")
ROTATIONS = ("plain", "late", "gz", "gz", "copytruncate", "truncate")


class Event(NamedTuple):
    """
    Something that happens at a virtual second.
    """

    at: float
    kind: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.at:7.3f}  {self.kind} {' '.join(str(item) for item in self.args)}".rstrip()


class Plan(NamedTuple):
    """
    A run: its configuration and its events.
    """

    seed: int
    routes: tuple[str, ...]
    formats: tuple[str, ...]  # of the Logs
    chunk_bytes: int
    message_format: str
    multipart: bool
    events: tuple[Event, ...]
    shards: bool = False  # names are made of a field
    small_windows: bool = False  # sealed for their size, several by one child

    def with_events(self, events: list[Event]) -> Plan:
        """
        Return the same run with other events.
        """
        return self._replace(events=tuple(events))


def plan_of(seed: int, ticks: float = TICKS) -> Plan:
    """
    Return the run of *seed*.
    """
    dice = random.Random(f"plan {seed}")
    formats = tuple(
        "raw" if dice.random() < 0.25 else "cri" for _ in range(dice.randint(1, LOGS_MAX))
    )
    routes = dice.choice(
        (("cw", "s3"), ("cw", "s3"), ("cw", "bh"), ("s3", "bh"), ("cw", "s3", "bh"))
    )
    events = [
        Event(round(dice.random() * 2, 3), "write", (index, dice.randint(1, 20), "plain"))
        for index in range(len(formats))
    ]
    makers = _makers(len(formats), routes)
    kinds = [kind for kind, weight in WEIGHTS.items() for _ in range(weight)]
    for _ in range(dice.randint(10, 45)):
        kind = dice.choice(kinds)
        at = round(dice.random() * ticks, 3)
        events.append(Event(at, kind, makers[kind](dice)))
        if kind in ("rotate", "delete", "power") and dice.random() < 0.7:
            # What is written around a rotation is what gets lost.
            log = events[-1].args[0] if kind != "power" else dice.randrange(len(formats))
            for shift in (-0.3, 0.2):
                close = max(0.0, round(at + shift * dice.random(), 3))
                args = (log, dice.randint(1, 12), dice.choice(WRITES))
                events.append(Event(close, "write", args))
    events.sort(key=lambda event: event.at)
    return Plan(
        seed,
        routes,
        formats,
        dice.choice((4096, 4096, 16 << 10, 256 << 10)),
        dice.choice(("message", "container_insights")),
        dice.random() < 0.3,
        tuple(events),
        shards=seed % 5 == 0,
        small_windows=seed % 3 == 0,
    )


WEIGHTS = {
    "write": 26,
    "rotate": 8,
    "delete": 3,
    "kill": 3,
    "kill_in_disk": 2,
    "power": 1,
    "stop": 1,
    "fault": 5,
    "store": 1,
    "disk_full": 1,
    "overflow": 1,
    "ntp": 1,
}


def _makers(logs: int, routes: tuple[str, ...]) -> dict[str, Callable[[random.Random], Any]]:
    services = [name for route, name in (("cw", "logs"), ("s3", "s3")) if route in routes]
    return {
        "write": lambda dice: (
            dice.randrange(logs),
            dice.choice((1, 2, 5, 20, 60)),
            dice.choice(WRITES),
        ),
        "rotate": lambda dice: (dice.randrange(logs), dice.choice(ROTATIONS)),
        "delete": lambda dice: (dice.randrange(logs), dice.choice(("live", "held", "all"))),
        # Seconds that it stays down, and steps of the loop until it is gone: at any await.
        "kill": lambda dice: (round(dice.random() * 3, 3), dice.randrange(300)),
        "kill_in_disk": lambda dice: (round(dice.random() * 3, 3), dice.randrange(12)),
        "power": lambda dice: (round(1 + dice.random() * 3, 3),),
        "stop": lambda dice: (round(dice.random() * 3, 3), dice.choice((1.0, 10.0))),
        "fault": lambda dice: (
            dice.choice(services),
            dice.choice(MODES),
            dice.choice((0.3, 0.7, 1.0)),
            round(0.5 + dice.random() * 8, 3),
        ),
        "store": lambda dice: (round(0.5 + dice.random() * 4, 3),),
        "disk_full": lambda dice: (round(0.5 + dice.random() * 4, 3),),
        "overflow": lambda dice: (),
        "ntp": lambda dice: (dice.choice((-3600, -2, 2, 3600)),),
    }
