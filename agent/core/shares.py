"""
Which worker of a replay reads which Log: whole Logs, balanced by size.

The largest Log goes to the worker that has least, then the next.  What a plan of an earlier run gave away stays where
it is, because that worker's state knows how far it came.  No I/O.
"""

from __future__ import annotations

import heapq
import posixpath
from typing import TYPE_CHECKING

from agent.core.rotated_names import as_rotated

if TYPE_CHECKING:
    from collections.abc import Mapping


def log_of(path: str) -> str:
    """
    Return the Log that the file at *path* belongs to: the path of its live file.
    """
    directory, name = posixpath.split(path)
    rotated = as_rotated(name)
    return posixpath.join(directory, rotated.live if rotated is not None else name)


def shared(sizes: Mapping[str, int], workers: int, given: Mapping[str, int]) -> dict[str, int]:
    """
    Return the number of the worker for every Log.

    Args:
        sizes: bytes of every Log.
        given: Logs that have their worker already.
    """
    loads = [0] * workers
    plan = {log: given[log] for log in sizes if log in given}
    for log, worker in plan.items():
        loads[worker] += sizes[log]
    heap = [(load, worker) for worker, load in enumerate(loads)]
    heapq.heapify(heap)
    # By name where sizes are equal: the same files give the same plan.
    for log in sorted(sizes.keys() - plan.keys(), key=lambda log: (-sizes[log], log)):
        load, worker = heap[0]
        plan[log] = worker
        heapq.heapreplace(heap, (load + sizes[log], worker))
    return plan
