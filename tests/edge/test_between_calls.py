"""
The world does not wait between two system calls: files are cut and renamed there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.core.identity import head_of
from agent.core.rotated_names import as_live
from agent.sources.files import FilesSettings
from agent.sources.heads import look_at
from tests.fakes.source_host import Source, TestDisk

if TYPE_CHECKING:
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
