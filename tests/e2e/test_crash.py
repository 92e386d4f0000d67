"""
kill -9 at every named point, with open pieces on both streams and rows of two hours; then a restart.

Nothing may be missing anywhere, and no row may be twice in Parquet.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e.pods import two_hours
from tests.e2e.world import World

if TYPE_CHECKING:
    from pathlib import Path

#: (point, which time it is passed).  The first time there is no checkpoint and no staging yet, and a window
#: has two objects, one per hour: where the second time differs from the first, it is a case of its own.
POINTS = (
    ("staging_written", 1),
    ("staging_written", 2),
    ("staging_fsynced", 1),
    ("staging_fsynced", 2),
    ("commit_before", 1),
    ("commit_before", 4),
    ("commit_after", 1),
    ("seal_committed", 1),
    ("seal_child_done", 1),
    ("manifest_committed", 1),
    ("upload_before", 1),
    ("upload_before", 2),
    ("upload_after", 1),
    ("upload_after", 2),
    ("object_recorded", 1),
    ("window_gone", 1),
)
#: Points that come with every write; the others need a window to be sealed.
OFTEN = ("staging_", "commit_")


@pytest.mark.parametrize(("point", "count"), POINTS)
async def test_killed_at(point: str, count: int, tmp_path: Path) -> None:
    """
    A kill at *point* loses nothing and repeats nothing in Parquet.
    """
    async with World(tmp_path) as world:
        world.source["poll_interval_s"] = 0.04
        world.sink("archive")["frame_age_s"] = world.settings["commit_interval_s"] = 0.05
        if not point.startswith(OFTEN):
            world.sink("archive")["window_age_s"] = 0.1
        pod, other = world.pod("web-1"), world.pod("db-0", "data")
        before, now = two_hours()
        for item in (pod, other):
            item.lines(40, at=before)
            item.lines(40, at=now)
        # Both streams have an open row when the process dies.
        pod.write("out, begun ", tag="P")
        pod.write("err, begun ", stream="stderr", tag="P")
        await world.start(crash_at=f"{point}:{count}")
        assert world.agent is not None
        while world.agent.returncode is None and len(other.written) < 4000:
            # Keep every point busy: windows after the first one need rows.
            other.lines(5)
            await world.until_or_ended(0.04)
        assert await world.ended() == -signal.SIGKILL, world.log
        pod.write("out, ended")
        pod.write("err, ended", stream="stderr")
        pod.lines(10)
        world.sink("archive")["window_age_s"] = 60
        await world.start()
        await world.delivered(pod, other)
        assert await world.stop() == 0, world.log
        world.assert_cloudwatch_complete(pod, other)
        world.assert_parquet_exact(pod, other)
        assert not world.s3.uploads, "a multipart upload was left behind"
