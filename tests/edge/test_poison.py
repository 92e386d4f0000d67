"""
Bytes that a component cannot get through cost one route those bytes, and the other route nothing.

The agent is the real one, started by a script that makes one component raise where it meets a mark.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent.core.batch import LossReason
from agent.runtime.store import SqliteStore
from tests.e2e.world import World

if TYPE_CHECKING:
    from pathlib import Path

MARK = "POISON"
SCRIPTS = {
    "cloudwatch": """
from agent.sinks import cloudwatch_payloads as module
whole = module.Encoder._encode
def encode(self, head, segments, columns, *rest, **options):
    if any(b"POISON" in bytes(held.data) for held in columns):
        raise ValueError("made to fail")
    return whole(self, head, segments, columns, *rest, **options)
module.Encoder._encode = encode
""",
    "archive": """
from agent.sinks import staging as module
whole = module.staging_buffers
def buffers(columns):
    if b"POISON" in bytes(columns.data):
        raise ValueError("made to fail")
    return whole(columns)
module.staging_buffers = buffers
""",
}
START = """
import sys
from agent.runtime import supervisor
supervisor.BACKOFF_S_MIN = supervisor.BACKOFF_S_MAX = 0.05
from agent.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("route", SCRIPTS)
async def test_poison_costs_its_bytes(route: str, tmp_path: Path) -> None:
    """
    Its chunk is recorded as lost for the route that cannot take it; all others lines arrive everywhere.
    """
    async with World(tmp_path) as world:
        world.settings["sources"][0]["chunk_bytes"] = 4096
        world.sink("archive")["window_age_s"] = 1
        pod, other = world.pod("web-1"), world.pod("db-0", "data")
        pod.lines(200)
        pod.write(f"a line with {MARK}")
        pod.lines(200)
        other.lines(50)
        script = tmp_path / "agent_with_poison.py"
        script.write_text(SCRIPTS[route] + START)
        await world.start(program=(str(script),), env={"PYTHONPATH": os.getcwd()})
        written = {*pod.written, *other.written}
        # The last line is behind the poison: it arrives where the poison was isolated.
        last = pod.written[-1]
        await world.until(
            lambda: last in world.events() and last in world.rows(), "the last line arrived"
        )
        pod.lines(10)
        await world.until(lambda: pod.written[-1] in world.events(), "later lines arrived")
        assert await world.stop() == 0, world.log
        whole, cut = {*world.rows()}, {*world.events()}
        if route == "archive":
            whole, cut = cut, whole
        written = {*pod.written, *other.written}
        assert whole == written
        missing = written - cut
        assert 0 < len(missing) < 100
        assert any(MARK in text for _, _, text in missing)
        store = await SqliteStore.open(
            str(world.state), now_ns=lambda: 0, tell=lambda *_, **__: None, routes=[route]
        )
        losses = await store.load_losses()
        await store.close()
        assert {(row.route, row.loss.reason) for row in losses} == {(route, LossReason.POISON)}
        assert sum(row.loss.stop - row.loss.start for row in losses) < 2 * 4096
