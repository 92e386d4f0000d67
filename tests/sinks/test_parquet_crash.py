"""
Crashes at every named point, and damage on the disk: nothing missing, nothing twice, every loss named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.core import faults
from tests.fakes.s3 import FakeS3
from tests.sinks.parquet_kit import ROUTE, ROWS, Crash, Kit, small_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

POINTS = (
    "staging_written",
    "staging_fsynced",
    "commit_before",
    "commit_after",
    "seal_committed",
    "seal_child_done",
    "manifest_committed",
    "upload_before",
    "upload_after",
    "object_recorded",
    "window_gone",
)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture
def crash_at() -> Iterator[Callable[[str, int], None]]:
    """
    Ends the run at the n-th passing of a point; nothing afterwards.
    """
    before = faults.hook

    def arm(name: str, nth: int) -> None:
        left = nth

        def hook(passed: str) -> None:
            nonlocal left
            if passed == name:
                left -= 1
                if left == 0:
                    faults.hook = before
                    raise Crash(name)

        faults.hook = hook

    yield arm
    faults.hook = before


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("prefix", ["", "n={fields.n}"])
async def test_a_crash_anywhere_neither_loses_nor_repeats_a_row(
    tmp_path: Path, crash_at: Callable[[str, int], None], point: str, nth: int, prefix: str
) -> None:
    """
    After a crash at each named point the next run delivers exactly what is missing.

    Also where a segment has rows of several prefixes.
    """
    async with FakeS3() as s3:
        kit = small_windows(Kit(tmp_path, s3, prefix=prefix))
        crash_at(point, nth)
        with pytest.raises(BaseExceptionGroup) as caught:
            await kit.run(ROWS)
        assert caught.group_contains(Crash)
        await kit.run(ROWS)
        assert kit.delivered() == list(range(ROWS))
        assert kit.files() == []
        assert s3.uploads == {}


async def test_two_crashes_in_a_row(tmp_path: Path, crash_at: Callable[[str, int], None]) -> None:
    """
    A crash during the recovery from a crash changes nothing either.
    """
    async with FakeS3() as s3:
        kit = small_windows(Kit(tmp_path, s3))
        for point in ("seal_child_done", "upload_after", "manifest_committed", "window_gone"):
            crash_at(point, 1)
            with pytest.raises(BaseExceptionGroup):
                await kit.run(ROWS)
        await kit.run(ROWS)
        assert kit.delivered() == list(range(ROWS))
        assert s3.uploads == {}


async def test_a_damaged_frame_at_start_is_a_loss_record(tmp_path: Path) -> None:
    """
    A flipped bit in committed staging loses its frame, by byte range, and nothing else.
    """
    kit = Kit(tmp_path, frame_bytes=4096)
    object.__setattr__(kit.settings, "frame_bytes", 1)
    await kit.run(ROWS, finish_s=0)
    path = kit.state_dir / "staging" / ROUTE / "0.staging"
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 0x10
    path.write_bytes(damaged)
    await kit.run(ROWS)
    assert kit.delivered() == list(range(ROWS - 10))
    (loss,) = kit.store.losses
    assert (loss.start, loss.stop, loss.rows) == (100 * (ROWS - 10), 100 * ROWS, 10)
    assert loss.reason == "damaged"
    assert "staging_damaged" in kit.host.events


async def test_damage_after_the_seal_is_a_loss_record(tmp_path: Path) -> None:
    """
    The child names damaged frames too; what is whole still arrives.
    """
    kit = Kit(tmp_path)
    object.__setattr__(kit.settings, "frame_bytes", 1)
    kit.host.child_exits = [1] * 10_000
    await kit.run(ROWS, finish_s=0.05)
    path = kit.state_dir / "staging" / ROUTE / "0.staging"
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 0x10
    path.write_bytes(damaged)
    kit.host.child_exits = []
    await kit.run(ROWS)
    assert kit.delivered() == list(range(ROWS - 10))
    assert [loss.rows for loss in kit.store.losses] == [10]


async def test_staging_that_vanished_is_a_loss_record(tmp_path: Path) -> None:
    """
    A staging file that somebody removed is told and recorded, and the route goes on.
    """
    kit = Kit(tmp_path)
    await kit.run(ROWS, finish_s=0)
    (kit.state_dir / "staging" / ROUTE / "0.staging").unlink()
    await kit.run(ROWS + 50)
    assert kit.delivered() == list(range(ROWS, ROWS + 50))
    assert len(kit.store.losses) == 1


async def test_a_sealed_file_that_vanished_is_a_loss_record(tmp_path: Path) -> None:
    """
    The window of an object that cannot be uploaded any more does not stay for ever.
    """
    async with FakeS3() as s3:
        kit = Kit(tmp_path, s3)
        s3.script("PutObject", *[(403, "AccessDenied")] * 10_000)
        await kit.run(ROWS, finish_s=0.3)
        s3._scripts.clear()
        for path in (kit.state_dir / "sealed").rglob("*hour=10/*.parquet"):
            path.unlink()
        await kit.run(ROWS)
        assert kit.delivered() == list(range(5))
        assert kit.store.state.windows == []
        assert [loss.reason for loss in kit.store.losses] == ["damaged"]
