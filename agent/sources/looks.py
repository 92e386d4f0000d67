"""
One file as it is seen: inode, size, head, and the tails that are looked for.

A head is read once: a file that has the inode it had, and did not shrink, begins as it did.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.generations import Sighting
from agent.sources.gunzip import size_hint
from agent.sources.heads import Opened, head_at, is_whole, look_at, tails_at

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from agent.core.host import Disk, FileStat
    from agent.core.identity import Probe
    from agent.core.rotated_names import RotatedName

#: One that moves all the time must not stay unread.  With a scan each tick this is less than the second for which a
#: file must be there to be owed.
LEFT_OUT_MAX = 3


@dataclass(slots=True)
class Known:
    """
    What was seen before, by path, and which tails of a Log are looked for in its files.
    """

    probes: Callable[[str], Sequence[Probe]]
    sightings: dict[str, Sighting] = field(default_factory=dict)

    #: Scans in a row that said nothing of a Log, because what they saw could not be true.
    left_out: dict[str, int] = field(default_factory=dict)

    def takes(self, log: str, *, true: bool) -> bool:
        """
        Whether what was seen of *log* is taken: where it is *true*, and where it was left out often enough in a row.
        """
        times = self.left_out.pop(log, 0) + 1
        if true or times > LEFT_OUT_MAX:
            return True
        self.left_out[log] = times
        return False

    def forget(self, home: str, sightings: Iterable[Sighting]) -> None:
        """
        Forget how files in the directory *home* begin, so that they are read again.
        """
        for sighting in sightings:
            self.sightings.pop(posixpath.join(home, sighting.name), None)


class Looks:
    """
    The files of one scan.
    """

    def __init__(
        self,
        disk: Disk,
        known: Known,
        opened: dict[tuple[int, int], Opened],
        failed: Callable[[str, OSError], None],
        open_max: int,
        now_ns: int,
    ) -> None:
        self._disk = disk
        self._known = known
        self._opened = opened
        self._failed = failed
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
            self._failed(path, error)
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


def look_again(
    family: Sequence[Sighting],
    opened: Mapping[tuple[int, int], Opened],
    disk: Disk,
    probes: Sequence[Probe],
    now_ns: int,
) -> list[Sighting]:
    """
    Return *family* as its open files are now: the scan ran in another thread, a while ago.
    """
    places = [probe[1:] for probe in probes]
    again = []
    for sighting in family:
        held = opened.get(sighting.key)
        if held is None or held.compressed:
            again.append(sighting)
            continue
        try:
            status, head = look_at(disk, held.fd, sighting.parts, now_ns=now_ns)
            tails = tails_at(disk, held.fd, places, compressed=False)
            again.append(sighting._replace(size=status.st_size, head=head, tails=tails))
        except OSError:
            again.append(sighting._replace(unreadable=True))
    return again


def is_one_moment(
    family: Iterable[Sighting],
    again: Sequence[Sighting],
    known: Container[tuple[int, int]],
    *,
    now_ns: int,
) -> bool:
    """
    Whether *family* and what was seen of it *again* can be of one moment: files *known* are recognised anyway.
    """
    cut = any(
        seen.parts.is_live and not now.unreadable and seen.head != now.head
        for seen, now in zip(family, again, strict=True)
    )
    return not cut and not _is_being_copied(again, known, now_ns)


def _is_being_copied(
    family: Sequence[Sighting], known: Container[tuple[int, int]], now_ns: int
) -> bool:
    """
    Whether a live file may have a copy in the making: it will be cut, and the copy have its lines.

    Only a first line that is no other file's tells a copy from another file that begins alike.
    """
    live = [item for item in family if item.parts.is_live and item.key not in known]
    return any(
        item.head is not None
        and not item.head.stamped
        and (item.head, item.parts.is_live) == (other.head, False)
        and item.size <= other.size
        and not is_whole(item.parts, item.mtime_ns, now_ns)
        for item in family
        for other in live
    )
