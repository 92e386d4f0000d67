"""
The chain of generations of one Log: which file is which, in which order, and what a route does next.

The shell looks at the Log's family (the live file and its rotated siblings) and passes what it saw
to `observe`; between looks it reports growth (`grew`).  `settle` lets time pass.  `step` then tells a
route that stands at a place what to do: read, wait, go on to the next generation, record a loss.

How a sighting finds its generation:

1. by device and inode, if head and tail agree and the size did not shrink; a mismatch means that the
   file was cut, overwritten, or deleted and its inode reused;
2. else by head and tail, newest first, in chain order: a rename over file systems, a gzip, a copy;
3. else it is a new generation if it comes after everything that was recognised.  What comes before
   is a copy, or older than anything that a cursor still needs.

Before the first look nothing is decided: what a checkpoint knows is neither there nor gone, and a
route waits.

Generations are numbered in chain order and numbers never change, so cursors compare.

No I/O and no clock: `now` is in monotonic seconds.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from agent.core.generations import (
    UNMEASURED,
    Event,
    Generation,
    Sighting,
    State,
    from_row,
)
from agent.core.identity import NO_TAIL, file_id_of
from agent.core.sightings import (
    age_s,
    by_head,
    in_order,
    is_copy,
    is_late_copy,
    is_same,
    new_behind_touched,
    remembered,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.core.checkpoint import GenerationRow
    from agent.core.identity import Head

#: Quiet time after which a renamed file is finished once its successor has bytes: the writer has
#: moved on, but a runtime's copier of the other stream may flush a last line.
MOVED_ON_S = 1.0
#: States that time alone ends.
WAITING = (State.ROTATED, State.ABSENT, State.CUT)


class Step(Enum):
    """
    What a route does at its place.
    """

    READ = auto()
    WAIT = auto()
    ADVANCE = auto()  # the generation is read to its end: go to the next one
    LOSE = auto()  # the rest of the generation cannot be read any more
    END = auto()  # the Log is over


class Chain:
    """
    The generations of one Log.
    """

    __slots__ = (
        "_grace_s",
        "_life",
        "_passed",
        "_rebooted_ns",
        "_seed",
        "generations",
        "log",
        "next_number",
        "seen",
    )

    def __init__(
        self,
        log: str,
        *,
        seed: str,
        life: str = "",
        rows: Iterable[GenerationRow] = (),
        grace_s: float = 5.0,
        rebooted_ns: int = 0,
    ) -> None:
        self.log = log
        self.generations = [from_row(row) for row in sorted(rows, key=lambda row: row.number)]
        self.next_number = self.generations[-1].number + 1 if self.generations else 0
        #: Whether the last look saw any file of the family; None: nobody has looked.
        self.seen: bool | None = None
        self._seed = seed
        #: What no other chain ever has; empty: nothing is written any more (replay).
        self._life = life
        self._grace_s = grace_s
        #: Wall clock when the machine came up since a cursor was written; 0: it did not.
        self._rebooted_ns = rebooted_ns
        self._passed: tuple[tuple[bytes, int], ...] = ()

    def find(self, number: int) -> Generation | None:
        """
        Return the generation with this number.
        """
        for item in reversed(self.generations):
            if item.number == number:
                return item
        return None

    def after(self, number: int) -> Generation | None:
        """
        Return the next generation behind *number*.
        """
        return next((item for item in self.generations if item.number > number), None)

    @property
    def over(self) -> bool:
        """
        Whether no file is left and nothing will come.
        """
        return self.seen is False and all(item.finished for item in self.generations)

    @property
    def settled(self) -> bool:
        """
        Whether time alone changes nothing.
        """
        return self.seen is None or all(item.state not in WAITING for item in self.generations)

    def step(self, number: int, offset: int) -> Step:
        """
        Return what a route at (*number*, *offset*) does.
        """
        generation = self.find(number)
        if generation is None:
            return self._step_on(number)
        if generation.state is State.CUT:
            return Step.WAIT
        if (
            offset < generation.available
            and generation.readable
            and generation.state is not State.LOST
        ):
            # Of a file that is not open nobody knows the head: opening it tells.
            known = bool(generation.head) and not generation.unseen
            known = known or generation.finished or not generation.held
            return Step.READ if known else Step.WAIT
        if not generation.finished:
            return Step.WAIT
        if offset < generation.size:
            return Step.LOSE
        return self._step_on(number)

    def _step_on(self, number: int) -> Step:
        if self.after(number) is not None:
            return Step.ADVANCE
        return Step.END if self.over else Step.WAIT

    def observe(self, sightings: Sequence[Sighting], *, now: float, now_ns: int) -> None:
        """
        Take in a complete view of the Log's family.
        """
        ordered = in_order(sightings)
        self.seen = bool(ordered)
        # An empty file that nobody holds has nothing to be recognised by but its inode, which can be
        # reused, and nothing of it was read: it is numbered anew at every look.
        self.generations = [
            item for item in self.generations if item.size or item.head or item.held
        ]
        placed: dict[int, Generation] = {}
        for index, sighting in enumerate(ordered):
            generation = self._by_inode(sighting, now)
            if generation is not None and generation not in placed.values():
                placed[index] = generation
        for index in reversed(range(len(ordered))):
            if index not in placed and (found := self._by_head(ordered[index], index, placed)):
                placed[index] = found
        self._make_way(ordered, placed)
        for index in range(max(placed, default=-1) + 1, len(ordered)):
            if not is_copy(ordered, index, self.generations, self._passed):
                placed[index] = self._append(ordered[index], now, now_ns)
        self._place({placed[index].number: ordered[index] for index in placed}, now, now_ns)

    def grew(self, generation: Generation, size: int, *, now: float) -> None:
        """
        Note that a held file has *size* bytes.
        """
        assert size >= generation.available
        generation.size = max(generation.size, size)
        generation.available = size
        generation.grown_at = now

    def measured(self, generation: Generation, size: int) -> None:
        """
        Note that a file that nobody writes to ends at *size* (known at the end of a gz).
        """
        generation.available = size
        generation.size = max(generation.size, size)
        generation.measured = True

    def overwritten(self, generation: Generation, *, now: float) -> None:
        """
        Note that the file of *generation* was cut or overwritten.  The next look finds what is there now.
        """
        generation.apply(Event.OVERWRITTEN)
        generation.device = generation.inode = 0
        generation.held = False
        generation.place = None
        generation.was_cut = True
        generation.waiting_since = now

    def released(self, generation: Generation) -> None:
        """
        Note that the descriptor of *generation* was closed: from now on it is read at its place.
        """
        generation.held = False
        place = generation.place
        if place is not None and place.key != generation.key:
            generation.device, generation.inode = place.key
            generation.available = UNMEASURED if place.parts.compressed else place.size
            generation.measured = False

    def give_up(self, generation: Generation, size: int, why: str) -> None:
        """
        Note that the deleted file of *generation*, which has *size* bytes, is held no longer.
        """
        generation.apply(Event.GIVEN_UP)
        generation.size = max(generation.size, size)
        generation.given_up = why

    def identify(self, generation: Generation, head: Head) -> None:
        """
        Give *generation* its identity; one that turns out to be a copy has none.
        """
        assert not generation.head
        same = [item for item in self.generations if (item.head, item.head_length) == head.key]
        if is_late_copy(generation, head, same):
            self.generations.remove(generation)
            return
        generation.head, generation.head_length = head.key
        generation.stamped = head.stamped
        generation.ordinal = max((item.ordinal for item in same), default=-1) + 1
        place = generation.place
        parts: tuple[str, ...] = (self._life, str(generation.number))
        if head.stamped:
            parts = (str(generation.ordinal),)
        elif not self._life and place is not None:
            parts = ("", place.name, str(place.size), str(place.mtime_ns))
        generation.file_id = file_id_of(self._seed, head, *parts)

    def settle(self, now: float) -> None:
        """
        Let time pass: renamed and deleted files that are quiet are finished, cut ones without a copy lost.
        """
        if self.seen is None:
            return
        for generation in self.generations:
            if generation.state not in WAITING:
                continue
            needed_s = self._grace_s
            successor = self.after(generation.number)
            if generation.state is State.ROTATED and successor is None:
                continue  # The writer still writes there, whatever its name is.
            if generation.state is not State.CUT and successor is not None and successor.size:
                needed_s = min(MOVED_ON_S, self._grace_s)
            if now - max(generation.grown_at, generation.waiting_since) >= needed_s:
                generation.apply(Event.QUIET)

    def freeze(self) -> None:
        """
        Let every file be finished as it is: nothing is appended any more.
        """
        for generation in self.generations:
            if generation.state is not State.LOST:
                generation.state = State.SEALED
        self.seen = False

    def forget_below(self, number: int) -> None:
        """
        Drop the generations that every route has passed.
        """
        # A file that is left stays known: without a live one beside it, it would look new.
        gone = [item for item in self.generations if item.number < number and not item.place]
        self.generations = [g for g in self.generations if g.number >= number or g.place]
        self._passed = remembered(self._passed, gone)

    def _by_inode(self, sighting: Sighting, now: float) -> Generation | None:
        for generation in reversed(self.generations):
            if generation.key != sighting.key or generation.state is State.LOST:
                continue
            if is_same(
                generation, sighting, self.generations, rebooted=self._cut_by_boot(sighting)
            ):
                return generation
            if generation.held or (generation.state is State.LIVE and generation.head):
                self.overwritten(generation, now=now)
            else:
                # While nobody looked.  The inode leads elsewhere now; a name may still lead to it.
                generation.device = generation.inode = 0
                generation.was_cut = sighting.parts.is_live
        return None

    def _by_head(
        self, sighting: Sighting, index: int, placed: dict[int, Generation]
    ) -> Generation | None:
        if sighting.head is None:
            return None
        taken = placed.values()
        floor = max((item.number for at, item in placed.items() if at < index), default=-1)
        ceiling = min(
            (item.number for at, item in placed.items() if at > index), default=self.next_number
        )
        candidates = [
            generation
            for generation in reversed(self.generations)
            if generation not in taken and floor < generation.number < ceiling
        ]
        return by_head(sighting, candidates, rebooted=self._cut_by_boot(sighting))

    def _cut_by_boot(self, sighting: Sighting) -> bool:
        # A power loss takes what was not synced.  In a file that was written to since then nobody can
        # say where the old bytes end: it is another one, so that lines are repeated and not skipped.
        return sighting.mtime_ns < self._rebooted_ns

    def _make_way(self, ordered: list[Sighting], placed: dict[int, Generation]) -> None:
        """
        Let files that appeared before untouched generations come before them: their numbers are free.

        Between two looks a file can be written, copied, cut and written again.  The copy comes first,
        but the live file was recognised.
        """
        fresh = new_behind_touched(ordered, placed, self.generations, self._passed)
        for index in [index for index in placed if fresh and index > fresh[0]]:
            self.generations.remove(placed.pop(index))

    def _append(self, sighting: Sighting, now: float, now_ns: int) -> Generation:
        grown_at = now - age_s(sighting, now_ns)
        generation = Generation(number=self.next_number, name=sighting.name, grown_at=grown_at)
        self.next_number += 1
        self.generations.append(generation)
        return generation

    def _place(self, places: dict[int, Sighting], now: float, now_ns: int) -> None:
        for generation in tuple(self.generations):  # One can turn out to be a copy (identify).
            sighting = places.get(generation.number)
            state, generation.place, generation.unseen = generation.state, sighting, False
            if sighting is None:
                generation.apply(Event.NOT_SEEN)
            else:
                self._found(generation, sighting, now)
            successor = self.after(generation.number)
            newly_waiting = generation.state is not state and generation.state is not State.CUT
            if newly_waiting and generation.state in (State.ROTATED, State.ABSENT):
                generation.waiting_since = max(generation.waiting_since, now)
            # What a file's age says about its predecessor saves the grace at a start.
            if newly_waiting and sighting is not None and successor is not None:
                seen = places.get(successor.number)
                if seen is not None and not generation.held:
                    generation.waiting_since = now - age_s(seen, now_ns)

    def _found(self, generation: Generation, sighting: Sighting, now: float) -> None:
        generation.apply(sighting.event)
        generation.name = sighting.name
        generation.sought = False
        if sighting.head is not None:
            generation.stamped = sighting.head.stamped
            if not generation.head:
                self.identify(generation, sighting.head)
        if generation.held and generation.key != sighting.key:
            return  # Go on with the file that is open: same bytes, and no second read.
        moved = generation.key != sighting.key
        generation.device, generation.inode = sighting.key
        if sighting.parts.compressed:
            generation.size = max(generation.size, sighting.size)
            if moved or not generation.measured:
                generation.available = UNMEASURED
                generation.measured = False
            return
        if sighting.size < generation.size and self._cut_by_boot(sighting):
            generation.size = sighting.size
        if sighting.size < generation.tail.offset:
            generation.tail = NO_TAIL  # Cut by a power loss, or a copy that lacks the end.
        if sighting.size > generation.available and generation.available:
            generation.grown_at = now
        generation.available = sighting.size
        generation.size = max(generation.size, sighting.size)
