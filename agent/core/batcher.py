"""
Segments wait here until a payload is worth sending.

One pile per destination.  A pile is due when it is full (bytes or events), old (linger), or when its
owner says that memory is short or that everything must go: then the oldest pile goes first.

Bytes and events are the caller's estimates: the encoder keeps the exact limits, this decides when encoding is
worth it, and what then does not fill a payload may come back.  Memory is bounded by the budget that the segments
are charged to, not here.

No I/O and no clock: *now* is in monotonic seconds.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from agent.core.batch import Segment

Key = TypeVar("Key", bound="Hashable")


class Waiting(NamedTuple):
    """
    A segment in a pile.
    """

    segment: Segment
    bytes: int
    events: int
    since: float

    def rest(self, soon: float) -> Waiting:
        """
        Return what is left of it.

        Where some of its rows are in payloads it counts as waiting since *soon*: no checkpoint passes those rows before
        the others.
        """
        left = self.segment.rows_left
        return self._replace(
            bytes=self.bytes * left // max(1, self.events),
            events=left,
            since=min(self.since, soon) if self.segment.encoded else self.since,
        )


class Pile:
    """
    What waits for one destination, in the order in which it came.
    """

    __slots__ = ("bytes", "events", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Waiting] = deque()
        self.bytes = 0
        self.events = 0


class Batcher(Generic[Key]):
    """
    Piles of segments by destination.
    """

    def __init__(self, *, bytes_max: int, events_max: int, linger_s: float) -> None:
        self._bytes_max = bytes_max
        self._events_max = events_max
        self._linger_s = linger_s
        self._piles: dict[Key, Pile] = {}
        # Entries (since, number, key); one is stale when its pile is gone or begins at another time.
        self._by_age: list[tuple[float, int, Key]] = []
        self._number = 0
        self._full: dict[Key, None] = {}

    def __len__(self) -> int:
        """
        Return the number of destinations that something waits for.
        """
        return len(self._piles)

    def __contains__(self, key: Key) -> bool:
        """
        Return whether something waits for *key*.
        """
        return key in self._piles

    def add(self, key: Key, segment: Segment, *, bytes: int, events: int, now: float) -> None:
        """
        Let *segment* wait, with the estimated size of what it becomes.
        """
        pile = self._piles.get(key)
        if pile is None:
            pile = self._piles[key] = Pile()
            self._push(now, key)
        pile.waiting.append(Waiting(segment, bytes, events, now))
        pile.bytes += bytes
        pile.events += events
        self._note_full(key, pile)

    def due(
        self,
        now: float,
        *,
        count_max: int,
        busy: Callable[[Key], bool],
        stretch: float = 1.0,
        everything: bool = False,
    ) -> list[Key]:
        """
        Return at most *count_max* destinations to send to now: full ones, then the oldest.

        Those that are *busy* are passed over.  *stretch* multiplies the linger; *everything* makes every pile due.
        """
        keys: list[Key] = []
        for key in self._full:
            if len(keys) == count_max:
                return keys
            if not busy(key):
                keys.append(key)
        passed: list[tuple[float, int, Key]] = []
        while self._by_age and len(keys) < count_max:
            entry = self._by_age[0]
            since, _, key = entry
            if self._stale(entry):
                heapq.heappop(self._by_age)
                continue
            if not everything and now < since + self._linger_s * stretch:
                break
            passed.append(heapq.heappop(self._by_age))
            # A remainder of the same age has an entry of its own, so a destination may come up twice.
            if key not in self._full and key not in keys and not busy(key):
                keys.append(key)
        for entry in passed:
            heapq.heappush(self._by_age, entry)
        return keys

    def take(self, key: Key) -> list[Waiting]:
        """
        Remove and return the oldest segments of *key*: so many that they fill a payload, if there are.
        """
        pile = self._piles[key]
        taken: list[Waiting] = []
        taken_bytes = taken_events = 0
        while pile.waiting and not self._fill(taken_bytes, taken_events):
            head = pile.waiting.popleft()
            taken.append(head)
            taken_bytes += head.bytes
            taken_events += head.events
        pile.bytes -= taken_bytes
        pile.events -= taken_events
        self._full.pop(key, None)
        if not pile.waiting:
            del self._piles[key]
        else:
            self._push(pile.waiting[0].since, key)
            self._note_full(key, pile)
        return taken

    def fills(self, waiting: Sequence[Waiting]) -> bool:
        """
        Return whether *waiting* fills a payload.
        """
        return self._fill(sum(item.bytes for item in waiting), sum(item.events for item in waiting))

    def put_back(self, key: Key, rest: Sequence[Waiting]) -> None:
        """
        Let *rest*, the last of what `take` returned, wait again, in front of what has come since.
        """
        if not rest:
            return
        pile = self._piles.setdefault(key, Pile())
        pile.waiting.extendleft(reversed(rest))
        pile.bytes += sum(waiting.bytes for waiting in rest)
        pile.events += sum(waiting.events for waiting in rest)
        self._push(rest[0].since, key)
        self._note_full(key, pile)

    def oldest(self) -> float | None:
        """
        Return since when the oldest segment waits; None where nothing waits.
        """
        while self._by_age and self._stale(self._by_age[0]):
            heapq.heappop(self._by_age)
        return self._by_age[0][0] if self._by_age else None

    def clear(self) -> list[Segment]:
        """
        Remove and return everything.
        """
        segments = [waiting.segment for pile in self._piles.values() for waiting in pile.waiting]
        self._piles.clear()
        self._by_age.clear()
        self._full.clear()
        return segments

    def _note_full(self, key: Key, pile: Pile) -> None:
        if self._fill(pile.bytes, pile.events):
            self._full[key] = None

    def _fill(self, size: int, events: int) -> bool:
        return size >= self._bytes_max or events >= self._events_max

    def _push(self, since: float, key: Key) -> None:
        self._number += 1
        heapq.heappush(self._by_age, (since, self._number, key))

    def _stale(self, entry: tuple[float, int, Key]) -> bool:
        pile = self._piles.get(entry[2])
        return pile is None or pile.waiting[0].since != entry[0]
