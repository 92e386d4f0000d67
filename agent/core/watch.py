"""
The list and watch of one kind of object: what to ask next, and what an answer means.

The shell sends what `begin` returns, hands in what comes (`opened`, `feed`, `page`, `refused`) and says at the end
that the exchange `ended`; then it waits `delay_s` and begins again.  Changes come out as they are known.

| phase | request | ends with |
|---|---|---|
| STREAM | watch with `sendInitialEvents`: all objects, a bookmark that says so, then live events | like WATCH |
| LIST | pages of `limit`, joined by `continue` | the last page → WATCH |
| WATCH | events since the last `resourceVersion` | time-out of the server, cut → WATCH; 410 → STREAM or LIST |

- Versions are opaque: taken as they come, sent back, never compared.
- Nothing is forgotten before a new view is complete: after 410 (a status, or an ERROR event) everything is listed
  again while the old objects go on serving, and only then are those gone that it did not show.
- The first list takes what the server's cache has (`resourceVersion=0`): 5,000 nodes that ask etcd for all pods
  would stop it.  A later one is not older than what is known already.
- A server without `sendInitialEvents` refuses it (422, 400), or ignores it and never says that the view is complete:
  then it is listed in pages.
- A frame that is not an event, or too long, is counted and left out.  A view with such a hole deletes nothing, and
  is made anew when the watch ends.  So it is after a watch on which nothing came until the idle time-out: a version
  from before the restore of a backup is never reached.
- After a regular end the next request follows within 2 s, after failures in growing steps (core/retry.py), always
  with jitter, so that 5,000 nodes do not come back in step.

No I/O: time is in monotonic seconds, *random* in [0, 1).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Generic

from agent.core.kube_objects import ObjectList, decoded
from agent.core.retry import Backoff, Failure
from agent.core.watch_frames import (
    FRAME_BYTES_MAX,
    Change,
    Frames,
    Mark,
    ObjectT,
    Refusal,
    Request,
    Unknown,
    View,
    understood,
)

#: Pages of lists: kubectl and client-go ask for 500; these objects are whole pods.
PAGE_LIMIT = 100
#: The server is asked to end a watch after this to twice this, as client-go does.
WATCH_S = 300.0
#: Requests after a regular end, a cut of everybody's connections or a 410 are spread over this.
SPREAD_S = 2.0
#: A watch that lasted so long without a word was not refused.
HEALTHY_S = 5.0
#: Bad frames in a row after which the other side does not speak our language.
BAD_FRAMES_MAX = 16


class Phase(Enum):
    """
    What is asked next, or being asked.
    """

    STREAM = auto()
    LIST = auto()
    WATCH = auto()


class Event(Enum):
    """
    What moves the phase.
    """

    COMPLETE = auto()  # the whole view is there
    GONE = auto()  # 410: the version is too old
    UNSUPPORTED = auto()  # no sendInitialEvents
    UNFINISHED = auto()  # the stream ended before the view was complete
    DOUBT = auto()  # the exchange ended, and something in it could not be read, or it was silent


#: A phase that is not there for an event stays as it is; RELIST is STREAM where the server has it, else LIST.
RELIST = None
TRANSITIONS: dict[tuple[Phase, Event], Phase | None] = {
    (Phase.STREAM, Event.COMPLETE): Phase.WATCH,
    (Phase.STREAM, Event.GONE): Phase.LIST,
    (Phase.STREAM, Event.UNSUPPORTED): Phase.LIST,
    (Phase.STREAM, Event.UNFINISHED): Phase.LIST,
    (Phase.LIST, Event.COMPLETE): Phase.WATCH,
    (Phase.LIST, Event.GONE): Phase.LIST,
    (Phase.WATCH, Event.GONE): RELIST,
    (Phase.WATCH, Event.DOUBT): RELIST,
}


class ImpossibleEventError(AssertionError):
    """
    An event that its phase cannot have.
    """


class Watch(Generic[ObjectT]):
    """
    One kind of object.
    """

    def __init__(
        self,
        kind: type[ObjectT],
        *,
        field_selector: str = "",
        streaming: bool = True,
        request_timeout_s: float = 30.0,
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        self._kind = kind
        self._selector = {"fieldSelector": field_selector} if field_selector else {}
        self._streaming = streaming
        self._request_timeout_s = request_timeout_s
        self._frame_bytes_max = frame_bytes_max
        self._backoff = Backoff()
        self._frames = Frames(frame_bytes_max)
        self.phase = Phase.STREAM if streaming else Phase.LIST
        #: Seconds to wait before the next request.
        self.delay_s = 0.0
        #: Whether the other side must be left: nothing that it still sends counts.
        self.over = False
        #: Whether a view was ever complete.
        self.synced = False
        self.relists = 0
        self.frames_bad = 0
        self.events = 0
        self._version = "0"
        #: Of the last object of a view that is not complete.
        self._version_next = ""
        self._asked = self.phase
        self._view = View()
        self._more = ""
        self._limit = PAGE_LIMIT
        self._opened_at: float | None = None
        self._bad_in_row = 0
        self._heard = False
        self._failed = False
        self._compacted = False

    # -- asking -------------------------------------------------------------------------------

    def begin(self, random: float) -> Request:
        """
        Return the request to send now.
        """
        self.over = self._heard = self._failed = self._compacted = False
        self._asked = self.phase
        self._opened_at = None
        self._bad_in_row = 0
        self._frames = Frames(self._frame_bytes_max)
        if self.phase is Phase.LIST:
            if not self._more:
                self._view.start()
            return Request(self._list_query(), stream=False, deadline_s=self._request_timeout_s)
        watch_s = int(WATCH_S * (1 + random))
        query = {
            **self._selector,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(watch_s),
        }
        if self.phase is Phase.STREAM:
            self._view.start()
            query |= {
                "sendInitialEvents": "true",
                "resourceVersionMatch": "NotOlderThan",
                "resourceVersion": "",
            }
        else:
            query["resourceVersion"] = self._version
        return Request(query, stream=True, deadline_s=watch_s + self._request_timeout_s)

    def _list_query(self) -> dict[str, str]:
        query = {**self._selector, "limit": str(self._limit)}
        # A continued list is of the version of its first page.
        return query | (
            {"continue": self._more} if self._more else {"resourceVersion": self._version}
        )

    # -- answers ------------------------------------------------------------------------------

    def opened(self, now: float) -> None:
        """
        Note that the server has begun to answer a stream.
        """
        self._opened_at = now

    def patience_s(self, now: float, idle_s: float) -> float:
        """
        Return the seconds to wait for the next bytes of a stream: *idle_s*, less while the view is not complete.
        """
        if self.phase is not Phase.STREAM or self._opened_at is None:
            return idle_s
        return min(idle_s, max(0.0, self._opened_at + self._request_timeout_s - now))

    def page(self, body: bytes) -> list[Change[ObjectT]]:
        """
        Take in one page of a list.
        """
        assert self.phase is Phase.LIST
        listed = decoded(body, ObjectList)
        if listed is None:
            self._bad()
            self._failed = True
            self._more = ""
            return []
        changes: list[Change[ObjectT]] = []
        for raw in listed.items or ():
            item = decoded(raw, self._kind)
            if item is None:
                self._bad()
            else:
                changes.append(self._upsert(item))
        self._more = listed.metadata.more
        if not self._more:
            self._version = listed.metadata.resource_version
            changes += self._complete()
        return changes

    def page_too_large(self) -> None:
        """
        Note that a page was longer than PAGE_BYTES_MAX: smaller ones come next.
        """
        # Lists out of the server's cache may ignore the limit; a consistent one keeps it.
        self._more = ""
        self._failed = self._limit == 1
        self._limit = max(1, self._limit // 8)
        self._version = ""

    def feed(self, chunk: bytes) -> list[Change[ObjectT]]:
        """
        Take in bytes of a stream, split anywhere.
        """
        changes: list[Change[ObjectT]] = []
        for frame in self._frames.feed(chunk):
            if self.over:
                return changes
            changes += self._frame(frame)
        while self._frames.too_long:
            self._frames.too_long -= 1
            self._bad()
        return changes

    def refused(
        self,
        status: int,
        random: float,
        *,
        retry_after_s: float | None = None,
        again: bool = False,
    ) -> None:
        """
        Note an answer that is not 200; *again* where the next attempt is with other credentials.
        """
        self._failed = True
        if status in (400, 422) and self.phase is Phase.STREAM:
            self._streaming = False
            self._move(Event.UNSUPPORTED)
            self.delay_s = 0.0
        elif status == 410 or (status in (400, 422) and self.phase is Phase.WATCH):
            self._gone()
            self.delay_s = self._delay_s(Failure.OUTAGE, random, spread=True)
        elif again:
            self.delay_s = random * SPREAD_S
        elif status == 429:
            self.delay_s = self._delay_s(Failure.THROTTLED, random, retry_after_s=retry_after_s)
        elif 400 <= status < 500:
            self.delay_s = self._delay_s(Failure.SLOW, random)
        else:
            if status == 504 and self.phase is Phase.LIST:
                # The server's cache has not reached our version: a consistent list needs none.
                self._version = ""
            self.delay_s = self._delay_s(Failure.OUTAGE, random, retry_after_s=retry_after_s)

    def ended(self, now: float, random: float, *, failed: bool = False) -> None:
        """
        Note that the exchange is over, except after `refused`; *failed* if it was cut or timed out.
        """
        failed = failed or self._failed
        if self._asked is Phase.LIST:
            # Pages follow one another at once, and the watch the last one: history is short.
            self.delay_s = self._delay_s(Failure.OUTAGE, random) if failed else 0.0
            return
        gone = self._compacted
        if self.phase is Phase.STREAM and not gone:
            # A connection that never opened says nothing about what the server knows.
            if self._opened_at is not None:
                self._move(Event.UNFINISHED)
        elif self.phase is Phase.WATCH and (self._view.hole or (self._silent and failed)):
            self._move(Event.DOUBT)
        healthy = self._opened_at is not None and now - self._opened_at >= HEALTHY_S
        if healthy:
            self._backoff.reset()
        self.delay_s = self._delay_s(Failure.OUTAGE, random, spread=healthy or gone)

    # -- frames -------------------------------------------------------------------------------

    def _frame(self, frame: bytes) -> list[Change[ObjectT]]:
        said = understood(frame, self._kind)
        if said is None:
            self._bad()
        elif isinstance(said, Refusal):
            self.over = self._failed = True
            if said.gone:
                self._gone()
        elif isinstance(said, Mark):
            self._good(said.version)
            if said.complete and self.phase is Phase.STREAM:
                return self._complete()
        elif not isinstance(said, Unknown):
            self._good(said.object.metadata.resource_version)
            if not said.deleted:
                return [self._upsert(said.object)]
            self._view.drop(said.object.key)
            return [Change(said.object.key, None)]
        return []

    def _good(self, version: str) -> None:
        self.events += 1
        self._heard = True
        self._bad_in_row = 0
        # The version of an object of the initial view is not that of the view.
        if version and self.phase is Phase.WATCH:
            self._version = version
        elif version:
            self._version_next = version

    def _upsert(self, item: ObjectT) -> Change[ObjectT]:
        self._view.show(item.key)
        return Change(item.key, item)

    def _complete(self) -> list[Change[ObjectT]]:
        if self.phase is Phase.STREAM:
            self._version = self._version_next
        self.synced = True
        self._move(Event.COMPLETE)
        return [Change(key, None) for key in self._view.complete()]

    def _bad(self) -> None:
        self.frames_bad += 1
        self._view.hole = True
        self._bad_in_row += 1
        if self._bad_in_row >= BAD_FRAMES_MAX:
            self.over = self._failed = True

    @property
    def _silent(self) -> bool:
        return self._opened_at is not None and not self._heard

    # -- moving -------------------------------------------------------------------------------

    def _gone(self) -> None:
        self._compacted = True
        self._more = ""
        if self.phase is Phase.LIST:
            self._version = ""
        self._move(Event.GONE)

    def _move(self, event: Event) -> None:
        if (self.phase, event) not in TRANSITIONS:
            raise ImpossibleEventError(f"{event.name} in {self.phase.name}")
        target = TRANSITIONS[self.phase, event]
        if target is RELIST:
            target = Phase.STREAM if self._streaming else Phase.LIST
        if event in (Event.GONE, Event.DOUBT):
            self.relists += 1
        self.phase = target

    def _delay_s(
        self,
        failure: Failure,
        random: float,
        *,
        spread: bool = False,
        retry_after_s: float | None = None,
    ) -> float:
        if spread and self._backoff.attempt == 0:
            # Counted all the same: what ends at once every time is no regular end.
            self._backoff.failed(failure, random)
            return random * SPREAD_S
        delay_s = self._backoff.failed(failure, random, retry_after_s=retry_after_s)
        assert delay_s is not None, "these policies never give up"
        # The first steps, and what the server tells everybody, are too narrow for a whole cluster.
        return delay_s + random * SPREAD_S
