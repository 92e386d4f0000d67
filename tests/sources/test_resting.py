"""
Where every file rests, the tick waits for an event instead of coming back five times a second.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent.runtime.host import SystemHost
from agent.runtime.own_log import OwnLog
from agent.runtime.watches import InotifyWatches
from agent.sources import active
from agent.sources.settings import FilesSettings
from tests.fakes.source_host import Source, SourceHost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WAIT_S = 30.0


class _Clock:
    """
    The loop's clock, and how often somebody slept.
    """

    def __init__(self) -> None:
        self.sleeps = 0
        self.seconds = 0.0

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now_ns(self) -> int:
        return int(self.monotonic() * 1e9)

    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        await asyncio.sleep(seconds)


@pytest.fixture
async def resting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Source, _Clock]]:
    """
    A source whose files have come to rest; without an event the next tick is a minute away.
    """
    monkeypatch.setattr(active, "RESTING_S", 60.0)
    (tmp_path / "a.log").write_bytes(b"one\n")
    host = SourceHost(watches=InotifyWatches())
    clock = _Clock()
    host.clock = clock  # type: ignore[assignment]
    settings = FilesSettings(
        paths=(f"{tmp_path}/*.log",), poll_interval_s=0.05, idle_after_s=0.2, rotate_grace_s=0.1
    )
    source = Source(settings, host=host)
    route = await source.start()
    running = asyncio.ensure_future(source.files.run())
    await until(lambda: len(source.files.logs) == 1)
    await route.read_all()
    await until(lambda: source.files.states() == (0, 1))
    yield source, clock
    running.cancel()
    await asyncio.wait([running])
    for item in source.routes.values():
        item.reader.close()
    host.watches.close()


async def until(reached: Any) -> None:
    async with asyncio.timeout(WAIT_S):
        while not reached():
            await asyncio.sleep(0.01)


async def test_nothing_ticks_while_all_files_rest(resting: tuple[Source, _Clock]) -> None:
    _, clock = resting
    await asyncio.sleep(0.2)
    before = clock.sleeps
    await asyncio.sleep(1)
    assert clock.sleeps - before <= 2


async def test_a_write_to_a_resting_file_wakes_the_tick(
    resting: tuple[Source, _Clock], tmp_path: Path
) -> None:
    source, _ = resting
    with (tmp_path / "a.log").open("ab") as file:
        file.write(b"two\n")
    await until(lambda: source.files.states() == (1, 0))
    route = source.routes["r"]
    await route.read_all()
    assert route.texts(tmp_path / "a.log") == [b"one", b"two"]


async def test_a_new_file_wakes_the_tick(resting: tuple[Source, _Clock], tmp_path: Path) -> None:
    source, _ = resting
    (tmp_path / "b.log").write_bytes(b"new\n")
    await until(lambda: str(tmp_path / "b.log") in source.files.logs)


async def test_without_events_the_tick_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    No watch could be set: the next look is the next tick.
    """
    monkeypatch.setattr(active, "RESTING_S", 60.0)
    host = SourceHost()
    host.watches.error = 28
    clock = _Clock()
    host.clock = clock  # type: ignore[assignment]
    (tmp_path / "a.log").write_bytes(b"one\n")
    settings = FilesSettings(paths=(f"{tmp_path}/*.log",), poll_interval_s=0.05, idle_after_s=0.1)
    source = Source(settings, host=host)
    await source.start()
    running = asyncio.ensure_future(source.files.run())
    await until(lambda: source.files.states() == (0, 1))
    before = clock.sleeps
    await until(lambda: clock.sleeps - before > 5)
    running.cancel()
    await asyncio.wait([running])
    source.routes["r"].reader.close()


async def test_waiting_ends_at_its_time_where_nothing_happens(tmp_path: Path) -> None:
    watches = InotifyWatches()
    await watches.wait(0.01)
    watches.watch_directory(str(tmp_path))
    await watches.wait(0.01)
    assert watches.drain() == []
    (tmp_path / "x").touch()
    async with asyncio.timeout(WAIT_S):
        await watches.wait(3600)
    assert watches.drain() == [(str(tmp_path), "x")]
    watches.close()


async def test_a_source_that_rests_takes_nobody_elses_events(tmp_path: Path) -> None:
    """
    Two sources of one process: each has its own inotify.
    """
    host = SystemHost(OwnLog())
    first, second = host.new_watches(), host.new_watches()
    for name, watches in (("a", first), ("b", second)):
        (tmp_path / name).mkdir()
        watches.watch_directory(str(tmp_path / name))
    (tmp_path / "a" / "x").touch()
    assert second.drain() == []
    assert first.drain() == [(str(tmp_path / "a"), "x")]
    host.close()
