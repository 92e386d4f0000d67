"""
What fills the spool of a source `journal`: `journalctl --follow`, and the journal's own cursor.

Entries are read in batches; a batch and the cursor of its last entry become durable together (spool.py), so that
after a crash at any point journalctl goes on behind the last entry that is there: no entry is missing, none is there
twice.  While the spool is full nothing is read: the pipe fills, journalctl waits, and the journal keeps the entries as
long as its own limits let it.  Where the entry of the cursor is gone by then, entries are missing: that is said and
counted.

Refused: to be a second reader of the journal's files.  They have a format with its own rules for damage, rotation,
compression and order, and journalctl is there wherever they are.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.journal import FIELDS, Entry, Lines, read_entry
from agent.sources.spooled import record

if TYPE_CHECKING:
    from agent.config.values import Config, SourceConfig
    from agent.runtime.producers import World
    from agent.runtime.spool import Spool
    from agent.sources.journal_settings import JournalSettings

BATCH_BYTES = 1 << 20
BATCH_AGE_S = 1.0
READ_BYTES = 256 << 10
FULL_WAIT_S = 0.5
STDERR_BYTES_MAX = 400


def check(source: SourceConfig, config: Config) -> None:
    """
    Nothing is refused at the start: a journalctl that is missing is said, and looked for again.
    """


async def produce(source: SourceConfig, spool: Spool, world: World) -> None:
    """
    Follow the journal until cancelled; raises OSError where journalctl cannot be run, or ends.
    """
    cursor = (await spool.open()).decode()
    arguments = command(source.settings, cursor)
    try:
        child = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        text = (
            f"{arguments[0]}: {error.strerror}: install systemd's journalctl, or set `journalctl`"
        )
        raise OSError(text) from error
    try:
        await _Journal(source, spool, world, cursor).follow(child)
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def command(settings: JournalSettings, cursor: str) -> list[str]:
    """
    Return the command that writes the entries from that of *cursor* on; with "", from where a first start begins.
    """
    arguments = [settings.journalctl, "--output=json", "--all", "--quiet", "--no-pager", "--follow"]
    arguments.append("--output-fields=" + ",".join(("MESSAGE", *FIELDS)))
    if cursor:
        # Not --after-cursor: it passes over an entry also where the one of the cursor is gone.
        arguments += ["--no-tail", f"--cursor={cursor}"]
    else:
        arguments.append("--no-tail" if settings.start == "beginning" else "--lines=0")
    if settings.directory:
        arguments.append(f"--directory={settings.directory}")
    arguments += [f"--unit={unit}" for unit in settings.units]
    return [*arguments, *settings.matches]


def _read(pipe: asyncio.StreamReader) -> asyncio.Future[bytes]:
    return asyncio.ensure_future(pipe.read(READ_BYTES))


class _Journal:
    """
    One run of journalctl.
    """

    def __init__(self, source: SourceConfig, spool: Spool, world: World, cursor: str) -> None:
        self._name = source.name
        self._spool = spool
        self._world = world
        #: Of the last entry that is in the spool, until it was seen again.
        self._behind = cursor
        self._cursor = cursor
        self._lines = Lines()
        self._settings: JournalSettings = source.settings
        self._components = self._settings.components
        #: By component.
        self._records: dict[str, list[bytes]] = {}
        self._count = 0
        self._bytes = 0
        self._begun_at = 0.0

    async def follow(self, child: asyncio.subprocess.Process) -> None:
        """
        Read what *child* writes, until it ends, which is an error.
        """
        assert child.stdout is not None
        assert child.stderr is not None
        reads = {pipe: _read(pipe) for pipe in (child.stdout, child.stderr)}
        said = b""
        try:
            while reads:
                await asyncio.wait(
                    reads.values(), timeout=self._wait_s(), return_when=asyncio.FIRST_COMPLETED
                )
                for pipe in [pipe for pipe, read in reads.items() if read.done()]:
                    data = reads.pop(pipe).result()
                    if data:
                        reads[pipe] = _read(pipe)
                    if pipe is child.stdout:
                        self._take(data)
                    else:
                        # The end of what it says is why it ended.
                        said = (said + data)[-STDERR_BYTES_MAX:]
                if self._wait_s() == 0 or self._bytes >= BATCH_BYTES:
                    await self._write()
        finally:
            for read in reads.values():
                read.cancel()
        await self._write()
        reason = said.decode(errors="replace").strip() or "it does not say why"
        raise OSError(f"journalctl ended with exit code {await child.wait()}: {reason}")

    def _wait_s(self) -> float | None:
        if not self._records:
            return None
        now = self._world.host.clock.monotonic()
        return max(0.0, self._begun_at + BATCH_AGE_S * self._spool.stretch - now)

    def _take(self, data: bytes) -> None:
        counters, too_long = self._world.counters, self._lines.too_long
        strange = 0
        for line in self._lines.take(data):
            entry = read_entry(line)
            if entry is None:
                strange += 1
            elif not self._is_known(entry):
                self._add(entry)
        strange += self._lines.too_long - too_long
        if strange:
            counters.add(metric.JOURNAL_UNREAD, strange, self._name)
            self._tell(
                "journal_unread",
                f"source {self._name}: {strange} lines of journalctl are no entries that can be read, or too long: "
                "they are left out; `journalctl --verify` looks for damage",
            )

    def _is_known(self, entry: Entry) -> bool:
        # The first entry is the one of the cursor, which is there already; if it is another, some are missing.
        behind, self._behind = self._behind, ""
        if not behind:
            return False
        if entry.cursor == behind:
            return True
        self._world.counters.add(metric.JOURNAL_GAPS, 1, self._name)
        self._tell(
            "journal_gap",
            f"source {self._name}: the journal has deleted the entry that was read last, and perhaps others behind "
            "it (SystemMaxUse and MaxRetentionSec of journald say how much it keeps), or the source reads other units "
            "than before",
        )
        return False

    def _add(self, entry: Entry) -> None:
        if not self._records:
            self._begun_at = self._world.host.clock.monotonic()
        line = record(entry.message, time_ns=entry.time_ns, attrs=entry.attrs)
        unit = entry.attrs.get("_SYSTEMD_UNIT", "")
        component = self._components.get(unit, self._settings.component)
        self._records.setdefault(component, []).append(line)
        self._count += 1
        self._bytes += len(line)
        self._cursor = entry.cursor

    async def _write(self) -> None:
        if not self._records:
            return
        while not self._spool.has_room:
            self._tell(
                "spool_full",
                f"source {self._name}: the spool is full ({self._spool.bytes_held} bytes): nothing is read until the "
                "slowest route has caught up (tailrace status says which); spool_bytes_max raises the limit",
            )
            await self._world.host.clock.sleep(FULL_WAIT_S)
        records = {component: b"".join(lines) for component, lines in self._records.items()}
        count, self._count = self._count, 0
        self._records, self._bytes = {}, 0
        await self._spool.append(records, self._cursor.encode())
        self._world.counters.add(metric.JOURNAL_ENTRIES, count, self._name)

    def _tell(self, event: str, text: str) -> None:
        self._world.host.tell(event, text, level="warning", source=self._name)
