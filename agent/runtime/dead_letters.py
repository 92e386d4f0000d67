"""
Dead letters: lines that a route will never deliver, kept whole for a person.

    STATE/dead-letters/<route>/<reason>/<path of the log file>

A file holds the lines as they stood in the log, in the log's own format, and the end of its path is that of the
log: so `tailrace replay -c FILE --route ROUTE STATE/dead-letters/ROUTE/REASON` knows namespace, pod and
container again, and sends them.  A file that did not end in `.log` gets that ending, which replay looks for.

- Files are only appended to, and are durable before the loss is committed; a crash between the two repeats
  lines here, and loses none.  A line that a crash cut is cut off by the next append.
- Together they hold at most `dead_letter_bytes_max`.  When they are full, nothing more is kept: what a person
  has not seen is never deleted.  The loss is recorded all the same; it is said once a minute, and counted.
- Whoever has replayed a file deletes it.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from agent.core import counters as metric
from agent.core.batch import LossReason
from agent.core.errors import shown
from agent.core.sayings import Sayings
from agent.sinks.parquet_staging import make_directories, write_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.batch import Loss
    from agent.core.counters import Counters
    from agent.core.host import Host, StateDisk

DIRECTORY = "dead-letters"
#: A person may have made room: the directory is looked at again after this.
MEASURE_EVERY_S = 60.0
#: Bytes that are searched at once for the end of the last whole line.
LOOK_BYTES = 64 << 10


class Letter(NamedTuple):
    """
    The lines of one loss; None where they cannot be read any more, and then why.
    """

    loss: Loss
    lines: bytes | None
    why: str = ""


class DeadLetters:
    """
    The dead letters of one state directory, for all routes.
    """

    def __init__(
        self,
        state_dir: str,
        *,
        bytes_max: int,
        reasons: Sequence[str],
        host: Host,
        counters: Counters,
    ) -> None:
        self._root = os.path.join(state_dir, DIRECTORY)
        self._bytes_max = bytes_max
        self._host = host
        self._counters = counters
        #: Losses for these reasons are kept.
        self.reasons = frozenset(map(LossReason, reasons)) if bytes_max else frozenset()
        self._held: int | None = None
        self._measured_at = float("-inf")
        self._sayings = Sayings(clock=host.clock, tell=host.tell)
        # One write at a time: two routes share the limit.
        self._lock = asyncio.Lock()

    async def keep(self, route: str, letters: Sequence[Letter]) -> list[str]:
        """
        Write *letters*, durably; return for each where it is, or why it is nowhere.  Never raises OSError.
        """
        async with self._lock:
            where = [await self._keep(route, letter) for letter in letters]
            paths = {path for path, _ in where if path is not None}
            try:
                await self._host.run_blocking(_sync, self._host.state_disk, sorted(paths))
            except OSError as error:
                self._failed(route, f"dead letters are not durable: {error}")
        return [text for _, text in where]

    async def _keep(self, route: str, letter: Letter) -> tuple[str | None, str]:
        loss, lines = letter.loss, letter.lines
        if lines is None:
            return self._dropped(route, loss, letter.why)
        if not await self._has_room(len(lines)):
            return self._dropped(route, loss, "dead_letter_bytes_max is reached")
        path = letter_path(self._root, route, loss)
        try:
            await self._host.run_blocking(_append, self._host.state_disk, path, lines)
        except OSError as error:
            return self._dropped(route, loss, f"{error.strerror or error}")
        assert self._held is not None
        self._held += len(lines)
        self._counters.add(metric.DEAD_LETTER_BYTES, len(lines), route, loss.reason)
        return path, f"dead letter {path}"

    async def _has_room(self, more: int) -> bool:
        now = self._host.clock.monotonic()
        full = self._held is None or self._held + more > self._bytes_max
        if full and (self._held is None or now - self._measured_at >= MEASURE_EVERY_S):
            self._measured_at = now
            found = await self._host.run_blocking(list_letters, self._host.state_disk, self._root)
            self._held = sum(size for _, size in found)
        assert self._held is not None
        return self._held + more <= self._bytes_max

    def _dropped(self, route: str, loss: Loss, why: str) -> tuple[None, str]:
        self._counters.add(metric.DEAD_LETTERS_DROPPED, 1, route, loss.reason)
        self._failed(
            route,
            f"{loss.log} bytes {loss.start}-{loss.stop} ({loss.reason}) are lost and not kept as a dead "
            f"letter: {why}; replay and delete what is in {self._root}, or raise dead_letter_bytes_max",
        )
        return None, f"no dead letter: {shown(why)}"

    def _failed(self, route: str, text: str) -> None:
        self._sayings.say("dead_letter_dropped", text, level="error", route=route)


def letter_path(root: str, route: str, loss: Loss) -> str:
    """
    Return the file for the lines of *loss*.
    """
    # The path is absolute and was resolved by discovery; nothing in it may lead out of the directory.
    parts = [part for part in loss.log.split("/") if part not in ("", ".", "..")]
    name = "/".join(parts)
    if not name.endswith(".log"):
        name += ".log"
    return f"{root}/{route}/{loss.reason}/{name}"


def list_letters(disk: StateDisk, directory: str) -> list[tuple[str, int]]:
    """
    Return (path, size) of every dead letter below *directory*.
    """
    found: list[tuple[str, int]] = []
    try:
        entries = disk.list(directory)
    except FileNotFoundError:
        return found
    for name, is_directory in sorted(entries):
        path = f"{directory}/{name}"
        if is_directory:
            found += list_letters(disk, path)
        else:
            with suppress(FileNotFoundError):  # A person deletes what was replayed.
                fd = disk.open_read(path)
                found.append((path, disk.size(fd)))
                disk.close(fd)
    return found


def _append(disk: StateDisk, path: str, lines: bytes) -> None:
    make_directories(disk, os.path.dirname(path))
    fd = disk.open(path)
    try:
        size = _whole_lines(disk, fd)
        try:
            write_all(disk, fd, lines, size)
        except OSError:
            disk.truncate(fd, size)
            raise
    finally:
        disk.close(fd)


def _whole_lines(disk: StateDisk, fd: int) -> int:
    """
    Cut off a line that a crash left unfinished; return the size.
    """
    size = position = disk.size(fd)
    while position > 0:
        start = max(0, position - LOOK_BYTES)
        newline = disk.pread(fd, position - start, start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position != size:
        disk.truncate(fd, position)
    return position


def _sync(disk: StateDisk, paths: Sequence[str]) -> None:
    for path in paths:
        fd = disk.open(path)
        try:
            disk.sync(fd)
        finally:
            disk.close(fd)
        disk.sync_directory(os.path.dirname(path))
