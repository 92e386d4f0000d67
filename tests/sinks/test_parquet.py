"""
The Parquet sink, from accept to object: exactly once, whatever happens.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import msgspec
import pytest

from agent.core import counters as metric
from agent.core.errors import PoisonError, RetryError
from agent.sinks.parquet_manifest import SealSpec
from tests.fakes.s3 import FakeS3
from tests.sinks.parquet_kit import (
    NODE,
    ROUTE,
    ROWS,
    GroupTasks,
    Kit,
    Resolve,
    behind_first,
    small_windows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.host import AwsClient
    from agent.sinks.parquet import ParquetSink


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


async def test_every_row_arrives_once_in_a_directory(tmp_path: Path) -> None:
    """
    Rows accepted are rows in Parquet, by hour of the event, and nothing is left behind.
    """
    kit = Kit(tmp_path)
    await kit.run(ROWS)
    assert kit.delivered() == list(range(ROWS))
    assert kit.files() == []
    assert kit.store.state.windows == []
    assert kit.share.held == 0
    assert kit.counters.get(metric.DELIVERED_EVENTS, ROUTE) == ROWS
    assert kit.counters.get(metric.SEALED_BYTES, ROUTE) == 0


async def test_every_row_arrives_once_in_s3(tmp_path: Path) -> None:
    """
    The same through signed requests: one object per hour, encrypted and stored as configured.
    """
    async with FakeS3() as s3:
        kit = Kit(tmp_path, s3, sse="aws:kms", kms_key_id="key-1", storage_class="STANDARD_IA")
        await kit.run(ROWS)
        assert kit.delivered() == list(range(ROWS))
        hours = {"/".join(key.split("/")[1:4]) for key in s3.objects}
        assert hours == {
            "cluster=prod/dt=2026-11-22/hour=09",
            "cluster=prod/dt=2026-11-22/hour=10",
        }
        for key, found in s3.objects.items():
            assert key.split("/")[-1].startswith(f"{NODE}-00000000-")
            assert found.headers["x-amz-server-side-encryption"] == "aws:kms"
            assert found.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"
            assert found.headers["x-amz-storage-class"] == "STANDARD_IA"
        assert s3.uploads == {}


async def test_windows_follow_one_another_while_rows_come(tmp_path: Path) -> None:
    """
    A window that is full is sealed beside the next one; no row is in two.
    """
    kit = small_windows(Kit(tmp_path))
    await kit.run(ROWS)
    assert kit.delivered() == list(range(ROWS))
    state = kit.store.state
    assert state.sink is not None
    assert state.sink.window > 2
    assert kit.host.children <= state.sink.window


async def test_one_child_seals_what_has_piled_up(tmp_path: Path) -> None:
    """
    The window at which it is killed is tried alone, with smaller row groups; then the others are together again.
    """
    kit = small_windows(Kit(tmp_path))
    run_child = behind_first(kit, ROWS)
    given: list[list[SealSpec]] = []

    async def killed(arguments: Sequence[str], *, name: str) -> tuple[int, str]:
        given.append(
            [msgspec.json.decode(Path(path).read_bytes(), type=SealSpec) for path in arguments[1:]]
        )
        if len(given) == 2:
            await run_child(arguments[:2], name=name)
            return 9, "killed"
        return await run_child(arguments, name=name)

    kit.host.run_child = killed  # type: ignore[method-assign]
    await kit.run(ROWS)
    assert kit.delivered() == list(range(ROWS))
    _, together, alone, rest, *_ = given
    assert len(together) > 3
    assert [spec.window for spec in alone] == [together[1].window]
    assert alone[0].row_group_bytes_max == together[1].row_group_bytes_max // 2
    assert [spec.window for spec in rest[:2]] == [spec.window for spec in together[2:4]]
    (text,) = (text for event, text in kit.host.told if event == "seal_failed")
    assert f"seal {ROUTE}/{together[0].window}-{together[-1].window} ended with 9: killed" in text


async def test_a_full_window_is_closed_though_rows_never_pause(tmp_path: Path) -> None:
    """
    There is always a frame to write then; the window does not wait for the last one.
    """
    kit = small_windows(Kit(tmp_path))
    resolve = Resolve(0)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        sink = kit.sink(resolve, GroupTasks(group), None)
        await sink.open()
        running = group.create_task(sink.run())
        first = 0
        while kit.store.state.sink is None or kit.store.state.sink.window < 3:
            while kit.share.held < 100_000:
                sink.accept(kit.segment(range(first, first + 10)))
                first += 10
            await kit.checkpoint(sink, resolve)
            await asyncio.sleep(0)
        running.cancel()
        await sink.close()


async def test_windows_do_not_pile_up_behind_a_slow_seal(tmp_path: Path) -> None:
    """
    Where a seal takes longer than a window lasts, the next window grows meanwhile.
    """
    kit = Kit(tmp_path, window_age_s=0.001)
    behind_first(kit, ROWS)
    await kit.run(ROWS, checkpoint_every=1)
    assert kit.delivered() == list(range(ROWS))
    assert kit.host.children <= 3


async def test_a_window_is_sealed_at_its_age_however_busy_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Time passes also between two looks at the clock: a window that comes of age there is not forgotten.
    """
    kit = Kit(tmp_path, window_age_s=10.0)
    clock, make = kit.host.clock, kit.sink

    def sink(resolve: Resolve, tasks: GroupTasks, client: AwsClient | None) -> ParquetSink:
        made = make(resolve, tasks, client)

        async def uploaded(timeout_s: float) -> None:
            monotonic, looks = clock.monotonic, itertools.count(start=6, step=6)
            monkeypatch.setattr(clock, "monotonic", lambda: monotonic() + next(looks))
            async with asyncio.timeout(timeout_s):
                while kit.delivered() != list(range(ROWS)):
                    await asyncio.sleep(0.01)

        monkeypatch.setattr(made, "finish", uploaded)
        return made

    monkeypatch.setattr(kit, "sink", sink)
    await kit.run(ROWS, checkpoint_every=ROWS)


async def test_what_is_not_uploaded_in_time_is_resumed(tmp_path: Path) -> None:
    """
    A drain that ends before the upload leaves the window on disk; the next start uploads it.
    """
    kit = Kit(tmp_path)
    kit.host.child_exits = [1] * 10_000
    await kit.run(ROWS, finish_s=0.05)
    assert kit.delivered() == []
    assert [window.number for window in kit.store.state.windows] == [0]
    kit.host.child_exits = []
    await kit.run(ROWS)
    assert kit.delivered() == list(range(ROWS))
    assert kit.files() == []


async def test_a_child_that_fails_is_started_again(tmp_path: Path) -> None:
    """
    A killed seal child costs time, not rows, and is told.
    """
    kit = Kit(tmp_path)
    kit.host.child_exits = [-9, 1]
    await kit.run(ROWS)
    assert kit.delivered() == list(range(ROWS))
    assert "seal_failed" in kit.host.events
    assert kit.host.children == 3


async def test_a_store_that_fails_for_a_while_changes_nothing(tmp_path: Path) -> None:
    """
    Checkpoints of the sink's own are repeated until the store takes them.
    """
    kit = Kit(tmp_path)
    await kit.run(ROWS, finish_s=0)
    kit.store.errors = [RetryError("database is locked")] * 3
    resolve = Resolve(ROWS)
    async with asyncio.TaskGroup() as group:
        sink = kit.sink(resolve, GroupTasks(group), None)
        await sink.open()
        running = group.create_task(sink.run())
        await sink.finish(20)
        running.cancel()
        await asyncio.wait([running])
        await sink.close()
    assert kit.store.errors == []
    assert kit.delivered() == list(range(ROWS))


async def test_a_full_sink_says_so_and_frees_itself(tmp_path: Path) -> None:
    """
    At staging_bytes_max the sink is full until something is uploaded.
    """
    kit = Kit(tmp_path)
    object.__setattr__(kit.settings, "staging_bytes_max", 1)
    resolve = Resolve(0)
    async with asyncio.TaskGroup() as group:
        sink = kit.sink(resolve, GroupTasks(group), None)
        await sink.open()
        running = group.create_task(sink.run())
        sink.accept(kit.segment(range(10)))
        await sink.drain(20)
        assert sink.full
        await kit.checkpoint(sink, resolve)
        await sink.finish(20)
        assert not sink.full
        running.cancel()
        await asyncio.wait([running])
        await sink.close()
    assert [event for event, _ in kit.host.told].count("staging_full") == 1
    assert kit.delivered() == list(range(10))


@pytest.mark.parametrize("disk_full", [0, 2])
async def test_frames_behind_the_commit_move_to_the_next_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk_full: int
) -> None:
    """
    A window that is closed while uncommitted frames stand behind its committed ones keeps them apart.

    Where there is no space for that, it waits.
    """
    kit = Kit(tmp_path)
    write = kit.host.state_disk.pwrite

    def writing(fd: int, encoded: bytes, position: int) -> int:
        nonlocal disk_full
        if disk_full and os.readlink(f"/proc/self/fd/{fd}").endswith("1.staging"):
            disk_full -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, encoded, position)

    monkeypatch.setattr(kit.host.state_disk, "pwrite", writing)
    resolve = Resolve(0)
    async with asyncio.TaskGroup() as group:
        sink = kit.sink(resolve, GroupTasks(group), None)
        await sink.open()
        running = group.create_task(sink.run())
        sink.accept(kit.segment(range(10)))
        await sink.drain(20)
        await kit.checkpoint(sink, resolve)
        sink.accept(kit.segment(range(10, 20)))
        await sink.drain(20)
        await sink.finish(20)
        assert kit.delivered() == list(range(10))
        assert resolve.stop == 10
        await kit.checkpoint(sink, resolve)
        assert resolve.stop == 20
        await sink.finish(20)
        running.cancel()
        await asyncio.wait([running])
        await sink.close()
    assert kit.delivered() == list(range(20))
    assert not disk_full


async def test_a_segment_that_cannot_be_encoded_is_poison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The error names the byte range, so that the supervisor can isolate it.
    """

    def fail(columns: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("agent.sinks.staging.staging_buffers", fail)
    kit = Kit(tmp_path)
    with pytest.raises(BaseExceptionGroup) as caught:
        await kit.run(ROWS)
    (error,) = [item for item in caught.value.exceptions if isinstance(item, PoisonError)]
    assert error.place == ("/var/log/pods/shop/0.log", 0, 0, 1000)


async def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    ENOSPC while staging: the rows stay in memory until there is space, and the file has no gap.
    """
    kit = Kit(tmp_path)
    write = kit.host.state_disk.pwrite
    failures = [28, 28]

    def failing(fd: int, encoded: bytes, position: int) -> int:
        if failures:
            write(fd, encoded[: len(encoded) // 2], position)
            raise OSError(failures.pop(), "No space left on device")
        return write(fd, encoded, position)

    monkeypatch.setattr(kit.host.state_disk, "pwrite", failing)
    await kit.run(ROWS)
    assert kit.delivered() == list(range(ROWS))
    assert "staging_disk_full" in kit.host.events


async def test_duckdb_reads_the_layout(tmp_path: Path) -> None:
    """
    Hive partitions, types and values as SQL sees them.
    """
    kit = Kit(tmp_path)
    await kit.run(20)
    files = f"read_parquet('{kit.target}/**/*.parquet', hive_partitioning=true)"
    found = duckdb.sql(
        "SELECT cluster, hour, stream, namespace, pod, container, node, level, row_kind, labels['app'],"
        " count(*), min(message), CAST(epoch_ms(min(time)) AS BIGINT), min(time_ns)"
        f" FROM {files} GROUP BY ALL ORDER BY min(time_ns)"
    )
    assert found is not None
    first = found.fetchall()[0]
    assert first[:10] == (
        "prod", "09", "stdout", "shop", "web-0", "web", NODE, None, "line", "web"
    )  # fmt: skip
    assert first[10:] == (5, "row 0 é ", 1_795_341_595_000, 1_795_341_595 * 10**9)
    unique = duckdb.sql(
        f'SELECT count(*), count(DISTINCT (node, file_id, "offset", row_kind)) FROM {files}'
    )
    assert unique is not None
    assert unique.fetchall() == [(20, 20)]


async def test_memory_is_given_back_when_a_frame_is_written(tmp_path: Path) -> None:
    """
    A staged segment holds neither rows nor budget, although it is not confirmed yet.
    """
    kit = Kit(tmp_path)
    resolve = Resolve(0)
    async with asyncio.TaskGroup() as group:
        sink = kit.sink(resolve, GroupTasks(group), None)
        await sink.open()
        running = group.create_task(sink.run())
        segment = kit.segment(range(10))
        sink.accept(segment)
        assert kit.share.held == 1000
        await sink.drain(20)
        assert kit.share.held == 0
        assert segment.columns is None
        assert resolve.rows == 0
        running.cancel()
        await asyncio.wait([running])
        await sink.close()
