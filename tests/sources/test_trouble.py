"""
The files source in trouble: truncation, descriptors, errors, long lines, a full budget, poison.
"""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent import _fastparse
from agent.core import counters as metric
from agent.core.batch import LossReason
from agent.core.errors import PoisonError
from agent.sources import follow as follow_module
from tests.fakes.kubelet import Container, Kubelet
from tests.fakes.source_host import Source
from tests.sources.conftest import append

if TYPE_CHECKING:
    from pathlib import Path

    from agent.sources.settings import FilesSettings


async def test_unreadable_file_is_retried_and_others_go_on(
    settings: FilesSettings, container: Container, root: Path
) -> None:
    """
    EACCES counts, costs the neighbours nothing, and ends when the file can be read.
    """
    other = Container(root, namespace="shop", pod="other", uid="ff", name="app")
    container.lines(2)
    other.lines(2)
    source = Source(settings)
    source.host.disk.fail_open = {str(container.path): errno.EACCES}
    route = await source.start()
    await source.settle(2)
    assert route.texts(other.path) == other.written
    assert source.counters.get(metric.FILE_ERRORS, "EACCES") > 0
    source.host.disk.fail_open = {}
    await source.settle(70, step_s=1.0)
    assert route.texts(container.path) == container.written
    other.stop()
    source.close()


async def test_too_many_open_files_is_survived(settings: FilesSettings, root: Path) -> None:
    """
    Ten files with four descriptors: all are read, idle ones are closed and opened again.
    """
    containers = [
        Container(root, namespace="n", pod=f"p-{number}", uid="aa", name="c")
        for number in range(10)
    ]
    source = Source(settings)
    source.host.disk.open_max = 4
    route = await source.start()
    for _ in range(3):
        for item in containers:
            item.lines(2)
        await source.settle(70, step_s=2.0)
    for item in containers:
        assert route.texts(item.path) == item.written
        item.stop()
    assert len(source.host.disk.opened) <= 4
    assert not route.losses
    source.close()


async def test_configured_limit_of_open_files(settings: FilesSettings, root: Path) -> None:
    """
    open_files_max bounds what is held.
    """
    containers = [
        Container(root, namespace="n", pod=f"p-{number}", uid="aa", name="c")
        for number in range(20)
    ]
    source = Source(replace(settings, open_files_max=8))
    route = await source.start()
    for item in containers:
        item.lines(2)
    await source.settle(70, step_s=2.0)
    for item in containers:
        assert route.texts(item.path) == item.written
        item.stop()
    assert len(source.host.disk.opened) <= 8
    source.close()


async def test_growing_partial_line_is_read_once_more_than_it_grows(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    A line that grows byte by byte costs its new bytes a look, not its length.
    """
    append(app_log, b"first\n" + b"x" * 100_000)
    source = Source(raw_settings)
    route = await source.start()
    await source.settle(1)
    before = source.host.disk.bytes_read
    for _ in range(50):
        append(app_log, b"y")
        await source.settle(0.2)
    assert source.host.disk.bytes_read == before
    append(app_log, b"\n")
    await source.settle(0.2)
    assert route.texts(app_log) == [b"first", b"x" * 100_000 + b"y" * 50]
    source.close()


async def test_line_longer_than_a_chunk_and_than_the_limit(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    A line longer than a chunk is whole; one longer than line_bytes_max is cut; neighbours are intact.
    """
    settings = replace(raw_settings, chunk_bytes=4096, line_bytes_max=20_000)
    append(app_log, b"a\n" + b"b" * 10_000 + b"\nc\n" + b"d" * 1_000_000 + b"\ne\n")
    source = Source(settings)
    route = await source.start()
    await source.settle(1)
    texts = route.texts(app_log)
    assert [text[:1] for text in texts] == [b"a", b"b", b"c", b"d", b"e"]
    assert len(texts[1]) == 10_000
    assert len(texts[3]) == 20_000
    assert source.counters.get(metric.ROWS_ODD, "r", "truncated") == 1
    assert source.counters.get(metric.DISCARDED_BYTES, "r") == 980_000
    assert source.counters.get(metric.READ_BYTES, "r") == app_log.stat().st_size
    source.close()


async def test_cold_pages_are_read_in_the_executor(
    settings: FilesSettings, container: Container
) -> None:
    """
    Where the page cache has nothing, the same bytes come through read_cold.
    """
    container.lines(5)
    source = Source(settings)
    source.host.disk.warm = False
    route = await source.start()
    await source.settle(1)
    assert route.texts(container.path) == container.written
    source.close()


async def test_a_full_budget_waits_and_a_cancelled_read_loses_nothing(
    settings: FilesSettings, container: Container
) -> None:
    """
    No room: next() waits without reading.  Cancelled there or anywhere, nothing is lost or held.
    """
    container.lines(5)
    source = Source(settings, budget_bytes=1 << 20, routes=("r", "s"))
    route = await source.start()
    share = source.budget.shares["r"]
    charge = share.take(1 << 20)
    assert charge is not None
    for turns in range(1, 12):
        waiting = asyncio.ensure_future(route.reader.next())
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert share.held == charge.held
    charge.release()
    await source.settle(1)
    assert route.texts(container.path) == container.written
    assert share.held == 0
    source.close()


class Poisoned:
    """
    A parser that raises on chunks with a certain text.
    """

    inner = _fastparse.Parser

    def __init__(self, **options: int) -> None:
        self._parser = self.inner(**options)

    def __getattr__(self, name: str) -> object:
        return getattr(self._parser, name)

    def parse(self, chunk: _fastparse.Chunk, length: int, **options: Any) -> _fastparse.Columns:
        if b"poison" in bytes(memoryview(chunk)[:length]):
            raise RuntimeError("poison")
        return self._parser.parse(chunk, length, **options)


async def test_poison_is_named_and_can_be_read_slowly_or_skipped(
    settings: FilesSettings, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The error names place and bytes; the slow parser gets through; or the place becomes a loss.
    """
    monkeypatch.setattr(_fastparse, "Parser", Poisoned)
    monkeypatch.setattr(follow_module, "slow_parser", lambda: Poisoned.inner)
    container.lines(2)
    source = Source(settings)
    route = await source.start()
    await source.settle()
    cursors, _ = route.commit()
    container.write(b"poison")
    container.raw(b"2026-11-22T10:15:00Z stdout F unfini")
    await source.files.tick()
    with pytest.raises(PoisonError) as caught:
        await route.reader.next()
    log, generation, start, stop = caught.value.place
    assert (log, generation, start) == (str(container.path), 0, route.segments[-1].stop)
    assert stop < container.path.stat().st_size
    assert source.budget.shares["r"].held == 0
    route.reader.close()

    slow = await source.start(cursors=cursors, first_start=False)
    slow.reader.detours.use_reference_parser(*caught.value.place)
    await slow.read_all()
    assert slow.texts(container.path) == [b"poison"]
    slow.reader.close()

    skipping = await source.start(cursors=cursors, first_start=False)
    skipping.reader.detours.skip(*caught.value.place, LossReason.POISON)
    await skipping.read_all()
    container.raw(b"shed\n")
    await source.settle(1)
    assert skipping.texts(container.path) == [b"unfinished"]
    (loss,) = skipping.losses
    assert (loss.start, loss.stop, loss.reason) == (start, stop, LossReason.POISON)
    source.close()


async def test_damaged_gz_is_a_loss_and_the_log_goes_on(
    settings: FilesSettings, container: Container
) -> None:
    """
    A gz that breaks in its middle is tried again, then recorded, and what follows is read.
    """
    kubelet = Kubelet()
    container.lines(20_000)
    kubelet.rotate(container)
    container.lines(3)
    kubelet.rotate(container)
    container.lines(3)
    (packed,) = container.directory.glob("*.gz")
    os.truncate(packed, packed.stat().st_size // 2)
    source = Source(settings)
    route = await source.start()
    await source.settle(60, step_s=1.0)
    assert route.texts(container.path)[-6:] == container.written[-6:]
    assert len(route.losses) == 1
    source.close()
