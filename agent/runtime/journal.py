"""
What fills the spool of a source `journal`: `journalctl --follow`, and the journal's own cursor.

Entries are read in batches; a batch and the cursor of its last entry become durable together (spool.py), so that
after a crash at any point journalctl goes on behind the last entry that is there: no entry is missing, none is there
twice.

While the spool is full nothing is read, and the journal keeps the entries as long as its own limits let it.
journalctl passes without a word over what journald deletes before it could write it, so it does not wait: it is ended,
and begins again at the cursor when there is room, or when nobody has read what it wrote for a while.  At every
beginning the journal is asked for the entry of the cursor.  Where that is gone, entries are missing: a loss of every
route that reads the source, told, and counted.

    position = the cursor of the last entry that is in the spool
             | `<` and the cursor of the first one that is to be read; `<` alone: the first of all

Refused: to be a second reader of the journal's files.  They have a format with its own rules for damage, rotation,
compression and order, and journalctl is there wherever they are.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.batch import Loss, LossReason
from agent.core.journal import (
    Entry,
    Lines,
    is_same,
    is_same_numbering,
    missing_between,
    read_entry,
    time_of,
)
from agent.core.sayings import Sayings
from agent.runtime.journalctl import (
    READ_BYTES,
    STDERR_BYTES_MAX,
    command,
    ended,
    first_entry,
    is_last,
    last_entry,
    running,
)
from agent.sources.spooled import record

if TYPE_CHECKING:
    from agent.config.values import Config, SourceConfig
    from agent.runtime.producers import World
    from agent.runtime.spool import Spool
    from agent.sources.journal_settings import JournalSettings

BATCH_BYTES = 1 << 20
BATCH_AGE_S = 1.0
FULL_WAIT_S = 0.5
#: A silent journal is waited for this long at once.
LOOK_S = 10.0
#: What journalctl wrote and nobody read for longer than this may have a gap behind it: a process that was frozen.
STALL_S = 30.0
#: Where nothing that is wanted was written for so long, it stands at the journal's end: an entry of last month
#: is deleted some day, and would be missed.
IDLE_S = 3600.0
UNREAD = "<"


def check(source: SourceConfig, config: Config) -> None:
    """
    Nothing is refused at the start: a journalctl that is missing is said, and looked for again.
    """


async def produce(source: SourceConfig, spool: Spool, world: World) -> None:
    """
    Follow the journal until cancelled; raises OSError where journalctl cannot be run, or ends.
    """
    journal = Journal(source, spool, world)
    await journal.open()
    while True:
        await journal.wait_for_room()
        await journal.follow()


class Journal:
    """
    How far a source is in the journal, and what it has read and not yet written.
    """

    def __init__(self, source: SourceConfig, spool: Spool, world: World) -> None:
        self._name = source.name
        self._spool = spool
        self._world = world
        self._clock = world.host.clock
        self._say = Sayings(clock=self._clock, tell=world.host.tell, source=self._name).say
        self._settings: JournalSettings = source.settings
        self._components = self._settings.components
        self._position = ""
        #: Cursor of the entry that comes first, and is in the spool already.
        self._behind = ""
        self._lines = Lines()
        #: By component.
        self._records: dict[str, list[bytes]] = {}
        self._count = 0
        self._bytes = 0
        self._begun_at = 0.0
        self._last = ""
        #: When the position moved.
        self._moved_at = self._clock.monotonic()

    async def open(self) -> None:
        """
        Find out where to go on.
        """
        self._position = (await self._spool.open()).decode()
        if not self._position:
            # Kept at once: what is written from now on counts, also if the first entry comes after a kill.
            last = await last_entry(self._settings) if self._settings.start == "end" else None
            await self._stand_at(last.cursor if last else UNREAD)

    async def wait_for_room(self) -> None:
        """
        Wait until another batch may be written.
        """
        while not self._spool.has_room:
            self._say(
                "spool_full",
                f"source {self._name}: the spool is full ({self._spool.bytes_held} bytes): nothing is read until the "
                "slowest route has caught up (tailrace status says which); spool_bytes_max raises the limit",
            )
            await self._clock.sleep(FULL_WAIT_S)

    async def follow(self) -> None:
        """
        Read entries from where it stands, until the spool is full or nobody has read for a while.

        Raises OSError where journalctl ends.
        """
        self._lines = Lines()
        self._records, self._count, self._bytes = {}, 0, 0
        if self._position != UNREAD:
            await self._look_for_gap()
        # Of an entry that is in the spool.
        self._behind = "" if self._position.startswith(UNREAD) else self._position
        async with running(command(self._settings, self._position.lstrip(UNREAD))) as child:
            await self._read(child)

    async def _read(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        reads = {pipe: _begin_read(pipe) for pipe in (child.stdout, child.stderr)}
        said = b""
        turned_at = self._clock.monotonic()
        try:
            while reads:
                await asyncio.wait(
                    reads.values(), timeout=self._wait_s(), return_when=asyncio.FIRST_COMPLETED
                )
                turned_at, before = self._clock.monotonic(), turned_at
                if turned_at - before > LOOK_S + STALL_S:
                    return
                for pipe in [pipe for pipe, read in reads.items() if read.done()]:
                    data = reads.pop(pipe).result()
                    if data:
                        reads[pipe] = _begin_read(pipe)
                    if pipe is child.stdout:
                        self._take(data)
                    else:
                        # The end of what it says is why it ended.
                        said = (said + data)[-STDERR_BYTES_MAX:]
                if turned_at - self._moved_at >= IDLE_S and not self._records:
                    await self._move_up()
                if self._records and (self._wait_s() == 0 or self._bytes >= BATCH_BYTES):
                    await self._write()
                    if not self._spool.has_room:
                        return
        finally:
            for read in reads.values():
                read.cancel()
            await asyncio.gather(*reads.values(), return_exceptions=True)
        await self._write()
        raise await ended(child, said)

    def _wait_s(self) -> float:
        if not self._records:
            return LOOK_S
        age_s = self._clock.monotonic() - self._begun_at
        return min(LOOK_S, max(0.0, BATCH_AGE_S * self._spool.stretch - age_s))

    def _take(self, data: bytes) -> None:
        too_long = self._lines.too_long
        strange = 0
        for line in self._lines.take(data):
            entry = read_entry(line)
            if entry is None:
                strange += 1
            elif not self._is_known(entry):
                self._add(entry)
        strange += self._lines.too_long - too_long
        if strange:
            self._world.counters.add(metric.JOURNAL_UNREAD, strange, self._name)
            self._say(
                "journal_unread",
                f"source {self._name}: {strange} lines of journalctl are no entries that can be read, or too long: "
                "they are left out; `journalctl --verify` looks for damage",
            )

    def _is_known(self, entry: Entry) -> bool:
        # The first entry is the one of the cursor, unless it is gone, or of a unit that is no longer wanted.
        behind, self._behind = self._behind, ""
        return bool(behind) and is_same(entry.cursor, behind)

    def _add(self, entry: Entry) -> None:
        if not self._records:
            self._begun_at = self._clock.monotonic()
        line = record(entry.message, time_ns=entry.time_ns, attrs=entry.attrs)
        found = (self._components[unit] for unit in entry.units if unit in self._components)
        component = next(found, self._settings.component)
        self._records.setdefault(component, []).append(line)
        self._count += 1
        self._bytes += len(line)
        self._last = entry.cursor

    async def _write(self) -> None:
        if not self._records:
            return
        records = {component: b"".join(lines) for component, lines in self._records.items()}
        count, self._count = self._count, 0
        self._records, self._bytes = {}, 0
        await self._spool.append(records, self._last.encode())
        self._position, self._moved_at = self._last, self._clock.monotonic()
        self._world.counters.add(metric.JOURNAL_ENTRIES, count, self._name)

    async def _stand_at(self, position: str) -> None:
        await self._spool.append({}, position.encode())
        self._position, self._moved_at = position, self._clock.monotonic()

    async def _move_up(self) -> None:
        self._moved_at = self._clock.monotonic()
        # In this order: what is written meanwhile is behind the last one, or found.
        last = await last_entry(self._settings)
        cursor = self._position.lstrip(UNREAD)
        if last is not None and cursor == self._position and await is_last(self._settings, cursor):
            await self._stand_at(last.cursor)

    # -- gaps -----------------------------------------------------------------------------------

    async def _look_for_gap(self) -> None:
        """
        Ask for the entry of the position; where it is gone, record that, and stand at what there is instead.
        """
        behind = self._position.lstrip(UNREAD)
        first = await first_entry(self._settings, behind)
        if first is not None and is_same(first.cursor, behind):
            return
        oldest = await first_entry(self._settings)
        missing = missing_between(behind, oldest.cursor) if oldest is not None else None
        if oldest is not None and not is_same_numbering(behind, oldest.cursor):
            # A new journal, all of it unread; its clock may have been behind that of the one before.
            first = oldest
        until = f", the next one at hand is of {_moment(first.cursor)}" if first is not None else ""
        detail = (
            f"journald deleted entries behind that of {_moment(behind)} before they were read{until}; "
            + (f"{missing} entries" if missing is not None else "an unknown number")
            + " of all units are gone"
        )
        loss = Loss(f"journal of {self._name}", "", 0, 0, 0, LossReason.DELETED, 0, detail)
        await self._world.record_loss(self._name, loss)
        self._world.counters.add(metric.JOURNAL_GAPS, 1, self._name)
        self._world.counters.add(metric.JOURNAL_MISSING, missing or 0, self._name)
        self._say(
            "journal_gap",
            f"source {self._name}: {detail} (SystemMaxUse and MaxRetentionSec of journald say how much it keeps)",
        )
        if first is not None:
            await self._stand_at(UNREAD + first.cursor)


def _begin_read(pipe: asyncio.StreamReader) -> asyncio.Future[bytes]:
    return asyncio.ensure_future(pipe.read(READ_BYTES))


def _moment(cursor: str) -> str:
    time_ns = time_of(cursor)
    if time_ns is None:
        return "an unknown time"
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ns // 10**9))
