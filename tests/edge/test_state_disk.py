"""
The disk under the state directory is full, fails or is emptied: CloudWatch goes on, and it heals by itself.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.e2e.world import World, tailrace
from tests.edge.disks import abort, ext4, fill, tmpfs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pods import Pod

NOISE = "x" * 900
#: Each starts an agent two or three times.
pytestmark = pytest.mark.timeout(180)


def failures(found: dict[str, float], route: str) -> float:
    """
    Return the checkpoints of *route* that failed.
    """
    return sum(
        value
        for name, value in found.items()
        if name.startswith("tailrace_checkpoint_failures_total") and f'route="{route}"' in name
    )


async def settled(world: World, pod: Pod) -> None:
    """
    Wait until the agent has committed what there is.
    """
    await world.started()
    await world.delivered(pod)
    await world.until_committed(str(pod.path))


async def test_a_full_disk(tmp_path: Path, free_port: int) -> None:
    """
    CloudWatch goes on, Parquet waits; a stop and a start meanwhile lose nothing; with space everything follows.
    """
    with tmpfs(tmp_path / "state", mib=8):
        async with World(tmp_path) as world:
            world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
            pod = world.pod("web-1")
            pod.lines(20)
            await world.start()
            await settled(world, pod)
            assert "state_volatile" in world.log
            ballast = fill(world.state)
            for index in range(2000):
                pod.write(f"{index} {NOISE}")
            await world.delivered(pod)
            found = await world.until_metrics(
                lambda found: failures(found, "cloudwatch"), "checkpoints fail"
            )
            assert failures(found, "cloudwatch")
            await world.until(lambda: "checkpoint_failed" in world.log, "it is told")
            assert "free space on its disk" in world.log
            # Once a minute, however often it is tried.
            told = [line for line in world.log.splitlines() if "checkpoint_failed" in line]
            assert len([line for line in told if "route=cloudwatch" in line]) <= 2
            # A probe that restarted the agent would make it worse.
            assert (await world.get("/healthz"))[0] == 200
            ballast.unlink()
            await world.until(lambda: "checkpoint_resumed" in world.log, "it heals")
            pod.write("the last one")
            await settled(world, pod)
            assert await world.stop() == 0, world.log
            world.assert_exact(pod)


async def test_a_stop_while_the_disk_is_full(tmp_path: Path, free_port: int) -> None:
    """
    SIGTERM ends in time with exit 0; with space the next start delivers what Parquet lacks.
    """
    with tmpfs(tmp_path / "state", mib=8):
        async with World(tmp_path) as world:
            world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
            world.settings["drain_timeout_s"] = 1
            pod = world.pod("web-1")
            pod.lines(20)
            await world.start()
            await settled(world, pod)
            ballast = fill(world.state)
            for index in range(2000):
                pod.write(f"{index} {NOISE}")
            await world.delivered(pod)
            assert await world.stop() == 0, world.log
            ballast.unlink()
            world.settings["drain_timeout_s"] = 20
            await world.start()
            pod.write("the last one")
            await settled(world, pod)
            assert await world.stop() == 0, world.log
            world.assert_parquet_exact(pod)
            world.assert_cloudwatch_complete(pod)


async def test_a_first_start_on_a_full_disk(tmp_path: Path, free_port: int) -> None:
    """
    Nothing is delivered that could not be remembered; a signal ends the wait, and with space it begins by itself.
    """
    with tmpfs(tmp_path / "state", mib=8):
        async with World(tmp_path) as world:
            world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
            pod = world.pod("web-1")
            pod.lines(20)
            ballast = fill(world.state)
            await world.start()
            await world.until(lambda: "state_failed" in world.log, "it is told")
            assert "free space on its disk" in world.log
            assert await world.stop() == 0, world.log
            assert not world.cloudwatch.requests
            await world.start()
            await world.until(lambda: world.log.count("state_failed") == 2, "it is told again")
            ballast.unlink()
            await settled(world, pod)
            assert await world.stop() == 0, world.log
            assert "Traceback" not in world.log
            world.assert_exact(pod)


@pytest.mark.slow
async def test_a_second_signal_while_the_disk_is_full(tmp_path: Path) -> None:
    """
    It does not wait for the disk.
    """
    with tmpfs(tmp_path / "state", mib=8):
        async with World(tmp_path) as world:
            pod = world.pod("web-1")
            pod.lines(20)
            await world.start()
            await world.delivered(pod)
            await world.until_committed(str(pod.path))
            fill(world.state)
            for index in range(2000):
                pod.write(f"{index} {NOISE}")
            await world.delivered(pod)
            assert world.agent is not None
            world.agent.send_signal(signal.SIGTERM)
            await world.until(lambda: "draining" in world.log, "the drain")
            world.agent.send_signal(signal.SIGTERM)
            assert await world.ended() == 128 + signal.SIGTERM


async def test_a_disk_that_fails(tmp_path: Path, free_port: int) -> None:
    """
    ext4 turns read-only after an error: CloudWatch goes on; the next start says so, and a whole disk heals it.
    """
    state = tmp_path / "state"
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        world.settings["drain_timeout_s"] = 1
        pod = world.pod("web-1")
        pod.lines(20)
        with ext4(state, tmp_path / "image"):
            await world.start()
            await settled(world, pod)
            abort(state)
            pod.lines(50)
            await world.delivered(pod)
            await world.until_metrics(
                lambda found: failures(found, "cloudwatch"), "checkpoints fail"
            )
            await world.until(
                lambda: "read-only" in world.log or "dmesg" in world.log, "it is told"
            )
            assert (await world.get("/healthz"))[0] == 200
            assert await world.stop() == 0, world.log
            done = await tailrace("run", "-c", world.config_path)
            assert done.code in (75, 78), done.err
            assert "mount it writable" in done.err
            done = await tailrace("status", "-c", world.config_path)
            assert done.code == 0 or "cannot be read" in done.err
            await asyncio.to_thread(shutil.copytree, state, tmp_path / "saved")
        shutil.rmtree(state)
        # What the disk had: the state of before.
        (tmp_path / "saved").rename(state)
        world.settings["drain_timeout_s"] = 20
        await world.start()
        await settled(world, pod)
        assert await world.stop() == 0, world.log
        world.assert_parquet_exact(pod)
        world.assert_cloudwatch_complete(pod)


@pytest.mark.parametrize(
    "victim",
    [
        "everything",
        pytest.param("database", marks=pytest.mark.slow),
        pytest.param("staging", marks=pytest.mark.slow),
    ],
)
async def test_files_deleted_under_the_agent(victim: str, tmp_path: Path, free_port: int) -> None:
    """
    The whole directory, the database, staged rows: written anew; a kill right after loses and repeats nothing.
    """
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        pod = world.pod("web-1")
        pod.lines(20)
        await world.start()
        await settled(world, pod)
        if victim == "everything":
            shutil.rmtree(world.state)
        elif victim == "staging":
            shutil.rmtree(world.state / "staging")
        else:
            for path in world.state.glob("tailrace.db*"):
                path.unlink()
        pod.lines(20)
        await settled(world, pod)
        event = "staging_missing" if victim == "staging" else "store_missing"
        await world.until(lambda: event in world.log, "it is told")
        if victim == "everything":
            assert "staging_missing" in world.log
            # Nobody else can start: the lock was taken again.
            assert (world.state / "tailrace.lock").exists()
        assert (await world.status())["running"] is True
        await world.kill()
        await world.start()
        await settled(world, pod)
        assert await world.stop() == 0, world.log
        world.assert_parquet_exact(pod)
        world.assert_cloudwatch_complete(pod)
        assert await world.losses() == []


@pytest.mark.slow
async def test_a_database_that_somebody_locks(tmp_path: Path, free_port: int) -> None:
    """
    Commits wait, lines do not; who looks at the state is told why he cannot.
    """
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        pod = world.pod("web-1")
        pod.lines(20)
        await world.start()
        await settled(world, pod)
        other = sqlite3.connect(world.state / "tailrace.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        pod.lines(20)
        await world.delivered(pod)
        await world.until(lambda: "checkpoint_failed" in world.log, "it is told")
        assert "another process holds a lock" in world.log
        other.execute("ROLLBACK")
        other.close()
        await settled(world, pod)
        assert await world.stop() == 0, world.log
        world.assert_exact(pod)


@pytest.mark.slow
async def test_a_database_damaged_under_the_agent(tmp_path: Path, free_port: int) -> None:
    """
    It never writes a damaged page into the backup; the next one goes on from that, once in S3.
    """
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        pod = world.pod("web-1")
        pod.lines(20)
        await world.start()
        await settled(world, pod)
        await world.kill()
        connection = sqlite3.connect(world.state / "tailrace.db")
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        await world.start()
        await settled(world, pod)
        # Straight to the disk, as a failing one would; the descriptor is not the agent's.
        with (world.state / "tailrace.db").open("r+b") as file:
            file.seek(4096)
            file.write(b"\x55" * 4096 * (pages - 1))
        (world.state / "tailrace.db-wal").write_bytes(b"")
        pod.lines(20)
        await world.delivered(pod)
        # Found when the backup is made, if SQLite has to read the pages; else by the next start.
        assert await world.stop() in (0, 70), world.log
        await world.start()
        await world.until(lambda: "store_corrupt" in world.log, "the backup is used")
        await settled(world, pod)
        assert await world.stop() == 0, world.log
        world.assert_parquet_exact(pod)
        world.assert_cloudwatch_complete(pod)
        assert await world.losses() == []
