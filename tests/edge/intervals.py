"""
Sets of numbers as intervals: a number that is there twice is there once, so a duplicate cannot hide a loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable


class Intervals:
    """
    An immutable set of whole numbers, as sorted half-open intervals that neither touch nor overlap.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[tuple[int, int]] = ()) -> None:
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(parts):
            if start >= stop:
                continue
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        self.parts = tuple(merged)

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Self:
        """
        Return the set of *numbers*.
        """
        return cls((number, number + 1) for number in numbers)

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Intervals) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{start}-{stop - 1}" for start, stop in self.parts[:20]) + "}"

    def __or__(self, other: Intervals) -> Intervals:
        return Intervals((*self.parts, *other.parts))

    def __sub__(self, other: Intervals) -> Intervals:
        kept: list[tuple[int, int]] = []
        holes = list(other.parts)
        for start, stop in self.parts:
            at = start
            while holes and holes[0][1] <= at:
                holes.pop(0)
            for hole_start, hole_stop in holes:
                if hole_start >= stop:
                    break
                kept.append((at, min(hole_start, stop)))
                at = max(at, hole_stop)
            kept.append((at, stop))
        return Intervals(kept)
