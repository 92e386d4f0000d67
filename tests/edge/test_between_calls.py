"""
The world does not wait between two system calls: files are cut and renamed there.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from agent.core.identity import head_of
from agent.core.rotated_names import as_live
from agent.sources.discovery import LIST_ATTEMPTS
from agent.sources.heads import look_at
from agent.sources.looks import LEFT_OUT_MAX
from agent.sources.settings import FilesSettings
from tests.edge.rotation_kit import SIBLINGS_MAX, LogFile
from tests.fakes.source_host import START_NS, Source, TestDisk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.core.host import FileStat


def lines(numbers: range) -> str:
    """
    Lines as a container runtime writes them: no other begins like one of them.
    """
    return "".join(f"2026-11-22T19:00:01.{number:09d}Z stdout F {number}\n" for number in numbers)


def rename(log: Path, text: str) -> None:
    """
    Rotate as everybody else does, and write on.
    """
    first, second = log.with_name("app.log.1"), log.with_name("app.log.2")
    if first.exists():
        first.rename(second)
    log.rename(first)
    log.write_text(text)


@pytest.mark.parametrize("times", [1, 3])
def test_size_and_head_are_of_one_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """
    A file that is cut and written anew behind the call that asks for its size is asked again.
    """
    log, disk = tmp_path / "app.log", TestDisk()
    log.write_text(lines(range(9)))
    fstat = disk.fstat

    def cut_behind(fd: int) -> FileStat:
        nonlocal times
        status = fstat(fd)
        if times:
            log.write_text(lines(range(10 + times, 12 + times)))
            times -= 1
        return status

    monkeypatch.setattr(disk, "fstat", cut_behind)
    fd = disk.open(str(log))
    parts = as_live(log.name)
    assert parts is not None
    status, head = look_at(disk, fd, parts, now_ns=0)
    assert head == head_of(lines(range(11, 12)).encode(), whole=False)
    assert status.st_size == log.stat().st_size
    disk.close(fd)


async def test_a_rename_in_the_tick_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Then the directory's time says nothing: it is listed again, or a file would hide behind two names that moved.
    """
    log = tmp_path / "app.log"
    log.write_text(lines(range(1, 2)))
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    disk = source.host.disk
    stat, listed = disk.stat, disk.list
    route = await source.start()
    await source.settle(1)
    log.rename(log.with_name("app.log.1"))
    await source.settle(1)
    log.write_text(lines(range(2, 3)))
    before = tmp_path.stat()
    monkeypatch.setattr(source.host.clock, "now_ns", lambda: before.st_mtime_ns)

    def stand_still(path: str) -> FileStat:
        return before if path == str(tmp_path) else stat(path)

    monkeypatch.setattr(disk, "stat", stand_still)

    def list_and_rename(directory: str) -> list[tuple[str, FileStat]]:
        listing = listed(directory)
        if not log.with_name("app.log.2").exists():
            rename(log, lines(range(3, 4)))
        return listing

    monkeypatch.setattr(disk, "list", list_and_rename)
    await source.settle(5)
    assert route.texts(log) == [b"1", b"2", b"3"]
    source.close()


slow = pytest.mark.slow
COUNTED = ("list", "stat", "open", "fstat", "pread", "read_warm", "read_cold")


class After:
    """
    Does something behind the disk's calls of certain numbers.
    """

    def __init__(self, disk: TestDisk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.acts: dict[int, Callable[[], None]] = {}
        self.armed = False
        for name in COUNTED:
            monkeypatch.setattr(disk, name, self._behind(getattr(disk, name)))

    def _behind(self, call: Callable[..., object]) -> Callable[..., object]:
        def called(*args: object) -> object:
            result = call(*args)
            if self.armed:
                self.calls += 1
                act = self.acts.pop(self.calls, None)
                if act is not None:
                    act()
            return result

        return called


def rotate(log: LogFile, how: str, count: int) -> None:
    """
    Rotate, keeping all that was, and write on.
    """
    if how == "rename":
        log.rename()
    else:
        log.shift()
        log.copytruncate()
    log.lines(count)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("count", [2, 9])
@pytest.mark.parametrize("how", ["rename", "copytruncate"])
@pytest.mark.parametrize(
    "gap", [0, 1, pytest.param(2, marks=slow), 5, pytest.param(11, marks=slow)]
)
async def test_rotated_between_any_two_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, count: int, gap: int, *, known: bool
) -> None:
    """
    Twice, *gap* calls apart: every line comes once, and nothing is said to be lost.
    """
    problems: list[str] = []
    at = 0
    while True:
        at += 1
        place = tmp_path / str(at)
        place.mkdir()
        source = Source(FilesSettings(paths=(f"{place}/*.log",), rotate_grace_s=1.0))
        with monkeypatch.context() as patch:
            after = After(source.host.disk, patch)
            clock = source.host.clock
            patch.setattr(clock, "now_ns", time.time_ns)
            if known:
                log = LogFile(place, "cri")
                log.lines(3)
            route = await source.start()
            await source.settle(1)
            if not known:
                log = LogFile(place, "cri")
            log.lines(4)
            after.acts[at] = partial(rotate, log, how, count)
            if gap:
                after.acts[at + gap] = partial(rotate, log, how, count)
            after.armed = True
            await source.settle(1)
            after.armed = False
            await source.settle(5)
            source.close()
        texts = route.texts(log.path)
        if texts != log.written or route.losses:
            problems.append(f"{at}: {texts} of {log.count}, {route.losses}")
        if after.acts:
            break
    assert not problems, f"{len(problems)} of {at}:\n" + "\n".join(problems[:8])


@pytest.mark.parametrize("how", ["cut", "kept"])
async def test_a_copy_in_the_making_of_a_log_without_times(tmp_path: Path, how: str) -> None:
    """
    Its first line does not tell a copy from another file: both are left alone until one of them has changed.
    """
    log = tmp_path / "app.log"
    log.write_text("starting\none\ntwo\n")
    log.with_name("app.log.1").write_text("starting\none\n")
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    source.host.clock.seconds = (time.time_ns() - START_NS) / 1e9
    route = await source.start()
    await source.settle(0.2)
    assert not route.segments
    if how == "cut":
        log.with_name("app.log.1").write_text("starting\none\ntwo\n")
        log.write_text("starting\n")
    await source.settle(5)
    whole = [b"starting", b"one", b"two"]
    expected = [*whole, b"starting"] if how == "cut" else whole[:2] + whole
    assert route.texts(log) == expected
    assert not route.losses
    source.close()


@pytest.mark.parametrize("how", ["rename", "copytruncate"])
async def test_nothing_is_concluded_while_names_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """
    Rotated at every attempt, as often as a view may be left out: what was seen would be out of order, or missing.
    """
    log = LogFile(tmp_path, "cri")
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    monkeypatch.setattr(source.host.clock, "now_ns", time.time_ns)
    disk = source.host.disk
    listed = disk.list
    left = 2 * LIST_ATTEMPTS * LEFT_OUT_MAX
    log.lines(3)

    def list_and_rotate(directory: str) -> list[tuple[str, FileStat]]:
        nonlocal left
        listing = listed(directory)
        if left:
            left -= 1
            # Between the listing that is looked into and the one that is compared with it.
            if left % 2:
                rotate(log, how, 2)
        return listing

    monkeypatch.setattr(disk, "list", list_and_rotate)
    route = await source.start()
    await source.settle(5)
    assert route.texts(log.path) == log.written
    assert not route.losses
    source.close()


async def test_a_copy_that_is_always_young_is_read_in_the_end(tmp_path: Path) -> None:
    """
    Beside a live file that begins alike, somebody goes on writing to what was renamed.
    """
    log, old = tmp_path / "app.log", tmp_path / "app.log.1"
    old.write_text("time,value\n1,1\n")
    log.write_text("time,value\n2,2\n3,3\n")
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    source.host.clock.seconds = (time.time_ns() - START_NS) / 1e9
    route = await source.start()
    for _ in range(LEFT_OUT_MAX + 1):
        later_ns = source.host.clock.now_ns()
        os.utime(old, ns=(later_ns, later_ns))
        await source.settle(0.2)
    await source.settle(5)
    assert len(route.texts(log)) == 5
    source.close()


async def test_a_replay_reads_a_young_copy_at_once(tmp_path: Path) -> None:
    """
    Nothing is written there any more, however young it is; and there is no second look.
    """
    log = tmp_path / "app.log"
    log.with_name("app.log.1").write_text("time,value\n1,1\n")
    log.write_text("time,value\n2,2\n3,3\n")
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",)), finite=True)
    source.host.clock.seconds = (time.time_ns() - START_NS) / 1e9
    route = await source.start()
    source.files.freeze()
    await route.read_all()
    assert len(route.texts(log)) == 5
    source.close()


async def test_names_of_others_move_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    In a directory of many logs, those that stand still are read at the first look.
    """
    log = tmp_path / "still.log"
    log.write_text(lines(range(3)))
    other = LogFile(tmp_path, "cri")
    other.lines(1)
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",)))
    monkeypatch.setattr(source.host.clock, "now_ns", time.time_ns)
    disk = source.host.disk
    listed = disk.list

    def list_and_rotate(directory: str) -> list[tuple[str, FileStat]]:
        listing = listed(directory)
        (tmp_path / f"notes-{time.time_ns()}").touch()
        if other.count < SIBLINGS_MAX:
            rotate(other, "rename", 1)
        return listing

    monkeypatch.setattr(disk, "list", list_and_rotate)
    route = await source.start()
    await route.read_all()
    assert route.texts(log) == [b"0", b"1", b"2"]
    await source.settle(5)
    source.close()
