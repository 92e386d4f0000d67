"""
The second copy of the database: made when it must be, used when the first is lost, and files that vanish under it.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from agent.core.checkpoint import Transaction, Window
from agent.core.cursor import cursor_at
from agent.core.errors import RetryError, StopError
from agent.runtime import store_backup
from agent.runtime.lock import held
from agent.runtime.store import SqliteStore
from tests.contract.store_values import LOG, loss
from tests.runtime.store_worlds import SqliteWorld, opened

if TYPE_CHECKING:
    from pathlib import Path

DATABASE = "tailrace.db"
SCRIBBLE = b"\x55" * 3000
MINUTE_NS = 60 * 10**9


async def committed(world: SqliteWorld, offset: int, **more: object) -> None:
    """
    Commit a cursor at *offset*.
    """
    changes = {"cursors": {LOG: cursor_at(0, offset)}} | more
    await world.store.commit(Transaction("a", world.moment.ns, **changes))  # type: ignore[arg-type]


async def offset_of(world: SqliteWorld) -> int | None:
    """
    Return the offset that the store has.
    """
    state = await world.store.load_route("a", "sink")
    return state.cursors[LOG][0].offset if state.cursors else None


async def killed(world: SqliteWorld) -> None:
    """
    End without a close: as after SIGKILL, the -wal stays as it is.
    """
    store, directory = world.store, world.directory
    kept = {name: (directory / name).read_bytes() for name in os.listdir(directory)}
    await store.close()
    for name in os.listdir(directory):
        (directory / name).unlink()
    for name, content in kept.items():
        (directory / name).write_bytes(content)


async def ready(tmp_path: Path) -> SqliteWorld:
    """
    Return a world in which the backup knows offset 100.
    """
    world = await opened(tmp_path)
    await world.store.rebuilt()
    await world.store.load_route("a", "sink")
    await committed(world, 100)
    world.moment.ns += MINUTE_NS
    await world.store.keep()
    return world


async def test_a_damaged_database_goes_on_from_its_backup(tmp_path: Path) -> None:
    """
    The cursors of a minute ago, marked as older than staging; the damaged file is kept.
    """
    world = await ready(tmp_path)
    await committed(world, 200)
    await killed(world)
    with (tmp_path / DATABASE).open("r+b") as file:
        file.seek(1000)
        file.write(SCRIBBLE)
    (tmp_path / f"{DATABASE}-wal").write_bytes(b"")
    await world.reopen()
    ((event, level, text),) = world.told
    assert (event, level) == ("store_corrupt", "error")
    assert "the backup of" in text
    assert "twice" in text
    assert await offset_of(world) == 100
    assert world.store.rebuild_wanted
    assert len(list(tmp_path.glob("*.corrupt-*Z"))) == 1
    await world.store.rebuilt()
    await world.reopen()
    assert not world.store.rebuild_wanted
    await world.close()


@pytest.mark.parametrize("left", [[], ["-wal", "-shm"]])
async def test_a_database_that_is_missing_goes_on_from_its_backup(
    tmp_path: Path, left: list[str]
) -> None:
    """
    A -wal that was left behind is not played into the backup.
    """
    world = await ready(tmp_path)
    await committed(world, 200)
    await killed(world)
    for suffix in {"", "-wal", "-shm"} - set(left):
        (tmp_path / f"{DATABASE}{suffix}").unlink()
    await world.reopen()
    assert [told[0] for told in world.told] == ["store_lost"]
    assert await offset_of(world) == 100
    await world.close()


async def test_a_wal_that_was_deleted_while_nothing_ran_is_noticed(tmp_path: Path) -> None:
    """
    The database without its -wal is sound and old: the backup knows more.
    """
    world = await ready(tmp_path)
    await killed(world)
    (tmp_path / f"{DATABASE}-wal").unlink()
    await world.reopen()
    ((event, _, text),) = world.told
    assert event == "store_lost"
    assert "-wal file was deleted" in text
    assert await offset_of(world) == 100
    await world.close()


async def test_a_wal_that_is_missed_without_a_newer_backup(tmp_path: Path) -> None:
    """
    What is left is kept, marked as older than staging.
    """
    world = await ready(tmp_path)
    await world.reopen()
    await world.store.load_route("a", "sink")
    await committed(world, 200)
    await killed(world)
    (tmp_path / f"{DATABASE}-wal").unlink()
    await world.reopen()
    ((event, _, text),) = world.told
    assert event == "store_lost"
    assert "-wal file was deleted" in text
    assert await offset_of(world) == 100
    assert world.store.rebuild_wanted
    await world.close()


async def test_a_kill_between_backups_loses_nothing(tmp_path: Path) -> None:
    """
    The -wal has what the backup does not.
    """
    world = await ready(tmp_path)
    await committed(world, 200)
    await killed(world)
    await world.reopen()
    assert world.told == []
    assert await offset_of(world) == 200
    await world.close()


async def test_both_copies_damaged_begin_anew(tmp_path: Path) -> None:
    """
    Said as it is; and not a first start, at which `start: end` would skip lines.
    """
    world = await ready(tmp_path)
    await world.close()
    for name in (DATABASE, store_backup.BACKUP_NAME):
        (tmp_path / name).write_bytes(b"nothing of the kind" * 1000)
    await world.reopen()
    ((event, _, text),) = world.told
    assert event == "store_corrupt"
    assert "no sound backup" in text
    state = await world.store.load_route("a", "sink")
    assert not state.first_start
    assert not state.cursors
    assert world.store.rebuild_wanted
    await world.close()


async def test_the_backup_never_becomes_damaged(tmp_path: Path) -> None:
    """
    A copy of a damaged database does not take the place of a sound one.
    """
    world = await ready(tmp_path)
    for index in range(400):
        await world.store.commit(
            Transaction(
                "a", 1, cursors={f"{LOG}{index}": cursor_at(0, 1)}, losses=[loss(index, index + 1)]
            )
        )
    world.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = (tmp_path / store_backup.BACKUP_NAME).read_bytes()
    # Another descriptor on the database is closed here, which a running agent never does.
    with (tmp_path / DATABASE).open("r+b") as file:
        file.seek(24_000)
        file.write(SCRIBBLE)
    world.moment.ns += MINUTE_NS
    world.connection.execute("PRAGMA shrink_memory")
    with pytest.raises(StopError) as caught:
        await world.store.keep()
    assert caught.value.exit_code == 70
    assert (tmp_path / store_backup.BACKUP_NAME).read_bytes() == before
    await world.close()


async def test_what_files_are_removed_for_is_in_the_backup(tmp_path: Path) -> None:
    """
    The manifest, every confirmed object and the end of a window are saved with their commit.
    """
    world = await ready(tmp_path)

    async def check(offset: int, **more: object) -> bool:
        await committed(world, offset, **more)
        with store_backup.open_backup(str(tmp_path / store_backup.BACKUP_NAME)) as backup:
            row = backup.execute("SELECT stdout_offset FROM cursors").fetchone()
        backup.close()
        return bool(row == (offset,))

    unsealed = Window("a", 3, 10, 1)
    manifest = Window("a", 3, 10, 1, (("k", "p", 5, False),))
    assert not await check(1, windows=[unsealed])
    assert await check(2, windows=[manifest])
    assert not await check(3)
    assert await check(4, windows_gone=[3])
    await world.close()


@pytest.mark.parametrize("victims", [["", "-wal", "-shm"], [""], ["-wal"], ["-shm"]])
@pytest.mark.parametrize("found_by", ["commit", "keep", "close"])
async def test_files_deleted_under_the_agent_are_written_anew(
    tmp_path: Path, victims: list[str], found_by: str
) -> None:
    """
    A kill right after finds everything, what was committed before the deletion included.
    """
    world = await ready(tmp_path)
    await committed(world, 200)
    for suffix in victims:
        (tmp_path / f"{DATABASE}{suffix}").unlink()
    offset = 200
    if found_by == "commit":
        await committed(world, offset := 300)
    elif found_by == "keep":
        await world.store.keep()
    if found_by == "close":
        await world.close()
    else:
        await committed(world, offset := offset + 100)
        await killed(world)
    assert [told[0] for told in world.told] == ["store_missing"]
    await world.reopen()
    assert await offset_of(world) == offset
    assert len(world.told) == 1
    assert not world.store.rebuild_wanted
    await world.close()


async def test_a_directory_deleted_under_the_agent_is_made_anew(tmp_path: Path) -> None:
    """
    The whole directory is gone; while it cannot be made, commits fail and lose nothing.
    """
    directory = tmp_path / "state"
    directory.mkdir()
    world = await ready(directory)
    await committed(world, 200)
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    directory.write_text("in the way")
    with pytest.raises(RetryError, match="state"):
        await committed(world, 300)
    directory.unlink()
    await committed(world, 400)
    await killed(world)
    await world.reopen()
    assert await offset_of(world) == 400
    await world.close()


async def test_a_database_put_in_its_place_is_kept_aside(tmp_path: Path) -> None:
    """
    What the agent knows wins; the other file is not destroyed.
    """
    world = await ready(tmp_path)
    (tmp_path / DATABASE).unlink()
    with sqlite3.connect(tmp_path / DATABASE) as other:
        other.execute("CREATE TABLE other (x)")
    other.close()
    await committed(world, 300)
    (aside,) = tmp_path.glob("*.replaced-*Z")
    with sqlite3.connect(aside) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("other",)]
    other.close()
    assert aside.name in world.told[0][2]
    assert await offset_of(world) == 300
    await world.close()


async def test_another_agents_directory_is_left_alone(tmp_path: Path) -> None:
    """
    Where the lock went to another agent together with the files, nothing is written.
    """

    def reclaim() -> None:
        raise held(str(tmp_path), "pid 1", 0)

    world = await opened(tmp_path)
    await world.close()
    store = await SqliteStore.open(
        str(tmp_path), now_ns=world.moment.now_ns, tell=world.tell, routes=("a",), reclaim=reclaim
    )
    await store.load_route("a", "sink")
    (tmp_path / DATABASE).unlink()
    with pytest.raises(StopError) as caught:
        await store.commit(Transaction("a", 1, cursors={LOG: cursor_at(0, 1)}))
    assert caught.value.exit_code == 75
    assert not (tmp_path / DATABASE).exists()
    await store.close()
