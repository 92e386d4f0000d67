"""
Keeps within bounds what deleted files take of the node's disk because Tailrace holds them open.

A route that stands still or is slower than the logs needs its files beyond their deletion.  Up to
`held_deleted_bytes_max` in the whole process, and while `disk_free_min_bytes` are free on the file system of
the logs, it gets them.  Past that core/held.py says which go, and every route that had not read such a
file records the rest of it as a loss.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.held import to_give_up

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.counters import Counters
    from agent.core.held import Held
    from agent.core.host import Host
    from agent.sources.descriptors import OpenFile
    from agent.sources.files import Files

#: A node writes at most some hundred MB in it.
CHECK_INTERVAL_S = 1.0
TELL_INTERVAL_S = 60.0


class HeldFiles:
    """
    The deleted files of all sources.
    """

    def __init__(
        self,
        files: Mapping[str, Files],
        *,
        host: Host,
        counters: Counters,
        bytes_max: int,
        free_min: int,
    ) -> None:
        self._files = files
        self._host = host
        self._counters = counters
        self._bytes_max = bytes_max
        self._free_min = free_min
        #: Given up since that was said last, by limit: files, bytes, one of their paths.
        self._untold: dict[str, tuple[int, int, str]] = {}
        self._told_at = -math.inf

    async def run(self) -> None:
        """
        Check until cancelled.
        """
        while True:
            self.check()
            await self._host.clock.sleep(CHECK_INTERVAL_S)

    def check(self) -> None:  # disk
        """
        Look once, and give up what is beyond the limits.
        """
        held = [
            (files, item) for files in self._files.values() for item in files.descriptors.deleted()
        ]
        owners = {id(item): files for files, item in held}
        total, count = sum(item.size for _, item in held), len(held)
        for item, limit in to_give_up(
            [item for _, item in held],
            bytes_max=self._bytes_max,
            free=self._free([item for _, item in held]),
            free_min=self._free_min,
        ):
            if owners[id(item)].descriptors.give_up(*item.what, limit):
                total -= item.size
                count -= 1
                self._note(item, limit)
        self._counters.set(metric.HELD_DELETED_BYTES, total)
        self._counters.set(metric.HELD_DELETED_FILES, count)
        self._tell()

    def _free(self, held: list[Held[OpenFile]]) -> dict[int, int]:
        disk = self._host.disk
        for name, files in self._files.items():
            for root in files.roots:
                try:
                    self._counters.set(metric.LOG_DISK_FREE_BYTES, disk.free(root), name)
                    break
                except OSError:
                    continue  # Not there yet.
        found: dict[int, int] = {}
        for item in held if self._free_min else ():
            if item.device not in found:
                # By descriptor: no path leads to the file any more, and mounts may differ.
                opened = item.what.log.opened[item.what.generation.key]
                found[item.device] = disk.free(opened.fd)
        return found

    def _note(self, item: Held[OpenFile], limit: str) -> None:
        files, size, _ = self._untold.get(limit, (0, 0, ""))
        self._untold[limit] = (files + 1, size + item.size, item.what.log.key)

    def _tell(self) -> None:
        now = self._host.clock.monotonic()
        if not self._untold or now - self._told_at < TELL_INTERVAL_S:
            return
        self._told_at = now
        values = {
            "held_deleted_bytes_max": self._bytes_max,
            "disk_free_min_bytes": self._free_min,
        }
        for limit, (files, size, path) in self._untold.items():
            self._host.tell(
                "held_files_given_up",
                f"{files} deleted files of {size} bytes, the last of {path}, are held no longer: {limit} "
                f"({values[limit]}) was passed. What a route had not read of them and no copy has is lost "
                "(tailrace losses); tailrace status shows which route is behind",
                level="error",
                limit=limit,
                files=files,
                bytes=size,
            )
        self._untold.clear()
