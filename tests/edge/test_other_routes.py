"""
What one route finishes with, while another is late, restarts or has not begun, is not lost for the other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.core.batch import LossReason
from agent.sources.settings import FilesSettings
from tests.fakes.source_host import Source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.source_host import RouteModel


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """
    The path of a plain log in a directory of its own.
    """
    (tmp_path / "app").mkdir()
    return tmp_path / "app" / "app.log"


@pytest.fixture
def settings(log: Path) -> FilesSettings:
    """
    The source's settings for that directory.
    """
    return FilesSettings(paths=(f"{log.parent}/*.log",), rotate_grace_s=1.0)


def append(path: Path, *lines: str) -> None:
    """
    Append to a file that nobody keeps open.
    """
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


async def again(source: Source, name: str, cursors: object) -> RouteModel:
    """
    Start the next run of a route.
    """
    return await source.start(name, cursors=cursors, first_start=False)  # type: ignore[arg-type]


async def test_log_that_comes_back_before_it_is_forgotten(
    settings: FilesSettings, log: Path
) -> None:
    """
    A Log was over and not forgotten yet (its rows were unresolved) when its file came back: all is read.
    """
    append(log, "one", "two")
    source = Source(settings)
    route = await source.start()
    await source.settle(1)
    log.unlink()
    await source.settle(10)
    assert route.reader.finished() == [str(log)]
    append(log, "three")
    await source.settle(1)
    route.commit()
    append(log, "four")
    await source.settle(10)
    route.commit()
    append(log, "five")
    await source.settle(70, step_s=1.0)
    assert route.texts(log) == [b"one", b"two", b"three", b"four", b"five"]
    assert not route.losses
    source.close()


async def test_new_log_comes_and_goes_while_a_route_is_down(
    settings: FilesSettings, log: Path
) -> None:
    """
    Between two runs of a route a Log appeared, was read by another route and deleted: it is still read.
    """
    source = Source(settings, routes=("up", "down"))
    up = await source.start("up")
    down = await source.start("down")
    await source.settle(1)
    down.reader.close()
    del source.routes["down"]
    append(log, "one", "two")
    await source.settle(1)
    up.commit()
    log.unlink()
    for _ in range(3):
        await source.settle(10)
        up.commit()
    assert up.texts(log) == [b"one", b"two"]
    down = await again(source, "down", {})
    await source.settle(1)
    assert down.texts(log) == [b"one", b"two"]
    for _ in range(2):
        await source.settle(1)
        down.commit()
        up.commit()
    assert not source.files.logs, "nobody needs it any more"
    source.close()


async def test_new_log_is_rotated_while_a_route_is_down(settings: FilesSettings, log: Path) -> None:
    """
    As above, and the Log goes on in another file: the route begins at its first one.
    """
    source = Source(settings, routes=("up", "down"))
    up = await source.start("up")
    down = await source.start("down")
    down.reader.close()
    del source.routes["down"]
    append(log, "one")
    await source.settle(1)
    log.rename(log.with_name("app.log.1"))
    append(log, "two")
    await source.settle(10)
    up.commit()
    await source.settle(1)
    log.with_name("app.log.1").unlink()
    await source.settle(10)
    up.commit()
    down = await again(source, "down", {})
    await source.settle(1)
    assert down.texts(log) == [b"one", b"two"]
    source.close()


async def test_known_log_is_forgotten_by_another_while_a_route_is_down(
    settings: FilesSettings, log: Path
) -> None:
    """
    A route has committed a part of a Log and restarts; the other reads all, and the file is deleted.
    """
    source = Source(settings, routes=("up", "down"))
    append(log, "one")
    up = await source.start("up")
    down = await source.start("down")
    await source.settle(1)
    cursors, _ = down.commit()
    down.reader.close()
    del source.routes["down"]
    append(log, "two")
    await source.settle(1)
    up.commit()
    log.unlink()
    for _ in range(3):
        await source.settle(10)
        up.commit()
    down = await again(source, "down", cursors)
    await source.settle(1)
    assert down.texts(log) == [b"two"]
    assert not down.losses
    source.close()


async def test_start_at_the_end_is_kept_over_a_failed_run(
    settings: FilesSettings, log: Path
) -> None:
    """
    The first run ended before its first checkpoint: the second begins where the first did.
    """
    append(log, "old")
    source = Source(replace(settings, start="end"))
    route = await source.start()
    await source.settle(1)
    route.reader.close()
    append(log, "new")
    route = await source.start(first_start=True)
    await source.settle(1)
    assert route.texts(log) == [b"new"]
    source.close()


async def test_finished_log_that_another_route_still_needs(
    settings: FilesSettings, log: Path
) -> None:
    """
    A route that has read all of it keeps its cursor: after a restart it records no loss.
    """
    append(log, "one")
    source = Source(settings, routes=("up", "down"))
    up = await source.start("up")
    down = await source.start("down")
    await source.settle(1)
    unread, _ = down.commit()
    append(log, "two")
    down.reader.close()
    del source.routes["down"]
    await source.settle(1)
    log.unlink()
    await source.settle(10)
    read, rows = up.commit()
    source.close()
    source = Source(settings, routes=("up", "down"), rows=rows)
    up = await again(source, "up", read)
    down = await again(source, "down", unread)
    for _ in range(3):
        await source.settle(1)
        up.commit()
        down.commit()
    assert not up.losses
    assert [loss.reason for loss in down.losses] == [LossReason.DELETED]
    assert not source.files.logs
    source.close()


async def test_finished_log_is_met_again_by_a_route_that_restarts(
    settings: FilesSettings, log: Path
) -> None:
    """
    It had forgotten the Log, and meets it again because another has not: both forget it, and it can come back.
    """
    append(log, "one")
    source = Source(settings, routes=("up", "down"))
    up = await source.start("up")
    down = await source.start("down")
    await source.settle(1)
    log.unlink()
    await source.settle(10)
    down.commit()
    up.commit()
    up.reader.close()
    up = await again(source, "up", {})
    await source.settle(1)
    down.commit()
    await source.settle(1)
    append(log, "two")
    await source.settle(10)
    up.commit()
    await source.settle(1)
    assert up.texts(log) == [b"two"]
    assert down.texts(log) == [b"one", b"two"]
    source.close()
