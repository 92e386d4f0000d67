"""
The producer of a source `journal` over a real journal: what it says of entries that are gone, and of others.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from agent.config.values import Config, SourceConfig
from agent.core import counters as metric
from agent.core.counters import Counters
from agent.runtime import journal as module
from agent.runtime.journal import produce
from agent.runtime.producers import World
from agent.runtime.spool import Spool
from agent.runtime.state_disk import OsStateDisk
from agent.sources.journal_settings import JournalSettings
from agent.sources.spooled import spool_directory
from tests.fakes.journal import Journal, real
from tests.fakes.source_host import SourceHost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.core.batch import Loss

pytestmark = real


class RealClock:
    """
    The clock of the machine.
    """

    skipped_s = 0.0

    def now_ns(self) -> int:
        return 1_800_000_000_000_000_000

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.skipped_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.05))

    def random(self) -> float:
        return 0.5


class Producer:
    """
    A source over *journal*, without routes.
    """

    def __init__(self, tmp_path: Path, journal: Journal, **settings: Any) -> None:
        self.clock = RealClock()
        self.host = SourceHost()
        self.host.clock = cast("Any", self.clock)
        self.host.state_disk = OsStateDisk()  # type: ignore[attr-defined]
        self.counters = Counters()
        self.losses: list[Loss] = []
        found = {"units": ("kubelet.service",), "directory": str(journal.directory)} | settings
        self.settings = JournalSettings(**found)
        self.config = Config(node="n1", state_dir=str(tmp_path))
        self.spool = self._spool()

    def _spool(self) -> Spool:
        return Spool(
            spool_directory(self.config.state_dir, "kubelet"),
            source="kubelet",
            bytes_max=self.settings.spool_bytes_max,
            host=cast("Any", self.host),
            counters=self.counters,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.spool = self._spool()
        world = World(
            config=self.config,
            host=cast("Any", self.host),
            counters=self.counters,
            aws=cast("Any", None),
            files={},
            record_loss=self._record,
        )
        source = SourceConfig(name="kubelet", type="journal", settings=self.settings)
        task = asyncio.create_task(produce(source, self.spool, world))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _record(self, source: str, loss: Loss) -> None:
        assert source == "kubelet"
        self.losses.append(loss)

    @property
    def messages(self) -> list[str]:
        """
        What is in the spool, in its order.
        """
        files = sorted(Path(self.spool.directory).glob("*.log-*"))
        lines = [line for file in files for line in file.read_bytes().splitlines()]
        return [orjson.loads(line)["log"][:-1] for line in lines]

    @property
    def position(self) -> str:
        file = Path(self.spool.directory) / "position"
        return file.read_text().partition("\n")[2] if file.exists() else ""

    @property
    def told(self) -> list[str]:
        return [event for event, _ in self.host.told]


def children() -> list[str]:
    """
    Return the ids of this process's own.
    """
    return [
        number
        for file in Path("/proc/self/task").glob("*/children")
        for number in file.read_text().split()
    ]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


async def test_the_end_of_the_journal_is_kept_at_once(tmp_path: Path, journal: Journal) -> None:
    """
    With `start: end` what was written after the first start is read, also if that saw none.
    """
    producer = Producer(tmp_path, journal, start="end")
    journal.write("before")
    journal.write("of another unit", unit="sshd.service")
    async with producer.running():
        await until(lambda: producer.position)
    journal.write("one")
    async with producer.running():
        await until(lambda: producer.messages)
    assert producer.messages == ["one"]
    assert producer.told == []


async def test_the_end_of_an_empty_journal(tmp_path: Path, journal: Journal) -> None:
    producer = Producer(tmp_path, journal, start="end")
    async with producer.running():
        await until(lambda: producer.position)
    journal.write("one")
    async with producer.running():
        await until(lambda: producer.messages)
    assert producer.messages == ["one"]
    assert producer.losses == []


async def test_a_gap_is_said_once(tmp_path: Path, journal: Journal) -> None:
    """
    Also if the units that are wanted have written nothing since.
    """
    producer = Producer(tmp_path, journal)
    journal.write("one")
    async with producer.running():
        await until(lambda: producer.messages)
    journal.vacuum()
    journal.write("of another unit", unit="sshd.service")
    for _ in range(2):
        async with producer.running():
            await until(lambda: producer.losses)
            await until(lambda: producer.position.startswith("<"))
    journal.write("two")
    async with producer.running():
        await until(lambda: len(producer.messages) == 2)
    assert producer.messages == ["one", "two"]
    assert len(producer.losses) == 1
    assert producer.counters.get(metric.JOURNAL_GAPS, "kubelet") == 1


async def test_a_new_journal_with_an_earlier_clock(tmp_path: Path, journal: Journal) -> None:
    """
    A machine that kept its journal in memory, and has no time of its own when it begins.
    """
    producer = Producer(tmp_path, journal)
    journal.write("one")
    async with producer.running():
        await until(lambda: producer.messages)
    journal.vacuum()
    journal.reboot()
    journal.began_us -= 3_600_000_000
    journal.write("two", "three")
    async with producer.running():
        await until(lambda: len(producer.messages) == 3)
    assert producer.messages == ["one", "two", "three"]
    assert len(producer.losses) == 1


async def test_other_units_are_no_gap(tmp_path: Path, journal: Journal) -> None:
    """
    A source that was told to read another unit goes on where it was.
    """
    producer = Producer(tmp_path, journal)
    journal.write("one")
    journal.write("of containerd", unit="containerd.service")
    async with producer.running():
        await until(lambda: producer.messages)
    producer = Producer(tmp_path, journal, units=("containerd.service",))
    async with producer.running():
        await until(lambda: len(producer.messages) == 2)
    assert sorted(producer.messages) == ["of containerd", "one"]
    assert producer.losses == []


async def test_deleted_while_the_spool_was_full(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Journalctl passes over it without a word, so it is not what is asked.
    """
    producer = Producer(tmp_path, journal, spool_bytes_max=16 << 20)
    monkeypatch.setattr(Spool, "has_room", property(lambda self: self.bytes_held < 1))
    journal.write("one", file="system@1")
    async with producer.running():
        await until(lambda: "spool_full" in producer.told)
        journal.write("two", "three", file="system@1")
        journal.write("four", file="system")
        journal.vacuum("system@1")
        journal.write("five", file="system")
        monkeypatch.setattr(Spool, "has_room", True)
        await until(lambda: "five" in producer.messages)
    assert producer.messages == ["one", "four", "five"]
    assert len(producer.losses) == 1
    assert producer.told == ["spool_full", "journal_gap"]


async def test_deleted_while_nobody_read(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    After the process was frozen for a while the journal is asked again for the entry of the cursor.
    """
    monkeypatch.setattr(module, "LOOK_S", 0.2)
    producer = Producer(tmp_path, journal)
    journal.write("one", file="system@1")
    async with producer.running():
        await until(lambda: producer.messages)
        journal.write("two", file="system")
        await until(lambda: len(producer.messages) == 2)
        journal.vacuum("system")
        producer.clock.skipped_s += 60
        await until(lambda: producer.losses)
    assert producer.messages == ["one", "two"]


async def test_a_quiet_unit_does_not_stand_at_an_old_entry(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What it wrote last is deleted some day: that is no gap.
    """
    monkeypatch.setattr(module, "LOOK_S", 0.1)
    monkeypatch.setattr(module, "IDLE_S", 0.3)
    producer = Producer(tmp_path, journal)
    journal.write("one", file="system@1")
    async with producer.running():
        await until(lambda: producer.messages)
        first = producer.position
        journal.write("of another unit", unit="sshd.service")
        await until(lambda: producer.position != first)
    journal.vacuum("system@1")
    journal.write("two")
    async with producer.running():
        await until(lambda: len(producer.messages) == 2)
    assert producer.messages == ["one", "two"]
    assert producer.losses == []


async def test_what_systemd_says_of_a_unit_is_the_unit_s(tmp_path: Path, journal: Journal) -> None:
    """
    "Started kubelet.service" stands in kubelet's Log, though the first process wrote it.
    """
    producer = Producer(tmp_path, journal)
    init = {"UNIT": "kubelet.service", "_PID": "1", "_SYSTEMD_CGROUP": "/init.scope"}
    journal.write("Started", unit="init.scope", **init)
    async with producer.running():
        await until(lambda: producer.messages)
    assert (Path(producer.spool.directory) / "kubelet.log-00000000-00000000000001").exists()


async def test_cancelled_at_any_moment_nothing_is_left_running(
    tmp_path: Path, journal: Journal
) -> None:
    """
    Also while a process is being started.
    """
    journal.write("one")
    tried: set[int] = set()
    for steps in range(0, 400, 5):
        producer = Producer(tmp_path / str(steps), journal)
        async with producer.running():
            for _ in range(steps):
                await asyncio.sleep(0.0001 if steps > 100 else 0)
            tried.add(len(children()))
        assert children() == []
    assert tried == {0, 1}
