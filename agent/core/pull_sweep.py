"""
The slower and wider look for events that arrived later than the overlap of a query (core/pull.py).

It goes through what thorough queries have left behind, from `late_s` before the last sweep began: so an event that is
at most so late is found for certain, however long a sweep takes or waits.  It returns events alone that were late and
that nobody has seen.  A token that expires costs nothing: it goes on from the last event.

No I/O and no clock: `now_ms` is in the service's milliseconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.core.pull import Event, Progress, Span, event_of, lateness_of

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True, eq=False, kw_only=True)
class Sweep(Span):
    """
    The sweeps of one query.
    """

    progress: Progress
    late_ms: int
    #: When the last whole one began.
    whole_ms: int
    begun_ms: int = 0
    #: Time of the last event that the one under way has come to.
    place_ms: int = 0

    def begin(self, now_ms: int) -> bool:
        """
        Open the next one, or the one under way again; return whether it is due.
        """
        if self.open:
            return True
        # A clock of ours that was ahead at the start.
        self.whole_ms = min(self.whole_ms, now_ms)
        if now_ms - self.whole_ms < self.late_ms:
            return False
        if not self.begun_ms:
            self.begun_ms = now_ms
            self.place_ms = max(self.progress.late.floor_ms, self.whole_ms - self.late_ms)
        stop_ms = self.progress.overlap_start_ms
        if stop_ms <= self.place_ms:
            self._over(stop_ms)
            return False
        self._start(self.place_ms, stop_ms)
        return True

    def take(self, events: list[Any], token: str | None, *, now_ms: int) -> list[Event]:
        """
        Take in one page; return what of it was late and is new.
        """
        assert self.open
        del now_ms  # The queries ask for what is new.
        fresh = [event for item in events if (event := self._fresh(item)) is not None]
        if events:
            self.place_ms = max(self.place_ms, min(int(events[-1]["timestamp"]), self.stop_ms))
        if not self._turn(token) and not token:
            self._over(self.stop_ms)
        return fresh

    def _fresh(self, item: Any) -> Event | None:
        late = self.progress.late
        event = event_of(item, self.query)
        if event is None or lateness_of(item) < self.progress.late_ms:
            return None
        if event.time_ms < late.floor_ms or not late.add(event.time_ms, event.event_id):
            return None
        return event

    def _over(self, stop_ms: int) -> None:
        # The next one begins no later than where this one ends, though the queries' own beginning has moved on.
        self.whole_ms = min(self.begun_ms, stop_ms + self.late_ms)
        self.begun_ms = self.place_ms = 0
        self.progress.late.forget(self.whole_ms - self.late_ms)

    # -- kept over restarts -------------------------------------------------------------------

    def kept(self) -> dict[str, Any]:
        """
        Return it as JSON.
        """
        return {"swept": self.whole_ms}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """
        Go on from what `kept` returned.
        """
        self.whole_ms = int(kept["swept"])
