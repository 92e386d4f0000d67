"""
Transforms in the agent as a process: what is wanted arrives, and nothing falls between two routes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.e2e.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pods import Pod


def write_levels(pod: Pod, first: int, count: int) -> tuple[list[str], list[str]]:
    """
    Write lines of all levels; return those from warn on, and the others.
    """
    loud: list[str] = []
    quiet: list[str] = []
    for index in range(first, first + count):
        level = ("debug", "INFO", "warning", "error")[index % 4]
        line = json.dumps({"level": level, "n": index, "text": f'{pod.name} says "{index}"'})
        if index % 7 == 0:
            line = f"not JSON {index}"
        pod.write(line, stream=("stdout", "stderr")[index % 2])
        (loud if index % 7 and index % 4 > 1 else quiet).append(line)
    return loud, quiet


async def test_two_routes_split_the_rows(tmp_path: Path) -> None:
    """
    Complementary expressions: every line is at exactly one destination, over a rotation and a kill.
    """
    async with World(tmp_path) as world:
        by_name = {route["name"]: route for route in world.routes}
        by_name["cloudwatch"]["transforms"] = [{"parse": "json"}, {"where": "level >= warn"}]
        by_name["archive"]["transforms"] = [{"parse": "json"}, {"where": "not (level >= warn)"}]
        pod = world.pod("web-1")
        loud, quiet = write_levels(pod, 0, 200)
        await world.start()
        await world.until(lambda: len(world.events()) == len(loud), "the loud lines")
        await world.kill()
        pod.rotate()
        more = write_levels(pod, 200, 100)
        loud += more[0]
        quiet += more[1]
        await world.start()
        await world.until(lambda: len(world.events()) == len(loud), "all loud lines")
        assert await world.stop() == 0
        assert {text for _, _, text in world.events()} == set(loud)
        assert sorted(text for (text,) in world.columns("message")) == sorted(quiet)
