"""
Whether a route may read a Log yet, and which of its streams it wants.

The path alone may exclude a Log: then no route holds a descriptor of it.  Otherwise its files are open
from the moment they are seen, because a pod can vanish within a second; reading waits until the API
server has told of the pod, at most `wait_s`.  A Log whose pod is still not known then is

- delivered with what its path says,
- held, with the descriptor, until the pod is known: what was to be excluded never leaks, or
- dropped: read and counted, not sent.

What was decided is decided anew whenever the pod's metadata changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agent.core import counters as metric
from agent.core.cursor import STREAM_OTHER, STREAM_STDERR, STREAM_STDOUT
from agent.core.kubelet_path import Shape, path_facts
from agent.core.select import Decision, Select, Streams

OnMissing = Literal["deliver", "hold", "drop"]

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.core.counters import Counters
    from agent.core.kubelet_path import PathFacts
    from agent.core.pod_facts import Metadata
    from agent.core.pods import Pods
    from agent.sources.follow import Follow
    from agent.sources.followed import FollowedLog

ALL_STREAMS = 1 << STREAM_OTHER | 1 << STREAM_STDOUT | 1 << STREAM_STDERR


def unwanted(streams: Streams) -> int:
    """
    Return the bit mask (1 << stream) of the streams that are not selected.

    Lines of no stream (not valid ones) belong to the container and not to a stream: they are wanted
    only where both are.
    """
    mask = 0
    if not streams & Streams.STDOUT:
        mask |= 1 << STREAM_STDOUT | 1 << STREAM_OTHER
    if not streams & Streams.STDERR:
        mask |= 1 << STREAM_STDERR | 1 << STREAM_OTHER
    return mask


class Gate:
    """
    The select stage of one run of a route.
    """

    def __init__(
        self,
        route: str,
        *,
        select: Select,
        pods: Pods | None,
        wait_s: float,
        on_missing: OnMissing,
        counters: Counters,
        facts: Callable[[str], PathFacts] = path_facts,
    ) -> None:
        self._route = route
        self._facts = facts
        self._select = select
        self._pods = pods
        self._wait_s = wait_s
        self._on_missing = on_missing
        self._counters = counters

    def admits(self, log: FollowedLog) -> bool:
        """
        Whether the path of *log* does not exclude it.
        """
        return self._select.by_path(self._facts(log.key)) is not Decision.NO

    def opens(self, follow: Follow, now: float) -> bool:
        """
        Whether *follow* may be read now; sets which of its streams are dropped.
        """
        if self._pods is None and not self._select.needs_metadata:
            return True
        metadata = follow.log.resource.metadata
        if metadata is not None and metadata is follow.decided_on:
            return True
        facts = self._facts(follow.log.key)
        if facts.shape is not Shape.POD_FILE and self._select.by_path(facts) is Decision.YES:
            return True
        if follow.gated_since is None:
            follow.gated_since = now
        waited = now - follow.gated_since >= self._wait_s
        if metadata is None:
            return self._without(follow, waited=waited)
        # The status of a container follows its first line by moments.
        if not metadata.complete and not waited and follow.decided_on is None:
            return False
        self._decide(follow, metadata)
        return True

    def _decide(self, follow: Follow, metadata: Metadata) -> None:
        follow.decided_on = metadata
        follow.dropped = unwanted(self._select.by_metadata(metadata))

    def _without(self, follow: Follow, *, waited: bool) -> bool:
        if follow.decided_on is not None or follow.missing:
            # Known once and forgotten since, or given up: what was decided stays.
            return self._on_missing != "hold" or follow.decided_on is not None
        if not waited:
            return False
        follow.missing = True
        self._counters.add(metric.METADATA_MISSING, 1, self._route, self._on_missing)
        if self._on_missing == "drop":
            follow.dropped = ALL_STREAMS
        return self._on_missing != "hold"
