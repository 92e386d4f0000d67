"""
Events that were fetched, as records of a spool: what is gathered for the next batch.

klog writes values and stack traces over several lines, and each of them may come as an event of its own, among those
of other streams.  Lines of one stream that begin no event, right behind one that does, are joined to it: the record has
the time and the `event_id` of the first.  Streams are told apart here alone, which is why no transform can do it.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from agent.sources.spooled import record
from agent.transforms.component import EVENT_START, joins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.pull import Event, Query

#: What writes a type of log, as transforms and selects know it; of any other, its own name.
COMPONENTS = {
    "api": "kube-apiserver",
    "audit": "audit",
    "authenticator": "aws-iam-authenticator",
    "controllerManager": "kube-controller-manager",
    "scheduler": "kube-scheduler",
    "cloudControllerManager": "cloud-controller-manager",
}
#: Lines of one event follow each other within this; it has at most so many characters.
JOIN_MS = 5000
JOIN_LENGTH_MAX = 256 << 10
_begins = re.compile(EVENT_START).match


class _Open:
    """
    An event that more lines may come of.
    """

    __slots__ = ("event", "last_ms", "length", "lines", "query")

    def __init__(self, query: Query, event: Event) -> None:
        self.query = query
        self.event = event
        self.lines = [event.message]
        self.length = len(event.message)
        self.last_ms = event.time_ms

    def join(self, event: Event) -> bool:
        """
        Take *event* in, if it is a line of this one.
        """
        if (
            not 0 <= event.time_ms - self.last_ms <= JOIN_MS
            or self.length + len(event.message) > JOIN_LENGTH_MAX
            or _begins(event.message)
        ):
            return False
        self.lines.append(event.message)
        self.length += len(event.message)
        self.last_ms = event.time_ms
        return True


class Records:
    """
    What one source has gathered since the last batch.
    """

    def __init__(self) -> None:
        #: By cluster and type, the events that are in here.
        self.counts: Counter[tuple[str, str]] = Counter()
        #: Bytes of records that are made.
        self.size = 0
        self._lines: dict[str, list[bytes]] = {}
        #: The last event of every stream of a query.
        self._open: dict[tuple[str, str], _Open] = {}

    def add(self, query: Query, events: Sequence[Event]) -> None:
        """
        Gather *events*, in the order in which the service has them.
        """
        for event in events:
            self.counts[query.cluster, event.type] += 1
            if not _has_lines(event.type):
                self._write(query, event, event.message)
                continue
            place = (query.key, event.stream)
            known = self._open.get(place)
            if known is not None and known.join(event):
                continue
            if known is not None:
                self._close(known)
            self._open[place] = _Open(query, event)

    def by_component(self) -> dict[str, bytes]:
        """
        Return all of it; nothing more can be added.
        """
        for known in self._open.values():
            self._close(known)
        self._open.clear()
        return {name: b"".join(lines) for name, lines in self._lines.items()}

    def _close(self, known: _Open) -> None:
        self._write(known.query, known.event, "\n".join(known.lines))

    def _write(self, query: Query, event: Event, message: str) -> None:
        attrs = {
            "event_id": event.event_id,
            "cluster": query.cluster,
            "log_type": event.type,
            "log_stream": event.stream,
        }
        line = record(message, time_ns=event.time_ms * 1_000_000, attrs=attrs)
        self._lines.setdefault(_component(event.type), []).append(line)
        self.size += len(line)


def _component(kind: str) -> str:
    return COMPONENTS.get(kind, kind)


@cache
def _has_lines(kind: str) -> bool:
    return joins(_component(kind)) is not None
