"""
Where a route begins, in which order it reads, and what it knows of its lag.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from agent.core.cursor import cursor_at
from agent.core.select import SelectSettings
from agent.sources.settings import FilesSettings
from tests.fakes.kubelet import Container, Kubelet
from tests.fakes.source_host import START_NS, Source
from tests.sources.conftest import append

if TYPE_CHECKING:
    from pathlib import Path


def put(path: Path, data: bytes) -> Path:
    """
    Append to a file and return its path.
    """
    append(path, data)
    return path


async def test_start_at_end_stands_at_the_last_line_start(tmp_path: Path) -> None:
    """
    Existing files: rotated ones are skipped, a line under way is read whole.  Later files: from their beginning.
    """
    put(tmp_path / "a.log.1", b"older\n")
    path = put(tmp_path / "a.log", b"x" * 100_000 + b"\nold\nhalf ")
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), start="end"))
    route = await source.start()
    await source.settle(1)
    put(path, b"a line\nnew\n")
    later = put(tmp_path / "b.log", b"all\n")
    await source.settle(1)
    assert route.texts(path) == [b"half a line", b"new"]
    assert route.texts(later) == [b"all"]
    source.close()


async def test_start_at_end_survives_a_restart_without_any_line(tmp_path: Path) -> None:
    """
    The place is committed although nothing was read, so that a restart does not read the old lines.
    """
    path = put(tmp_path / "a.log", b"old\n")
    settings = FilesSettings(paths=(f"{tmp_path}/*.log",), start="end")
    source = Source(settings)
    route = await source.start()
    await source.settle(1)
    assert route.reader.first_cursors() == {str(path): cursor_at(0, 4)}
    cursors, rows = route.commit()
    assert not route.reader.first_cursors()
    source.close()
    put(path, b"new\n")
    again = Source(settings, rows=rows)
    resumed = await again.start(cursors=cursors, first_start=False)
    await again.settle(1)
    assert resumed.texts(path) == [b"new"]
    again.close()


async def test_ignore_older(tmp_path: Path) -> None:
    """
    What is in an old file is left out, what comes is read; a Log with a cursor resumes however old it is.
    """
    old = put(tmp_path / "old.log", b"old\n")
    new = put(tmp_path / "new.log", b"new\n")
    known = put(tmp_path / "known.log", b"one\ntwo\n")
    now_s = START_NS / 1e9 + 1000
    os.utime(old, (now_s - 7200, now_s - 7200))
    os.utime(known, (now_s - 7200, now_s - 7200))
    os.utime(new, (now_s, now_s))
    settings = FilesSettings(paths=(f"{tmp_path}/*.log",), ignore_older_s=3600)
    source = Source(settings)
    route = await source.start(cursors={str(known): cursor_at(0, 4)}, first_start=False)
    await source.settle(1)
    assert route.messages == {str(new): [b"new"], str(known): [b"two"]}
    put(old, b"fresh\n")
    await source.settle(6)
    assert route.texts(old) == [b"fresh"]
    assert "file_ignored_older" in [event for event, _ in source.host.told]
    source.close()


async def test_reading_order_is_vanishing_first_then_round_robin(
    root: Path, container: Container
) -> None:
    """
    A renamed file goes first; equal files take turns chunk by chunk.
    """
    other = Container(root, namespace="shop", pod="other", uid="ff", name="app")
    container.lines(400)
    other.lines(400)
    source = Source(FilesSettings(paths=(f"{root}/*/*/*.log",), chunk_bytes=4096))
    route = await source.start()
    await route.read_all()
    assert route.order[:6] == [route.order[0], route.order[1]] * 3
    assert route.order[0] != route.order[1]
    container.lines(400)
    other.lines(400)
    Kubelet().rotate(other)
    source.host.watches.pending.extend((path, None) for path in source.host.watches.directories)
    await source.files.tick()
    del route.order[:]
    await route.read_all()
    assert route.order.index(str(container.path)) > 3
    assert set(route.order[:3]) == {str(other.path)}
    other.stop()
    source.close()


async def test_lag_in_bytes_and_seconds(settings: FilesSettings, container: Container) -> None:
    """
    Lag counts from what is committed, and its age from when the bytes were first seen.
    """
    source = Source(settings)
    route = await source.start()
    container.lines(1)
    await source.settle(1)
    cursors, _ = route.commit()
    assert list(route.reader.lag(cursors, source.host.clock.now_ns())) == []
    size = container.path.stat().st_size
    container.lines(2)
    await source.files.tick()
    source.host.clock.seconds += 7
    container.lines(1)
    await source.files.tick()
    ((log, lag_bytes, lag_s),) = route.reader.lag(cursors, source.host.clock.now_ns())
    assert (log, lag_bytes) == (str(container.path), container.path.stat().st_size - size)
    assert lag_s == pytest.approx(7, abs=0.01)
    await route.read_all()
    source.close()


async def test_frozen_source_ends_every_log(tmp_path: Path) -> None:
    """
    Replay: given files are read to their end, the last line without newline included, and are finished.
    """
    plain = put(tmp_path / "x.log", b"one\ntwo")
    source = Source(FilesSettings(paths=(str(plain),)))
    await source.files.scan()
    source.files.freeze()
    route = await source.start()
    await route.read_all()
    assert route.texts(plain) == [b"one", b"two"]
    assert route.reader.exhausted()
    # A finished file must be known to the replay that goes on from this one's state.
    assert route.reader.finished() == []
    source.close()


async def test_unselected_logs_are_not_read(
    settings: FilesSettings, root: Path, container: Container
) -> None:
    """
    A route chooses whole Logs by their resource.
    """
    other = Container(root, namespace="other", pod="p", uid="ff", name="app")
    container.lines(1)
    other.lines(1)
    source = Source(settings)
    route = await source.start(select=SelectSettings(namespaces=("other",)))
    await source.settle(1)
    assert list(route.messages) == [str(other.path)]
    other.stop()
    source.close()


async def test_a_route_starts_beside_a_log_that_it_no_longer_wants(
    root: Path, container: Container
) -> None:
    """
    Its namespace was excluded and its pod deleted while the agent was stopped: it goes, and the others are read.
    """
    other = Container(root, namespace="kept", pod="other", uid="ff", name="app")
    container.lines(3)
    other.lines(3)
    settings = FilesSettings(paths=(f"{root}/*/*/*.log",))
    source = Source(settings)
    route = await source.start()
    await source.settle(1)
    cursors, rows = route.commit()
    source.close()
    container.stop()
    shutil.rmtree(container.path.parent.parent)
    again = Source(settings, rows=rows)
    select = SelectSettings(exclude_namespaces=("shop",))
    resumed = await again.start(cursors=cursors, first_start=False, select=select)
    other.lines(2)
    await again.settle(12)
    assert resumed.texts(other.path) == other.written[3:]
    assert set(again.files.logs) == {str(other.path)}
    again.close()


async def test_a_file_that_comes_back_is_new_also_where_the_start_was_at_the_end(
    tmp_path: Path,
) -> None:
    """
    One route has forgotten it, the other has yet to: for both it begins at its first line.
    """
    path = put(tmp_path / "a.log", b"before\n")
    settings = FilesSettings(paths=(f"{tmp_path}/*.log",), start="end")
    source = Source(settings, routes=("first", "second"))
    first, second = [await source.start(route=name) for name in ("first", "second")]
    path.unlink()
    await source.settle(10)
    first.commit()
    second.commit()
    put(path, b"one\ntwo\n")
    await source.settle(2)
    assert [route.texts(path) for route in (first, second)] == [[b"one", b"two"]] * 2
    source.close()
