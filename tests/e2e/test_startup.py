"""
What keeps the agent from starting: a configuration with problems, and a state directory that it cannot have.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.e2e.world import World, tailrace

if TYPE_CHECKING:
    from pathlib import Path

#: As many problems as there are patterns in PROBLEMS.
BROKEN = """\
cluster: c
stat_dir: {state}
drain_timeout_s: soon
sources:
  - name: containers
    type: files
    pahts: ["/var/log/pods/*/*/*.log"]
routes:
  - name: cloudwatch
    sink: {{type: cloudwatch, region: eu-central-1, group: "/logs/{{namespac}}"}}
  - name: archive
    sink: {{type: parquet, region: eu-central-1, url: "https://bucket/prefix"}}
  - name: archive
    sink: {{type: blackhole}}
"""
#: Key path, value and expectation of every problem.
PROBLEMS = (
    r"stat_dir: unknown key.*state_dir",
    r"drain_timeout_s: got .?soon.?, expected seconds as a number",
    r"sources\[0\]\.pahts: unknown key.*paths",
    r"routes\[0\]\.sink\.group: .*namespac.*namespace",
    r"routes\[1\]\.sink\.url: got .https://bucket/prefix., expected s3://",
    r"routes\[2\]\.name: .*archive",
)


@pytest.mark.parametrize("command", ["run", "validate", "replay"])
async def test_every_problem_of_a_configuration_is_told_and_nothing_starts(
    command: str, tmp_path: Path
) -> None:
    """
    Exit 78, one line per problem with key path, value and expectation; no state directory appears.
    """
    state = tmp_path / "state"
    config = tmp_path / "tailrace.yaml"
    config.write_text(BROKEN.format(state=state))
    paths = [config] if command == "replay" else []
    done = await tailrace(command, "-c", config, *paths)
    assert (done.code, done.out) == (78, "")
    lines = done.err.splitlines()
    for pattern in PROBLEMS:
        assert sum(bool(re.search(pattern, line)) for line in lines) == 1, (pattern, done.err)
    assert len(lines) == len(PROBLEMS), done.err
    assert "Traceback" not in done.err
    assert not state.exists()


@pytest.mark.parametrize("command", ["run", "validate", "ddl", "status", "losses"])
async def test_a_missing_configuration(command: str, tmp_path: Path) -> None:
    """
    Exit 78 and the path.
    """
    path = tmp_path / "absent.yaml"
    done = await tailrace(command, "-c", path, *(["archive"] if command == "ddl" else []))
    assert done.code == 78
    assert str(path) in done.err
    assert "Traceback" not in done.err


async def test_a_state_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """
    Exit 78 with the path and what to do; the fakes see no request.
    """
    (tmp_path / "file").write_text("not a directory")
    async with World(tmp_path) as world:
        world.pod("web-1").lines(3)
        # /proc takes no directory from anybody, root included.
        for path in (f"{tmp_path}/file/state", "/proc/tailrace"):
            world.settings["state_dir"] = path
            world.write_config()
            done = await tailrace("run", "-c", world.config_path)
            assert done.code == 78, done
            assert path in done.err
            assert "state_dir" in done.err
            assert "Traceback" not in done.err
        assert not world.cloudwatch.requests
        assert not world.s3.requests


async def test_a_state_directory_that_is_held(tmp_path: Path) -> None:
    """
    The second agent says for whom it waits and exits 75; the first one goes on.
    """
    async with World(tmp_path) as world:
        pod = world.pod("web-1")
        pod.lines(10)
        await world.start()
        await world.delivered(pod)
        assert world.agent is not None
        world.settings["lock_wait_s"] = 0.3
        world.write_config()
        done = await tailrace("run", "-c", world.config_path)
        assert done.code == 75, done
        assert str(world.state) in done.err
        assert str(world.agent.pid) in done.err
        pod.lines(10)
        await world.delivered(pod)
        assert await world.stop() == 0
        world.assert_exact(pod)


async def test_an_agent_that_leaves_in_time_makes_room(tmp_path: Path) -> None:
    """
    A rolling update: the next agent waits, and starts when the one before has drained.
    """
    async with World(tmp_path) as world:
        pod = world.pod("web-1")
        pod.lines(10)
        await world.start()
        await world.delivered(pod)
        first = world.agent
        assert first is not None
        world.settings["lock_wait_s"] = 20
        await world.start()
        await world.until(lambda: "state_held" in world.log, "the second agent waits")
        first.terminate()
        assert await first.wait() == 0
        pod.lines(10)
        await world.delivered(pod)
        assert await world.stop() == 0
        world.assert_exact(pod)


async def test_a_sink_that_changed_under_the_same_name(tmp_path: Path) -> None:
    """
    Its cursors are worth nothing at another destination: exit 78 and the command that helps, which does.
    """
    async with World(tmp_path) as world:
        world.only("cloudwatch")
        pod = world.pod("web-1")
        pod.lines(5)
        await world.start()
        await world.delivered(pod)
        assert await world.stop() == 0
        world.sink("cloudwatch")["group"] = "/other/{namespace}"
        await world.start()
        assert await world.ended() == 78
        assert "tailrace state" in world.log
        done = await tailrace(
            "state", "rename", "-c", world.config_path, "cloudwatch", "cloudwatch"
        )
        assert done.code == 0, done
        pod.lines(5)
        await world.start()
        await world.delivered(pod)
        assert await world.stop() == 0
        assert len(world.cloudwatch.messages("/other/shop")) == 5
        assert os.listdir(world.state)
