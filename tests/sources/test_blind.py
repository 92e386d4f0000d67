"""
Directories that cannot be looked into when the agent starts: nothing is decided until they can.
"""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from agent.core.batch import LossReason
from agent.runtime.disk import OsDisk
from tests.fakes.kubelet import Container, Kubelet
from tests.fakes.source_host import Source, SourceHost

if TYPE_CHECKING:
    from pathlib import Path

    from agent.core.checkpoint import GenerationRow
    from agent.core.cursor import Cursor
    from agent.core.host import FileStat
    from agent.sources.settings import FilesSettings

#: What cannot be listed, seen from the pods directory, and why.
BLIND = [
    pytest.param(0, errno.EIO, id="root EIO"),
    pytest.param(0, errno.EACCES, id="root EACCES"),
    pytest.param(0, errno.ENOENT, id="root missing"),
    pytest.param(1, errno.EACCES, id="pod EACCES"),
    pytest.param(2, errno.EIO, id="container EIO"),
]


class Mount:
    """
    A directory that cannot be looked into until it is `opened`.
    """

    def __init__(self, container: Container, root: Path, depth: int, number: int) -> None:
        self.host = SourceHost()
        self._path = [root, container.directory.parent, container.directory][depth]
        self._away = root.with_name("away") if number == errno.ENOENT else None
        if self._away is not None:
            self._path.rename(self._away)
        else:
            self.host.disk.fail_list[str(self._path)] = number

    def open(self) -> None:
        if self._away is not None:
            self._away.rename(self._path)
        self.host.disk.fail_list.clear()


async def committed(
    settings: FilesSettings, container: Container
) -> tuple[dict[str, Cursor], list[GenerationRow], int]:
    """
    Read three lines of five; return what the store would hold, and where the rest begins.
    """
    container.lines(3)
    source = Source(settings)
    route = await source.start()
    await source.settle(1)
    cursors, _ = route.commit()
    container.lines(2)
    await source.files.tick()
    rows = route.reader.generation_rows(cursors)
    source.close()
    return cursors, rows, route.segments[-1].stop


@pytest.mark.parametrize(("depth", "number"), BLIND)
async def test_what_comes_back_is_read_on(
    settings: FilesSettings, container: Container, root: Path, depth: int, number: int
) -> None:
    """
    No loss, no end and no new generation while nobody can look; then the rest, once.
    """
    cursors, rows, _ = await committed(settings, container)
    mount = Mount(container, root, depth, number)
    source = Source(settings, host=mount.host, rows=rows)
    route = await source.start(cursors=cursors, first_start=False)
    await source.settle(130, step_s=1.0)
    assert not route.segments
    assert not route.reader.finished()
    assert route.reader.generation_rows(cursors) == rows
    mount.open()
    await source.settle(70, step_s=1.0)
    assert route.texts(container.path) == container.written[3:]
    assert not route.losses
    assert [row.number for row in route.reader.generation_rows(cursors)] == [0]
    source.close()


@pytest.mark.parametrize(("depth", "number"), BLIND)
async def test_what_is_gone_is_lost_once_that_is_known(
    settings: FilesSettings, container: Container, root: Path, depth: int, number: int
) -> None:
    """
    The directory can be listed and the file is not there: the loss is recorded then.
    """
    cursors, rows, start = await committed(settings, container)
    size = container.path.stat().st_size
    mount = Mount(container, root, depth, number)
    source = Source(settings, host=mount.host, rows=rows)
    route = await source.start(cursors=cursors, first_start=False)
    await source.settle(10, step_s=1.0)
    assert not route.losses
    mount.open()
    Kubelet().remove(container)
    await source.settle(70, step_s=1.0)
    (loss,) = route.losses
    assert (loss.start, loss.stop, loss.reason) == (start, size, LossReason.DELETED)
    assert route.reader.finished() == [str(container.path)]
    source.close()


async def test_a_blind_directory_leaves_its_neighbours_decided(
    settings: FilesSettings, container: Container, root: Path
) -> None:
    """
    A Log whose directory was looked into is over at once, whatever is the matter beside it.
    """
    cursors, rows, start = await committed(settings, container)
    other = Container(root, namespace="shop", pod="other", uid="ff", name="app")
    Kubelet().remove(container)
    host = SourceHost()
    host.disk.fail_list[str(other.directory)] = errno.EIO
    source = Source(settings, host=host, rows=rows)
    route = await source.start(cursors=cursors, first_start=False)
    await source.settle(1)
    (loss,) = route.losses
    assert loss.start == start
    other.stop()
    source.close()


async def test_a_directory_that_changes_all_the_time_is_not_blind(
    settings: FilesSettings,
    container: Container,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    No listing of it is still true when it was looked at: what was seen counts all the same.
    """
    cursors, rows, _ = await committed(settings, container)
    host = SourceHost()
    listed, count = host.disk.list, itertools.count()

    def list_and_change(directory: str) -> list[tuple[str, FileStat]]:
        listing = listed(directory)
        if directory == str(container.directory):
            (container.directory / f"{next(count)}.tmp").touch()
        return listing

    monkeypatch.setattr(host.disk, "list", list_and_change)
    source = Source(settings, host=host, rows=rows)
    route = await source.start(cursors=cursors, first_start=False)
    await source.settle(10, step_s=1.0)
    assert next(count) > 3
    assert route.texts(container.path) == container.written[3:]
    assert not route.losses
    source.close()


class Entry:
    """
    A name in a directory, and what its stat says.
    """

    def __init__(self, name: str, number: int = 0) -> None:
        self.name = name
        self._number = number

    def stat(self) -> os.stat_result:
        """
        Stand for os.DirEntry.stat.
        """
        if self._number:
            raise OSError(self._number, os.strerror(self._number), self.name)
        return os.stat_result([0] * 10)


def test_names_that_may_not_be_looked_up_are_no_empty_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A directory without its x bit shows names alone: that is an error, where one hidden entry is not.
    """
    entries = [Entry("a.log", errno.EACCES), Entry("b.log", errno.EACCES)]
    monkeypatch.setattr(os, "scandir", lambda _: nullcontext(entries))
    with pytest.raises(PermissionError):
        OsDisk.list("/d")
    entries += [Entry("c.log"), Entry("d.log", errno.ENOENT)]
    assert [name for name, _ in OsDisk.list("/d")] == ["c.log"]
