"""
A Parquet route that fails again and again gives back its memory each time.
"""

from __future__ import annotations

import asyncio
import errno
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.sinks.parquet_kit import GroupTasks, Kit, Resolve

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("where", ["pending", "framing", "disk_full"])
async def test_a_run_that_ends_gives_back_what_was_not_staged(where: str, tmp_path: Path) -> None:
    """
    Whether its rows waited, were being encoded, or waited for room on the disk.
    """
    kit = Kit(tmp_path, frame_age_s=60 if where == "pending" else 0.005)
    reached = asyncio.Event()
    run_blocking = kit.host.run_blocking

    async def blocked(function: object, *args: object) -> object:
        name = getattr(function, "__name__", "")
        if where == "framing" and name == "encode_frame":
            reached.set()
            await asyncio.Event().wait()
        if where == "disk_full" and name == "append":
            reached.set()
            raise OSError(errno.ENOSPC, "made to fail")
        return await run_blocking(function, *args)  # type: ignore[arg-type]

    kit.host.run_blocking = blocked  # type: ignore[method-assign]
    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            sink = kit.sink(Resolve(0), GroupTasks(group), None)
            await sink.open()
            running = group.create_task(sink.run())
            for first in range(0, 100, 10):
                sink.accept(kit.segment(range(first, first + 10)))
            if where == "pending":
                await asyncio.sleep(0)
            else:
                await reached.wait()
            running.cancel()
            raise ValueError("the route failed")
    assert kit.share.held > 0
    await sink.close()
    assert kit.share.held == 0
