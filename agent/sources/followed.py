"""
One Log as the process sees it: its chain, its open descriptors, and how far every route has come.

Shared by all routes that follow the Log.  What a route does with it is in `follow.py`.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from agent import _fastparse
from agent.core.generations import State
from agent.core.identity import TAIL_BYTES_MAX, digest_of
from agent.core.kubelet_path import path_facts
from agent.sources.heads import Opened, first_line, has_tail, head_at
from agent.sources.marks import Marks
from agent.sources.opens import Opens

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from agent.core.batch import Resource
    from agent.core.generations import Generation, Sighting
    from agent.core.host import Disk
    from agent.core.logs import Chain

#: The floor of a route that wants nothing of a Log.
NOTHING_WANTED = (1 << 62, 0)


class FollowedLog:
    """
    A Log's files.
    """

    __slots__ = (
        "chain",
        "done",
        "existed",
        "floors",
        "format",
        "home",
        "key",
        "marks",
        "opened",
        "passed",
        "quiet_since",
        "resource",
        "routes",
        "sightings",
        "watched",
    )

    def __init__(
        self,
        key: str,
        *,
        chain: Chain,
        resource: Resource,
        existed: bool,
        routes: Collection[str],
    ) -> None:
        self.key = key
        self.chain = chain
        self.resource = resource
        #: It was there at the first scan.
        self.existed = existed
        self.home = posixpath.dirname(key)
        self.format: int | None = None
        self.opened = Opens()
        self.sightings: Sequence[Sighting] = ()
        #: Everybody who reads from this source, also a route that is between two runs.
        self.routes = routes
        #: (generation, offset) that each route has committed; what is before all of them is let go.
        self.floors: dict[str, tuple[int, int]] = {}
        #: Routes that need nothing any more, and the chain's next number when they said so.
        self.done: dict[str, int] = {}
        #: Last generation that a route knew when it forgot the Log.
        self.passed: dict[str, int] = {}
        self.marks = Marks()
        self.quiet_since = 0.0
        #: A one-shot watch waits for its next write.
        self.watched = False

    # -- looking ------------------------------------------------------------------------------

    def observe(
        self, sightings: Sequence[Sighting], disk: Disk, *, now: float, now_ns: int
    ) -> bool:
        """
        Take in a complete view of the family.

        Returns:
            Whether it differs from the last one.
        """
        seen = (self.chain.seen, self.extent, self.sightings)
        # An open file that was renamed just after it grew is recognised by its first line in its gz,
        # and a gz ends the growth; one that was cut first has that line in its copy alone.  One that
        # still is live is left to the matching: a copy may hold what came before (_make_way).
        live = {sighting.key for sighting in sightings if sighting.parts.is_live}
        for generation in tuple(self.chain.generations):
            opened = self.opened.get(generation.key)
            if opened is None or generation.key in live or opened.compressed or generation.finished:
                continue
            changed = self.refresh(generation, disk, now=now)
            if not changed and not self.fits(opened.fd, generation, disk):
                self.chain.overwritten(generation, now=now)
        self.sightings = sightings
        before = self.extent
        self.chain.observe(sightings, now=now, now_ns=now_ns)
        for generation in self.chain.generations:
            generation.held = generation.key in self.opened
        if self.extent != before:
            self.mark(now_ns)
            self.quiet_since = now
        return seen != (self.chain.seen, self.extent, sightings)

    @property
    def keys(self) -> set[tuple[int, int]]:
        """
        Device and inode of every file of the chain.
        """
        return {generation.key for generation in self.chain.generations}

    def was_cut_since(self, moment: float) -> bool:
        """
        Whether the live file was found cut after *moment* (monotonic seconds).
        """
        cut = (item for item in self.chain.generations if item.state is State.CUT)
        return any(item.waiting_since >= moment for item in cut)

    def poll(self, disk: Disk, *, now: float, now_ns: int) -> bool:
        """
        Ask every unfinished file for its size.

        Returns:
            Whether anything changed.
        """
        changed = False
        for generation in self.chain.generations:
            if generation.finished or generation.state is State.CUT:
                continue
            changed |= self.refresh(generation, disk, now=now)
        if changed:
            self.quiet_since = now
            self.mark(now_ns)
        return changed

    def _size(self, generation: Generation, disk: Disk) -> int | None:
        opened = self.opened.get(generation.key)
        if opened is not None:
            return disk.fstat(opened.fd).st_size
        if generation.place is None:
            return None
        try:
            status = disk.stat(self.path_of(generation))
        except OSError:
            return None  # The next scan tells.
        return status.st_size if (status.st_dev, status.st_ino) == generation.key else None

    def refresh(self, generation: Generation, disk: Disk, *, now: float) -> bool:
        """
        Note that a file grew, or was cut; False where it is as it was.

        Of a file that was cut and written anew, the size alone would count as growth: bytes that never were.
        """
        size = self._size(generation, disk)
        if size is None or size == generation.available or generation.state is State.LOST:
            return False
        opened = self.opened.get(generation.key)
        same = opened is None or self.fits(opened.fd, generation, disk)
        if size < generation.available or not same:
            self.chain.overwritten(generation, now=now)
            return True
        self.chain.grew(generation, size, now=now)
        if not generation.head:
            self.identify(generation, disk, whole=False)
        return True

    def identify(self, generation: Generation, disk: Disk, *, whole: bool) -> None:
        """
        Read the head of a held file.
        """
        opened = self.opened.get(generation.key)
        if opened is None or generation.head:
            return
        head = head_at(disk, opened.fd, compressed=opened.compressed, whole=whole)
        if head is not None:
            self.chain.identify(generation, head)
            # What the file was made with may be in a copy by now, that nobody has seen.
            looked = generation.place is not None and not generation.place.unreadable
            generation.unseen = looked and generation.state is State.LIVE

    # -- descriptors --------------------------------------------------------------------------

    def path_of(self, generation: Generation) -> str:
        """
        Return where the file was seen last.
        """
        return posixpath.join(self.home, generation.name)

    def descriptor(self, generation: Generation, disk: Disk) -> Opened | None:
        """
        Return an open descriptor of *generation*; None where another file is at its place.

        Raises OSError if it cannot be opened.
        """
        opened = self.opened.get(generation.key)
        if opened is not None:
            return opened
        place = generation.place
        if place is None:
            return None
        fd = disk.open(self.path_of(generation))
        try:
            status = disk.fstat(fd)
            compressed = place.parts.compressed
            same = compressed or self.fits(fd, generation, disk)
            if (status.st_dev, status.st_ino) != place.key or not same:
                disk.close(fd)
                return None
        except OSError:
            disk.close(fd)
            raise
        opened = self.opened[place.key] = Opened(fd, compressed)
        generation.held = True
        return opened

    @staticmethod
    def fits(fd: int, generation: Generation, disk: Disk) -> bool:
        """
        Whether the open plain file still has what was seen of *generation*.
        """
        length = generation.head_length
        if length:
            first = disk.pread(fd, length, 0)
            if len(first) != length or digest_of(first) != generation.head:
                return False
        tail = generation.tail
        return not tail.length or has_tail(disk, fd, tail)

    def note_tail(self, generation: Generation, disk: Disk) -> None:
        """
        Remember how the open file ends now.
        """
        opened = self.opened.get(generation.key)
        if opened is None or opened.compressed or generation.stamped:
            return
        stop = generation.available
        length = min(TAIL_BYTES_MAX, stop)
        if (stop, length) <= generation.tail[:2] or not self.fits(opened.fd, generation, disk):
            return
        before = disk.pread(opened.fd, length, stop - length)
        if len(before) == length:
            generation.note_tail(before, stop)

    def holds(self, generation: Generation, opened: Opened) -> bool:
        """
        Whether *opened* still is the descriptor of *generation*.
        """
        return self.opened.get(generation.key) is opened

    def close(self, generation: Generation, disk: Disk) -> None:
        """
        Close the descriptor of *generation*, if there is one.
        """
        self.opened.let_go(generation.key, disk)
        self.chain.released(generation)

    def close_all(self, disk: Disk) -> None:
        """
        Close every descriptor.
        """
        self.opened.let_all_go(disk)
        for generation in self.chain.generations:
            self.chain.released(generation)

    @property
    def floor(self) -> tuple[int, int]:
        """
        The lowest place that a route needs: one that has yet to begin needs all that it has not passed.
        """
        return min(
            (self.floors.get(route, (self.passed.get(route, -1) + 1, 0)) for route in self.routes),
            default=(0, 0),
        )

    @property
    def done_by_all(self) -> bool:
        """
        Whether no route needs anything of the Log any more.
        """
        number = self.chain.next_number
        return all(
            self.done.get(route) == number or self.floors.get(route) == NOTHING_WANTED
            for route in self.routes
        )

    @property
    def needless(self) -> bool:
        """
        Whether it is over, and no route needs anything of it any more.
        """
        if not self.chain.over:
            return False
        followed = any(floor != NOTHING_WANTED for floor in self.floors.values())
        return not followed and self.floor[0] >= self.chain.next_number

    def is_forgotten_by(self, route: str) -> bool:
        """
        Whether *route* has forgotten all there is.  To begin anew would keep the others from forgetting it in turn.
        """
        forgotten = self.passed.get(route) == self.chain.next_number - 1
        return forgotten and self.chain.over and route not in self.floors

    def exclude(self, route: str, disk: Disk) -> None:
        """
        Note that *route* wants nothing of it; what no route wants is not held open.
        """
        self.floors[route] = NOTHING_WANTED
        self.close_passed(disk)

    def close_passed(self, disk: Disk) -> None:
        """
        Close what scans opened to see what it is: copies of what every route has, all of what none wants nor commits.
        """
        if (floor := self.floor) == NOTHING_WANTED:
            self.chain.forget_below(floor[0])
            self.close_all(disk)
        for generation in self.chain.generations:
            opened = self.opened.get(generation.key)
            if opened and opened.compressed and floor >= (generation.number, generation.size):
                self.close(generation, disk)

    def let_go(self, disk: Disk) -> list[tuple[Generation, int]]:
        """
        Close what every route has committed, and forget generations before all floors.

        Returns:
            Generations that grew after every route had passed them, with the size they have now.
        """
        late = []
        floor = self.floor
        for generation in self.chain.generations:
            if not generation.finished or floor < (generation.number, generation.size):
                continue
            opened = self.opened.get(generation.key)
            if opened is not None and not opened.compressed:
                size = disk.fstat(opened.fd).st_size
                if size > generation.size:
                    late.append((generation, size))
            self.close(generation, disk)
        self.close_passed(disk)
        self.chain.forget_below(floor[0])
        self._close_strays(disk)
        return late

    def _close_strays(self, disk: Disk) -> None:
        for key in self.opened.keys() - self.keys:
            self.opened.let_go(key, disk)

    # -- format and lag -----------------------------------------------------------------------

    def format_of(self, generation: Generation, disk: Disk, forced: str) -> int:
        """
        Return the format of the Log, by its first line.
        """
        if self.format is None:
            named = {
                "cri": _fastparse.FORMAT_CRI,
                "docker": _fastparse.FORMAT_DOCKER,
                "raw": _fastparse.FORMAT_RAW,
            }.get(forced)
            if named is None:
                opened = self.opened[generation.key]
                line = first_line(disk, opened.fd, compressed=opened.compressed)
                named = _fastparse.detect(line, kubelet=path_facts(self.key).kubelet)
            self.format = named
        return self.format

    @property
    def extent(self) -> tuple[int, int]:
        """
        The last generation and its size.
        """
        generations = self.chain.generations
        return (generations[-1].number, generations[-1].size) if generations else (-1, 0)

    def mark(self, seen_ns: int) -> None:
        """
        Remember when the Log grew to what it is.
        """
        self.marks.add(*self.extent, seen_ns)

    def lag(self, place: tuple[int, int], now_ns: int) -> tuple[int, float]:
        """
        Return bytes and seconds behind *place*.
        """
        return self.marks.lag(self.chain.generations, place, now_ns)
