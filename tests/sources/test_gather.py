"""
Where a sink lets lines wait, they wait in their file: a file of the kubelet is read in larger pieces.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.sources.files import FilesSettings
from agent.sources.gather import ENOUGH_BYTES
from tests.fakes.source_host import Source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.source_host import RouteModel

LINE = "2026-11-22T19:00:01.000000000Z stdout F {}\n"


def container(root: Path) -> Path:
    """
    Return the live file of a container.
    """
    path = root / "ns_pod_0f8b2a6c-6f0e-4b1e-9c54-3f1f6a1c2d3e" / "app" / "0.log"
    path.parent.mkdir(parents=True)
    path.write_text(LINE.format("first"))
    return path


async def started(pattern: str, linger_s: float) -> tuple[Source, RouteModel]:
    """
    Follow, and read what is there.
    """
    source = Source(FilesSettings(paths=(pattern,)))
    route = await source.start(linger_s=linger_s)
    await source.settle(3)
    assert len(route.segments) == 1
    return source, route


def write(log: Path, text: str) -> None:
    """
    Append a line.
    """
    with log.open("a") as file:
        file.write(LINE.format(text))


@pytest.mark.parametrize(("linger_s", "wait_s"), [(5.0, 2.0), (300.0, 2.0), (2.0, 0.8), (0.9, 0.0)])
async def test_lines_of_a_container_wait_in_their_file(
    tmp_path: Path, linger_s: float, wait_s: float
) -> None:
    log = container(tmp_path)
    source, route = await started(f"{tmp_path}/*/*/*.log", linger_s)
    write(log, "second")
    await source.settle()
    assert len(route.segments) == (2 if wait_s == 0 else 1)
    if wait_s:
        write(log, "third")
        await source.settle(wait_s - 0.4)
        assert len(route.segments) == 1
        await source.settle(0.6)
        assert route.texts(log) == [b"first", b"second", b"third"]
        assert len(route.segments) == 2
    assert route.segments[1].waited_s == pytest.approx(wait_s, abs=0.21)
    source.close()


@pytest.mark.parametrize("what", ["much", "renamed", "deleted"])
async def test_what_is_much_or_will_vanish_does_not_wait(tmp_path: Path, what: str) -> None:
    log = container(tmp_path)
    source, route = await started(f"{tmp_path}/*/*/*.log", 5.0)
    write(log, "second")
    await source.settle()
    assert len(route.segments) == 1
    if what == "much":
        write(log, "x" * ENOUGH_BYTES)
    elif what == "renamed":
        log.rename(log.with_name("0.log.20261129-080000"))
    else:
        log.unlink()
    await source.settle()
    assert route.texts(log)[1] == b"second"
    source.close()


async def test_a_file_that_can_be_cut_in_place_does_not_wait(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text(LINE.format("first"))
    source, route = await started(f"{tmp_path}/*.log", 5.0)
    write(log, "second")
    await source.settle()
    assert route.texts(log) == [b"first", b"second"]
    source.close()


async def test_a_route_that_does_not_linger_beside_one_that_does(tmp_path: Path) -> None:
    """
    The one reads at once, the other later: both read the same.
    """
    log = container(tmp_path)
    source = Source(FilesSettings(paths=(f"{tmp_path}/*/*/*.log",)), routes=("slow", "fast"))
    slow = await source.start("slow", linger_s=5.0)
    fast = await source.start("fast")
    await source.settle(3)
    write(log, "second")
    await source.settle()
    assert (len(slow.segments), len(fast.segments)) == (1, 2)
    await source.settle(2.2)
    assert slow.texts(log) == fast.texts(log)
    source.close()


async def test_a_stop_reads_what_waits(tmp_path: Path) -> None:
    """
    On a node that goes down the files go with it.
    """
    log = container(tmp_path)
    source, route = await started(f"{tmp_path}/*/*/*.log", 5.0)
    write(log, "second")
    await source.settle()
    assert len(route.segments) == 1
    stopping = asyncio.ensure_future(route.reader.read_gathered(1.0))
    await asyncio.sleep(0)
    await route.read_all()
    await stopping
    assert route.texts(log) == [b"first", b"second"]
    source.close()
