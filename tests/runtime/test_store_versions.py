"""
Upgrade and downgrade by one version over the same state directory, against what 0.1.0 wrote and ran, kept as text.

A change of the schema changes nothing here but FORMAT_VERSION: it adds a migration, and this still passes.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.core.checkpoint import SinkRows, Transaction, Window
from agent.core.cursor import StreamCursor, cursor_at
from agent.runtime.store_schema import APPLICATION_ID, FORMAT_VERSION, MIGRATIONS, SCHEMA
from agent.sinks.staging import FrameHeader
from tests.contract.store_values import LOG, loss
from tests.runtime.store_worlds import opened

if TYPE_CHECKING:
    from pathlib import Path

#: Never to be changed: databases like this are on people's nodes.
SCHEMA_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE routes (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    sink_identity TEXT NOT NULL,
    first_seen_ns INTEGER NOT NULL,
    last_seen_ns INTEGER NOT NULL,
    committed_ns INTEGER,
    removed_ns INTEGER,
    boot_id TEXT NOT NULL DEFAULT ''
);
CREATE TABLE generations (
    log TEXT NOT NULL, number INTEGER NOT NULL,
    head BLOB NOT NULL, head_length INTEGER NOT NULL, ordinal INTEGER NOT NULL, file_id TEXT NOT NULL,
    device INTEGER NOT NULL, inode INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (log, number)
) WITHOUT ROWID;
CREATE TABLE cursors (
    route_id INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE, log TEXT NOT NULL,
    other_generation INTEGER NOT NULL, other_offset INTEGER NOT NULL, other_mode INTEGER NOT NULL,
    stdout_generation INTEGER NOT NULL, stdout_offset INTEGER NOT NULL, stdout_mode INTEGER NOT NULL,
    stderr_generation INTEGER NOT NULL, stderr_offset INTEGER NOT NULL, stderr_mode INTEGER NOT NULL,
    PRIMARY KEY (log, route_id)
) WITHOUT ROWID;
CREATE INDEX cursors_by_route ON cursors (route_id);
CREATE TABLE sink_rows (
    route_id INTEGER PRIMARY KEY REFERENCES routes ON DELETE CASCADE,
    window INTEGER NOT NULL, staging_length INTEGER NOT NULL
);
CREATE TABLE windows (
    route_id INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE, number INTEGER NOT NULL,
    staging_length INTEGER NOT NULL, sealed_ns INTEGER NOT NULL,
    PRIMARY KEY (route_id, number)
) WITHOUT ROWID;
CREATE TABLE objects (
    route_id INTEGER NOT NULL, window INTEGER NOT NULL, position INTEGER NOT NULL,
    key TEXT NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL, confirmed INTEGER NOT NULL,
    PRIMARY KEY (route_id, window, position),
    FOREIGN KEY (route_id, window) REFERENCES windows (route_id, number) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE losses (
    id INTEGER PRIMARY KEY,
    route_id INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE, at_ns INTEGER NOT NULL,
    log TEXT NOT NULL, file_id TEXT NOT NULL, generation INTEGER NOT NULL,
    start INTEGER NOT NULL, stop INTEGER NOT NULL,
    reason TEXT NOT NULL, rows INTEGER NOT NULL, detail TEXT NOT NULL
);
CREATE INDEX losses_by_end ON losses (route_id, log, generation, stop);
CREATE TABLE losses_dropped (
    route_id INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE, reason TEXT NOT NULL,
    records INTEGER NOT NULL, bytes INTEGER NOT NULL, rows INTEGER NOT NULL, at_ns INTEGER NOT NULL,
    PRIMARY KEY (route_id, reason)
) WITHOUT ROWID;
"""
ROWS_1 = """
INSERT INTO meta VALUES ('format_version', 1), ('reader_version_min', 1), ('created_ns', 1),
    ('written_by', 'tailrace 0.1.0');
INSERT INTO routes VALUES (1, 'a', 'sink', 1, 1, 5, NULL, 'boot-1');
INSERT INTO generations VALUES ('/l/0.log', 2, x'00', 10, 0, 'ab', 1, 2, '0.log', 100);
INSERT INTO cursors VALUES (1, '/l/0.log', 2, 10, 0, 2, 20, 1, 2, 30, 0);
INSERT INTO sink_rows VALUES (1, 7, 512);
INSERT INTO windows VALUES (1, 6, 4096, 3);
INSERT INTO objects VALUES (1, 6, 0, 'key', 'sealed/a/6/key', 99, 1);
INSERT INTO losses VALUES (1, 1, 4, '/l/0.log', 'ab', 1, 0, 10, 'deleted', 0, '');
"""
#: What a commit of 0.1.0 does.
COMMIT_1 = """
BEGIN IMMEDIATE;
INSERT INTO cursors (route_id, log, other_generation, other_offset, other_mode, stdout_generation, stdout_offset,
    stdout_mode, stderr_generation, stderr_offset, stderr_mode) VALUES (1, '{log}', 0, {at}, 0, 0, {at}, 0, 0, {at}, 0)
    ON CONFLICT DO UPDATE SET stdout_offset = excluded.stdout_offset, other_offset = excluded.other_offset,
    stderr_offset = excluded.stderr_offset;
INSERT OR REPLACE INTO generations VALUES ('{log}', 0, x'00', 10, 0, 'ab', 1, 2, '0.log', 100);
INSERT OR REPLACE INTO sink_rows VALUES (1, 8, 64);
DELETE FROM windows WHERE route_id = 1 AND number = 6;
UPDATE routes SET committed_ns = 9, boot_id = 'boot-1' WHERE id = 1;
COMMIT;
"""


def as_before(tmp_path: Path) -> sqlite3.Connection:
    """
    Open the database as 0.1.0 does.
    """
    connection = sqlite3.connect(tmp_path / "tailrace.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def tables(connection: sqlite3.Connection) -> dict[str, set[tuple[object, ...]]]:
    """
    Return the columns of every table.
    """
    names = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    ]
    return {
        name: {row[1:] for row in connection.execute(f"PRAGMA table_info({name})")}
        for name in names
    }


async def test_upgrade(tmp_path: Path) -> None:
    """
    What 0.1.0 left is read whole, nothing is said, and the next commit counts.
    """
    before = as_before(tmp_path)
    before.executescript(SCHEMA_1 + ROWS_1)
    before.execute(f"PRAGMA application_id={APPLICATION_ID}")
    before.close()
    world = await opened(tmp_path)
    assert world.told == []
    assert not world.store.rebuild_wanted
    state = await world.store.load_route("a", "sink")
    log = "/l/0.log"
    assert state.cursors == {
        log: (StreamCursor(2, 10), StreamCursor(2, 20, 1), StreamCursor(2, 30))
    }
    assert state.sink == SinkRows(7, 512)
    assert state.windows == [Window("a", 6, 4096, 3, (("key", "sealed/a/6/key", 99, True),))]
    assert [row.number for row in await world.store.load_generations()] == [2]
    assert len(await world.store.load_losses()) == 1
    await world.store.commit(Transaction("a", 9, cursors={log: cursor_at(2, 40)}))
    await world.reopen()
    assert (await world.store.load_route("a", "sink")).cursors == {log: cursor_at(2, 40)}
    await world.close()


async def test_downgrade_and_back(tmp_path: Path) -> None:
    """
    0.1.0 reads and goes on with what this version wrote; this one goes on from there, and not from its own backup.
    """
    world = await opened(tmp_path)
    await world.store.load_route("a", "sink")
    window = Window("a", 6, 4096, 3, (("key", "sealed/a/6/key", 99, False),))
    await world.store.commit(
        Transaction(
            "a",
            5,
            cursors={LOG: cursor_at(0, 10)},
            losses=[loss(0, 5)],
            sink=SinkRows(7, 9),
            windows=[window],
        )
    )
    await world.close()
    before = as_before(tmp_path)
    assert before.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
    meta = dict(before.execute("SELECT key, value FROM meta"))
    assert meta["reader_version_min"] <= 1
    assert before.execute("SELECT stdout_offset FROM cursors").fetchall() == [(10,)]
    assert before.execute("SELECT window, staging_length FROM sink_rows").fetchall() == [(7, 9)]
    before.executescript(COMMIT_1.format(log=LOG, at=500))
    before.close()
    await world.reopen()
    assert world.told == []
    state = await world.store.load_route("a", "sink")
    assert state.cursors == {LOG: cursor_at(0, 500)}
    assert (state.sink, state.windows) == (SinkRows(8, 64), [])
    await world.close()


def test_migrations_lead_from_every_version_to_this_one() -> None:
    """
    A changed schema has a migration: both ways make the same tables.
    """
    old, new = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
    old.executescript(SCHEMA_1)
    for version in range(1, FORMAT_VERSION):
        old.executescript(MIGRATIONS[version])
    new.executescript(SCHEMA)
    assert tables(old) == tables(new)
    old.close()
    new.close()


@pytest.mark.parametrize("header", [b"[[],[]]", b'[[],[],[],[],["of a later version"]]'])
def test_frames_of_the_versions_before_and_after(header: bytes) -> None:
    """
    The header of a frame grows at its end.
    """
    assert msgspec.json.decode(header, type=FrameHeader).segments == ()
