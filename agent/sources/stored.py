"""
What a route tells the store of its Logs, beyond the cursors that its ledgers moved.

- Every Log that is followed has a cursor within a commit interval, also where nothing was read: so no
  cursor means that the route never followed it, and what is gone of it is no loss.
- The identities and sizes of files are written whenever they changed.  A route that stands still commits
  no cursors; but what its files have become must be known when they are gone at the next start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.cursor import resume_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.core.checkpoint import GenerationRow
    from agent.core.cursor import Cursor
    from agent.core.host import Disk
    from agent.sources.follow import Follow


class FirstCursors:
    """
    The places at which Logs were begun that no checkpoint holds.
    """

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        #: By Log; looked at once a commit, so one whose place is stored goes.
        self._begun: dict[str, Follow] = {}

    def note(self, follow: Follow) -> None:
        """
        Note that a Log was begun.
        """
        self._begun[follow.log.key] = follow

    def forget(self, log: str) -> None:
        """
        Let go of *log*.
        """
        self._begun.pop(log, None)

    def get(self) -> dict[str, Cursor]:
        """
        Return the places.

        None while Logs are about to be begun at their end: with its first commit the first start of a route
        is over, and then they would be begun at their beginning.
        """
        self._begun = {
            key: follow
            for key, follow in self._begun.items()
            if follow.first_cursor is not None or follow.align_size is not None
        }
        begun = self._begun.items()
        if any(item.align_size is not None and not item.errors for _, item in begun):
            return {}
        return {key: item.first_cursor for key, item in begun if item.first_cursor is not None}


class Changes:
    """
    The Logs whose files grew or changed since the store was told.
    """

    __slots__ = ("_follows", "_keys", "_told")

    def __init__(self, follows: Mapping[str, Follow]) -> None:
        self._follows = follows
        self._keys: set[str] = set()
        #: How far what the store is being told goes.
        self._told: dict[str, tuple[int, int]] = {}

    def note(self, log: str) -> None:
        """
        Note that *log* changed.
        """
        self._keys.add(log)

    def rows(self, logs: Iterable[str], disk: Disk) -> list[GenerationRow]:  # disk
        """
        Return the identities of *logs* and of all that changed.
        """
        rows = []
        for key in {*logs, *self._keys}:
            follow = self._follows.get(key)
            if follow is None:
                self._keys.discard(key)
                continue
            self._told[key] = follow.log.extent
            for generation in follow.log.chain.generations:
                follow.log.note_tail(generation, disk)
                if generation.head:
                    rows.append(generation.row(key))
        return rows

    def stored(self) -> None:
        """
        Note that the store holds what it was told last.
        """
        for key, extent in self._told.items():
            if key in self._follows and self._follows[key].log.extent == extent:
                self._keys.discard(key)
        self._told.clear()


def lag(
    follows: Mapping[str, Follow], committed: Mapping[str, Cursor], now_ns: int
) -> Iterator[tuple[str, int, float]]:
    """
    Yield (Log, bytes, seconds) for every Log that is not committed to its end.
    """
    for key, follow in follows.items():
        place = resume_place(committed.get(key) or follow.first_cursor or follow.cursor)
        lag_bytes, lag_s = follow.log.lag((place.generation, place.offset), now_ns)
        if lag_bytes:
            yield key, lag_bytes, lag_s
