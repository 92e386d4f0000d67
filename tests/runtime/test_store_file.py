"""
The database as a file: damage, other versions, other programs, readers beside the agent.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from agent.core.checkpoint import SinkRows, Transaction, Window
from agent.core.cursor import cursor_at
from agent.core.errors import StopError
from agent.core.identity import Tail
from agent.runtime import store_backup, store_file, store_schema
from tests.contract.store_values import DAY_NS, LOG, generation, loss
from tests.runtime.store_worlds import opened

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "content",
    [
        b"no database at all, but long enough to look at" * 100,
        b"SQLite format 3\0" + b"\xff" * 4096,
    ],
)
async def test_a_corrupt_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    """
    What is no database is kept under another name, said loudly, and a fresh one begins.
    """
    (tmp_path / "tailrace.db").write_bytes(content)
    world = await opened(tmp_path)
    ((event, level, text),) = world.told
    assert (event, level) == ("store_corrupt", "error")
    assert "tailrace.db.corrupt-20261123T" in text
    # Not its first start, at which `start: end` would skip what was never delivered.
    assert not (await world.store.load_route("a", "sink")).first_start
    (aside,) = tmp_path.glob("*.corrupt-*")
    assert aside.read_bytes() == content
    await world.close()


async def test_a_damaged_page_is_found_at_the_start(tmp_path: Path) -> None:
    """
    Damage in the middle is found before anything is read from it; few damaged files are kept.
    """
    world = await opened(tmp_path)
    for _ in range(5):
        await world.store.load_route("a", "sink")
        await world.store.commit(
            Transaction("a", 1, cursors={f"{LOG}{index}": cursor_at(0, 2) for index in range(500)})
        )
        await world.close()
        with (tmp_path / "tailrace.db").open("r+b") as file:
            file.seek(30_000)
            file.write(b"\x55" * 20_000)
        world.moment.ns += DAY_NS
        await world.reopen()
    assert [told[0] for told in world.told] == ["store_corrupt"] * 5
    assert len(list(tmp_path.glob("*.corrupt-*Z"))) == store_backup.ASIDE_KEPT_MAX
    await world.close()


async def test_a_database_without_its_tables_is_corrupt(tmp_path: Path) -> None:
    """
    Our mark without our tables is damage, not a crash.
    """
    connection = sqlite3.connect(tmp_path / "tailrace.db")
    connection.execute(f"PRAGMA application_id={store_schema.APPLICATION_ID}")
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    world = await opened(tmp_path)
    assert world.told[0][0] == "store_corrupt"
    await world.close()


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """
    Someone else's database is neither written nor renamed.
    """
    connection = sqlite3.connect(tmp_path / "tailrace.db")
    connection.execute("CREATE TABLE moz_cookies (x)")
    connection.close()
    with pytest.raises(StopError, match="another program") as caught:
        await opened(tmp_path)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    ("version", "reader_min", "message"),
    [
        (9, 9, r"has format 9, written by tailrace 0.1.0.*a newer one"),
        (0, 0, r"has format 0.*run a version between"),
    ],
)
async def test_foreign_versions_are_refused(
    tmp_path: Path, version: int, reader_min: int, message: str
) -> None:
    """
    A database of a version that this one cannot read is refused, with both versions named, and untouched.
    """
    world = await opened(tmp_path)
    await world.close()
    connection = sqlite3.connect(tmp_path / "tailrace.db")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'format_version'", (version,))
    connection.execute("UPDATE meta SET value = ? WHERE key = 'reader_version_min'", (reader_min,))
    connection.commit()
    connection.close()
    with pytest.raises(StopError, match=message) as caught:
        await world.reopen()
    assert caught.value.exit_code == 78
    assert sorted(os.listdir(tmp_path)) == ["tailrace.db", "tailrace.db.backup"]


async def test_additive_newer_format_is_read_and_kept(tmp_path: Path) -> None:
    """
    The version before can still read what a newer one wrote, and does not mark it as older.
    """
    world = await opened(tmp_path)
    await world.close()
    connection = sqlite3.connect(tmp_path / "tailrace.db")
    connection.execute("UPDATE meta SET value = 3 WHERE key = 'format_version'")
    connection.execute("ALTER TABLE routes ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
    for table in ("cursors", "generations", "tails", "windows", "objects", "losses", "sink_rows"):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
    connection.commit()
    connection.close()
    await world.reopen()
    await world.store.load_route("a", "sink")
    row = generation(tail=Tail(9, 4, b"t" * 16))
    await world.store.commit(
        Transaction(
            "a",
            1,
            cursors={LOG: cursor_at(0, 1)},
            generations=[row],
            losses=[loss(0, 1)],
            sink=SinkRows(1, 2),
            windows=[Window("a", 1, 2, 3, (("k", "p", 4, False),))],
        )
    )
    assert (await world.store.load_route("a", "sink")).cursors == {LOG: cursor_at(0, 1)}
    assert await world.store.load_generations() == [row]
    assert world.connection.execute(
        "SELECT value FROM meta WHERE key = 'format_version'"
    ).fetchone() == (3,)
    await world.close()


async def test_migrations_run_once_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A migration that fails leaves the version before; one that succeeds is not run again.
    """
    world = await opened(tmp_path)
    await world.close()
    monkeypatch.setattr(
        store_file,
        "MIGRATIONS",
        {2: "ALTER TABLE routes ADD COLUMN colour TEXT;\nALTER TABLE nothing ADD COLUMN x"},
    )
    with pytest.raises(sqlite3.OperationalError):
        await world.reopen()
    monkeypatch.setattr(store_file, "MIGRATIONS", {2: "ALTER TABLE routes ADD COLUMN colour TEXT"})
    for _ in range(2):
        await world.reopen()
        assert world.connection.execute(
            "SELECT value FROM meta WHERE key = 'format_version'"
        ).fetchone() == (3,)
    await world.close()


async def test_reading_while_an_agent_writes(tmp_path: Path) -> None:
    """
    `tailrace status` sees the last commit, and cannot write.
    """
    world = await opened(tmp_path)
    await world.store.load_route("a", "sink")
    reader = store_file.open_read_only(str(tmp_path))
    await world.store.commit(
        Transaction("a", 1, cursors={LOG: cursor_at(0, 1)}, generations=[generation()])
    )
    assert reader.execute("SELECT count(*) FROM cursors").fetchone() == (1,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM cursors")
    reader.close()
    await world.close()


async def test_reading_an_odd_path_and_what_is_not_there(tmp_path: Path) -> None:
    """
    Characters that mean something in a URI are part of the path; a missing or foreign file is named.
    """
    directory = tmp_path / "50% #1?"
    directory.mkdir()
    with pytest.raises(StopError, match=r"tailrace\.db: no such file"):
        store_file.open_read_only(str(directory))
    world = await opened(directory)
    await world.close()
    store_file.open_read_only(str(directory)).close()
    (directory / "tailrace.db").write_bytes(b"x" * 5000)
    with pytest.raises(StopError, match="is damaged"):
        store_file.open_read_only(str(directory))
