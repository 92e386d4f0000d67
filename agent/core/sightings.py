"""
Of what was seen in a directory: its order, its age, and whether a file is still the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.generations import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.generations import Generation, Sighting


def is_same(
    generation: Generation, sighting: Sighting, others: Sequence[Generation], *, rebooted: bool
) -> bool:
    """
    Whether the file at the inode of *generation* still is that generation.
    """
    if sighting.unreadable:
        return True
    if not generation.head and not generation.held:
        return _may_be(generation, sighting, others)
    if generation.head and not generation.same_head(sighting):
        return False
    if sighting.parts.compressed:
        return True
    # A file can be shorter than what was synced of a cursor after a power loss, only then.
    known = generation.available if generation.readable else generation.size
    return sighting.size >= known or (rebooted and not generation.held)


def _may_be(generation: Generation, sighting: Sighting, others: Sequence[Generation]) -> bool:
    """
    Whether an inode alone can tell that a file of which no first line was seen is still the same.
    """
    if sighting.parts.compressed or sighting.size < generation.size:
        return False
    if sighting.parts.is_live and generation.state is not State.LIVE:
        return False  # Its inode was reused: writers do not go back to a renamed file.
    if generation.state is State.SEALED and sighting.size != generation.size:
        return False
    return not any(other.head and other.same_head(sighting) for other in others)


def _order(sighting: Sighting) -> tuple[tuple[int, int, str], int, bool]:
    return (sighting.parts.order, sighting.mtime_ns, sighting.parts.compressed)


def in_order(sightings: Sequence[Sighting]) -> list[Sighting]:
    """
    Sort a family oldest first, without a gz whose original is still there: it may be unfinished.
    """
    ordered = sorted(sightings, key=_order)
    plain = {sighting.parts.order for sighting in ordered if not sighting.parts.compressed}
    return [
        sighting
        for sighting in ordered
        if not sighting.parts.compressed or sighting.parts.order not in plain
    ]


def age_s(sighting: Sighting, now_ns: int) -> float:
    """
    Return how long ago the file was written to.
    """
    return max(0.0, (now_ns - sighting.mtime_ns) / 1e9)
