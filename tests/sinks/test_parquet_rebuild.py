"""
The store is lost and staging is not: what was confirmed is uploaded, once, and reading goes on behind it.
"""

from __future__ import annotations

import os
import shutil
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from agent.core import faults
from agent.core.checkpoint import GenerationRow, RouteState
from agent.core.cursor import StreamCursor, cursor_at
from agent.sinks.parquet_rebuild import rebuild
from agent.sinks.parquet_recovery import StagingPaths
from agent.sinks.staging import FILE_HEAD, FRAME_HEAD, FRAME_LENGTHS, encode_frame
from agent.sinks.staging_places import places_of
from tests.fakes.memory_store import MemoryStore
from tests.fakes.s3 import FakeS3
from tests.sinks.parquet_kit import (
    GENERATION,
    LOG,
    ROUTE,
    ROW_BYTES,
    ROWS,
    Crash,
    Kit,
    behind_first,
    small_windows,
)
from tests.sinks.test_parquet_crash import POINTS

if TYPE_CHECKING:
    from pathlib import Path

    from agent.core.checkpoint import Transaction


class BackedUpStore(MemoryStore):
    """
    A store with the backup of runtime/store.py: as old as the last commit that files are removed for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backup = self.state
        self.generations: dict[tuple[str, int], GenerationRow] = {}

    async def commit(self, transaction: Transaction) -> None:
        await super().commit(transaction)
        self.generations |= {(row.log, row.number): row for row in transaction.generations}
        if transaction.windows_gone or any(window.objects for window in transaction.windows):
            self.backup = self.state

    def lose(self, *, backup: bool) -> None:
        """
        Go back to the backup, or to nothing.
        """
        self._state = deepcopy(self.backup) if backup else RouteState(first_start=False)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def kit_of(tmp_path: Path, s3: FakeS3 | None = None, **settings: Any) -> Kit:
    kit = Kit(tmp_path, s3, **settings)
    kit.store = BackedUpStore()
    return kit


def store_of(kit: Kit) -> BackedUpStore:
    assert isinstance(kit.store, BackedUpStore)
    return kit.store


async def crash(kit: Kit, point: str, nth: int, rows: int = ROWS, **how: int) -> None:
    """
    Run until the n-th passing of *point*.
    """
    left, before = nth, faults.hook

    def hook(passed: str) -> None:
        nonlocal left
        left -= passed == point
        if not left:
            faults.hook = before
            raise Crash(point)

    faults.hook = hook
    try:
        with pytest.raises(BaseExceptionGroup) as caught:
            await kit.run(rows, **how)
    finally:
        faults.hook = before
    assert caught.group_contains(Crash)


async def lost(kit: Kit, *, backup: bool, times: int = 1) -> None:
    """
    Lose the store and rebuild it from staging; more than once as after a crash in between.
    """
    store_of(kit).lose(backup=backup)
    for _ in range(times):
        await lost_again(kit)


async def lost_again(kit: Kit) -> None:
    """
    Rebuild the store once more.
    """
    store = store_of(kit)
    await rebuild(
        StagingPaths(str(kit.state_dir), ROUTE),
        store.state,
        store.generations.values(),
        host=kit.host,  # type: ignore[arg-type]
        store=store,  # type: ignore[arg-type]
        counters=kit.counters,
    )
    # The kit's cursor counts rows, under a name of its own.
    cursors = store._state.cursors
    if LOG in cursors:
        staged = cursors[LOG][0].offset // ROW_BYTES
        known = cursors.get("log", cursor_at(0, 0))[0].offset
        cursors["log"] = cursor_at(0, max(staged, known))


def staging_file(kit: Kit) -> Path:
    (found,) = (kit.state_dir / "staging" / ROUTE).glob("*.staging")
    return found


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("nth", [1, 3])
async def test_a_database_lost_in_a_crash_anywhere(tmp_path: Path, point: str, nth: int) -> None:
    """
    With the backup: every row exactly once, wherever the crash was and however stale the backup.
    """
    async with FakeS3() as s3:
        kit = small_windows(kit_of(tmp_path, s3))
        await crash(kit, point, nth)
        await lost(kit, backup=True, times=2)
        await kit.run(ROWS)
        assert kit.delivered() == list(range(ROWS))
        assert kit.files() == []
        assert store_of(kit).losses == []


@pytest.mark.parametrize("point", POINTS[:6])
@pytest.mark.parametrize("nth", [1, 2])
async def test_both_copies_lost(tmp_path: Path, point: str, nth: int) -> None:
    """
    Staging alone is enough, as long as something of the Log is in it.
    """
    async with FakeS3() as s3:
        kit = small_windows(kit_of(tmp_path, s3))
        # Nothing is uploaded before the crash: the places of what is gone are gone.
        await crash(kit, point, 1 if point in POINTS[4:] else nth)
        await lost(kit, backup=False, times=2)
        await kit.run(ROWS)
        assert kit.delivered() == list(range(ROWS))
        assert store_of(kit).losses == []


async def test_a_child_that_finishes_after_its_rows_were_taken_over(tmp_path: Path) -> None:
    """
    The seal child of a killed agent goes on for a while: its files must not count beside the frames.
    """
    async with FakeS3() as s3:
        kit = small_windows(kit_of(tmp_path, s3))
        await crash(kit, "seal_child_done", 1)
        (manifest,) = kit.state_dir.rglob("manifest.json")
        manifest.rename(tmp_path / "manifest")
        await lost(kit, backup=True)
        (tmp_path / "manifest").rename(manifest)
        await lost_again(kit)
        await kit.run(ROWS)
        assert kit.delivered() == list(range(ROWS))


async def test_windows_that_one_child_made_are_taken_over_in_their_order(tmp_path: Path) -> None:
    """
    Both their files and their staging are there, and no copy knows them: reading goes on behind the last one.
    """
    async with FakeS3() as s3:
        kit = small_windows(kit_of(tmp_path, s3))
        await kit.run(60, checkpoint_every=1)
        behind_first(kit, 100)
        await crash(kit, "seal_child_done", 2, 100, checkpoint_every=1)
        made = [path.parent.name for path in kit.state_dir.rglob("manifest.json")]
        # What a set of small numbers shows in another order.
        assert {"7", "8", "9"} <= set(made)
        await lost(kit, backup=False)
        await kit.run(100)
        assert kit.delivered() == list(range(100))


async def test_what_was_uploaded_and_is_in_no_copy_comes_again(tmp_path: Path) -> None:
    """
    The limit: without database, backup and staging nobody knows that the rows are in S3.
    """
    kit = kit_of(tmp_path)
    await kit.run(50)
    await lost(kit, backup=False)
    assert store_of(kit).state.cursors.get("log") is None or kit.store.state.cursors == {
        "log": cursor_at(0, 0)
    }


async def test_a_manifest_that_is_gone_and_files_that_are_whole(tmp_path: Path) -> None:
    """
    Parquet files whose staging was removed are whole; a missing one was uploaded.
    """
    async with FakeS3() as s3:
        kit = small_windows(kit_of(tmp_path, s3))
        await crash(kit, "manifest_committed", 1)
        for path in kit.state_dir.rglob("*.json"):
            path.unlink()
        shutil.rmtree(kit.state_dir / "staging")
        store_of(kit).lose(backup=False)
        await lost(kit, backup=False)
        assert store_of(kit).state.windows
        await kit.run(0)
        rows = len(kit.delivered())
        assert rows
        assert kit.delivered() == list(range(rows))


@pytest.mark.parametrize("part", ["header", "data", "lengths"])
async def test_damage_in_staging_is_lost_only_where_a_cursor_is_behind_it(
    tmp_path: Path, part: str
) -> None:
    """
    A damaged frame that later frames are behind is a loss, named; without later ones it is read again.
    """
    kit = kit_of(tmp_path, window_age_s=1000)
    await crash(kit, "commit_after", 3, rows=150)
    path = staging_file(kit)
    content = bytearray(path.read_bytes())
    header, *_ = FRAME_LENGTHS.unpack_from(content, FILE_HEAD.size)
    at = (
        FILE_HEAD.size
        + {"lengths": 0, "header": FRAME_HEAD.size, "data": FRAME_HEAD.size + header}[part]
    )
    content[at] ^= 0xFF
    path.write_bytes(content)
    await lost(kit, backup=False, times=2)
    await kit.run(150)
    delivered = kit.delivered()
    assert len(set(delivered)) == len(delivered)
    missing = set(range(150)) - set(delivered)
    losses = store_of(kit).losses
    if part == "data":
        # Named by its header.
        assert missing
        named = {
            number
            for loss in losses
            if loss.log == LOG
            for number in range(loss.start // ROW_BYTES, loss.stop // ROW_BYTES)
        }
        assert named == missing
    elif part == "header":
        # Its lengths lead on to the next frame: what it held is known only as a place in staging.
        assert bool(missing) == any(not loss.log for loss in losses)
    else:
        # Nothing behind it can be found, so no cursor is behind it either: all of it is read again.
        assert not missing


def test_places_name_chain_and_cursor(tmp_path: Path) -> None:
    """
    One place a Log, of its last segment; a path that is not UTF-8 comes back as it was.
    """
    kit = kit_of(tmp_path)
    first, second = kit.segment(range(10)), kit.segment(range(10, 20))
    odd = kit.segment(range(10))
    odd.log = "/l/caf\udce9.log"
    odd.cursor_after = (StreamCursor(2, 5, 1), StreamCursor(3, 7), StreamCursor(2, 9, 2))
    frame = encode_frame([first, second, odd])
    assert frame.rows == (10, 10, 10)
    plain, strange = places_of([first, second, odd])
    assert plain.key == LOG
    assert plain.streams == cursor_at(0, 2000)
    assert plain.rows == [GENERATION.row(LOG)]
    assert strange.key == odd.log
    assert tuple(strange.streams) == odd.cursor_after
    for segment in (first, second, odd):
        segment.charge.release()


async def test_nothing_staged_is_nothing_to_do(tmp_path: Path) -> None:
    """
    A first start has no staging: nothing is committed, nothing said.
    """
    kit = kit_of(tmp_path)
    os.makedirs(kit.state_dir)
    await lost(kit, backup=False)
    assert store_of(kit).commits == 0
    assert not kit.host.told
