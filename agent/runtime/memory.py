"""
What an agent does about memory that nobody asked for back: Python's cyclic garbage, and the C heap's free pages.

What is imported and wired at the start lives as long as the process: it is frozen, so that no collection walks
over it again.  The path of a byte makes no cycles, so what is left to find (an exception's traceback) is little and may
wait for thousands of objects instead of hundreds.

glibc gives memory back at the end of its heap alone.  After an outage, or a start with a thousand files, what was freed
lies between what is in use, and the process would keep the mark of its worst minute until it is restarted.
`malloc_trim(3)` gives back every whole page; measured, a millisecond for 10 MiB, a tenth of one for nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.core.host import Clock

#: New objects that may wait for a collection: about 2 MB if all of them were garbage.  CPython's default is 700.
WAITING_MAX = 10_000
#: Often enough that a node gets back what an outage took, seldom enough that pages in use are not asked for anew.
TRIM_INTERVAL_S = 30.0
#: Bodies of uploads, and of a batch only the reused buffer: 79 -> 63 MiB of an agent that uploads parts of 8 MiB.
LARGE_BYTES = 1 << 20
#: <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def use_one_heap(*, large_apart_bytes: int = 0) -> None:
    """
    Let all threads share one heap of glibc; called before there are any.

    By default each gets heaps of its own, which are given back and asked for anew with every frame that is encoded in
    a thread: measured, with staging, a third of all page faults and a tenth of the CPU.

    Args:
        large_apart_bytes: what is as large as this never lies in the heap, where others would be put behind it: it goes
            back to the node when it is freed; 0: as glibc thinks, which is never again once it has freed one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_ARENA_MAX, 1)
    if large_apart_bytes:
        mallopt(_M_MMAP_THRESHOLD, large_apart_bytes)
        # As much may be free at the heap's end: 128 KiB, the default, would be asked for again with every chunk.
        mallopt(_M_TRIM_THRESHOLD, large_apart_bytes)


def settle() -> None:
    """
    Leave alone what is there, and collect seldom from now on.
    """
    gc.freeze()
    gc.set_threshold(WAITING_MAX, 10, 10)
    gc.enable()


@contextmanager
def given_back(clock: Clock) -> Iterator[None]:
    """
    Give free pages of the C heap back to the node, again and again, for the length of the block.
    """
    giving = asyncio.ensure_future(_give_back(clock))
    try:
        yield
    finally:
        giving.cancel()


async def _give_back(clock: Clock) -> None:
    # musl has no such function: its heap gives back by itself.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await clock.sleep(TRIM_INTERVAL_S)
        trim(0)
