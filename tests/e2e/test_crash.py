"""
kill -9 at every named point, with open pieces on both streams and rows of two hours; then a restart.

Nothing may be missing anywhere, and no row may be twice in Parquet.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e.world import World, two_hours

if TYPE_CHECKING:
    from pathlib import Path

POINTS = (
    "staging_written",
    "staging_fsynced",
    "commit_before",
    "commit_after",
    "seal_committed",
    "seal_child_done",
    "manifest_committed",
    "upload_before",
    "upload_after",
    "object_recorded",
    "window_gone",
)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("point", POINTS)
async def test_killed_at(point: str, count: int, tmp_path: Path) -> None:
    """
    A kill at *point* loses nothing and repeats nothing in Parquet.
    """
    async with World(tmp_path) as world:
        pod, other = world.pod("web-1"), world.pod("db-0", "data")
        before, now = two_hours()
        for item in (pod, other):
            item.lines(40, at=before)
            item.lines(40, at=now)
        # Both streams have an open row when the process dies.
        pod.write("out, begun ", tag="P")
        pod.write("err, begun ", stream="stderr", tag="P")
        await world.start(crash_at=f"{point}:{count}")
        pod_lines = 0
        while world.agent is not None and world.agent.returncode is None and pod_lines < 2000:
            # Keep every point busy: windows after the first one need rows.
            other.lines(5)
            pod_lines += 5
            await world.until_or_ended(0.05)
        assert await world.ended() == -signal.SIGKILL, world.log.decode()
        pod.write("out, ended")
        pod.write("err, ended", stream="stderr")
        pod.lines(10)
        await world.start()
        await world.until(lambda: _arrived(world, pod, other), "everything arrived")
        assert await world.stop() == 0, world.log.decode()
        world.assert_cloudwatch_complete(pod, other)
        world.assert_parquet_exact(pod, other)
        assert not world.s3.uploads, "a multipart upload was left behind"


def _arrived(world: World, *pods: object) -> bool:
    written = {line for pod in pods for line in pod.written}  # type: ignore[attr-defined]
    return written <= set(world.events())
