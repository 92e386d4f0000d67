"""
Bytes that nobody has confirmed are found again, whatever became of their file.

While the agent runs, and while it is stopped; in three formats, in one of which every file begins with
the same line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.core.batch import LossReason
from tests.edge.rotation_kit import FORMATS, SCENARIOS, LogFile
from tests.fakes.source_host import Source, SourceHost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.core.checkpoint import GenerationRow
    from agent.core.cursor import Cursor

formats = pytest.mark.parametrize("format_", FORMATS)
scenarios = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda item: item.__name__)


class Lives:
    """
    One agent after another over the same Log and the same store.
    """

    def __init__(self, log: LogFile) -> None:
        self.log = log
        self.texts: list[bytes] = []
        self.losses: list[tuple[int, int, int, LossReason]] = []
        self.cursors: dict[str, Cursor] = {}
        self.rows: list[GenerationRow] = []
        self.seconds = 1000.0
        self.rebooted = False

    async def live(self, *, seconds: float = 12, unread: int = 0) -> None:
        """
        Run an agent: it reads for *seconds*, commits, and stops when it has seen *unread* more lines.
        """
        host = SourceHost(self.seconds)  # No two agents start at the same moment.
        source = Source(self.log.settings, host=host, rows=self.rows, rebooted=self.rebooted)
        route = await source.start(cursors=self.cursors, first_start=not self.cursors)
        await source.settle(seconds)
        self.cursors, rows = route.commit()
        self.log.lines(unread)
        host.watches.pending.extend((path, None) for path in host.watches.files)
        await source.files.tick()
        rows += route.reader.generation_rows(self.cursors)
        self.rows = list({(row.log, row.number): row for row in rows}.values())
        self.texts += route.texts(self.log.path)
        self.losses += [
            (loss.generation, loss.start, loss.stop, loss.reason) for loss in route.losses
        ]
        self.seconds = source.host.clock.seconds + 1
        source.close()


@formats
@scenarios
@pytest.mark.parametrize("unread", [0, 4], ids=["all_read", "unread"])
async def test_while_the_agent_is_stopped(
    tmp_path: Path, format_: str, scenario: Callable[[LogFile], None], unread: int
) -> None:
    """
    The next agent goes on where the last one stopped, in the file that it was, and skips and repeats nothing.
    """
    log = LogFile(tmp_path / "app", format_)
    log.lines(6)
    lives = Lives(log)
    await lives.live(unread=unread)
    scenario(log)
    await lives.live()
    assert lives.texts == log.written
    assert not lives.losses


@formats
@scenarios
@pytest.mark.parametrize("unread", [0, 4], ids=["all_read", "unread"])
async def test_while_the_agent_runs(
    tmp_path: Path, format_: str, scenario: Callable[[LogFile], None], unread: int
) -> None:
    """
    The same within one life, between two ticks.
    """
    log = LogFile(tmp_path / "app", format_)
    log.lines(6)
    source = Source(log.settings)
    route = await source.start()
    await source.settle(2)
    route.commit()
    log.lines(unread)
    await source.files.tick()
    scenario(log)
    await source.settle(12)
    assert route.texts(log.path) == log.written
    assert not route.losses
    route.commit()
    assert len(source.host.disk.opened) <= 2
    source.close()


@formats
async def test_overwritten_while_the_agent_is_stopped(tmp_path: Path, format_: str) -> None:
    """
    Deleted and written anew with its inode, larger than it was: what nobody has read is a loss, the new file is read.
    """
    log = LogFile(tmp_path / "app", format_)
    log.lines(6)
    start = log.path.stat().st_size
    lives = Lives(log)
    await lives.live(unread=3)
    stop = log.path.stat().st_size
    lost = log.written[-3:]
    log.overwrite()
    log.lines(20)
    await lives.live()
    assert lives.texts == [line for line in log.written if line not in lost]
    assert lives.losses == [(0, start, stop, LossReason.TRUNCATED)]


@formats
async def test_deleted_and_written_anew_with_another_inode(tmp_path: Path, format_: str) -> None:
    """
    A new file is a new file, even if it begins with the very bytes that were read of the old one.
    """
    log = LogFile(tmp_path / "app", format_)
    lives = Lives(log)
    log.lines(1)
    await lives.live()
    kept = tmp_path / "kept"
    log.path.rename(kept)  # So that its inode is not used again.
    log.path.write_bytes(kept.read_bytes() if format_ == "raw" else b"")
    log.lines(5)
    if format_ == "raw":
        log.written[2:2] = log.written[:2]
    await lives.live()
    assert lives.texts == log.written
    assert not lives.losses


@pytest.mark.parametrize("format_", ["raw"])
async def test_rewritten_between_two_ticks(tmp_path: Path, format_: str) -> None:
    """
    Cut, and grown beyond what it was before anybody looked: the bytes before the place tell.
    """
    log = LogFile(tmp_path / "app", format_)
    log.lines(3)
    source = Source(log.settings)
    route = await source.start()
    await source.settle(1)
    route.commit()
    log.overwrite()
    log.lines(30)
    await source.settle(8)
    assert route.texts(log.path) == log.written
    assert not route.losses
    source.close()


async def test_ids_of_files_are_never_used_again(tmp_path: Path) -> None:
    """
    Every file has an id of its own, though all begin alike, their Log is forgotten, or the state is lost.
    """
    log = LogFile(tmp_path / "app", "raw")
    lives = Lives(log)
    rows: set[tuple[str, int]] = set()

    async def run() -> None:
        source = Source(log.settings, host=SourceHost(lives.seconds), rows=lives.rows)
        route = await source.start(cursors=lives.cursors, first_start=False)
        await source.settle(3)
        for _ in range(3):
            log.rename()
            log.lines(2)
            await source.settle(8)
            lives.cursors, lives.rows = route.commit()
        for path in log.path.parent.iterdir():
            path.unlink()
        await source.settle(10)
        route.commit()
        assert not source.files.logs, "forgotten"
        log.begin()
        await source.settle(1)
        lives.cursors, lives.rows = route.commit()
        places = [(item.file_id, item.start) for item in route.segments if item.rows]
        assert len(places) == len(set(places))
        assert rows.isdisjoint(places)
        rows.update(places)
        lives.seconds = source.host.clock.seconds + 1
        source.close()

    for _ in range(2):
        await run()
    lives.cursors, lives.rows = {}, []  # The state directory is lost, the file is still there.
    await run()
    # Each life begins three files and a fourth in a Log that was forgotten; the second goes on in that one.
    assert len({file_id for file_id, _ in rows}) == 5 + 4 + 5


async def test_ids_of_stamped_files_survive_the_loss_of_the_state(tmp_path: Path) -> None:
    """
    Files of a container runtime have the ids that they had, so that what is delivered twice can be found.
    """
    log = LogFile(tmp_path / "app", "cri")
    log.lines(3)
    ids = []
    for seconds in (1000.0, 5000.0):
        source = Source(log.settings, host=SourceHost(seconds))
        route = await source.start()
        await source.settle(1)
        ids.append({segment.file_id for segment in route.segments})
        source.close()
    assert ids[0] == ids[1]


async def test_a_second_replay_of_the_same_file_names_the_same_rows(tmp_path: Path) -> None:
    """
    Unchanged: the same ids, so that its objects in S3 are the same; another content: other ids.
    """
    log = LogFile(tmp_path / "app", "raw")
    log.lines(3)
    ids = []
    for seconds in (1000.0, 5000.0, 9000.0):
        if seconds > 5000:
            log.overwrite()
            log.lines(5)
        source = Source(log.settings, host=SourceHost(seconds), finite=True)
        await source.files.scan()
        source.files.freeze()
        route = await source.start()
        await route.read_all()
        ids.append({segment.file_id for segment in route.segments})
        source.close()
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]
