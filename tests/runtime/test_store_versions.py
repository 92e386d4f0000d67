"""
Up and down by one version with the same state directory.

`V1` is what the version that knows format 1 does to a database: its schema and its statements, word for word.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from agent.core.checkpoint import GenerationRow, Transaction
from agent.core.cursor import cursor_at
from agent.core.identity import Tail
from agent.runtime import store_file, store_schema
from agent.runtime.store_rows import read_generations
from tests.contract.store_values import LOG, OTHER, generation
from tests.runtime.store_worlds import opened

if TYPE_CHECKING:
    from pathlib import Path

TAIL = Tail(4096, 1024, b"t" * 16)


class V1:
    """
    The version before, on a connection.
    """

    FORMAT = 1

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)

    def create(self) -> None:
        """
        Make a database of format 1.
        """
        for statement in store_schema.SCHEMA.replace(store_schema.TAILS + ";", "").split(";\n"):
            self.connection.execute(statement)
        self.connection.executemany(
            "INSERT INTO meta VALUES (?, ?)",
            {"format_version": 1, "reader_version_min": 1, "written_by": "tailrace 0.1.0"}.items(),
        )
        self.connection.execute(f"PRAGMA application_id={store_schema.APPLICATION_ID}")
        self.connection.execute("PRAGMA journal_mode=WAL")

    def open(self) -> None:
        """
        Check what is checked at a start, and prune.
        """
        meta = dict(self.connection.execute("SELECT key, value FROM meta").fetchall())
        assert meta["reader_version_min"] <= self.FORMAT
        self.connection.execute(
            "DELETE FROM generations WHERE log NOT IN (SELECT log FROM cursors)"
        )

    def commit(self, row: GenerationRow, offset: int) -> None:
        """
        Write one cursor and one generation.
        """
        self.connection.execute("BEGIN IMMEDIATE")
        known = self.connection.execute("SELECT id FROM routes WHERE name = 'a'").fetchone()
        if known is None:
            known = self.connection.execute(
                "INSERT INTO routes (name, sink_identity, first_seen_ns, last_seen_ns)"
                " VALUES ('a', 'sink-a', 1, 1) RETURNING id"
            ).fetchone()
        self.connection.execute(
            "INSERT INTO cursors (route_id, log, other_generation, other_offset, other_mode,"
            " stdout_generation, stdout_offset, stdout_mode, stderr_generation, stderr_offset,"
            " stderr_mode) VALUES (?, ?, ?, ?, 0, ?, ?, 0, ?, ?, 0)"
            " ON CONFLICT DO UPDATE SET other_offset = excluded.other_offset,"
            " stdout_offset = excluded.stdout_offset, stderr_offset = excluded.stderr_offset",
            (known[0], row.log, *(row.number, offset) * 3),
        )
        self.connection.execute(
            "INSERT OR REPLACE INTO generations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(row.log, row.number, row.head, row.head_length, row.ordinal),
                *(row.file_id, row.device, row.inode, row.name, row.size),
            ),
        )
        self.connection.execute("UPDATE routes SET committed_ns = 1, boot_id = 'boot-1'")
        self.connection.execute("COMMIT")

    def generations(self) -> list[tuple[str, int]]:
        """
        Read what is read at a start.
        """
        return self.connection.execute(
            "SELECT log, number, head, head_length, ordinal, file_id, device, inode, name, size"
            " FROM generations ORDER BY log, number"
        ).fetchall()


async def test_upgrade(tmp_path: Path) -> None:
    """
    What the version before wrote is there, and from then on tails are kept.
    """
    old = V1(tmp_path / store_schema.DATABASE_NAME)
    old.create()
    old.commit(generation(), 5)
    old.connection.close()
    # `tailrace status` of the new version reads it before any agent has migrated it.
    reader = store_file.open_read_only(str(tmp_path))
    assert read_generations(reader) == [generation()]
    reader.close()
    world = await opened(tmp_path)
    assert (await world.store.load_route("a", "sink-a")).cursors == {LOG: cursor_at(0, 5)}
    assert await world.store.load_generations() == [generation()]
    await world.store.commit(Transaction("a", 2, generations=[generation(tail=TAIL)]))
    await world.reopen()
    assert await world.store.load_generations() == [generation(tail=TAIL)]
    await world.close()


async def test_downgrade_and_upgrade_again(tmp_path: Path) -> None:
    """
    The version before reads and writes what the new one left; a tail is not taken for that of another file.
    """
    world = await opened(tmp_path)
    await world.store.load_route("a", "sink-a")
    rows = [generation(tail=TAIL), generation(OTHER, tail=TAIL)]
    cursors = {LOG: cursor_at(0, 5), OTHER: cursor_at(0, 5)}
    await world.store.commit(Transaction("a", 1, cursors=cursors, generations=rows))
    await world.close()
    old = V1(tmp_path / store_schema.DATABASE_NAME)
    old.open()
    assert [row[:2] for row in old.generations()] == [(LOG, 0), (OTHER, 0)]
    # It goes on in one file, and forgets the other Log, whose path is then that of another file.
    old.commit(generation(size=9999), 77)
    old.commit(generation(OTHER, file_id="f" * 32), 1)
    old.connection.close()
    await world.reopen()
    found = {row.log: row for row in await world.store.load_generations()}
    assert found[LOG] == generation(size=9999, tail=TAIL)
    assert found[OTHER] == generation(OTHER, file_id="f" * 32)
    state = await world.store.load_route("a", "sink-a")
    assert state.cursors == {LOG: cursor_at(0, 77), OTHER: cursor_at(0, 1)}
    assert world.connection.execute("SELECT count(*) FROM tails").fetchone() == (1,)
    await world.close()
