"""
Where a sink lets lines wait, they wait in their file: a file of the kubelet is read in larger pieces.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.sources.gather import ENOUGH_BYTES
from agent.sources.settings import FilesSettings
from tests.fakes.kubelet import Container
from tests.fakes.source_host import Source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.source_host import RouteModel


def container(root: Path) -> Container:
    """
    Return a container with one line.
    """
    made = Container(root, namespace="ns", pod="pod", uid="0f8b2a6c", name="app")
    made.write(b"first")
    return made


async def started(pattern: str, linger_s: float) -> tuple[Source, RouteModel]:
    """
    Follow, and read what is there.
    """
    source = Source(FilesSettings(paths=(pattern,)))
    route = await source.start(linger_s=linger_s)
    await source.settle(3)
    assert len(route.segments) == 1
    return source, route


@pytest.mark.parametrize(("linger_s", "wait_s"), [(5.0, 2.0), (300.0, 2.0), (2.0, 0.8), (0.9, 0.0)])
async def test_lines_of_a_container_wait_in_their_file(
    tmp_path: Path, linger_s: float, wait_s: float
) -> None:
    log = container(tmp_path)
    source, route = await started(f"{tmp_path}/*/*/*.log", linger_s)
    log.write(b"second")
    await source.settle()
    assert len(route.segments) == (2 if wait_s == 0 else 1)
    if wait_s:
        log.write(b"third")
        await source.settle(wait_s - 0.4)
        assert len(route.segments) == 1
        await source.settle(0.6)
        assert route.texts(log.path) == [b"first", b"second", b"third"]
        assert len(route.segments) == 2
    assert route.segments[1].waited_s == pytest.approx(wait_s, abs=0.21)
    source.close()


@pytest.mark.parametrize("what", ["much", "renamed", "deleted"])
async def test_what_is_much_or_will_vanish_does_not_wait(tmp_path: Path, what: str) -> None:
    log = container(tmp_path)
    source, route = await started(f"{tmp_path}/*/*/*.log", 5.0)
    log.write(b"second")
    await source.settle()
    assert len(route.segments) == 1
    if what == "much":
        log.write(b"x" * ENOUGH_BYTES)
    elif what == "renamed":
        log.path.rename(log.path.with_name("0.log.20261129-080000"))
    else:
        log.path.unlink()
    await source.settle()
    assert route.texts(log.path)[1] == b"second"
    source.close()


async def test_a_file_that_can_be_cut_in_place_does_not_wait(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("first\n")
    source, route = await started(f"{tmp_path}/*.log", 5.0)
    with log.open("a") as file:
        file.write("second\n")
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
    log.write(b"second")
    await source.settle()
    assert (len(slow.segments), len(fast.segments)) == (1, 2)
    await source.settle(2.2)
    assert slow.texts(log.path) == fast.texts(log.path)
    source.close()


async def test_a_stop_reads_what_waits(tmp_path: Path) -> None:
    """
    On a node that goes down the files go with it.
    """
    log = container(tmp_path)
    source, route = await started(f"{tmp_path}/*/*/*.log", 5.0)
    log.write(b"second")
    await source.settle()
    assert len(route.segments) == 1
    stopping = asyncio.ensure_future(route.reader.read_gathered(1.0))
    await asyncio.sleep(0)
    await route.read_all()
    await stopping
    assert route.texts(log.path) == [b"first", b"second"]
    source.close()
