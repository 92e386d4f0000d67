"""
How much CloudWatch may see twice: after a crash what no commit had covered, after a graceful stop nothing.
"""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.e2e.pods import rfc3339
from tests.e2e.world import World, sample, tailrace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pods import Line, Pod

DELIVERED = sample("tailrace_delivered_rows_total", route="cloudwatch")


async def committed_offsets(world: World, pod: Pod) -> list[int]:
    """
    Return how far commits have come in the file of *pod*; nothing before the first.
    """
    done = await tailrace("status", "-c", world.config_path, "--json", "--logs", "0")
    assert done.code == 0, done
    (route,) = json.loads(done.out)["routes"]
    return [item["offset"] for item in route["logs"] if item["log"] == str(pod.path)]


async def committed_lines(world: World, pod: Pod) -> set[Line]:
    """
    Return the lines of *pod* that a commit covers.
    """
    offsets = await committed_offsets(world, pod)
    covered = pod.path.read_bytes()[: offsets[0]] if offsets else b""
    return set(pod.written[: covered.count(b"\n")])


async def test_a_kill_repeats_at_most_what_no_commit_covers(tmp_path: Path) -> None:
    """
    Killed four times while lines are written: what a commit had covered at a kill is never sent again.

    A line is sent once more at most for each kill that it was in flight or uncommitted at; a graceful stop adds none.
    """
    async with World(tmp_path) as world:
        world.only("cloudwatch")
        world.sink("cloudwatch")["linger_s"] = 0.02
        world.source["chunk_bytes"] = 4096
        pods = [world.pod("web-1"), world.pod("web-2")]
        allowed: dict[Line, int] = {}
        for count in range(1, 5):
            # Kills fall between what was sent and its commit, and behind it.
            point = "commit_before" if count % 2 else "commit_after"
            for pod in pods:
                pod.lines(300)
            await world.start(crash_at=f"{point}:{count}")
            while world.agent is not None and world.agent.returncode is None:
                for pod in pods:
                    pod.lines(20)
                await world.until_or_ended(0.05)
            assert await world.ended() == -signal.SIGKILL, world.log
            for pod in pods:
                covered = await committed_lines(world, pod)
                for line in set(pod.written) - covered:
                    allowed[line] = allowed.get(line, 1) + 1
        await world.start()
        await world.delivered(*pods)
        assert await world.stop() == 0, world.log
        before = dict(world.events())
        assert max(before.values()) > 1, "the kills should have repeated something"
        for line, times in before.items():
            assert times <= allowed.get(line, 1), line
        for pod in pods:
            pod.lines(50)
        await world.start()
        await world.delivered(*pods)
        assert await world.stop() == 0, world.log
        await world.start()
        for pod in pods:
            pod.lines(1)
        await world.delivered(*pods)
        assert await world.stop() == 0, world.log
        assert {line: times for line, times in world.events().items() if line in before} == before
        assert {times for line, times in world.events().items() if line not in before} == {1}


async def test_uncommitted_bytes_max_commits_between_the_intervals(
    tmp_path: Path, free_port: int
) -> None:
    """
    A commit a minute, but no more than 1 MiB that a crash would repeat.
    """
    limit = 1 << 20
    async with World(tmp_path) as world:
        world.only("cloudwatch")
        world.settings |= {"commit_interval_s": 60, "uncommitted_bytes_max": limit}
        world.settings["admin"] = {"listen": f"127.0.0.1:{free_port}"}
        world.sink("cloudwatch")["linger_s"] = 0.02
        pod = world.pod("web-1")
        await world.start()
        await world.started()
        rows = 0
        for _ in range(20):
            head = f"{rfc3339(datetime.now(UTC))} stdout F ".encode()
            pod.raw(b"".join(head + b"%06d " % row + b"x" * 1000 + b"\n" for row in range(250)))
            rows += 250
            while (await world.metrics()).get(DELIVERED, 0) < rows:
                await world.until_or_ended(0.02)
        written = pod.path.stat().st_size
        commits = (await world.metrics())[sample("tailrace_commits_total", route="cloudwatch")]
        await world.kill()
        (offset,) = await committed_offsets(world, pod)
        assert written > 4 * limit
        assert commits >= written // limit - 1
        assert written - offset < limit + (256 << 10)
