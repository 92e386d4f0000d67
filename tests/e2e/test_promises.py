"""
What the README promises, as far as it can be looked up: the query that finds rows that are missing, or there twice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import duckdb
import pytest

from tests.e2e.world import REPOSITORY, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LINES = 60


def query() -> str:
    """
    Return the query of the README.
    """
    (found,) = re.findall(
        r"```sql\n(WITH .*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL
    )
    return str(found)


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[duckdb.DuckDBPyConnection]:
    """
    A table of what Tailrace wrote of one rotated log.
    """
    async with World(tmp_path) as world:
        world.only("archive")
        pod = world.pod("web-1")
        pod.lines(LINES // 2)
        pod.write("grüße 🚀")
        pod.rotate()
        pod.lines(LINES - LINES // 2 - 1)
        await world.start()
        await world.until_committed(str(pod.path))
        assert await world.stop() == 0, world.log
        world.assert_parquet_exact(pod)
        for number, stored in enumerate(world.s3.objects.values()):
            (tmp_path / f"{number}.parquet").write_bytes(stored.body)
    with duckdb.connect() as database:
        # Athena's name for it.
        database.execute("CREATE MACRO to_utf8(text) AS encode(text)")
        database.execute("CREATE MACRO length(bytes) AS octet_length(bytes)")
        database.execute(f"CREATE TABLE logs AS FROM read_parquet('{tmp_path}/*.parquet')")
        yield database


async def test_the_query(archive: duckdb.DuckDBPyConnection) -> None:
    """
    It finds nothing in two generations of a log; then a row that is missing, and one that is there twice.
    """
    assert archive.execute("SELECT count(*) FROM logs").fetchone() == (LINES,)
    assert archive.execute(query()).fetchall() == []
    archive.execute("DELETE FROM logs WHERE message = 'web-1 line 7'")
    ((node, file, offset, what, size),) = archive.execute(query()).fetchall()
    assert (node, what) == ("node-1", "missing")
    assert file.endswith("/0.log")
    assert offset > 0
    assert size == len("2026-11-22T10:15:00.000000000Z stdout F web-1 line 7\n")
    archive.execute("INSERT INTO logs SELECT * FROM logs WHERE message = 'web-1 line 20'")
    found = archive.execute(query()).fetchall()
    assert sorted(row[3] for row in found) == ["missing", "twice", "twice"]
