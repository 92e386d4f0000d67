"""
The SQLite store and its model pass one contract, and agree on any sequence of calls.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.batch import Loss, LossReason
from agent.core.checkpoint import GenerationRow, SinkRows, Transaction, Window
from agent.core.cursor import StreamCursor, cursor_at
from agent.core.errors import RetryError, StopError
from agent.runtime import store_file, store_losses, store_rows, store_schema
from agent.runtime.store import SqliteStore
from tests.contract.store import DAY_NS, LOG, Moment, StoreContract, generation, loss
from tests.fakes import store_model
from tests.fakes.store_model import StoreModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from pathlib import Path


class SqliteWorld:
    """
    A state directory on disk.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.moment = Moment()
        self.told: list[tuple[str, str, str]] = []
        self.store: SqliteStore

    @property
    def connection(self) -> sqlite3.Connection:
        return self.store._sound

    def tell(self, event: str, text: str, /, *, level: str = "info", **_fields: object) -> None:
        self.told.append((event, level, text))

    async def reopen(
        self, *, routes: Collection[str] = ("a", "b"), boot_id: str = "boot-1"
    ) -> SqliteStore:
        await self.close()
        self.store = await SqliteStore.open(
            str(self.directory),
            now_ns=self.moment.now_ns,
            tell=self.tell,
            routes=routes,
            boot_id=boot_id,
        )
        return self.store

    async def close(self) -> None:
        if hasattr(self, "store"):
            await self.store.close()


class ModelWorld:
    """
    No state directory.
    """

    def __init__(self) -> None:
        self.moment = Moment()
        self.store = StoreModel(now_ns=self.moment.now_ns)

    async def reopen(
        self, *, routes: Collection[str] = ("a", "b"), boot_id: str = "boot-1"
    ) -> StoreModel:
        self.store = self.store.reopened(routes=routes, boot_id=boot_id)
        return self.store

    async def close(self) -> None:
        return


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
        A database that turns out damaged ends the process, and the next start sets it aside.
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
        assert (await world.store.load_route("a", "sink-a")).first_start

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
        assert os.listdir(tmp_path) == ["tailrace.db"]


async def _opened(directory: Path) -> SqliteWorld:
    world = SqliteWorld(directory)
    await world.reopen()
    return world


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
    world = await _opened(tmp_path)
    ((event, level, text),) = world.told
    assert (event, level) == ("store_corrupt", "error")
    assert "tailrace.db.corrupt-20261123T" in text
    assert (await world.store.load_route("a", "sink")).first_start
    (aside,) = tmp_path.glob("*.corrupt-*")
    assert aside.read_bytes() == content
    await world.close()


async def test_a_damaged_page_is_found_at_the_start(tmp_path: Path) -> None:
    """
    Damage in the middle is found before anything is read from it; few damaged files are kept.
    """
    world = await _opened(tmp_path)
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
    assert len(list(tmp_path.glob("*.corrupt-*Z"))) == store_file.CORRUPT_KEPT_MAX
    await world.close()


async def test_a_database_without_its_tables_is_corrupt(tmp_path: Path) -> None:
    """
    Our mark without our tables is damage, not a crash.
    """
    connection = sqlite3.connect(tmp_path / "tailrace.db")
    connection.execute(f"PRAGMA application_id={store_schema.APPLICATION_ID}")
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    world = await _opened(tmp_path)
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
        await _opened(tmp_path)
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
    world = await _opened(tmp_path)
    await world.close()
    connection = sqlite3.connect(tmp_path / "tailrace.db")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'format_version'", (version,))
    connection.execute("UPDATE meta SET value = ? WHERE key = 'reader_version_min'", (reader_min,))
    connection.commit()
    connection.close()
    with pytest.raises(StopError, match=message) as caught:
        await world.reopen()
    assert caught.value.exit_code == 78
    assert os.listdir(tmp_path) == ["tailrace.db"]


async def test_additive_newer_format_is_read_and_kept(tmp_path: Path) -> None:
    """
    The version before can still read what a newer one wrote, and does not mark it as older.
    """
    world = await _opened(tmp_path)
    await world.close()
    connection = sqlite3.connect(tmp_path / "tailrace.db")
    connection.execute("UPDATE meta SET value = 2 WHERE key = 'format_version'")
    connection.execute("ALTER TABLE routes ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
    connection.execute("ALTER TABLE cursors ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
    connection.commit()
    connection.close()
    await world.reopen()
    await world.store.load_route("a", "sink")
    await world.store.commit(Transaction("a", 1, cursors={LOG: cursor_at(0, 1)}))
    assert (await world.store.load_route("a", "sink")).cursors == {LOG: cursor_at(0, 1)}
    assert world.connection.execute(
        "SELECT value FROM meta WHERE key = 'format_version'"
    ).fetchone() == (2,)
    await world.close()


async def test_migrations_run_once_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A migration that fails leaves the version before; one that succeeds is not run again.
    """
    world = await _opened(tmp_path)
    await world.close()
    monkeypatch.setattr(
        store_file,
        "MIGRATIONS",
        {1: "ALTER TABLE routes ADD COLUMN colour TEXT;\nALTER TABLE nothing ADD COLUMN x"},
    )
    with pytest.raises(sqlite3.OperationalError):
        await world.reopen()
    monkeypatch.setattr(store_file, "MIGRATIONS", {1: "ALTER TABLE routes ADD COLUMN colour TEXT"})
    for _ in range(2):
        await world.reopen()
        assert world.connection.execute(
            "SELECT value FROM meta WHERE key = 'format_version'"
        ).fetchone() == (2,)
    await world.close()


async def test_reading_while_an_agent_writes(tmp_path: Path) -> None:
    """
    `tailrace status` sees the last commit, and cannot write.
    """
    world = await _opened(tmp_path)
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
    world = await _opened(directory)
    await world.close()
    store_file.open_read_only(str(directory)).close()
    (directory / "tailrace.db").write_bytes(b"x" * 5000)
    with pytest.raises(StopError, match="cannot be read: file is not a database"):
        store_file.open_read_only(str(directory))


# --- Any sequence of calls: the SQLite store and the model agree.

LOGS = ["/x/0.log", "/y/0.log", "/z/\udcff.log"]
ROUTES = ["a", "b"]
small = st.integers(0, 3)
cursors = st.tuples(*[st.builds(StreamCursor, st.integers(0, 5), small, st.integers(0, 2))] * 3)
generations = st.builds(
    GenerationRow,
    log=st.sampled_from(LOGS),
    number=st.integers(0, 5),
    head=st.binary(max_size=4),
    head_length=small,
    ordinal=small,
    file_id=st.sampled_from(["", "ab" * 16]),
    device=small,
    inode=small,
    name=st.text(max_size=3),
    size=small,
)
losses = st.builds(
    lambda log, start, length, reason, rows: Loss(
        log, "ab" * 16, 0, start, start + length, reason, rows
    ),
    st.sampled_from(LOGS),
    small,
    small,
    st.sampled_from([LossReason.DELETED, LossReason.POISON]),
    st.integers(0, 2),
)
windows = st.tuples(
    small,
    small,
    st.lists(st.tuples(st.text(max_size=2), st.text(max_size=2), small, st.booleans()), max_size=2),
)


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    """
    Draw what a route might commit.
    """
    route = draw(st.sampled_from(ROUTES))
    numbered = {
        number: (length, objects) for number, length, objects in draw(st.lists(windows, max_size=2))
    }
    return Transaction(
        route,
        draw(small),
        cursors=draw(st.dictionaries(st.sampled_from(LOGS), cursors, max_size=2)),
        forgotten=draw(st.lists(st.sampled_from(LOGS), max_size=2)),
        generations=draw(st.lists(generations, max_size=3)),
        losses=draw(st.lists(losses, max_size=4)),
        sink=draw(st.none() | st.builds(SinkRows, window=small, staging_length=small)),
        windows=[
            Window(route, number, length, 5, tuple(objects))
            for number, (length, objects) in numbered.items()
        ],
        windows_gone=draw(st.lists(small, max_size=2)),
    )


reopenings = st.tuples(
    st.sampled_from([("a",), ("b",), ("a", "b")]),
    st.sampled_from(["boot-1", "boot-2"]),
    st.integers(0, 5),
)


async def _same(sqlite: SqliteWorld, model: ModelWorld) -> None:
    assert await sqlite.store.load_generations() == await model.store.load_generations()
    assert await sqlite.store.load_losses() == await model.store.load_losses()
    assert sqlite.store.boot_changed == model.store.boot_changed
    for route in ROUTES:
        assert await sqlite.store.load_route(route, "sink") == await model.store.load_route(
            route, "sink"
        )


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(transactions() | reopenings, max_size=12))
async def test_the_model_is_right(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    """
    Whatever routes commit and however often the agent restarts, both stores give back the same.
    """
    sqlite, model = SqliteWorld(tmp_path_factory.mktemp("state")), ModelWorld()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_losses, "LOSSES_KEPT_MAX", 4)
        patch.setattr(store_model, "LOSSES_KEPT_MAX", 4)
        patch.setattr(store_rows, "GENERATIONS_KEPT_MAX", 1)
        patch.setattr(store_model, "GENERATIONS_KEPT_MAX", 1)
        for world in (sqlite, model):
            await world.reopen()
        try:
            await _same(sqlite, model)
            for step in steps:
                for world in (sqlite, model):
                    if isinstance(step, Transaction):
                        await world.store.commit(step)
                    else:
                        routes, boot_id, days = step
                        world.moment.ns += days * DAY_NS
                        await world.reopen(routes=routes, boot_id=boot_id)
                await _same(sqlite, model)
        finally:
            await sqlite.close()
