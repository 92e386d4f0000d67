"""
A Log is over and its routes forget it one after the other; or a route never had anything of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.core.batch import LossReason
from agent.core.cursor import cursor_at
from agent.sources.settings import FilesSettings
from tests.fakes.source_host import Source
from tests.sources.conftest import append

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("back", [False, True], ids=["gone", "comes_back"])
async def test_killed_between_two_routes_forgetting(tmp_path: Path, back: bool) -> None:
    """
    The one that has forgotten records no loss of what it had delivered, and reads what comes at that path.
    """
    path = tmp_path / "app.log"
    settings = FilesSettings(paths=(str(path),), rotate_grace_s=1.0)
    append(path, b"one\ntwo\n")
    source = Source(settings, routes=("a", "b"))
    a, b = await source.start("a"), await source.start("b")
    await source.settle(1)
    path.unlink()
    await source.settle(5)
    cursors_b, rows = b.commit()
    # The other one has not come to its commit: b is not forgotten, and a is after it.
    cursors_b = cursors_b or {str(path): cursor_at(0, 8)}
    assert rows
    a.commit()
    source.close()
    if back:
        append(path, b"three\n")
    again = Source(settings, rows=rows, routes=("a", "b"))
    resumed = await again.start("a", cursors={}, first_start=False)
    other = await again.start("b", cursors=cursors_b, first_start=False)
    await again.settle(5)
    for route in (resumed, other):
        assert not route.losses
        assert route.texts(path) == ([b"three"] if back else [])
    for route in (resumed, other, resumed):
        route.commit()  # The first to come forgets when the last one has come to its end.
    assert back or not again.files.logs
    again.close()


async def test_a_new_route_has_not_lost_what_was_gone_before_it(tmp_path: Path) -> None:
    """
    Files that another route had read and that are deleted are nobody's loss; what is there is read.
    """
    path = tmp_path / "app.log"
    settings = FilesSettings(paths=(str(path),), rotate_grace_s=1.0)
    append(path, b"one\n")
    source = Source(settings)
    route = await source.start()
    await source.settle(1)
    path.rename(tmp_path / "app.log.1")
    append(path, b"two\n")
    await source.settle(5)
    cursors, rows = route.commit()
    rows = [*rows, *route.reader.generation_rows(cursors)]
    source.close()
    (tmp_path / "app.log.1").unlink()
    again = Source(settings, rows=rows, routes=("r", "new"))
    old = await again.start("r", cursors=cursors, first_start=False)
    new = await again.start("new")
    await again.settle(5)
    assert (old.texts(path), new.texts(path)) == ([], [b"two"])
    assert not old.losses
    assert not new.losses
    again.close()


async def test_a_route_that_stands_still_knows_what_it_lost(tmp_path: Path) -> None:
    """
    It has committed no line; what it held open is gone with the process, and recorded whole at the next start.
    """
    path = tmp_path / "app.log"
    settings = FilesSettings(paths=(str(path),), rotate_grace_s=1.0)
    path.touch()
    source = Source(settings)
    route = await source.start()
    source.routes.clear()
    watches = source.host.watches
    sizes = []
    for number in range(3):
        append(path, b"%d line\n" % number * (number + 1))
        sizes.append(path.stat().st_size)
        for _ in range(4):
            source.host.clock.seconds += 1
            watches.pending.extend((name, None) for name in watches.directories)
            await source.files.tick()
        path.unlink()
    # The route's checkpoints: places at the beginning, and what the files have become.
    cursors = route.reader.first_cursors()
    rows = route.reader.generation_rows(())
    assert list(cursors) == [str(path)]
    source.close()
    again = Source(settings, rows=rows)
    resumed = await again.start(cursors=cursors, first_start=False)
    await again.settle(5)
    assert [(loss.start, loss.stop) for loss in resumed.losses] == [(0, size) for size in sizes]
    assert {loss.reason for loss in resumed.losses} == {LossReason.DELETED}
    again.close()
