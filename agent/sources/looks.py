"""
One file as it is seen: inode, size, head, and the tails that are looked for.

A head is read once: a file that has the inode it had, and did not shrink, begins as it did.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.generations import Sighting
from agent.sources.gunzip import size_hint
from agent.sources.heads import Opened, head_at, look_at, tails_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.core.host import Disk, FileStat
    from agent.core.identity import Probe
    from agent.core.rotated_names import RotatedName


@dataclass(slots=True)
class Known:
    """
    What was seen before, by path, and which tails of a Log are looked for in its files.
    """

    probes: Callable[[str], Sequence[Probe]]
    sightings: dict[str, Sighting] = field(default_factory=dict)


class Looks:
    """
    The files of one scan.
    """

    def __init__(
        self,
        disk: Disk,
        known: Known,
        opened: dict[tuple[int, int], Opened],
        errors: list[tuple[str, OSError]],
        open_max: int,
        now_ns: int,
    ) -> None:
        self._disk = disk
        self._known = known
        self._opened = opened
        self._errors = errors
        self._open_max = open_max
        self._now_ns = now_ns

    def at(self, log: str, path: str, parts: RotatedName, status: FileStat) -> Sighting:
        """
        Return what is at *path*, which belongs to the Log *log*.
        """
        key = (status.st_dev, status.st_ino)
        name = path.rpartition("/")[2]
        sighting = Sighting(name, parts, *key, status.st_size, status.st_mtime_ns, None)
        # By path and inode: an inode alone may be that of another file by now.
        known = self._known.sightings.get(path)
        if (
            known is not None
            and known.key == key
            and known.head is not None
            and not known.unreadable
        ):
            if not parts.compressed and not known.parts.compressed and status.st_size >= known.size:
                return sighting._replace(head=known.head, tails=known.tails)
            if parts.compressed and known.mtime_ns == status.st_mtime_ns:
                return sighting._replace(head=known.head, size=known.size, tails=known.tails)
        try:
            return self._read(log, path, sighting)
        except OSError as error:
            self._errors.append((path, error))
            return sighting._replace(unreadable=True)

    def _read(self, log: str, path: str, sighting: Sighting) -> Sighting:
        disk = self._disk
        already = self._opened.get(sighting.key)
        fd = disk.open(path) if already is None else already.fd
        keep = already is not None
        try:
            # The name may lead elsewhere by now: what counts is what was opened.
            compressed = sighting.parts.compressed
            if compressed:
                status, head = disk.fstat(fd), head_at(disk, fd, compressed=True, whole=True)
            else:
                status, head = look_at(disk, fd, sighting.parts, now_ns=self._now_ns)
            sighting = sighting._replace(
                device=status.st_dev,
                inode=status.st_ino,
                size=size_hint(disk, fd, status.st_size) if compressed else status.st_size,
                mtime_ns=status.st_mtime_ns,
                head=head,
            )
            # Only where the head does not tell: of a gz all before the tail has to be decompressed.
            if head is not None and not head.stamped:
                places = [probe[1:] for probe in self._known.probes(log) if probe.head == head.key]
                sighting = sighting._replace(
                    tails=tails_at(disk, fd, places, compressed=compressed)
                )
            room = len(self._opened) < self._open_max
            if room and not keep and sighting.key not in self._opened:
                self._opened[sighting.key] = Opened(fd, compressed)
                keep = True
        finally:
            if not keep:
                disk.close(fd)
        return sighting
