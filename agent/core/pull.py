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

How far back it begins:

| query | when | begins | finds what is late by |
|---|---|---|---|
| near | each time | `NEAR_MS` back | |
| thorough | at a start, each third of `overlap_s` | `overlap_s` back, or further (below) | 2/3 of `overlap_s` |
| sweep | each `late_s`, while nothing else is to do | `late_s` before the last one began | `late_s` |

For certain, however long queries take and wait: also a thorough one begins at least two thirds before the last began.

To read a quarter of an hour every half minute would cost thirty times the requests; and to remember every event for
hours, hundreds of megabytes.  So a sweep goes by the service's `ingestionTime`: an event that arrived within a third
of `overlap_s` was found by a thorough query, and only of those that were later the ids are remembered for so long.

`reach_ms` is how far everything was fetched; a later start begins `overlap_s` before it.  It never passes the clock of
the service (the Date of its answers), so that a clock of ours that is ahead cannot skip what is to come.

No I/O and no clock: `now` is in monotonic seconds, `now_ms` in the service's milliseconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.pull_seen import Seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
#: The same of those that were late, for the sweeps.
LATE_MAX = 100_000
#: Of the overlap, what an event is late by that a sweep has to know of.
LATE_PART = 3


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


def queries_of(
    cluster: str, region: str, group: str, types: Iterable[str], more: Mapping[str, str]
) -> list[Query]:
    """
    Return the fewest queries that fetch *types*, and *more*: prefixes of streams by component.
    """
    wanted = frozenset(types)
    known = [
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
    return known + [
        Query(cluster, region, group, prefix, frozenset((name,))) for name, prefix in more.items()
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
class Span:
    """
    A query over a span of time, page by page.
    """

    query: Query
    start_ms: int = 0
    stop_ms: int = 0
    token: str = ""
    open: bool = False
    #: When to ask again.
    ready_at: float = float("-inf")

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

    def restart(self) -> None:
        """
        Begin the open query again: its token is not good any more.
        """
        self.open = False
        self.token = ""

    def _start(self, start_ms: int, stop_ms: int) -> None:
        self.start_ms, self.stop_ms = max(0, start_ms), stop_ms
        self.token = ""
        self.open = True

    def _turn(self, token: str | None) -> bool:
        """
        Go to the next page; return whether there is one.
        """
        if token and token != self.token:
            self.token = token
            return True
        # The same token again would be asked for ever.
        self.restart()
        return False


@dataclass(slots=True, eq=False, kw_only=True)
class Progress(Span):
    """
    How far one query has come.
    """

    overlap_ms: int
    #: Everything before it was fetched.
    reach_ms: int
    seen: Seen = field(default_factory=Seen)
    #: Of what was seen, what was late.
    late: Seen = field(default_factory=Seen)
    #: When the last whole thorough query began, by the service's clock; 0: none yet.
    whole_ms: int = 0
    #: When the open thorough query began, by both clocks; 0: the open one is a near one.
    begun_ms: int = 0
    begun_at: float = 0.0
    thorough_at: float = float("-inf")
    shortened: bool = False
    late_shortened: bool = False

    @property
    def overlap_start_ms(self) -> int:
        """
        Where a thorough query begins.
        """
        start_ms = self.reach_ms - self.overlap_ms
        if self.whole_ms:
            # However long the last one took, and whatever was waited for: what arrived since it began was not seen.
            start_ms = min(start_ms, self.whole_ms - self.overlap_ms * 2 // 3)
        return max(0, start_ms)

    @property
    def late_ms(self) -> int:
        """
        By how much an event is late that a sweep has to know of.
        """
        return self.overlap_ms // LATE_PART

    def begin(self, now_ms: int, now: float, *, lag_ms: int) -> bool:
        """
        Open the next query, unless one is open.

        Returns:
            Whether there is something to ask for.
        """
        if self.open:
            return True
        thorough = now >= self.thorough_at
        near_ms = self.reach_ms - min(NEAR_MS, self.overlap_ms)
        stop_ms = min(now_ms - lag_ms, self.reach_ms + SPAN_MS_MAX)
        if stop_ms <= self.reach_ms:
            return False
        start_ms = self.overlap_start_ms if thorough else near_ms
        self._start(max(self.seen.floor_ms, start_ms), stop_ms)
        self.begun_ms, self.begun_at = (now_ms, now) if thorough else (0, 0.0)
        return True

    def take(self, events: list[Any], token: str | None, *, now_ms: int) -> list[Event]:
        """
        Take in one page; return what of it is new.

        *now_ms*: the service's clock when it answered.
        """
        assert self.open
        fresh = [event for item in events if (event := self._fresh(item)) is not None]
        if self.reach_ms > now_ms:
            # It was made by a clock that was ahead: what comes until then would never be looked at.
            self.reach_ms = now_ms - self.overlap_ms
            self.whole_ms = 0
            self.late.floor_ms = min(self.late.floor_ms, self.overlap_start_ms)
            self.restart()
            return fresh
        if events:
            # A later start would begin with the overlap before it: what is late is found then.
            last_ms = min(_time_of(events[-1]), self.stop_ms, now_ms)
            self.reach_ms = max(self.reach_ms, last_ms)
        if not self._turn(token) and not token:
            self._whole(now_ms)
        self._forget()
        return fresh

    def _whole(self, now_ms: int) -> None:
        self.reach_ms = max(self.reach_ms, min(self.stop_ms, now_ms))
        if self.begun_ms:
            self.whole_ms = min(self.begun_ms, now_ms)
            self.thorough_at = self.begun_at + self.overlap_ms / 3000

    def _fresh(self, item: Any) -> Event | None:
        event = event_of(item, self.query)
        if event is None or not self.seen.add(event.time_ms, event.event_id):
            return None
        if lateness_of(item) >= self.late_ms and not self.late.add(event.time_ms, event.event_id):
            return None
        return event

    def _forget(self) -> None:
        # An open query may still come to what is in its span.
        start_ms = self.overlap_start_ms
        self.seen.forget(min(start_ms, self.start_ms) if self.open else start_ms)
        self.shortened = self.seen.limit(SEEN_MAX)
        self.late_shortened = self.late.limit(LATE_MAX)

    # -- kept over restarts -------------------------------------------------------------------

    def kept(self) -> dict[str, Any]:
        """
        Return it as JSON.
        """
        return {
            "reach": self.reach_ms,
            "whole": self.whole_ms,
            "overlap": self.overlap_ms,
            "seen": self.seen.kept(),
            "late": self.late.kept(),
        }

    def restore(self, kept: Any) -> None:
        """
        Go on from what `kept` returned.
        """
        self.reach_ms = max(self.reach_ms, int(kept["reach"]))
        self.whole_ms = int(kept["whole"])
        self.seen.restore(kept["seen"])
        self.late.restore(kept["late"])
        if self.overlap_ms != int(kept["overlap"]):
            # Another overlap, and other events are late: of those before, nobody knows which were seen.
            self.late.floor_ms = max(self.late.floor_ms, self.reach_ms)


def event_of(item: Any, query: Query) -> Event | None:
    """
    Return the event that *item* of a page is; None for one that *query* does not want.
    """
    stream = str(item.get("logStreamName", ""))
    kind = type_of(stream)
    if not kind and stream.startswith(query.prefix):
        (kind,) = query.types
    if kind not in query.types:
        return None
    message = str(item.get("message", ""))
    return Event(_time_of(item), str(item["eventId"]), stream, kind, message)


def lateness_of(item: Any) -> int:
    """
    Return how many milliseconds after its time an event arrived; 0 where the service does not say.
    """
    arrived = item.get("ingestionTime")
    return arrived - _time_of(item) if isinstance(arrived, int) else 0


def _time_of(item: Any) -> int:
    return int(item["timestamp"])
