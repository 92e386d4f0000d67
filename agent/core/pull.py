"""
What to ask FilterLogEvents next, and which of its events are new.

A **query** is a prefix of log streams in one log group.  Of the types of a control plane every one has a prefix of
its own, but that of the API server's log is also the beginning of the audit log's: asked for both, one query
fetches both, and the name of the stream says which an event is.

What the service promises, and what follows:

- a page can be short, or empty with a token: a query is over when there is no token;
- events of one query come in the order of their time, but they *arrive* late and in any order: a query begins again
  some time before where the last one ended, and what was seen is left out by its `eventId`;
- a token can expire: the query begins again, and nothing of it comes twice.

How far back it begins: `NEAR_MS` each time, and `overlap_s` at a start and whenever a third of that has passed, because
to read a quarter of an hour every half minute would cost thirty times the requests.

`reach_ms` is how far everything was fetched; a later start begins `overlap_s` before it.  It never passes the clock of
the service (the Date of its answers), so that a clock of ours that is ahead cannot skip what is to come.

No I/O and no clock: `now` is in monotonic seconds, `now_ms` in the service's milliseconds since 1970.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

#: In the order in which names are tried: the second is a beginning of the first.
STREAM_PREFIXES = {
    "audit": "kube-apiserver-audit-",
    "api": "kube-apiserver-",
    "authenticator": "authenticator-",
    "controllerManager": "kube-controller-manager-",
    "scheduler": "kube-scheduler-",
    # Seen in practice, and in no documentation.
    "cloudControllerManager": "cloud-controller-manager-",
}
#: What can be turned on for a cluster.
LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
#: How far back a query begins beside the thorough ones.
NEAR_MS = 60_000
#: A query spans at most this: after days away progress is made, and kept, hour by hour.
SPAN_MS_MAX = 3_600_000
#: Ids that are remembered of one query: 64 MB of memory.  Beyond it the overlap is shorter.
SEEN_MAX = 500_000
DIGEST_BYTES = 16
MINUTE_MS = 60_000


class Query(NamedTuple):
    """
    What is asked for.
    """

    cluster: str
    region: str
    group: str
    prefix: str
    types: frozenset[str]

    @property
    def key(self) -> str:
        """
        The name under which its progress is kept.
        """
        return f"{self.region}/{self.group}/{self.prefix}"


class Event(NamedTuple):
    """
    One event that is new.
    """

    time_ms: int
    event_id: str
    stream: str
    type: str
    message: str


def queries_of(cluster: str, region: str, group: str, types: Iterable[str]) -> list[Query]:
    """
    Return the fewest queries that fetch *types*.
    """
    wanted = frozenset(types)
    return [
        Query(
            cluster,
            region,
            group,
            prefix,
            wanted & {"api", "audit"} if kind == "api" else frozenset((kind,)),
        )
        for kind, prefix in STREAM_PREFIXES.items()
        if kind in wanted and not (kind == "audit" and "api" in wanted)
    ]


def type_of(stream: str) -> str:
    """
    Return the type of the log that *stream* belongs to; empty for another stream.
    """
    for kind, prefix in STREAM_PREFIXES.items():
        if stream.startswith(prefix):
            return kind
    return ""


@dataclass(slots=True, eq=False, kw_only=True)
class Progress:
    """
    How far one query has come.
    """

    query: Query
    overlap_ms: int
    #: Everything before it was fetched.
    reach_ms: int
    #: By minute of the event, the digests of what was seen since `floor_ms`.
    seen: dict[int, set[bytes]] = field(default_factory=dict)
    floor_ms: int = 0
    token: str = ""
    start_ms: int = 0
    stop_ms: int = 0
    open: bool = False
    thorough: bool = False
    #: When the next thorough query is due.
    thorough_at: float = float("-inf")
    #: When to ask again.
    ready_at: float = float("-inf")
    shortened: bool = False
    #: By minute, how many digests there were when they were packed, and the text.
    packed: dict[int, tuple[int, str]] = field(default_factory=dict)

    def begin(self, now_ms: int, now: float, *, lag_ms: int) -> bool:
        """
        Open the next query, unless one is open.

        Returns:
            Whether there is something to ask for.
        """
        if self.open:
            return True
        thorough = now >= self.thorough_at
        back_ms = self.overlap_ms if thorough else min(NEAR_MS, self.overlap_ms)
        stop_ms = min(now_ms - lag_ms, self.reach_ms + SPAN_MS_MAX)
        if stop_ms <= self.reach_ms:
            return False
        self.start_ms = max(0, self.floor_ms, self.reach_ms - back_ms)
        self.stop_ms = stop_ms
        self.thorough = thorough
        self.token = ""
        self.open = True
        return True

    def body(self) -> dict[str, Any]:
        """
        Return the request for the next page.
        """
        fields: dict[str, Any] = {
            "logGroupName": self.query.group,
            "logStreamNamePrefix": self.query.prefix,
            "startTime": self.start_ms,
            "endTime": self.stop_ms,
        }
        if self.token:
            fields["nextToken"] = self.token
        return fields

    def take(self, events: list[Any], token: str | None, *, now_ms: int, now: float) -> list[Event]:
        """
        Take in one page; return what of it is new.

        *now_ms*: the service's clock when it answered.
        """
        assert self.open
        fresh = [event for item in events if (event := self._fresh(item)) is not None]
        if self.reach_ms > now_ms:
            # It was made by a clock that was ahead: what comes until then would never be looked at.
            self.reach_ms = now_ms - self.overlap_ms
            self.restart()
            return fresh
        if events:
            # A later start would begin with the overlap before it: what is late is found then.
            last_ms = min(_time_of(events[-1]), self.stop_ms, now_ms)
            self.reach_ms = max(self.reach_ms, last_ms)
        if token and token != self.token:
            self.token = token
        else:
            # The same token again would be asked for ever.
            self._over(now_ms, now, whole=not token)
        self._forget()
        return fresh

    def restart(self) -> None:
        """
        Begin the open query again: its token is not good any more.
        """
        self.open = False
        self.token = ""

    def _over(self, now_ms: int, now: float, *, whole: bool) -> None:
        self.open = False
        self.token = ""
        if whole:
            self.reach_ms = max(self.reach_ms, min(self.stop_ms, now_ms))
            if self.thorough:
                self.thorough_at = now + self.overlap_ms / 3000

    def _fresh(self, item: Any) -> Event | None:
        event_id, stream = str(item["eventId"]), str(item.get("logStreamName", ""))
        time_ms, kind = _time_of(item), type_of(stream)
        if kind not in self.query.types:
            return None
        digest = hashlib.blake2b(event_id.encode(), digest_size=DIGEST_BYTES).digest()
        minute = self.seen.setdefault(time_ms // MINUTE_MS, set())
        if digest in minute:
            return None
        minute.add(digest)
        return Event(time_ms, event_id, stream, kind, str(item.get("message", "")))

    def _forget(self) -> None:
        oldest = (self.reach_ms - self.overlap_ms) // MINUTE_MS
        # An open query may still come to what is in its span.
        if self.open:
            oldest = min(oldest, self.start_ms // MINUTE_MS)
        for minute in [minute for minute in self.seen if minute < oldest]:
            del self.seen[minute]
            self.packed.pop(minute, None)
        count = sum(map(len, self.seen.values()))
        self.shortened = False
        while count > SEEN_MAX and len(self.seen) > 1:
            minute = min(self.seen)
            count -= len(self.seen.pop(minute))
            self.packed.pop(minute, None)
            # What cannot be told from new any more is not asked for again.
            self.floor_ms = (minute + 1) * MINUTE_MS
            self.shortened = True

    # -- kept over restarts -------------------------------------------------------------------

    def kept(self) -> dict[str, Any]:
        """
        Return it as JSON.
        """
        return {
            "reach": self.reach_ms,
            "floor": self.floor_ms,
            "seen": {str(minute): self._packed(minute) for minute in self.seen},
        }

    def _packed(self, minute: int) -> str:
        # With every batch all of it is kept, and only the last minutes have changed.
        digests = self.seen[minute]
        count, text = self.packed.get(minute, (-1, ""))
        if count != len(digests):
            text = base64.b64encode(b"".join(digests)).decode()
            self.packed[minute] = (len(digests), text)
        return text

    def restore(self, kept: Any) -> None:
        """
        Go on from what `kept` returned.
        """
        self.reach_ms = max(self.reach_ms, int(kept["reach"]))
        self.floor_ms = int(kept["floor"])
        for minute, text in kept["seen"].items():
            packed = base64.b64decode(text)
            self.seen[int(minute)] = {
                packed[place : place + DIGEST_BYTES]
                for place in range(0, len(packed), DIGEST_BYTES)
            }


def _time_of(item: Any) -> int:
    return int(item["timestamp"])
