"""
Deleted files that a route has yet to read: held as long as the limits allow, then given up with a record.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from agent.core import counters as metric
from agent.core.batch import LossReason
from agent.core.held import Held, to_give_up
from agent.runtime.held import HeldFiles
from agent.sources.settings import FilesSettings
from tests.fakes.source_host import RouteModel, Source
from tests.sources.conftest import append

if TYPE_CHECKING:
    from pathlib import Path

#: Of disk: small files take one block.
LINE = b"x" * 65_535 + b"\n"


class World:
    """
    A route that reads nothing until it is told to, and three generations of its Log.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "app.log"
        self.source = Source(FilesSettings(paths=(str(self.path),), rotate_grace_s=1.0))
        self.route: RouteModel

    def held(self, *, bytes_max: int = 1 << 40, free_min: int = 0) -> HeldFiles:
        return HeldFiles(
            {"containers": self.source.files},
            host=self.source.host,  # type: ignore[arg-type]
            counters=self.source.counters,
            bytes_max=bytes_max,
            free_min=free_min,
        )

    async def fill(self, lines: int) -> None:
        """
        Write *lines* lines and rotate; nobody reads.
        """
        for _ in range(lines):
            append(self.path, LINE)
        await self.tick()
        self.path.rename(self.path.with_name("app.log.1"))

    async def tick(self, seconds: float = 3.0) -> None:
        watches = self.source.host.watches
        for _ in range(3):
            self.source.host.clock.seconds += seconds / 3
            watches.pending.extend((path, None) for path in watches.directories)
            await self.source.files.tick()

    async def start(self) -> None:
        self.path.touch()
        self.route = await self.source.start()
        self.source.routes.clear()
        for lines in (1, 2, 3):
            await self.fill(lines)
            await self.tick()
            if lines < 3:
                self.path.with_name("app.log.1").unlink()
                await self.tick()
        append(self.path, b"live\n")
        await self.tick()

    def value(self, gauge: metric.Metric, *labels: str) -> float:
        return self.source.counters.get(gauge, *labels)

    @property
    def losses(self) -> list[tuple[int, int, int, str, str]]:
        return [
            (loss.generation, loss.start, loss.stop, loss.reason, loss.detail)
            for loss in self.route.losses
        ]


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.start()
    return made


async def test_deleted_files_are_held_below_the_limit(world: World) -> None:
    """
    Everything is read, however late; the gauges say what is held, and nothing once it is read.
    """
    held = world.held()
    held.check()
    assert world.value(metric.HELD_DELETED_FILES) == 2
    assert 3 * len(LINE) <= world.value(metric.HELD_DELETED_BYTES) < 4 * len(LINE)
    assert world.value(metric.LOG_DISK_FREE_BYTES, "containers") > 0
    await world.route.read_all()
    assert len(world.route.texts(world.path)) == 7
    assert not world.losses
    world.route.commit()
    held.check()
    assert world.value(metric.HELD_DELETED_BYTES) == 0
    assert not world.source.host.told
    world.source.close()


async def test_past_the_limit_the_first_deleted_is_given_up(world: World) -> None:
    """
    Its bytes are a loss with the limit's name; what was deleted later is read.
    """
    held = world.held(bytes_max=5 * len(LINE) // 2)
    held.check()
    assert world.value(metric.HELD_DELETED_FILES) == 1
    await world.route.read_all()
    assert world.losses == [(0, 0, len(LINE), LossReason.HELD_TOO_LONG, "held_deleted_bytes_max")]
    assert len(world.route.texts(world.path)) == 6
    ((event, text),) = world.source.host.told
    assert event == "held_files_given_up"
    assert str(world.path) in text
    world.source.close()


async def test_a_disk_that_is_nearly_full(world: World) -> None:
    """
    As much is given up as is missing of the free space; files with a name are left alone.
    """
    world.source.host.disk.free = lambda _path: 1000  # type: ignore[assignment, method-assign]
    world.held(free_min=1000).check()
    assert world.value(metric.HELD_DELETED_FILES) == 2
    world.held(free_min=1001).check()
    assert world.value(metric.HELD_DELETED_FILES) == 1
    world.held(free_min=1 << 30).check()
    assert world.value(metric.HELD_DELETED_FILES) == 0
    await world.route.read_all()
    assert [loss[0] for loss in world.losses] == [0, 1]
    assert {loss[4] for loss in world.losses} == {"disk_free_min_bytes"}
    assert len(world.route.texts(world.path)) == 4
    world.source.close()


async def test_a_file_that_was_read_is_no_loss(world: World) -> None:
    """
    Read and not yet confirmed: nothing is missing unless the route has to read it again.
    """
    await world.route.read_all()
    held = world.held(bytes_max=0)
    held.check()
    assert world.value(metric.HELD_DELETED_FILES) == 0
    await world.route.read_all()
    assert not world.losses
    assert len(world.route.texts(world.path)) == 7
    world.source.close()


async def test_a_file_of_which_there_is_a_copy_is_read_from_it(tmp_path: Path) -> None:
    """
    The kubelet compressed it and removed the original: the space is given back, and nothing is lost.
    """
    path = tmp_path / "app.log"
    source = Source(FilesSettings(paths=(str(path),), rotate_grace_s=1.0))
    append(path, b"first\n" + LINE)
    route = await source.start()
    await source.files.tick()
    rotated = tmp_path / "app.log.1"
    path.rename(rotated)
    append(path, b"live\n")
    (tmp_path / "app.log.1.gz").write_bytes(gzip.compress(rotated.read_bytes()))
    rotated.unlink()
    source.host.watches.pending.append((str(tmp_path), None))
    await source.files.tick()
    held = HeldFiles(
        {"containers": source.files},
        host=source.host,  # type: ignore[arg-type]
        counters=source.counters,
        bytes_max=0,
        free_min=0,
    )
    held.check()
    assert source.counters.get(metric.HELD_DELETED_FILES) == 0
    await source.settle(5)
    assert route.texts(path) == [b"first", LINE[:-1], b"live"]
    assert not route.losses
    source.close()


async def test_it_is_said_once_a_minute(world: World) -> None:
    """
    However many files go, one line says how many and how much.
    """
    held = world.held(bytes_max=5 * len(LINE) // 2)
    held.check()
    held._bytes_max = 0
    held.check()
    assert world.value(metric.HELD_DELETED_FILES) == 0
    assert len(world.source.host.told) == 1
    world.source.host.clock.seconds += 60
    held.check()
    assert len(world.source.host.told) == 2
    held.check()
    assert len(world.source.host.told) == 2
    await world.route.read_all()
    world.source.close()


def test_the_order_of_giving_up() -> None:
    """
    Copies first, then the oldest, of one age the largest; a full disk counts by file system.
    """

    def item(name: str, device: int, size: int, since: float, *, copied: bool = False) -> Held[str]:
        return Held(device=device, size=size, since=since, copied=copied, what=name)

    held = [
        item("new", 1, 10, 9.0),
        item("old", 1, 10, 1.0),
        item("old large", 1, 30, 1.0),
        item("copied", 1, 10, 9.0, copied=True),
        item("other disk", 2, 10, 0.0),
    ]

    def given(bytes_max: int, free: dict[int, int], free_min: int) -> list[str]:
        rows = to_give_up(held, bytes_max=bytes_max, free=free, free_min=free_min)
        return [row.what for row, _ in rows]

    assert given(70, {1: 100, 2: 100}, 100) == []
    assert given(50, {1: 100, 2: 100}, 100) == ["copied", "other disk"]
    assert given(25, {}, 0) == ["copied", "other disk", "old large"]
    assert given(70, {1: 85, 2: 100}, 100) == ["copied", "old large"]
    assert given(70, {1: 100, 2: 99}, 100) == ["other disk"]
    assert given(0, {}, 0) == ["copied", "other disk", "old large", "old", "new"]
