"""
The SQLite store and its model pass one contract; SQLite has errors of its own besides.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from agent.core.checkpoint import SinkRows, Transaction, Window
from agent.core.cursor import cursor_at
from agent.core.errors import RetryError, StopError
from agent.runtime import store_losses
from tests.contract.store import StoreContract
from tests.contract.store_values import DAY_NS, LOG, loss
from tests.fakes import store_model
from tests.runtime.store_worlds import ModelWorld, SqliteWorld

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def losses_kept_max(monkeypatch: pytest.MonkeyPatch) -> int:
    for module in (store_losses, store_model):
        monkeypatch.setattr(module, "LOSSES_KEPT_MAX", 8)
    return 8


class TestModel(StoreContract):
    @pytest.fixture
    async def world(self) -> ModelWorld:
        world = ModelWorld()
        await world.reopen()
        return world


class TestSqlite(StoreContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[SqliteWorld]:
        world = SqliteWorld(tmp_path)
        await world.reopen()
        yield world
        await world.close()

    async def test_a_failed_commit_leaves_nothing(self, world: SqliteWorld) -> None:
        """
        A transaction whose last row cannot be written is as if it had never been.
        """
        await self.load(world, "a")
        await world.store.commit(Transaction("a", 1, cursors={LOG: cursor_at(0, 1)}))
        bad = Window("a", 1, 1, 1, (("key", "path", 2**70, False),))
        with pytest.raises(OverflowError):
            await world.store.commit(
                Transaction(
                    "a",
                    2,
                    cursors={LOG: cursor_at(0, 2)},
                    losses=[loss(0, 1)],
                    sink=SinkRows(1, 1),
                    windows=[bad],
                )
            )
        state = await world.store.load_route("a", "sink-a")
        assert (state.cursors, state.sink, state.windows) == ({LOG: cursor_at(0, 1)}, None, [])
        assert await world.store.load_losses() == []
        await world.store.commit(Transaction("a", 3, cursors={LOG: cursor_at(0, 3)}))

    async def test_full_disk_is_retried(self, world: SqliteWorld) -> None:
        """
        SQLITE_FULL is a RetryError, nothing is half written, and the next commit that fits succeeds.
        """
        await self.load(world, "a")
        await world.store.commit(Transaction("a", 1, cursors={LOG: cursor_at(0, 1)}))
        connection = world.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")
        many = {f"{LOG}{index}": cursor_at(0, 2) for index in range(2000)}
        with pytest.raises(RetryError, match=r"tailrace\.db: not written.*full") as caught:
            await world.store.commit(Transaction("a", 2, cursors=many))
        assert caught.value.code == "SQLITE_FULL"
        assert (await world.store.load_route("a", "sink-a")).cursors == {LOG: cursor_at(0, 1)}
        connection.execute("PRAGMA max_page_count=100000")
        await world.store.commit(Transaction("a", 3, cursors=many))
        assert len((await world.store.load_route("a", "sink-a")).cursors) == 2001

    async def test_locked_database_is_retried(self, world: SqliteWorld, tmp_path: Path) -> None:
        """
        A person with a SQLite shell in the middle of a write does not end the route.
        """
        await self.load(world, "a")
        world.connection.execute("PRAGMA busy_timeout=1")
        other = sqlite3.connect(tmp_path / "tailrace.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RetryError, match="locked"):
            await world.store.commit(Transaction("a", 1))
        other.execute("ROLLBACK")
        other.close()
        await world.store.commit(Transaction("a", 1))

    async def test_damage_while_running_stops(self, world: SqliteWorld, tmp_path: Path) -> None:
        """
        A database that turns out damaged ends the process, and the next start goes on from its backup.
        """
        await self.load(world, "a")
        await world.store.commit(
            Transaction("a", 1, cursors={f"{LOG}{index}": cursor_at(0, 2) for index in range(2000)})
        )
        await world.reopen()  # A checkpoint: the pages are in the file,
        world.connection.execute("PRAGMA shrink_memory")  # and not in memory.
        with (tmp_path / "tailrace.db").open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(100) * 2000)
        with pytest.raises(StopError, match="damaged") as caught:
            await world.store.load_route("a", "sink-a")
        assert caught.value.exit_code == 70
        await world.reopen()
        assert world.told[-1][:2] == ("store_corrupt", "error")
        assert len((await world.store.load_route("a", "sink-a")).cursors) == 2000

    async def test_commits_are_durable_and_in_wal_mode(self, world: SqliteWorld) -> None:
        """
        Each commit is an fsync of the write-ahead log.
        """
        connection = world.connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)

    async def test_calls_keep_their_order_when_cancelled(self, world: SqliteWorld) -> None:
        """
        A cancelled commit that had begun is finished before the next call.
        """
        await self.load(world, "a")
        calls = [
            asyncio.ensure_future(
                world.store.commit(Transaction("a", i, cursors={LOG: cursor_at(0, i)}))
            )
            for i in range(1, 20)
        ]
        calls[-1].cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (await world.store.load_route("a", "sink-a")).cursors[LOG] in {
            cursor_at(0, 18),
            cursor_at(0, 19),
        }

    async def test_removal_and_expiry_are_said(self, world: SqliteWorld) -> None:
        """
        The operator reads that a route's cursors will go, and that they went.
        """
        await self.load(world, "a")
        await world.reopen(routes=())
        await world.reopen(routes=())
        world.moment.ns += 7 * DAY_NS
        await world.reopen(routes=())
        assert [told[0] for told in world.told] == ["route_removed", "route_expired"]

    async def test_a_route_must_be_loaded_before_it_commits(self, world: SqliteWorld) -> None:
        """
        Committing for a route that was not loaded is a bug, not a new route.
        """
        with pytest.raises(AssertionError, match="was not loaded"):
            await world.store.commit(Transaction("a", 1))

    async def test_closing_twice(self, world: SqliteWorld, tmp_path: Path) -> None:
        """
        A closed store leaves one file, and closing again is nothing.
        """
        await world.store.close()
        await world.store.close()
        assert sorted(os.listdir(tmp_path)) == ["tailrace.db", "tailrace.db.backup"]
