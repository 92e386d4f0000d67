"""
When a Log grew to what it is, so that lag has an age.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.generations import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.core.generations import Generation

#: Moments of growth remembered for lag; with more, neighbours are merged, which overstates it.
MARKS_MAX = 32


@dataclass(slots=True)
class Mark:
    """
    The bytes before (generation, size) were first seen at `seen_ns`.
    """

    number: int
    size: int
    seen_ns: int


class Marks:
    """
    The moments of one Log, oldest first.
    """

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: deque[Mark] = deque()

    def add(self, number: int, size: int, seen_ns: int) -> None:
        """
        Remember that the Log reached (*number*, *size*).
        """
        marks = self._marks
        if marks and (len(marks) >= MARKS_MAX or marks[-1].seen_ns == seen_ns):
            marks[-1].number, marks[-1].size = number, size
        elif size:
            marks.append(Mark(number, size, seen_ns))

    def forget(self, floor: tuple[int, int]) -> None:
        """
        Drop what every route has committed.
        """
        while self._marks and (self._marks[0].number, self._marks[0].size) <= floor:
            self._marks.popleft()

    def lag(
        self, generations: Iterable[Generation], place: tuple[int, int], now_ns: int
    ) -> tuple[int, float]:
        """
        Return bytes and seconds behind *place*.
        """
        number, offset = place
        lag_bytes = 0
        for generation in generations:
            if generation.number >= number and generation.state is not State.LOST:
                start = offset if generation.number == number else 0
                lag_bytes += max(0, generation.size - start)
        if not lag_bytes:
            return 0, 0.0
        seen_ns = next(
            (mark.seen_ns for mark in self._marks if (mark.number, mark.size) > place), now_ns
        )
        return lag_bytes, max(0, now_ns - seen_ns) / 1e9
