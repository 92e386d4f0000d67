"""
Memory of a running agent: garbage is collected seldom, and free pages go back to the node.
"""

from __future__ import annotations

import asyncio
import gc
import platform
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from agent.runtime import memory

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def before() -> Iterator[None]:
    threshold = gc.get_threshold()
    gc.collect()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()
    gc.enable()


@pytest.mark.usefixtures("before")
def test_what_is_there_is_left_alone_and_garbage_still_found() -> None:
    """
    A cycle made afterwards is collected once enough objects wait.
    """
    gc.disable()
    memory.settle()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold()[0] == memory.WAITING_MAX
    collected = gc.get_stats()[0]["collected"]
    for _ in range(memory.WAITING_MAX + 1000):
        cycle: list[object] = []
        cycle.append(cycle)
    assert gc.get_stats()[0]["collected"] - collected >= memory.WAITING_MAX - 1000


class _Clock:
    """
    Sleeps only as often as it was let.
    """

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(0)
        self.asked: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.turns.acquire()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed")
async def test_what_a_peak_took_goes_back_to_the_node() -> None:
    """
    Also where the freed chunks lie between ones that are in use.
    """
    clock = _Clock()
    chunks = [bytearray(b"x" * 20_000) for _ in range(4000)]
    kept = chunks[::40]
    with memory.given_back(cast("Any", clock)):
        del chunks
        before = resident_bytes()
        clock.turns.release()
        async with asyncio.timeout(10):
            while len(clock.asked) < 2:
                await asyncio.sleep(0)
    assert clock.asked[0] == memory.TRIM_INTERVAL_S
    assert len(kept) == 100
    assert before - resident_bytes() > 40_000_000
