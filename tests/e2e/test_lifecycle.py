"""
Start, stop and restart: what a signal does, and what an operator sees while the agent runs and after.
"""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.e2e.world import World, sample, tailrace
from tests.fakes.cloudwatch import HANG

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_stop_delivers_what_was_read_and_a_start_repeats_nothing(
    tmp_path: Path, free_port: int
) -> None:
    """
    SIGTERM and SIGINT: exit 0, everything at both destinations, nothing twice after three starts.
    """
    async with World(tmp_path) as world:
        # Nothing would be sent before the end: only the drain delivers it.
        world.sink("cloudwatch")["linger_s"] = 60
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        pod = world.pod("web-1")
        pod.write("an open piece ", tag="P")
        for number in (signal.SIGTERM, signal.SIGINT):
            for index in range(30):
                pod.write(f"{number} {index}", stream="stderr")
            await world.start()
            await world.read(31)  # The open piece and what is new.
            assert await world.stop(number) == 0, world.log
            # The open row is not delivered, and not lost.
            assert "an open piece" not in str(world.events())
            world.assert_exact(pod)
        pod.write("and its end")
        await world.start()
        await world.read(2)
        assert await world.stop() == 0
        world.assert_exact(pod)
        assert ("web-1", "stdout", "an open piece and its end") in world.rows()
        assert world.log.count("stopped: drained") == 3


async def test_a_second_signal_ends_at_once_and_commits_nothing_undelivered(
    tmp_path: Path, free_port: int
) -> None:
    """
    CloudWatch hangs, the drain waits for it, the second signal does not; the next start delivers everything.
    """
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        pod = world.pod("web-1")
        pod.lines(20)
        world.cloudwatch.create("/test/shop", "web-1")
        world.cloudwatch.script(*[HANG] * 100)
        await world.start()
        await world.started()
        await asyncio.wait_for(world.cloudwatch.hanging.wait(), 10)
        await world.until_metrics(
            lambda found: found.get(sample("tailrace_delivered_rows_total", route="archive")) == 20,
            "rows are staged",
        )
        assert world.agent is not None
        world.agent.send_signal(signal.SIGTERM)
        await world.until(lambda: "draining" in world.log, "the drain")
        world.agent.send_signal(signal.SIGTERM)
        assert await world.ended() == 128 + signal.SIGTERM
        assert not world.events()
        status = await world.status()
        assert status["running"] is False
        assert all(log["offset"] == 0 for log in status["routes"]["cloudwatch"]["logs"])
        world.heal()
        await world.start()
        await world.delivered(pod)
        assert await world.stop() == 0
        world.assert_exact(pod)


async def test_a_drain_that_runs_out_of_time_commits_nothing_undelivered(tmp_path: Path) -> None:
    """
    After drain_timeout_s it exits 0 all the same; what was not delivered is delivered by the next start.
    """
    async with World(tmp_path) as world:
        world.settings["drain_timeout_s"] = 0.3
        world.only("cloudwatch")
        pod = world.pod("web-1")
        pod.lines(20)
        world.cloudwatch.create("/test/shop", "web-1")
        world.cloudwatch.script(*[HANG] * 100)
        await world.start()
        await asyncio.wait_for(world.cloudwatch.hanging.wait(), 10)
        assert await world.stop() == 0, world.log
        assert not world.events()
        world.heal()
        await world.start()
        await world.delivered(pod)
        assert await world.stop() == 0
        world.assert_cloudwatch_exact(pod)


async def test_status_of_a_route_that_delivers_nothing(tmp_path: Path) -> None:
    """
    Its Logs are there with all that they lag, though nothing of them was ever confirmed; after a kill as well.
    """
    async with World(tmp_path) as world:
        world.cloudwatch.script(*[HANG] * 100)
        pod = world.pod("web-1")
        pod.lines(20)
        size = pod.path.stat().st_size
        await world.start()
        for _ in range(60):
            text = await tailrace("status", "-c", world.config_path)
            if "Logs of cloudwatch" in text.out:
                break
            await world.until_or_ended(0.2)
        status = await world.status()
        (log,) = status["routes"]["cloudwatch"]["logs"]
        assert (log["log"], log["offset"], log["lag_bytes"]) == (str(pod.path), 0, size)
        pod.lines(5)
        await world.kill()
        status = await world.status()
        assert status["routes"]["cloudwatch"]["lag_bytes"] == pod.path.stat().st_size


async def test_status_and_losses(tmp_path: Path, free_port: int) -> None:
    """
    Running and stopped: who holds the state, cursors, lag, staged and sealed bytes; losses by route and reason.
    """
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        pod = world.pod("web-1")
        pod.lines(20)
        await world.start()
        await world.started()
        await world.delivered(pod)
        await world.until_metrics(
            lambda found: (
                found.get(sample("tailrace_commits_total", route="archive"))
                and not any("tailrace_log_lag" in name for name in found)
            ),
            "all is committed",
        )
        assert world.agent is not None
        status = await world.status()
        assert status["running"] is True
        assert str(world.agent.pid) in status["owner"]
        size = pod.path.stat().st_size
        for route in status["routes"].values():
            (log,) = route["logs"]
            assert (log["log"], log["offset"], log["lag_bytes"]) == (str(pod.path), size, 0)
        assert status["routes"]["archive"]["staged_bytes"] > 0
        assert await world.stop() == 0
        pod.lines(5)
        status = await world.status()
        assert status["running"] is False
        assert status["routes"]["cloudwatch"]["lag_bytes"] == pod.path.stat().st_size - size
        assert status["routes"]["archive"]["staged_bytes"] == 0
        assert status["routes"]["archive"]["sealed_bytes"] == 0
        text = await tailrace("status", "--state-dir", world.state)
        assert text.code == 0
        for words in ("no agent is running", "cloudwatch", "archive", str(pod.path), "lag"):
            assert words in text.out
        nothing = await tailrace("losses", "-c", world.config_path)
        assert (nothing.code, nothing.out) == (0, "nothing was lost\n")
        # What CloudWatch does not take is a loss of its route.
        pod.lines(2, at=datetime.now(UTC) - timedelta(days=20))
        await world.start()
        await world.read(7)
        assert await world.stop() == 0
        losses = await world.losses()
        assert {(loss["route"], loss["reason"]) for loss in losses} == {("cloudwatch", "too_old")}
        assert sum(loss["rows"] for loss in losses) == 2
        text = await tailrace("status", "-c", world.config_path)
        assert "too_old" in text.out
        told = await tailrace("losses", "-c", world.config_path, "--route", "cloudwatch")
        assert "too_old" in told.out
        assert str(pod.path) in told.out
        other = await tailrace("losses", "-c", world.config_path, "--route", "archive")
        assert (other.code, other.out) == (0, "nothing was lost\n")
        refused = await tailrace("losses", "-c", world.config_path, "--route", "absent")
        assert refused.code == 78
