"""
Python's cyclic garbage collector, set for an agent.

What is imported and wired at the start lives as long as the process: it is frozen, so that no collection walks
over it again.  The path of a byte makes no cycles, so what is left to find (an exception's traceback, a closed
connection) is little and may wait for thousands of objects instead of hundreds.
"""

from __future__ import annotations

import gc

#: New objects that may wait for a collection: about 2 MB if all of them were garbage.  CPython's default is 700.
WAITING_MAX = 10_000


def settle() -> None:
    """
    Leave alone what is there, and collect seldom from now on.
    """
    gc.freeze()
    gc.set_threshold(WAITING_MAX, 10, 10)
    gc.enable()
