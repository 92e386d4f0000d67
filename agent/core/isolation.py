"""
What to do with a chunk that makes a component raise.

A route that fails is restarted from its committed cursors and meets the same bytes again.  The first
failure at a place is taken for an accident.  After the second, the place is read through the
pure-Python parser; after the third it is skipped with a loss record.  So every poison chunk costs a
route a bounded number of restarts, and other routes none.

The same bytes need not come in the same chunk: its file grows, or a checkpoint moved where reading begins.
So failures at places that overlap count together, for the bytes that they have in common.

No I/O and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

#: Places remembered; the oldest is forgotten first, and would only be isolated once more.
PLACES_MAX = 1024


@dataclass(frozen=True, slots=True)
class Place:
    """
    The bytes [start, stop) of one generation.
    """

    log: str
    generation: int
    start: int
    stop: int


class Treatment(Enum):
    """
    How a place is read in the next run, by the number of its failures.
    """

    PLAIN = auto()
    REFERENCE_PARSER = auto()
    SKIP = auto()


class Isolation:
    """
    The poison places of one route.
    """

    def __init__(self) -> None:
        self._failures: dict[Place, int] = {}

    def failed(self, place: Place) -> Treatment:
        """
        Count a failure and return how the bytes of *place* will be read from now on.
        """
        failures = 1
        for known in list(self._failures):
            common = _common(known, place)
            if common is not None:
                place, failures = common, self._failures.pop(known) + 1
                break
        self._failures[place] = failures
        if len(self._failures) > PLACES_MAX:
            del self._failures[next(iter(self._failures))]
        return _treatment(failures)

    def treatments(self) -> list[tuple[Place, Treatment]]:
        """
        Return the places that are not read plainly, for the next run's reader.
        """
        return [
            (place, treatment)
            for place, failures in self._failures.items()
            if (treatment := _treatment(failures)) is not Treatment.PLAIN
        ]


def _common(one: Place, other: Place) -> Place | None:
    if (one.log, one.generation) != (other.log, other.generation):
        return None
    start, stop = max(one.start, other.start), min(one.stop, other.stop)
    return Place(one.log, one.generation, start, stop) if start < stop else None


def _treatment(failures: int) -> Treatment:
    if failures < 2:
        return Treatment.PLAIN
    return Treatment.REFERENCE_PARSER if failures == 2 else Treatment.SKIP
