"""
How glibc's heap is laid out.  It imports next to nothing: the seal child begins with it.
"""

from __future__ import annotations

import ctypes

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
