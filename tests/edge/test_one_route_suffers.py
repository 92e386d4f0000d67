"""
A route that is down, slow, refusing, crashing, out of disk or far behind costs the other route nothing.

The agent is a process with both routes over the same files; one of them suffers from the first line on.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.e2e.pods import rfc3339
from tests.e2e.world import World, sample
from tests.fakes.cloudwatch import HANG, THROTTLED, UNAVAILABLE
from tests.fakes.s3 import HANG_BEFORE, RESET_BEFORE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.pods import Pod

LINES = 1000
START = """
import sys
from agent.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
#: What makes a component of the agent fail, from the inside.
CRASHES = """
from agent.sinks import cloudwatch as module
async def run(self):
    await self._clock.sleep(0.02)
    raise RuntimeError("made to fail")
module.CloudWatchSink.run = run
"""
ARCHIVE_CRASHES = """
from agent.sinks import parquet as module
async def run(self):
    await self._host.clock.sleep(0.02)
    raise RuntimeError("made to fail")
module.ParquetSink.run = run
"""
DISK_FULL = """
import errno
from agent.sinks import parquet_staging as module
def append(self, encoded):
    raise OSError(errno.ENOSPC, "No space left on device")
module.StagingFile.append = append
"""


def _throttled(world: World) -> None:
    world.cloudwatch.script(*[THROTTLED] * 100_000)


def _down(world: World) -> None:
    world.cloudwatch.script(*[UNAVAILABLE] * 100_000)


def _hangs(world: World) -> None:
    world.cloudwatch.script(*[HANG] * 100_000)


def _denies(world: World) -> None:
    world.cloudwatch.denied.add("PutLogEvents")


def _refuses(world: World) -> None:
    world.cloudwatch.refused_groups.add("/test/shop")


def _s3_down(world: World) -> None:
    world.s3.script("PutObject", *[(503, "ServiceUnavailable")] * 100_000)


def _s3_throttled(world: World) -> None:
    world.s3.script("PutObject", *[(503, "SlowDown")] * 100_000)


def _s3_resets(world: World) -> None:
    world.s3.script("PutObject", *[RESET_BEFORE] * 100_000)


def _s3_hangs(world: World) -> None:
    world.s3.script("PutObject", *[HANG_BEFORE] * 100_000)


def _nothing(_world: World) -> None:
    return


#: case → (the route that suffers, what its destination does, what fails inside)
CASES: dict[str, tuple[str, Callable[[World], None], str]] = {
    "throttled": ("cloudwatch", _throttled, ""),
    "down": ("cloudwatch", _down, ""),
    "hanging": ("cloudwatch", _hangs, ""),
    "denying": ("cloudwatch", _denies, ""),
    "refusing": ("cloudwatch", _refuses, ""),
    "crashing": ("cloudwatch", _nothing, CRASHES),
    "S3 throttled": ("archive", _s3_throttled, ""),
    "S3 down": ("archive", _s3_down, ""),
    "S3 resetting": ("archive", _s3_resets, ""),
    "S3 hanging": ("archive", _s3_hangs, ""),
    "archive crashing": ("archive", _nothing, ARCHIVE_CRASHES),
    "disk full": ("archive", _nothing, DISK_FULL),
}


@pytest.mark.parametrize("case", CASES)
async def test_the_other_route_delivers_all(case: str, tmp_path: Path, free_port: int) -> None:
    """
    Every line, also what is written and rotated later; the route that suffers delivers it after a restart.
    """
    route, spoil, script = CASES[case]
    healthy = "archive" if route == "cloudwatch" else "cloudwatch"
    async with World(tmp_path) as world:
        world.settings |= {"memory_budget_bytes": 4 << 20, "drain_timeout_s": 0.5}
        world.settings["admin"] = {"listen": f"127.0.0.1:{free_port}"}
        world.sink("archive")["window_age_s"] = 1
        pods = [world.pod(f"web-{number}") for number in range(3)]
        for pod in pods:
            pod.lines(LINES)
        spoil(world)
        program = tmp_path / "agent_that_suffers.py"
        program.write_text(script + START)
        await world.start(program=(str(program),), env={"PYTHONPATH": os.getcwd()})
        await _arrived(world, healthy, pods)
        pods[0].rotate()
        for pod in pods:
            pod.lines(10)
        await _arrived(world, healthy, pods)
        metrics = await world.metrics()
        assert metrics.get(sample("tailrace_route_restarts_total", route=healthy), 0) == 0
        # What is staged counts as delivered; nothing of it is at its destination.
        assert not (world.rows() if route == "archive" else world.events())
        if "crashing" in case:
            assert metrics[sample("tailrace_route_restarts_total", route=route)] > 1
        await world.stop()
        world.heal()
        world.s3.release()
        world.cloudwatch.release()
        world.cloudwatch.denied.clear()
        world.cloudwatch.refused_groups.clear()
        await world.start()
        await _arrived(world, route, pods)
        await _arrived(world, healthy, pods)
        assert await world.stop() == 0, world.log
        world.assert_parquet_exact(*pods)
        world.assert_cloudwatch_complete(*pods)


async def _arrived(world: World, route: str, pods: list[Pod]) -> None:
    arrived = world.rows if route == "archive" else world.events
    written = {line for pod in pods for line in pod.written}
    await world.until(lambda: written <= arrived().keys(), f"all lines are at {route}")


async def test_far_behind(tmp_path: Path, free_port: int) -> None:
    """
    A route with a backlog that it works off slowly: a line that is written now reaches the other route at once.
    """
    async with World(tmp_path) as world:
        world.settings |= {"memory_budget_bytes": 4 << 20, "drain_timeout_s": 1}
        world.settings["admin"] = {"listen": f"127.0.0.1:{free_port}"}
        world.sink("archive")["window_age_s"] = 1
        pods = [world.pod(f"web-{number}") for number in range(4)]
        for pod in pods:
            pod.raw(b"".join(_long_line(number) for number in range(4000)))
        world.cloudwatch.tps = 0.05
        await world.start()
        await world.started()
        for _ in range(3):
            for pod in pods:
                pod.lines(1)
            await _arrived(world, "archive", pods)
        metrics = await world.metrics()
        behind = sum(
            value
            for name, value in metrics.items()
            if name.startswith("tailrace_log_lag_bytes{") and 'route="cloudwatch"' in name
        )
        assert behind > 2 << 20, "the other route should still be far behind"
        assert metrics[sample("tailrace_delivered_rows_total", route="archive")] == 4 * 4003
        await world.stop()


def _long_line(number: int) -> bytes:
    moment = rfc3339(datetime.now(UTC))
    return f"{moment} stdout F {number:06d} {os.urandom(120).hex()}\n".encode()
