"""
A spool on disk: batches of records, and how far their producer is, in one step.

What a producer may rely on:

- `append` makes a batch and the position behind it durable together: after a crash at any point there is
  either neither or both, and `open` returns the position that belongs to the records that are there;
- routes see whole batches alone, so no line of it is ever torn, cut or taken back;
- a file is deleted when every route that reads the source has committed it.  The newest of every Log stays.

How: a batch is a file for each component that it has records of, written to `NUMBER.COMPONENT.tmp` and synced; then
`position`, which names that number, takes the place of the one before, and the directory is synced: from here on the
batch counts.  Then its files get their names in their Logs.  A start gives files of a batch that counts their names,
and deletes those of one that does not.

    position = one line of JSON {"version":1,"number":42,"bytes":17}, then as many bytes of the producer's
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import orjson

from agent.core import counters as metric
from agent.core import faults
from agent.core.errors import StopError
from agent.sinks.parquet_staging import make_directories, write_all
from agent.sources.spooled import (
    POSITION_NAME,
    File,
    batch_file,
    spool_log,
    unfinished_file,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.core.counters import Counters
    from agent.core.host import Host
    from agent.sources.files import Files
    from agent.sources.followed import FollowedLog

VERSION = 1
#: A chain of generations is looked at with every scan; a producer that waits makes larger batches.
FILES_MAX = 256
#: Above this many files a producer takes its time.
FILES_EASY = 16
STRETCH_MAX = 10.0


class Spool:
    """
    The spool of one source; one producer writes it.
    """

    def __init__(
        self, directory: str, *, source: str, bytes_max: int, host: Host, counters: Counters
    ) -> None:
        self.directory = directory
        self.source = source
        self._bytes_max = bytes_max
        self._host = host
        self._disk = host.state_disk
        self._counters = counters
        #: Every file that is there, with its bytes.
        self._files: dict[File, int] = {}
        self._number = 0
        self._opened = False

    @property
    def has_room(self) -> bool:
        """
        Whether another batch may be appended: it is full until the slowest route has caught up.
        """
        return self.bytes_held < self._bytes_max and len(self._files) < FILES_MAX

    @property
    def bytes_held(self) -> int:
        """
        Bytes of all batches.
        """
        return sum(self._files.values())

    @property
    def components(self) -> set[str]:
        """
        Components that have a file.
        """
        return {file.component for file in self._files}

    @property
    def number(self) -> int:
        """
        Number of the last batch; 0 before the first.
        """
        return self._number

    @property
    def stretch(self) -> float:
        """
        Factor on the producer's intervals: many small batches wait, so the next ones should be larger.
        """
        return min(STRETCH_MAX, max(1.0, len(self._files) / FILES_EASY))

    async def open(self) -> bytes:
        """
        Bring the directory into order; return the producer's position, empty where there is none.

        To be called again after an append that failed.  Raises OSError, and StopError (78) for a later version.
        """
        position = await self._host.run_blocking(self._recover)
        self._opened = True
        self._measure()
        return position

    async def append(self, records: Mapping[str, bytes], position: bytes) -> None:
        """
        Make *records* (whole lines by component; none is allowed) and *position* durable.

        Raises OSError: then nobody knows what is there until it is opened again.
        """
        assert self._opened, "the spool is not open"
        assert all(lines.endswith(b"\n") for lines in records.values())
        self._opened = False
        number = self._number + 1 if records else self._number
        files = {File(component, number): lines for component, lines in records.items()}
        await self._host.run_blocking(self._write, number, files, position)
        self._opened = True
        self._number = number
        self._files |= {file: len(lines) for file, lines in files.items()}
        self._measure()

    async def prune(self, passed: Mapping[str, int]) -> None:
        """
        Delete what every route has: files up to number *passed* of their component, except the newest.

        The newest keeps a Log alive, with its cursors.
        """
        newest: dict[str, int] = {}
        for file in self._files:
            newest[file.component] = max(file.number, newest.get(file.component, 0))
        gone = [
            file
            for file in self._files
            if file.number <= passed.get(file.component, 0)
            and file.number != newest[file.component]
        ]
        if gone:
            await self._host.run_blocking(self._unlink, gone)
            for file in gone:
                self._files.pop(file, None)
            self._measure()

    def passed(self, passed: Mapping[str, int]) -> int:
        """
        Return the number up to which every batch is passed where of each component those up to *passed* are.
        """
        waiting = (f.number for f in self._files if f.number > passed.get(f.component, 0))
        return min(waiting, default=self._number + 1) - 1

    # -- in the executor ----------------------------------------------------------------------

    def _recover(self) -> bytes:
        disk = self._disk
        make_directories(disk, self.directory)
        names = [name for name, _ in disk.list(self.directory)]
        files = {file for name in names if (file := batch_file(name)) is not None}
        counted, position = self._read_position(max((file.number for file in files), default=0))
        for name in names:
            file = unfinished_file(name)
            if file is None and name != POSITION_NAME + ".tmp":
                continue
            if file is not None and file.number == counted and file not in files:
                disk.rename(self._path(name), self._path(file.name))
                files.add(file)
            else:
                disk.unlink(self._path(name))
        self._files = {file: self._size(file.name) for file in sorted(files)}
        self._number = max(counted, *(file.number for file in files), 0)
        return position

    def _read_position(self, last: int) -> tuple[int, bytes]:
        path = self._path(POSITION_NAME)
        try:
            fd = self._disk.open_read(path)
        except FileNotFoundError:
            return last, b""
        try:
            content = self._disk.pread(fd, self._disk.size(fd), 0)
        finally:
            self._disk.close(fd)
        version, number, position = read_position(content)
        if version != VERSION:
            raise StopError(
                f"{path}: version {version}, expected {VERSION}: was it written by a later Tailrace?",
                exit_code=os.EX_CONFIG,
            )
        if position is None:
            self._host.tell(
                "spool_damaged",
                f"{path} is damaged: {self.source} begins as if nothing had been read; lines of the last hours "
                "may come twice",
                level="error",
                source=self.source,
            )
            return last, b""
        return number, position

    def _write(self, number: int, files: Mapping[File, bytes], position: bytes) -> None:
        disk = self._disk
        for file, lines in files.items():
            self._write_file(file.being_written, lines)
        head = orjson.dumps({"version": VERSION, "number": number, "bytes": len(position)})
        self._write_file(POSITION_NAME + ".tmp", head + b"\n" + position)
        faults.point("spool_written")
        disk.rename(self._path(POSITION_NAME + ".tmp"), self._path(POSITION_NAME))
        disk.sync_directory(self.directory)
        faults.point("spool_counts")
        for file in files:
            disk.rename(self._path(file.being_written), self._path(file.name))
        faults.point("spool_named")

    def _write_file(self, name: str, content: bytes) -> None:
        fd = self._disk.open(self._path(name))
        try:
            self._disk.truncate(fd, 0)
            write_all(self._disk, fd, content, 0)
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)

    def _unlink(self, files: Sequence[File]) -> None:
        for file in files:
            path = self._path(file.name)
            if self._disk.exists(path):
                self._disk.unlink(path)
        # A name that came back with a power loss would be read again.
        self._disk.sync_directory(self.directory)

    def _size(self, name: str) -> int:
        fd = self._disk.open_read(self._path(name))
        try:
            return self._disk.size(fd)
        finally:
            self._disk.close(fd)

    def _path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def _measure(self) -> None:
        self._counters.set(metric.SPOOL_BYTES, self.bytes_held, self.source)
        self._counters.set(metric.SPOOL_FILES, len(self._files), self.source)


def read_position(content: bytes) -> tuple[int, int, bytes | None]:
    """
    Return version, number and position that are in a file `position`; without the last it is damaged.
    """
    head, _, position = content.partition(b"\n")
    try:
        fields = orjson.loads(head)
        version, number, length = fields["version"], fields["number"], fields["bytes"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return VERSION, 0, None
    return version, number, position if length == len(position) else None


def passed_by_all(files: Files, spool: Spool) -> dict[str, int]:
    """
    Return by component the number of the last file that every route has committed.
    """
    found = {}
    for component in spool.components:
        log = files.logs.get(spool_log(spool.directory, component))
        if log is not None:
            found[component] = _passed(log)
    return found


def _passed(log: FollowedLog) -> int:
    floor = log.floor
    passed = (
        batch_file(generation.name)
        for generation in log.chain.generations
        if generation.size and floor >= (generation.number, generation.size)
    )
    return max((file.number for file in passed if file is not None), default=0)
