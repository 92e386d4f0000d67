"""
The descriptors that the Logs of a source hold: how many, and how much disk only they keep.

A file that was deleted lives on while it is open, so that every route can read it to its end.  It takes
space that nobody sees in a directory: `deleted` says how much, and `give_up` ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.core.held import Held

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.generations import Generation
    from agent.core.host import Disk
    from agent.sources.followed import FollowedLog
    from agent.sources.reader import Reader

#: Unit of st_blocks, whatever the file system's block size is (stat(2)).
BLOCK_BYTES = 512


class OpenFile(NamedTuple):
    """
    A generation that is held open.
    """

    log: FollowedLog
    generation: Generation


class Descriptors:
    """
    What is open.
    """

    def __init__(
        self,
        logs: Mapping[str, FollowedLog],
        readers: Mapping[str, Reader],
        *,
        disk: Disk,
        limit: int,
    ) -> None:
        self._logs = logs
        self._readers = readers
        self._disk = disk
        self._limit = limit
        #: Nearly all files have their names: every second only these Logs are looked at.
        self._suspects: dict[str, FollowedLog] = {}

    @property
    def count(self) -> int:
        """
        Descriptors held.
        """
        return sum(len(log.opened) for log in self._logs.values())

    @property
    def room(self) -> int:
        """
        Descriptors that may be added.
        """
        return max(0, self._limit - self.count)

    def make_room(self) -> bool:
        """
        Close descriptors of files that every route has read to their end.

        Returns:
            Whether any was closed.
        """
        for log in self._logs.values():
            if log.opened and all(reader.caught_up(log) for reader in self._readers.values()):
                log.close_all(self._disk)
                return True
        return False

    def close_beyond_limit(self) -> None:
        """
        Keep to the limit as far as no route would have to wait for it.
        """
        # A soft limit: a file that a route has yet to read is opened beyond it, or a route that
        # stands still would keep the others from reading.
        while self.count > self._limit and self.make_room():
            pass

    def suspect(self, log: FollowedLog) -> None:
        """
        Note that *log* was looked at: a file of it that is open may have no name any more.
        """
        if log.opened:
            self._suspects[log.key] = log

    def deleted(self) -> list[Held[OpenFile]]:
        """
        Return the open files that no name leads to.
        """
        held = []
        for log in list(self._suspects.values()):
            nameless = [item for item in log.chain.generations if _is_nameless(item, log)]
            if not nameless or self._logs.get(log.key) is not log:
                del self._suspects[log.key]
            for generation in nameless:
                status = self._disk.fstat(log.opened[generation.key].fd)
                if not status.st_nlink:
                    found = Held(
                        device=status.st_dev,
                        size=status.st_blocks * BLOCK_BYTES,
                        since=generation.waiting_since,
                        copied=generation.place is not None,
                        what=OpenFile(log, generation),
                    )
                    held.append(found)
        return held

    def give_up(self, log: FollowedLog, generation: Generation, why: str) -> bool:
        """
        Close a deleted file; what no route has read of it and no copy has is lost.

        Returns:
            False where it is being read this moment: it can be given up a little later.
        """
        if log.opened.reading:
            return False
        if generation.place is None:
            opened = log.opened[generation.key]
            size = self._disk.fstat(opened.fd).st_size
            log.chain.give_up(generation, max(size, generation.available), why)
        log.close(generation, self._disk)
        for reader in self._readers.values():
            reader.notify(log)
        return True


def _is_nameless(generation: Generation, log: FollowedLog) -> bool:
    """
    Whether the last look did not find the open file of *generation*.
    """
    place = generation.place
    seen = place is not None and place.key == generation.key
    return not seen and generation.key in log.opened
