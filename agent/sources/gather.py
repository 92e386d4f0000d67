"""
Growing files of containers are read in fewer, larger pieces, where the sink lets lines wait anyway.

A segment costs the same Python however few lines it has.  Where a sink waits for more lines before it sends or
stages, a file that grows slowly is left alone for a part of that wait, which its segment then has behind it.

Only files that the kubelet rotates, because it renames: what is unread stays there, and is read at once when the
file has another name or none.  A file that is cut in place would lose it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.kubelet_path import path_facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.core.generations import Generation
    from agent.core.host import Clock
    from agent.sources.follow import Follow
    from agent.sources.followed import FollowedLog

#: Part of a sink's wait that lines may spend in their file.
SHARE = 0.4
WAIT_S_MAX = 2.0
#: How often a stop looks whether all that waited is read.
POLL_S = 0.01
#: Unread bytes that are worth a segment.
ENOUGH_BYTES = 64 << 10


class Gather:
    """
    Which Logs of a route wait for more, and since when (monotonic seconds).
    """

    def __init__(self, linger_s: float, tick_s: float, clock: Clock) -> None:
        self._clock = clock
        wait_s = min(WAIT_S_MAX, linger_s * SHARE)
        #: Less than two ticks would make lines late and save nothing.
        self._wait_s = wait_s if wait_s >= 2 * tick_s else 0.0
        #: In the order of time.
        self._waiting: dict[str, tuple[float, Follow]] = {}

    @property
    def waiting(self) -> bool:
        """
        Whether anything waits.
        """
        return bool(self._waiting)

    def wants(self, log: FollowedLog) -> bool:
        """
        Whether what is unread of *log* can wait.
        """
        return bool(self._wait_s) and path_facts(log.key).kubelet

    def waits(self, follow: Follow, generation: Generation) -> bool:
        """
        Whether *follow*, which has work in the live file of *generation*, waits for more of it.
        """
        if not follow.gathers or follow.is_special or not generation.held:
            return False
        if generation.available - follow.offset >= ENOUGH_BYTES:
            return False
        now = self._clock.monotonic()
        since, _ = self._waiting.setdefault(follow.log.key, (now, follow))
        return now - since < self._wait_s

    def due(self) -> Iterator[Follow]:
        """
        Yield what has waited for long enough.
        """
        now = self._clock.monotonic()
        for since, follow in list(self._waiting.values()):
            if now - since < self._wait_s:
                return
            yield follow

    def stop(self) -> list[Follow]:
        """
        Let nothing wait any more; return what does.
        """
        self._wait_s = 0.0
        return [follow for _, follow in self._waiting.values()]

    def end(self, log: str) -> float:
        """
        Let *log* wait no longer; return for how many seconds it has.
        """
        waiting = self._waiting.pop(log, None)
        return 0.0 if waiting is None else self._clock.monotonic() - waiting[0]
