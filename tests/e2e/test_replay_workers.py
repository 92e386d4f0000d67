"""
`tailrace replay --workers N`: the same rows as one process delivers, one report, and a worker that dies.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agent.runtime.replay import Report
from agent.runtime.replay_workers import merged
from bench.measure import process_tree, pss_bytes
from tests.e2e.world import REPOSITORY, World, environment, tailrace

if TYPE_CHECKING:
    from pathlib import Path

#: Each worker is an agent that starts, and each may seal: seven processes on a machine that may be busy.
PATIENCE_S = 150.0
pytestmark = pytest.mark.timeout(600)


async def replay(world: World, *arguments: object) -> tuple[int, str, dict[str, Any]]:
    """
    Replay with workers; return the exit code, what was said, and the report.
    """
    world.write_config()
    path = world.directory / "report.json"
    path.unlink(missing_ok=True)
    done = await tailrace(
        *("replay", "-c", world.config_path, "--report", path, *arguments), patience_s=PATIENCE_S
    )
    return done.code, done.err, json.loads(path.read_bytes()) if path.exists() else {}


async def test_all_rows_and_one_report(tmp_path: Path) -> None:
    """
    Files of all kinds are shared, each is read once, and the report is the sum.
    """
    async with World(tmp_path) as world:
        pods = [world.pod(f"web-{number}") for number in range(3)]
        for number, pod in enumerate(pods):
            pod.lines(100 * (number + 1))
        # Both generations of one Log go to one worker.
        old = pods[0].rotate()
        packed = old.with_name(old.name + ".gz")
        packed.write_bytes(gzip.compress(old.read_bytes()))
        old.unlink()
        pods[0].lines(50)
        size = sum(pod.path.stat().st_size for pod in pods)
        # A file that is given twice is read once.
        code, said, report = await replay(
            world, "--workers", 2, pods[0].directory.parent.parent, packed, pods[1].path
        )
        assert (code, said) == (0, "")
        world.assert_exact(*pods)
        assert report["workers"] == 2
        assert report["lines_in"] == 650
        assert report["bytes_in"] >= size
        for route in report["routes"].values():
            assert (route["rows_delivered"], route["rejected"], route["lost"]) == (650, 0, 0)
        assert report["routes"]["cloudwatch"]["requests"] == len(world.cloudwatch.requests)
        assert 0 < report["startup_s"] <= report["wall_s"]
        assert 0 < report["startup_cpu_s"] < report["cpu_s"]


async def test_a_killed_worker_is_said_and_goes_on(tmp_path: Path) -> None:
    """
    Exit 75, what may be missing, and the same command again delivers the rest: in Parquet every row once.
    """
    async with World(tmp_path) as world:
        pods = [world.pod(f"web-{number}") for number in range(2)]
        for pod in pods:
            pod.lines(2000)
        world.source["chunk_bytes"] = 4096
        world.settings["commit_interval_s"] = 0.02
        world.sink("archive")["frame_age_s"] = 0.02
        world.write_config()
        state = tmp_path / "replay"
        arguments = ("--state", state, pods[0].path, pods[1].path)
        done = await tailrace(
            *("replay", "-c", world.config_path, "--workers", 2, *arguments),
            env={"TAILRACE_CRASH_AT": "commit_after:2"},
            patience_s=PATIENCE_S,
        )
        assert done.code == 75, done
        assert "was killed by SIGKILL" in done.err
        assert "the same command goes on where it stopped" in done.err
        assert any(str(pod.path) in done.err for pod in pods)

        # Whoever reads a Log keeps it: another number of workers, or none, would read it anew.
        code, said, _ = await replay(world, "--workers", 3, *arguments)
        assert code == 64
        assert "was begun with 2; say --workers 2" in said
        code, said, _ = await replay(world, *arguments)
        assert code == 64
        assert "begun with --workers 2" in said

        code, said, report = await replay(world, "--workers", 2, *arguments)
        assert (code, said) == (0, "")
        assert report["lines_in"] <= 4000
        world.assert_cloudwatch_complete(*pods)
        world.assert_parquet_exact(*pods)
        code, said, report = await replay(world, "--workers", 2, *arguments)
        assert (code, report["lines_in"]) == (0, 0)
        world.assert_parquet_exact(*pods)


async def test_without_state_nothing_is_promised(tmp_path: Path) -> None:
    """
    What a killed worker delivered is not known, and that is said; nothing is left of its state.
    """
    async with World(tmp_path) as world:
        pods = [world.pod(f"web-{number}") for number in range(2)]
        for pod in pods:
            pod.lines(10)
        world.write_config()
        done = await tailrace(
            *("replay", "-c", world.config_path, "--workers", 2, *(pod.path for pod in pods)),
            env={"TAILRACE_CRASH_AT": "commit_before:1"},
            patience_s=PATIENCE_S,
        )
        assert done.code == 75, done
        assert "0 of 2 workers are done" in done.err
        assert "next time with --state DIR" in done.err
        assert done.out == ""


@pytest.mark.parametrize("given", ["0", "-1", "2.5", "many", "257"])
async def test_a_wrong_number_is_said(given: str) -> None:
    """
    With what was expected; exit 64, as for every wrong use.
    """
    done = await tailrace("replay", f"--workers={given}", "/nowhere.log")
    assert done.code == 64
    assert f"got '{given}', expected a number of processes from 1 to 256" in done.err


async def test_other_mistakes_keep_their_codes(tmp_path: Path) -> None:
    """
    A missing file is 66 before anything starts; a state directory of a single replay is not shared.
    """
    async with World(tmp_path) as world:
        pod = world.pod("web-1")
        pod.lines(5)
        code, said, _ = await replay(world, "--workers", 2, pod.path, tmp_path / "absent.log")
        assert code == 66
        assert "absent.log: no such file" in said
        state = tmp_path / "replay"
        assert (await replay(world, "--state", state, pod.path))[0] == 0
        code, said, _ = await replay(world, "--state", state, "--workers", 2, pod.path)
        assert code == 64
        assert "begun without --workers" in said


async def test_sigterm_ends_the_workers_too(tmp_path: Path) -> None:
    """
    Nobody goes on delivering after the command has ended; with --state the next one goes on.
    """
    async with World(tmp_path) as world:
        pods = [world.pod(f"web-{number}") for number in range(2)]
        for pod in pods:
            pod.lines(20)
        world.write_config()
        # Nobody answers there, so the replay is still at it when the signal comes.
        world.sink("cloudwatch")["endpoint_url"] = "http://127.0.0.1:9"
        world.write_config()
        state = tmp_path / "replay"
        command = (
            sys.executable,
            "-m",
            "agent",
            "replay",
            "-c",
            world.config_path,
            "--workers",
            "2",
        )
        world.agent = await asyncio.create_subprocess_exec(
            *map(str, (*command, "--state", state, *(pod.path for pod in pods))),
            cwd=REPOSITORY,
            env=environment(),
            stderr=asyncio.subprocess.PIPE,
        )
        await world.until(
            lambda: len(list(state.glob("worker-*/tailrace.db"))) == 2, "both workers have begun"
        )
        children = process_tree(world.agent.pid)[1:]
        assert len(children) >= 2
        assert await world.stop(signal.SIGTERM) == 143
        assert pss_bytes(children[:2]) == 0
        # A seal child delivers nothing: it ends its window, and the next one waits for its lock.
        async with asyncio.timeout(PATIENCE_S):
            while pss_bytes(children):
                await asyncio.sleep(0.02)
        assert world.agent.stderr is not None
        assert b"ended by SIGTERM" in await world.agent.stderr.read()


def test_a_start_is_that_of_the_parent_and_of_its_slowest_worker() -> None:
    """
    Otherwise throughput would count the parent's start as reading.
    """
    reports = [
        Report(
            bytes_in=100,
            lines_in=1,
            routes={},
            wall_s=3.0,
            startup_s=startup_s,
            startup_cpu_s=0.1,
            cpu_s=1.0,
            rss_peak_bytes=1,
            throughput_bytes_s=1,
            workers=1,
        )
        for startup_s in (0.2, 0.3)
    ]
    report = merged(reports, before_s=0.5, before_cpu_s=0.4)
    assert (report.startup_s, report.startup_cpu_s) == (0.8, 0.6)
    assert (report.bytes_in, report.workers) == (200, 2)
