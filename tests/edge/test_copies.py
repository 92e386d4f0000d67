"""
One content under two names, or long after it was read: every line once.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.sources.discovery import Scan
from agent.sources.settings import FilesSettings
from tests.fakes.source_host import Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def line(number: int) -> str:
    """
    A line as a container runtime writes it: no other begins like it.
    """
    return f"2026-11-22T19:00:01.{number:09d}Z stdout F {number}\n"


def after_next_scan(source: Source, happen: Callable[[], None]) -> None:
    """
    Call *happen* between the next scan and the moment when what it saw is taken in.
    """
    run_blocking = source.host.run_blocking

    async def run(function: Callable[..., Any], *args: Any) -> Any:
        seen = await run_blocking(function, *args)
        if args and isinstance(args[0], Scan):
            source.host.run_blocking = run_blocking  # type: ignore[method-assign]
            happen()
        return seen

    source.host.run_blocking = run  # type: ignore[method-assign]


async def test_a_copy_that_is_there_before_the_file_is_cut(tmp_path: Path) -> None:
    """
    An agent that starts between the copy and the cut of copytruncate reads one of the two.
    """
    log = tmp_path / "app.log"
    log.write_text(line(1) + line(2))
    shutil.copy(log, tmp_path / "app.log.1")
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    route = await source.start()
    await source.settle(10)
    assert route.texts(log) == [b"1", b"2"]
    log.write_text(line(3))
    await source.settle(10)
    assert route.texts(log) == [b"1", b"2", b"3"]
    assert not route.losses
    source.close()


async def test_two_names_of_one_content_in_one_look(tmp_path: Path) -> None:
    """
    Names move while a directory is read: a rotated file is seen before and behind a shift.
    """
    log = tmp_path / "app.log"
    (tmp_path / "app.log.2").write_text(line(1))
    (tmp_path / "app.log.1").write_text(line(1))
    log.write_text(line(2))
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    route = await source.start()
    await source.settle(10)
    assert route.texts(log) == [b"1", b"2"]
    source.close()


async def test_what_was_passed_is_seen_when_nothing_behind_it_is(tmp_path: Path) -> None:
    """
    A rotated file was read and forgotten; then the live one is overwritten, and only the old one is left.
    """
    log = tmp_path / "app.log"
    log.write_text(line(1))
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    route = await source.start()
    await source.settle(1)
    log.rename(tmp_path / "app.log.1")
    log.write_text(line(2))
    for _ in range(3):
        await source.settle(10)
        route.commit()
    log.write_text(line(3) + line(4))
    for _ in range(3):
        await source.settle(10)
        route.commit()
    assert route.texts(log) == [b"1", b"2", b"3", b"4"]
    source.close()


async def test_a_view_from_before_the_cut_is_taken_in_after_it(tmp_path: Path) -> None:
    """
    A scan takes a while: what it saw in the live file is only in a copy by the time it is told.
    """
    log = tmp_path / "app.log"
    log.write_text(line(1) + line(2))
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    route = await source.start()
    await source.settle(1)
    (followed,) = source.files.logs.values()
    (generation,) = followed.chain.generations
    with log.open("a") as file:
        file.write(line(3))

    def cut() -> None:
        shutil.copy(log, tmp_path / "app.log.1")
        log.write_text("")
        # Meanwhile a reader finds the cut, and a commit closes what belongs to no generation.
        source.files.overwritten(followed, generation)
        followed.let_go(source.host.disk)

    after_next_scan(source, cut)
    await source.settle(10)
    log.write_text(line(4))
    await source.settle(10)
    assert route.texts(log) == [b"1", b"2", b"3", b"4"]
    assert len({segment.file_id for segment in route.segments}) == 2
    assert not route.losses
    source.close()


async def test_a_new_file_is_cut_before_what_was_seen_of_it_is_taken_in(tmp_path: Path) -> None:
    """
    By then its lines are only in a copy that the scan did not see, and they come before those in the live file.
    """
    log = tmp_path / "app.log"
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    route = await source.start()
    log.write_text(line(1) + line(2))

    def cut() -> None:
        shutil.copy(log, tmp_path / "app.log.1")
        log.write_text(line(3) + line(4) + line(5))

    after_next_scan(source, cut)
    await source.settle(10)
    assert route.texts(log) == [b"1", b"2", b"3", b"4", b"5"]
    assert not route.losses
    source.close()


async def test_a_scan_is_cancelled(tmp_path: Path) -> None:
    """
    What it has opened until then is closed.
    """
    (tmp_path / "app.log").write_text(line(1))
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",)))

    def cancel() -> None:
        assert len(source.host.disk.opened) == 1
        raise asyncio.CancelledError

    after_next_scan(source, cancel)
    with pytest.raises(asyncio.CancelledError):
        await source.files.scan()
    assert not source.host.disk.opened


@pytest.mark.parametrize("seen", [0, 20], ids=["empty", "half a line"])
async def test_a_copy_is_seen_while_it_is_made(tmp_path: Path, seen: int) -> None:
    """
    It has no first line yet when the live file has been cut already: when it has one, it is what was cut.
    """
    log, copy = tmp_path / "app.log", tmp_path / "app.log.1"
    text = line(1) + line(2)
    log.write_text(text)
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    # Its clock is far ahead of the files'.
    now_ns = time.time_ns()
    source.host.clock.now_ns = lambda: now_ns  # type: ignore[method-assign]
    route = await source.start()
    await source.settle(1)
    log.write_text(text + line(3))
    shutil.copy(log, copy)
    copy.write_text(text[:seen])
    log.write_text("")
    await source.files.scan()
    copy.write_text(text + line(3))
    log.write_text(line(4))
    await source.settle(10)
    assert route.texts(log) == [b"1", b"2", b"3", b"4"]
    assert len({segment.file_id for segment in route.segments}) == 2
    assert not route.losses
    source.close()


async def test_a_rotated_file_that_ends_in_its_first_line_is_read_all_the_same(
    tmp_path: Path,
) -> None:
    """
    Once nobody has written to it for a while.
    """
    log = tmp_path / "app.log"
    (tmp_path / "app.log.1").write_text(line(1)[:-1])
    log.write_text(line(2))
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    began_ns, began_s = time.time_ns(), source.host.clock.seconds
    source.host.clock.now_ns = lambda: (  # type: ignore[method-assign]
        began_ns + int((source.host.clock.seconds - began_s) * 1e9)
    )
    route = await source.start()
    await source.settle(10)
    assert route.texts(log) == [b"1", b"2"]
    assert not route.losses
    source.close()
