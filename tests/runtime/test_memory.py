"""
Memory of a running agent: garbage is collected seldom, and free pages go back to the node.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from agent.runtime import heap, memory

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


HEAPS = """
import ctypes, threading
from agent.runtime import heap

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
heap.use_one_heap(large_apart_bytes={large})

class Numbers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd rest".split()]
    _fields_ += [(f"more{{index}}", ctypes.c_size_t) for index in range(4)]

libc.mallinfo2.restype = Numbers
apart = []
for _ in range(2):
    before = libc.mallinfo2().hblks
    chunk = ctypes.c_void_p(libc.malloc(2 << 20))
    apart.append(libc.mallinfo2().hblks - before)
    libc.free(chunk)
ready = threading.Barrier(5)
def work():
    kept = libc.malloc(1000)
    ready.wait()
    ready.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
ready.wait()
print(apart, flush=True)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
ready.wait()
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs mallinfo2, of glibc 2.33 or later"
)
@pytest.mark.parametrize("large", [0, heap.LARGE_BYTES])
def test_threads_share_a_heap_and_large_chunks_lie_apart_again_and_again(large: int) -> None:
    """
    Left alone, glibc puts the second large chunk into the heap, because it has freed one.
    """
    done = subprocess.run(
        [sys.executable, "-c", HEAPS.format(large=large)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    apart, info = done.stdout.split("\n", 1)
    assert apart == ("[1, 1]" if large else "[1, 0]")
    assert info.count("<heap nr=") == 1


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
