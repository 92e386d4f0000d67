"""
The spool: a batch and the position behind it are there together or not at all, and routes read each once.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from agent.core import counters as metric
from agent.core.counters import Counters
from agent.core.errors import StopError
from agent.runtime import spool as spool_module
from agent.runtime.spool import Spool, passed_by_all
from agent.runtime.state_disk import OsStateDisk
from agent.sources.spooled import (
    File,
    batch_file,
    record,
    settings_of,
    spool_directory,
    spool_log,
)
from tests.fakes.source_host import Source, SourceHost

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


class Killed(BaseException):
    """
    The process ends here.
    """


class MortalDisk(OsStateDisk):
    """
    The real disk of a process that ends at one of its changes: before, in the middle of, or after it.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.changes = 0

    def _step(self) -> bool:
        self.changes += 1
        if self.left is None:
            return False
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.left == 0

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        if self._step():
            OsStateDisk.pwrite(fd, bytes(data)[: len(data) // 2], offset)
            raise Killed
        return OsStateDisk.pwrite(fd, data, offset)

    def open(self, path: str) -> int:  # type: ignore[override]
        self._step()
        return OsStateDisk.open(path)

    def rename(self, path: str, target: str) -> None:  # type: ignore[override]
        self._step()
        OsStateDisk.rename(path, target)

    def unlink(self, path: str) -> None:  # type: ignore[override]
        self._step()
        OsStateDisk.unlink(path)

    def sync(self, fd: int) -> None:  # type: ignore[override]
        self._step()
        OsStateDisk.sync(fd)

    def sync_directory(self, path: str) -> None:  # type: ignore[override]
        self._step()
        OsStateDisk.sync_directory(path)


def lines(first: int, count: int, size: int = 0) -> bytes:
    return b"".join(
        record(f"line {number} {'x' * size}", time_ns=number, attrs={"event_id": str(number)})
        for number in range(first, first + count)
    )


def numbers(spool: Spool, tmp_path: Path) -> list[int]:
    """
    Return the numbers of all lines in the spool, in the order of its files.
    """
    directory = tmp_path / "spool" / "eks"
    names = sorted(item.name for item in directory.iterdir() if batch_file(item.name) is not None)
    return [
        int(orjson.loads(line)["attrs"]["event_id"])
        for name in names
        for line in (directory / name).read_bytes().splitlines()
    ]


def made(tmp_path: Path, disk: OsStateDisk | None = None, bytes_max: int = 16 * MIB) -> Spool:
    host = SourceHost()
    host.state_disk = disk or OsStateDisk()  # type: ignore[attr-defined]
    return Spool(
        spool_directory(str(tmp_path), "eks"),
        source="eks",
        bytes_max=bytes_max,
        host=host,  # type: ignore[arg-type]
        counters=Counters(),
    )


async def test_batch_and_position_come_back_together(tmp_path: Path) -> None:
    """
    A position without records is durable as well.
    """
    spool = made(tmp_path)
    assert await spool.open() == b""
    await spool.append({"audit": lines(0, 3)}, b"at 3")
    await spool.append({}, b"at 3, later")
    again = made(tmp_path)
    assert await again.open() == b"at 3, later"
    await again.append({"audit": lines(3, 2)}, b"at 5")
    assert numbers(again, tmp_path) == [0, 1, 2, 3, 4]


async def test_killed_at_any_point_nothing_is_torn_lost_or_twice(tmp_path: Path) -> None:
    """
    After every possible end of the process the position says exactly which records are there.
    """
    points = 0
    while True:
        disk = MortalDisk()
        root = tmp_path / str(points)
        root.mkdir()
        spool = made(root, disk)
        await spool.open()
        await spool.append({"audit": lines(0, 2)}, b"2")
        disk.left = points
        try:
            await spool.append({"audit": lines(2, 3)}, b"5")
            await spool.prune({"audit": 1})
            ended = False
        except Killed:
            ended = True
        after = made(root)
        position = int(await after.open())
        found = numbers(after, root)
        assert position in (2, 5)
        assert found in (list(range(position)), list(range(2, position)))
        await after.append({"audit": lines(position, 1)}, b"next")
        assert numbers(after, root)[-1] == position
        assert not list((root / "spool" / "eks").glob("*.tmp"))
        if not ended:
            break
        points += 1
    assert points >= 8


async def test_a_batch_of_several_components_is_one(tmp_path: Path) -> None:
    """
    Killed anywhere, the files of all of them are there, or of none; each is a Log with its component as container.
    """
    points = 0
    while True:
        disk = MortalDisk()
        root = tmp_path / str(points)
        root.mkdir()
        spool = made(root, disk)
        await spool.open()
        disk.left = points
        try:
            await spool.append({"audit": lines(0, 2), "kube-scheduler": lines(2, 1)}, b"3")
            ended = False
        except Killed:
            ended = True
        after = made(root)
        position = int(await after.open() or b"0")
        assert len(numbers(after, root)) == position
        if not ended:
            break
        points += 1
    settings = settings_of(object(), state_dir=str(root), source="eks")
    assert settings.components_by_path is not None
    for name in ("audit", "kube-scheduler"):
        assert settings.components_by_path.find(spool_log(after.directory, name)) == name
    assert after.passed({"audit": 1}) == 0
    assert after.passed({"audit": 1, "kube-scheduler": 1}) == 1


async def test_killed_while_it_recovers(tmp_path: Path) -> None:
    """
    A batch that counts and has no name yet gets it at the start after next.
    """
    spool = made(tmp_path)
    await spool.open()
    await spool.append({"audit": lines(0, 2)}, b"2")
    directory = tmp_path / "spool" / "eks"
    (directory / File("audit", 1).name).rename(directory / File("audit", 1).being_written)
    disk = MortalDisk()
    disk.left = 0
    with pytest.raises(Killed):
        await made(tmp_path, disk).open()
    again = made(tmp_path)
    assert await again.open() == b"2"
    assert numbers(again, tmp_path) == [0, 1]


async def test_full_means_no_room_until_it_is_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    By bytes and by files; the newest batch stays.
    """
    monkeypatch.setattr(spool_module, "FILES_MAX", 3)
    spool = made(tmp_path, bytes_max=400)
    await spool.open()
    assert spool.has_room
    await spool.append({"audit": lines(0, 1, size=500)}, b"1")
    assert not spool.has_room
    await spool.prune({"audit": 1})
    assert not spool.has_room
    spool = made(tmp_path, bytes_max=16 * MIB)
    await spool.open()
    for number in range(1, 3):
        assert spool.has_room
        await spool.append({"audit": lines(number, 1)}, b"x")
    assert not spool.has_room
    await spool.prune({"audit": 2})
    assert spool.has_room
    assert numbers(spool, tmp_path) == [2]


async def test_a_full_disk_leaves_it_to_the_next_open(tmp_path: Path) -> None:
    """
    Nothing is appended before somebody has looked what is there.
    """

    class FullDisk(OsStateDisk):
        full = False

        def pwrite(self, fd: int, data: Any, offset: int) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return OsStateDisk.pwrite(fd, data, offset)

    disk = FullDisk()
    spool = made(tmp_path, disk)
    await spool.open()
    await spool.append({"audit": lines(0, 1)}, b"1")
    disk.full = True
    with pytest.raises(OSError, match="No space"):
        await spool.append({"audit": lines(1, 1)}, b"2")
    disk.full = False
    with pytest.raises(AssertionError):
        await spool.append({"audit": lines(1, 1)}, b"2")
    assert await spool.open() == b"1"
    await spool.append({"audit": lines(1, 1)}, b"2")
    assert numbers(spool, tmp_path) == [0, 1]


async def test_a_damaged_position_is_said_and_batches_stay(tmp_path: Path) -> None:
    """
    One of a later version is refused.
    """
    spool = made(tmp_path)
    await spool.open()
    await spool.append({"audit": lines(0, 2)}, b"2")
    path = tmp_path / "spool" / "eks" / "position"
    path.write_bytes(path.read_bytes()[:-1])
    again = made(tmp_path)
    assert await again.open() == b""
    assert [event for event, _ in again._host.told] == ["spool_damaged"]  # type: ignore[attr-defined]
    await again.append({"audit": lines(2, 1)}, b"3")
    assert numbers(again, tmp_path) == [0, 1, 2]
    path.write_bytes(b'{"version":2,"number":1,"bytes":0}\n')
    with pytest.raises(StopError, match="later Tailrace"):
        await made(tmp_path).open()


async def test_routes_read_every_batch_once_and_the_slowest_decides(tmp_path: Path) -> None:
    """
    What both have committed is deleted, is no loss, and is not read again after a restart.
    """
    spool = made(tmp_path)
    await spool.open()
    settings = settings_of(object(), state_dir=str(tmp_path), source="eks")
    key = spool_log(spool.directory, "audit")
    await spool.append({"audit": lines(0, 2)}, b"2")
    source = Source(settings, routes=("fast", "slow"))
    fast, slow = await source.start("fast"), await source.start("slow")
    await spool.append({"audit": lines(2, 2)}, b"4")
    await spool.append({"audit": lines(4, 2)}, b"6")
    await source.settle(20)
    assert [text.split()[1] for text in fast.texts(key)] == [b"%d" % n for n in range(6)]
    assert fast.texts(key) == slow.texts(key)
    fast.commit()
    assert passed_by_all(source.files, spool) == {"audit": 0}
    cursors, rows = slow.commit()
    assert passed_by_all(source.files, spool) == {"audit": 3}
    await spool.prune({"audit": 3})
    assert numbers(spool, tmp_path) == [4, 5]
    await spool.append({"audit": lines(6, 1)}, b"7")
    await source.settle(20)
    cursors, rows = fast.commit()
    slow.commit()
    assert len(fast.texts(key)) == 7
    assert fast.losses == slow.losses == []
    source.close()
    await spool.append({"audit": lines(7, 1)}, b"8")
    restarted = Source(settings, routes=("fast", "slow"), rows=rows)
    fast = await restarted.start("fast", cursors=cursors, first_start=False)
    slow = await restarted.start("slow", cursors=cursors, first_start=False)
    await restarted.settle(20)
    assert [text.split()[1] for text in fast.texts(key)] == [b"7"]
    assert fast.losses == []
    restarted.close()


async def test_what_it_holds_is_a_metric(tmp_path: Path) -> None:
    """
    Bytes and files, by source.
    """
    spool = made(tmp_path)
    await spool.open()
    await spool.append({"audit": lines(0, 3)}, b"3")
    counters = spool._counters
    assert counters.get(metric.SPOOL_BYTES, "eks") == len(lines(0, 3))
    assert counters.get(metric.SPOOL_FILES, "eks") == 1


def test_a_record_is_a_line_whatever_the_message() -> None:
    """
    Newlines, control characters and lone surrogates do not break it.
    """
    for message in ("a\nb", "\x00\x1b", "\ud800", "", "ä" * 10):
        line = record(message, time_ns=1_700_000_000_123_000_000, attrs={"event_id": "1"})
        assert line.count(b"\n") == 1
        fields = orjson.loads(line)
        assert fields["time"] == "2023-11-14T22:13:20.123000000Z"
        assert fields["log"] == message.encode(errors="replace").decode() + "\n"
