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
