"""
After a reboot: device numbers are others, and a file can be shorter than what was read and synced of a cursor.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.edge.rotation_kit import FORMATS, LogFile, rename, rename_then_gz, two_rotations
from tests.edge.test_generations import Lives
from tests.fakes.source_host import START_NS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

formats = pytest.mark.parametrize("format_", FORMATS)


def reboot(lives: Lives) -> None:
    """
    Give every device another number.
    """
    lives.rebooted = True
    lives.rows = [replace(row, device=row.device + 7) for row in lives.rows]


@formats
@pytest.mark.parametrize("scenario", [rename, rename_then_gz, two_rotations])
async def test_device_numbers_change(
    tmp_path: Path, format_: str, scenario: Callable[[LogFile], None]
) -> None:
    """
    Files are found by what is in them; those that were rotated before the machine went down, too.
    """
    log = LogFile(tmp_path / "app", format_)
    log.lines(6)
    lives = Lives(log)
    await lives.live(unread=4)
    scenario(log)
    reboot(lives)
    await lives.live()
    assert lives.texts == log.written
    assert not lives.losses


@formats
@pytest.mark.parametrize("cut", [0, 9], ids=["between_lines", "in_a_line"])
async def test_a_file_that_lost_what_was_not_synced(tmp_path: Path, format_: str, cut: int) -> None:
    """
    Shorter than its cursor: reading goes on at its end, nothing is repeated, and nothing is a loss.
    """
    log = LogFile(tmp_path / "app", format_)
    log.lines(4)
    kept = log.path.stat().st_size
    log.lines(3)
    lives = Lives(log)
    await lives.live()
    os.truncate(log.path, kept - cut)
    reboot(lives)
    await lives.live(unread=2)
    await lives.live(unread=2)
    await lives.live()
    assert lives.texts == log.written
    assert not lives.losses


@formats
async def test_what_was_seen_and_never_synced_is_no_loss(tmp_path: Path, format_: str) -> None:
    """
    Lines that nobody had read and that the power loss took are in no file: there is nothing to record.
    """
    log = LogFile(tmp_path / "app", format_)
    log.lines(4)
    lives = Lives(log)
    await lives.live(unread=3)
    taken = log.written[-1]
    size = log.path.stat().st_size
    last = log.path.read_bytes().splitlines(keepends=True)[-1]
    os.truncate(log.path, size - len(last))
    reboot(lives)
    await lives.live(unread=2)
    await lives.live()
    assert lives.texts == [line for line in log.written if line != taken]
    assert not lives.losses


@formats
async def test_a_shorter_file_that_was_written_to_since_the_boot(
    tmp_path: Path, format_: str
) -> None:
    """
    Where the old bytes end and new ones begin nobody can say: the file is read anew, under an id of its own.
    """
    log = LogFile(tmp_path / "app", format_)
    log.lines(4)
    kept, before = log.path.stat().st_size, list(log.written)
    log.lines(5)
    lives = Lives(log)
    await lives.live()
    read = list(lives.texts)
    os.truncate(log.path, kept)
    log.lines(2)
    os.utime(log.path, ns=(2 * START_NS, 2 * START_NS))
    reboot(lives)
    await lives.live()
    assert lives.texts == [*read, *before, *log.written[-2:]]
    assert len({row.file_id for row in lives.rows}) == 2
    assert not lives.losses
