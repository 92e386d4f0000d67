"""
Of what was seen in a directory: its order, its age, and whether a file is still the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.generations import State
from agent.core.identity import Probe

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from agent.core.checkpoint import GenerationRow
    from agent.core.generations import Generation, Sighting
    from agent.core.identity import Head

#: Heads of passed generations that are remembered: more than any rotator keeps of a busy log.
PASSED_MAX = 64


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
    if contradicts(generation, sighting, rebooted=rebooted):
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


def contradicts(generation: Generation, sighting: Sighting, *, rebooted: bool) -> bool:
    """
    Whether a file that begins like *generation* has other bytes than were seen of it.
    """
    tail = generation.tail
    if not tail.length or sighting.unreadable:
        return False
    found = next((item for item in sighting.tails if item[:2] == tail[:2]), None)
    compressed = sighting.parts.compressed
    if (found is not None and not found.digest) or (not compressed and sighting.size < tail.offset):
        # A power loss takes what was not synced, and the copy of a file that was cut afterwards can
        # lack its last lines.  Otherwise a shorter file is another one.
        return generation.state is not State.CUT and (compressed or not rebooted)
    return found is not None and found.digest != tail.digest


def probes_of(known: Iterable[Generation | GenerationRow]) -> list[Probe]:
    """
    Return the tails by which files that begin alike are told apart.
    """
    return [
        Probe((item.head, item.head_length), item.tail.offset, item.tail.length)
        for item in known
        if item.tail.length
    ]


def by_head(
    sighting: Sighting, candidates: Sequence[Generation], *, rebooted: bool
) -> Generation | None:
    """
    Return which of the generations *candidates*, newest first, the file is that no inode leads to.
    """
    assert sighting.head is not None
    live = sighting.parts.is_live and not sighting.parts.compressed
    fitting = [
        generation
        for generation in candidates
        if generation.state is not State.LOST
        and generation.same_head(sighting)
        and not contradicts(generation, sighting, rebooted=rebooted)
        # On one file system a file keeps its inode: a live one with another was made anew, however
        # it begins.
        and (sighting.head.stamped or rebooted or not live or generation.device != sighting.device)
    ]
    for generation in fitting:
        if generation.state is State.CUT:
            if not live:
                return generation  # The copy that was made before the cut.
        elif sighting.parts.compressed or rebooted or sighting.size >= generation.size:
            return generation
    # A live file that is shorter begins anew; a rotated one is a copy that lacks the end.
    return fitting[0] if fitting and not live else None


def is_copy(
    ordered: Sequence[Sighting],
    index: int,
    known: Iterable[Generation],
    passed: Collection[tuple[bytes, int]],
) -> bool:
    """
    Whether the rotated file ordered[index] holds what a later one holds, or a generation that is known or was passed.

    Names move while a directory is read, so one content can be seen under two; a copy is there before the file
    is cut; and what was passed can be seen when nothing behind it is.
    """
    sighting = ordered[index]
    head = sighting.head
    if head is None or not head.stamped or sighting.parts.is_live:
        return False
    return (
        head.key in passed
        or any(item.same_head(sighting) for item in known)
        or any(item.head == head for item in ordered[index + 1 :])
    )


def new_behind_touched(
    ordered: Sequence[Sighting],
    placed: Mapping[int, Generation],
    known: Sequence[Generation],
    passed: Collection[tuple[bytes, int]],
) -> list[int]:
    """
    Return which files are nobody's and stand behind everything that a route has touched.
    """
    last = max((index for index, item in placed.items() if item.touched), default=-1)
    return [
        index
        for index in range(last + 1, len(ordered))
        if index not in placed
        and ordered[index].head is not None
        and not any(item.same_head(ordered[index]) for item in known)
        and not is_copy(ordered, index, (), passed)
    ]


def is_late_copy(generation: Generation, head: Head, alike: Sequence[Generation]) -> bool:
    """
    Whether a rotated file without a head was a copy still to be made when it was seen: now it begins like *alike*.

    Other files can begin alike where lines have no time of their own.  Of those a copy begins like what is live, or
    was cut behind it.
    """
    place = generation.place
    if place is None or place.parts.is_live or not alike:
        return False
    followed = any(item.state in (State.LIVE, State.CUT) for item in alike)
    return head.stamped or (followed and not generation.finished)


def remembered(
    passed: tuple[tuple[bytes, int], ...], gone: Iterable[Generation]
) -> tuple[tuple[bytes, int], ...]:
    """
    Return the heads of generations that every route has passed, as far as no other file begins with them.
    """
    heads = [(item.head, item.head_length) for item in gone if item.head and item.stamped]
    return (*passed, *heads)[-PASSED_MAX:]


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
