"""
Destinations that refuse, are away, or are not there: one route suffers, the other notices nothing.
"""

from __future__ import annotations

import random
from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.e2e.pods import rfc3339
from tests.e2e.world import World, sample
from tests.fakes.cloudwatch import RESET_BEFORE

if TYPE_CHECKING:
    from pathlib import Path

#: More than an outage of a test will see.
MANY = 10_000


async def _passes(world: World) -> None:
    """
    Let so much time pass that a route which retried quickly would have been seen to.
    """
    for _ in range(3):
        before = world.log
        await world.until_or_ended(0.5)
        assert world.agent is not None
        assert world.agent.returncode is None, before


@pytest.mark.parametrize("trouble", ["no credentials", "access denied"])
async def test_cloudwatch_that_takes_nothing(trouble: str, tmp_path: Path) -> None:
    """
    Tried again about once a minute and said once; the archive gets everything; no cursor of the route moves.
    """
    async with World(tmp_path) as world:
        archive = world.sink("archive")
        # Without credentials there is no S3 either: a directory needs none.
        archive |= {"url": f"file://{tmp_path}/archive"}
        if trouble == "access denied":
            world.cloudwatch.denied = {"PutLogEvents", "CreateLogGroup", "CreateLogStream"}
        pod = world.pod("web-1")
        pod.lines(50)
        await world.start(credentials=trouble != "no credentials")
        event = "cloudwatch_credentials:" if trouble == "no credentials" else "cloudwatch_denied:"
        await world.until(lambda: event in world.log, "the trouble is told")
        await _passes(world)
        status = await world.status()
        stuck = status["routes"]["cloudwatch"]
        # What is committed is where the Log began: nothing of it is delivered.
        assert [log["offset"] for log in stuck["logs"]] == [0]
        assert stuck["lag_bytes"] == pod.path.stat().st_size
        assert status["routes"]["archive"]["lag_bytes"] == 0
        assert world.log.count(event) == 1, world.log
        assert len(world.cloudwatch.requests) <= 2
        await world.kill()
        # A person acts: everything is delivered, once.
        world.cloudwatch.denied = set()
        await world.start()
        await world.delivered(pod)
        assert await world.stop() == 0
        world.assert_cloudwatch_exact(pod)
        assert not await world.losses()


async def test_a_bucket_that_does_not_exist(tmp_path: Path) -> None:
    """
    Its objects wait on the disk and it is said once; CloudWatch gets everything; then the bucket is made.
    """
    async with World(tmp_path) as world:
        world.s3.bucket = "another"
        world.sink("archive")["window_age_s"] = 0.1
        pod = world.pod("web-1")
        pod.lines(50)
        await world.start()
        await world.until(lambda: "NoSuchBucket" in world.log, "the trouble is told")
        await world.delivered(pod)
        await _passes(world)
        pod.lines(50)
        await world.delivered(pod)
        await world.until(lambda: world.s3.count("PutObject") > 1, "another object is tried")
        await _passes(world)
        status = await world.status()
        assert status["routes"]["archive"]["sealed_bytes"] > 0
        assert world.log.count("NoSuchBucket") == 1, world.log
        puts = [key for operation, key in world.s3.requests if operation == "PutObject"]
        assert len(puts) == len(set(puts)), "an object is not tried again within the minute"
        assert not world.s3.objects
        await world.kill()
        world.s3.bucket = "logs"
        await world.start()
        await world.until(lambda: world.s3.objects, "the first object")
        assert await world.stop() == 0
        # The kill may have come between a delivery to CloudWatch and its checkpoint.
        world.assert_cloudwatch_complete(pod)
        world.assert_parquet_exact(pod)


async def test_a_full_window_brings_the_commit_forward(tmp_path: Path) -> None:
    """
    Only what is committed is sealed: a window does not grow beyond its size until the interval is over.
    """
    lines = 12_000
    async with World(tmp_path) as world:
        world.only("archive")
        world.settings |= {"commit_interval_s": 60}
        world.sink("archive").update(window_bytes_max=1 << 20, window_age_s=300)
        pod = world.pod("web-1")
        dice = random.Random(1)
        head = f"{rfc3339(datetime.now(UTC))} stdout F ".encode()
        await world.start()
        pod.raw(b"".join(head + b64encode(dice.randbytes(750)) + b"\n" for _ in range(lines)))
        await world.until(lambda: len(world.s3.objects) >= 2, "two objects")
        assert await world.stop() == 0, world.log
        assert world.rows().total() == lines


async def test_cloudwatch_is_down_for_a_while(tmp_path: Path, free_port: int) -> None:
    """
    Health stays 200, lag in bytes and seconds is there for the Log, and is gone when all is delivered.
    """
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        pod = world.pod("web-1")
        pod.lines(10)
        await world.start()
        await world.started()
        await world.delivered(pod)
        world.cloudwatch.script(*[RESET_BEFORE] * MANY)
        pod.lines(20)
        lag = sample("tailrace_log_lag_seconds", route="cloudwatch", log=pod.path)
        metrics = await world.until_metrics(lambda found: found.get(lag, 0) > 0.3, "lag")
        assert metrics[sample("tailrace_log_lag_bytes", route="cloudwatch", log=pod.path)] > 0
        assert metrics[sample("tailrace_retries_total", route="cloudwatch", reason="outage")] >= 1
        assert (await world.get("/healthz"))[0] == 200
        assert (await world.get("/readyz"))[0] == 200
        # The other route is not behind.
        await world.until_metrics(
            lambda found: (
                sample("tailrace_log_lag_bytes", route="archive", log=pod.path) not in found
            ),
            "no lag of the other route",
        )
        world.heal()
        await world.delivered(pod)
        metrics = await world.until_metrics(
            lambda found: not any("tailrace_log_lag" in name for name in found), "no lag"
        )
        for route in ("cloudwatch", "archive"):
            assert metrics[sample("tailrace_delivered_rows_total", route=route)] == 30
            assert sample("tailrace_budget_held_bytes", route=route) in metrics
        assert metrics["tailrace_budget_bytes"] == 32 << 20
        assert any("tailrace_requests_total" in name for name in metrics)
        assert await world.stop() == 0
        world.assert_exact(pod)


async def test_staging_that_is_full(tmp_path: Path, free_port: int) -> None:
    """
    At staging_bytes_max the route stops reading and says so; it goes on when uploads do; nothing is lost.
    """
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        world.sink("archive").update(
            {"staging_bytes_max": 4 << 20, "window_age_s": 0.2, "window_bytes_max": 1 << 20}
        )
        world.s3.bucket = "another"
        pod = world.pod("web-1")
        # Incompressible, so that staged bytes are bytes.
        chance = random.Random(1)
        for _ in range(1200):
            pod.write(chance.randbytes(6000).hex())
        await world.start()
        await world.until(lambda: "staging_full" in world.log, "the route says so")
        await world.delivered(pod)
        read = sample("tailrace_read_bytes_total", route="archive")
        # A read that was under way is let in.
        pod.lines(10)
        await world.delivered(pod)
        before = (await world.metrics())[read]
        pod.lines(10)
        await world.delivered(pod)
        assert (await world.metrics())[read] == before < pod.path.stat().st_size
        await world.kill()
        world.s3.bucket = "logs"
        world.sink("archive")["window_age_s"] = 60
        await world.start()
        await world.started()
        await world.until_metrics(
            lambda found: found.get(sample("tailrace_delivered_rows_total", route="archive")),
            "rows",
        )
        lag = sample("tailrace_log_lag_bytes", route="archive", log=pod.path)
        await world.until_metrics(lambda found: lag not in found, "no lag")
        assert await world.stop() == 0
        world.assert_parquet_exact(pod)
