"""
The command `journalctl`: what it is asked, and its life.

It is asked for the entries of all boots (`--merge`): with `--follow` alone it leaves out those of every boot but the
last, which are the ones that were written while the machine went down.  Where no directory is named, `--merge` would
bring other machines' journals as well, so their entries are told apart by the machine's id.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from agent.core.journal import ABOUT_FIELDS, FIELDS, Lines, is_same, read_entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from agent.core.journal import Entry
    from agent.sources.journal_settings import JournalSettings

MACHINE_ID = "/etc/machine-id"
READ_BYTES = 256 << 10
#: A question is answered at once, from a cold disk of a busy node within seconds.
ANSWER_S = 60.0
CLOSE_S = 1.0
STDERR_BYTES_MAX = 400


def command(settings: JournalSettings, cursor: str = "") -> list[str]:
    """
    Return the command that follows the entries from that of *cursor* on; with "" from the journal's first one.
    """
    return [*_journal(settings, cursor), "--follow", "--no-tail", *_wanted(settings)]


async def first_entry(settings: JournalSettings, cursor: str = "") -> Entry | None:
    """
    Return the first entry at or behind that of *cursor*, or of all, of whatever unit; None where there is none.
    """
    return await _find([*_journal(settings, cursor), *_machine(settings)])


async def last_entry(settings: JournalSettings) -> Entry | None:
    """
    Return the last entry, of whatever unit; None where there is none.
    """
    return await _find([*_journal(settings), "--lines=1", *_machine(settings)])


async def is_last(settings: JournalSettings, cursor: str) -> bool:
    """
    Return whether the journal has no entry behind that of *cursor* that *settings* want.
    """
    arguments = [*_journal(settings, cursor), *_wanted(settings)]
    return await _find(arguments, lambda entry: not is_same(entry.cursor, cursor)) is None


@asynccontextmanager
async def running(arguments: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """
    Run *arguments* for as long as the block lasts.  Raises OSError where there is no such command.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )
    try:
        child = await asyncio.shield(starting)
    except OSError as error:
        text = (
            f"{arguments[0]}: {error.strerror}: install systemd's journalctl, or set `journalctl`"
        )
        raise OSError(text) from error
    except asyncio.CancelledError:
        # Half-way there is a process already, which nobody would end.
        with suppress(OSError):
            await _end(await starting)
        raise
    try:
        yield child
    finally:
        await _end(child)


async def ended(child: asyncio.subprocess.Process, said: bytes) -> OSError:
    """
    Return the error that *child*, which *said* something and closed its output, has ended with.
    """
    reason = said.decode(errors="replace").strip() or "it does not say why"
    return OSError(f"journalctl ended with exit code {await child.wait()}: {reason}")


async def _end(child: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        child.kill()
    # Pipes are closed when their end has been read; somebody else may have inherited them.
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            for pipe in (child.stdout, child.stderr):
                while pipe is not None and await pipe.read(READ_BYTES):
                    pass
    await child.wait()


async def _find(
    arguments: Sequence[str], wanted: Callable[[Entry], bool] = lambda _: True
) -> Entry | None:
    lines = Lines()
    async with running(arguments) as child, asyncio.timeout(ANSWER_S):
        assert child.stdout is not None
        assert child.stderr is not None
        while data := await child.stdout.read(READ_BYTES):
            for entry in map(read_entry, lines.take(data)):
                if entry is not None and wanted(entry):
                    return entry
        said = (await child.stderr.read())[-STDERR_BYTES_MAX:]
        # Older ones end with 1 where a match finds nothing, and say nothing then.
        if await child.wait() and said:
            raise await ended(child, said)
    return None


def _journal(settings: JournalSettings, cursor: str = "") -> list[str]:
    fields = ",".join(("MESSAGE", *FIELDS, *ABOUT_FIELDS))
    arguments = [settings.journalctl, "--output=json", "--all", "--quiet", "--no-pager", "--merge"]
    arguments.append(f"--output-fields={fields}")
    if settings.directory:
        arguments.append(f"--directory={settings.directory}")
    # Not --after-cursor: it passes over an entry also where the one of the cursor is gone.
    return [*arguments, f"--cursor={cursor}"] if cursor else arguments


def _wanted(settings: JournalSettings) -> list[str]:
    units = [f"--unit={unit}" for unit in settings.units]
    return [*units, *settings.matches, *_machine(settings)]


def _machine(settings: JournalSettings) -> Iterable[str]:
    if settings.directory or any(match.startswith("_MACHINE_ID=") for match in settings.matches):
        return ()
    try:
        with open(MACHINE_ID, encoding="ascii") as file:
            machine = file.read(64).strip()
    except (OSError, ValueError):
        return ()
    return (f"_MACHINE_ID={machine}",) if len(machine) == 32 else ()
