"""
The database is lost while rows are staged: what was confirmed is uploaded, nothing is twice in S3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.world import World

if TYPE_CHECKING:
    from pathlib import Path

#: Each starts an agent three times.
pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize(
    "victim",
    [
        "damaged",
        "both",
        pytest.param("deleted", marks=pytest.mark.slow),
        pytest.param("wal", marks=pytest.mark.slow),
    ],
)
async def test_the_database_is_lost_in_a_crash(victim: str, tmp_path: Path) -> None:
    """
    Killed with rows staged that the backup does not know, an uploaded window before, rotations and an open piece.

    With both copies lost, what was uploaded and is not in staging comes again; here every Log is in staging.
    """
    async with World(tmp_path) as world:
        old, new = world.pod("web-1"), world.pod("web-2")
        old.lines(20)
        if victim != "both":
            await world.start()
            await world.until_committed(str(old.path))
            assert await world.stop() == 0, world.log
            assert len(world.rows()) == 20
        await world.start()
        old.lines(10)
        old.rotate()
        old.lines(10)
        new.lines(10)
        new.rotate()
        new.write("an open piece ", tag="P")
        new.write("beside it", stream="stderr")
        await world.delivered(old)
        await world.until(lambda: ("web-2", "stderr", "beside it") in world.events(), "the rest")
        await world.until_committed(str(old.path))
        await world.kill()
        database = world.state / "tailrace.db"
        if victim == "wal":
            database.with_name("tailrace.db-wal").unlink()
        elif victim == "deleted":
            database.unlink()
        else:
            # With its -wal SQLite may not even need the pages that are damaged.
            database.with_name("tailrace.db-wal").unlink()
            for path in [database, *([world.state / "tailrace.db.backup"] * (victim == "both"))]:
                path.write_bytes(b"\x55" * 9000)
        new.write("and its end")
        await world.start()
        event = {"damaged": "store_corrupt", "both": "store_corrupt"}.get(victim, "store_lost")
        await world.until(lambda: f" {event}: " in world.log, "it is told")
        await world.delivered(old, new)
        assert await world.stop() == 0, world.log
        assert "staging_rebuilt" in world.log
        world.assert_parquet_exact(old, new)
        world.assert_cloudwatch_complete(old, new)
        assert await world.losses() == []
