"""
Streams of a control plane's log groups that nobody knows: said and counted, with what to do.

Queries ask for streams by how their names begin, so what EKS calls differently would never be noticed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.core import counters as metric
from agent.core.pull import type_of
from agent.core.sayings import Sayings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.pull import Progress, Query
    from agent.runtime.eks_requests import Asking
    from agent.runtime.producers import World
    from agent.sources.eks_settings import EksControlPlaneSettings

#: How often each group is looked at.
LOOK_S = 60.0
#: A stream that was not written to for so long is not said; the time of its last event is late by an hour.
RECENT_MS = 24 * 3_600_000
#: Names in one message.
NAMES_MAX = 3


class Streams:
    """
    The groups of one source in one Region.
    """

    def __init__(
        self,
        asking: Asking,
        queries: Sequence[Progress],
        settings: EksControlPlaneSettings,
        world: World,
        *,
        source: str,
    ) -> None:
        self._asking = asking
        self._groups = {item.query.group: item.query for item in queries}
        self._prefixes = tuple(settings.more_streams.values())
        self._clock = world.host.clock
        self._counters = world.counters
        self._source = source
        self._sayings = Sayings(clock=self._clock, tell=world.host.tell, source=source)
        self._looked_at: dict[str, float] = {}

    async def look(self) -> bool:  # network op
        """
        Look at one group, if it is time; return whether it was.
        """
        now = self._clock.monotonic()
        for group, query in self._groups.items():
            if now - self._looked_at.get(group, float("-inf")) >= LOOK_S:
                self._looked_at[group] = now
                self._found(query, await self._asking.streams(query))
                return True
        return False

    def _found(self, query: Query, streams: Sequence[Any]) -> None:
        since_ms = self._asking.now_ms() - RECENT_MS
        names = [name for item in streams if (name := self._unknown(item, since_ms))]
        self._counters.set(metric.PULL_UNKNOWN_STREAMS, len(names), self._source, query.cluster)
        if names:
            shown = ", ".join(names[:NAMES_MAX]) + (", …" if len(names) > NAMES_MAX else "")
            self._sayings.say(
                "eks_unknown_streams",
                f"source {self._source}: nobody knows {len(names)} streams of {query.group} ({shown}): they are not "
                "fetched, everything else is; more_streams: {COMPONENT: PREFIX} of the source fetches them",
                cause=query.group,
            )

    def _unknown(self, item: Any, since_ms: int) -> str:
        """
        Return the name of a stream that nobody knows and that is written to; empty for any other.
        """
        try:
            name = str(item["logStreamName"])
            written_ms = item.get("lastEventTimestamp") or item.get("creationTime") or 0
            recent = written_ms >= since_ms
        except (KeyError, TypeError, AttributeError):
            return ""
        known = type_of(name) or name.startswith(self._prefixes)
        return "" if known or not recent else name
