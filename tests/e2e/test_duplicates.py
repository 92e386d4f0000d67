"""
How much CloudWatch may see twice: after a crash what no commit had covered, after a graceful stop nothing.
"""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

from tests.e2e.world import World, tailrace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pods import Line, Pod


async def committed_lines(world: World, pod: Pod) -> set[Line]:
    """
    Return the lines of *pod* that a commit covers.
    """
    done = await tailrace("status", "-c", world.config_path, "--json", "--logs", "0")
    assert done.code == 0, done
    (route,) = json.loads(done.out)["routes"]
    offsets = [item["offset"] for item in route["logs"] if item["log"] == str(pod.path)]
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
