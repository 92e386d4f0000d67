"""
The Logs that the tick asks for their size with fstat, and those that rest.

A file that is quiet leaves the tick and gets a one-shot watch; every rescan looks at it as well, so that nothing
depends on inotify.  Where all files rest the next tick waits for an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.generations import State

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.core.host import Watches
    from agent.sources.files import Files
    from agent.sources.followed import FollowedLog
    from agent.sources.reader import Reader
    from agent.sources.rescans import Rescans

#: How long a tick may come late where all files rest: rescans and time-outs are of seconds.
RESTING_S = 1.0


class Active:
    """
    The active Logs of a source.
    """

    def __init__(self, files: Files, rescans: Rescans, watches: Watches) -> None:
        self._files = files
        self._rescans = rescans
        self._watches = watches
        self._logs: dict[str, FollowedLog] = {}
        self._by_watch: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._logs)

    def add(self, log: FollowedLog) -> None:
        """
        Put *log* on the tick.
        """
        log.quiet_since = self._files.host.clock.monotonic()
        log.watched = False
        self._logs[log.key] = log

    def forget(self, key: str) -> None:
        """
        Let go of the Log *key*.
        """
        self._logs.pop(key, None)

    def take_events(self) -> None:
        """
        Put what was written to on the tick again, and mark the directories that changed.
        """
        for path, _name in self._watches.drain():
            if not path:
                self._rescans.overflowed()
                continue
            key = self._by_watch.pop(path, None)
            if key is None:
                self._rescans.mark(path)
            elif key in self._files.logs:
                self.add(self._files.logs[key])

    async def until_next(self, readers: Collection[Reader]) -> None:
        """
        Wait for the next tick, where every file rests for the first event: each tick costs an idle node.
        """
        host, interval_s = self._files.host, self._files.settings.poll_interval_s
        await host.clock.sleep(interval_s)
        busy = self._logs or any(reader.needs_ticks for reader in readers)
        left_s = min(RESTING_S, self._rescans.left_s(host.clock.monotonic())) - interval_s
        if left_s > 0 and not busy and self._rescans.told_by_events:
            await self._watches.wait(left_s)

    def poll(self, now: float, now_ns: int) -> None:
        """
        Ask the active files.
        """
        for log in list(self._logs.values()):
            self._poll(log, now, now_ns)

    def poll_resting(self, now: float, now_ns: int, *, watched: bool) -> None:
        """
        Ask the others, those with a watch only where *watched* says so.
        """
        for log in list(self._files.logs.values()):
            if log.key not in self._logs and (watched or not log.watched):
                self._poll(log, now, now_ns)

    def _poll(self, log: FollowedLog, now: float, now_ns: int) -> None:
        chain = log.chain
        try:
            changed = log.poll(self._files.host.disk, now=now, now_ns=now_ns)
        except OSError as error:
            self._files.count_error(log.key, error)
            self._files.look_again(log)
            return
        if changed and any(item.unseen or item.state is State.CUT for item in chain.generations):
            self._files.look_again(log)
        if not chain.settled:
            chain.settle(now)
            changed = True
            if any(item.state is State.CUT for item in chain.generations):
                self._rescans.mark(log.home)
        if changed:
            self.add(log)
            self._files.notify(log)
        elif chain.settled and now - log.quiet_since >= self._files.settings.idle_after_s:
            self._rest(log)

    def _rest(self, log: FollowedLog) -> None:
        """
        Take a quiet Log off the tick.
        """
        if self._logs.pop(log.key, None) is None:
            return
        generations = log.chain.generations
        if not generations or generations[-1].finished or generations[-1].place is None:
            return
        path = log.path_of(generations[-1])
        if not self._rescans.watch_file(path):
            return
        self._by_watch[path] = log.key
        log.watched = True
        # A write between the last look and the watch is in the size by now.
        self._poll(log, self._files.host.clock.monotonic(), self._files.host.clock.now_ns())
