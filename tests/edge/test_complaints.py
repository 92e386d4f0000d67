"""
What users of other agents lose at the file, one test each; README.md of this folder has the list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.sources.settings import FilesSettings
from tests.edge.rotation_kit import LogFile
from tests.edge.test_generations import Lives
from tests.fakes.kubelet import Container, Kubelet
from tests.fakes.source_host import Source

if TYPE_CHECKING:
    from pathlib import Path

    from agent.core.checkpoint import GenerationRow
    from agent.core.cursor import Cursor
    from tests.fakes.source_host import RouteModel


def pods(root: Path) -> FilesSettings:
    """
    Follow the logs of a kubelet.
    """
    return FilesSettings(paths=(f"{root}/*/*/*.log",))


async def look(source: Source, seconds: float = 0.2) -> None:
    """
    One tick, with the events of every directory; nobody reads.
    """
    source.host.clock.seconds += seconds
    watches = source.host.watches
    watches.pending.extend((path, None) for path in watches.directories)
    await source.files.tick()


async def test_01_rotation_outruns_the_reader(tmp_path: Path) -> None:
    """
    Twenty rotations, of which the kubelet keeps four files, before a line is read: every line arrives, in order.
    """
    container = Container(tmp_path, namespace="shop", pod="cart-0", uid="11-22", name="app")
    kubelet = Kubelet()
    source = Source(pods(tmp_path))
    route = await source.start()
    for _ in range(20):
        container.lines(3)
        await look(source)
        kubelet.rotate(container)
        await look(source, 2)
    assert len(list(container.directory.iterdir())) < 8
    await route.read_all()
    await source.settle(8)
    assert route.texts(container.path) == container.written
    assert not route.losses
    route.commit()
    assert len(source.host.disk.opened) <= 2, "what is confirmed is let go"
    container.stop()
    source.close()


async def test_02_copytruncate(tmp_path: Path) -> None:
    """
    Cut again and again under a reader that lags, and while it is stopped: what the copy has arrives once.
    """
    log = LogFile(tmp_path / "app", "raw")
    lives = Lives(log)
    for _ in range(3):
        log.lines(5)
        await lives.live(unread=2)
        log.sibling(1).unlink(missing_ok=True)
        log.copytruncate()
        log.lines(30)
        await lives.live(unread=1)
    await lives.live()
    assert lives.texts == log.written
    assert not lives.losses


async def test_03_inode_reuse_and_stored_offsets(tmp_path: Path) -> None:
    """
    A new file with an old file's inode is read from its first line, be it shorter or longer than the offset.
    """
    for format_ in ("cri", "docker", "raw"):
        log = LogFile(tmp_path / format_, format_)
        lives = Lives(log)
        for lines in (10, 2, 40):
            log.lines(lines)
            await lives.live()
            log.overwrite()
        log.lines(1)
        await lives.live()
        assert lives.texts == log.written, format_
        assert not lives.losses


async def test_05_a_long_line_does_not_stop_its_file(tmp_path: Path) -> None:
    """
    Cut at the limit, marked, counted; what comes behind it arrives.
    """
    log = tmp_path / "app.log"
    log.write_bytes(b"before\n" + b"x" * 5_000_000 + b"\nafter\n")
    source = Source(FilesSettings(paths=(str(log),), line_bytes_max=64 << 10))
    route = await source.start()
    await source.settle(2)
    before, cut, after = route.texts(log)
    assert (before, after) == (b"before", b"after")
    assert cut == b"x" * len(cut)
    assert 60_000 < len(cut) <= 64 << 10
    assert source.counters.get(metric.ROWS_ODD, "r", "truncated") == 1
    source.close()


async def test_06_short_lived_pods(tmp_path: Path) -> None:
    """
    Pods that are gone a tick after they were made: every line of theirs arrives.
    """
    source = Source(pods(tmp_path))
    route = await source.start()
    written: dict[str, list[bytes]] = {}
    kubelet = Kubelet()
    for wave in range(5):
        made = [
            Container(tmp_path, namespace="jobs", pod=f"job-{wave}-{index}", uid="aa", name="run")
            for index in range(8)
        ]
        for container in made:
            container.lines(2)
        # The directory of the pod is noticed, and then what is in it.
        await look(source)
        await look(source)
        for container in made:
            container.lines(1)
            kubelet.remove(container)
            container.directory.rmdir()
            container.directory.parent.rmdir()
            written[str(container.path)] = container.written
        await look(source)
    await source.settle(10)
    assert route.messages == written
    assert not route.losses
    source.close()


async def test_15_nothing_is_read_again_after_a_restart(tmp_path: Path) -> None:
    """
    Rotated while the agent was stopped, and matched by a glob of its own: read once.
    """
    log = LogFile(tmp_path / "app", "raw")
    settings = FilesSettings(paths=(f"{tmp_path}/app/*.log*",), format="raw")
    texts: list[bytes] = []
    cursors: dict[str, Cursor] = {}
    rows: list[GenerationRow] = []
    for _ in range(4):
        log.lines(4)
        source = Source(settings, rows=rows)
        route: RouteModel = await source.start(cursors=cursors, first_start=not cursors)
        await source.settle(12)
        cursors, rows = route.commit()
        assert set(source.files.logs) == {str(log.path)}
        texts += route.texts(log.path)
        source.close()
        log.rename()
    assert texts == log.written[: len(texts)]
    assert len(texts) == 4 * 5
