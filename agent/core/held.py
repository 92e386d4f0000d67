"""
Which deleted files are given up, so that a route that stands still does not fill the node's disk.

Files of which there is a copy come first: they cost nothing but reading the copy.  Then the ones that were
deleted first: what is oldest is worth least, and the newest lines say why something stands still.

No I/O and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Generic[T]):
    """
    A deleted file that an open descriptor keeps on disk.
    """

    device: int
    size: int  # bytes of disk
    since: float  # monotonic seconds at which it was found to have no name
    copied: bool  # another file has the same bytes: its gz
    what: T


def to_give_up(
    held: Iterable[Held[T]], *, bytes_max: int, free: Mapping[int, int], free_min: int
) -> list[tuple[Held[T], str]]:
    """
    Return what is to be given up and which limit was passed.

    *free*: free bytes by device, where they are known.
    """
    ordered = sorted(held, key=lambda item: (not item.copied, item.since, -item.size))
    given: list[tuple[Held[T], str]] = []
    total = sum(item.size for item in ordered)
    missing = {device: free_min - known for device, known in free.items()}
    for item in ordered:
        if missing.get(item.device, 0) > 0:
            given.append((item, "disk_free_min_bytes"))
        elif total > bytes_max:
            given.append((item, "held_deleted_bytes_max"))
        else:
            continue
        total -= item.size
        missing[item.device] = missing.get(item.device, 0) - item.size
    return given
