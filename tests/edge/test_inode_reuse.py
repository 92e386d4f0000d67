"""
An inode that leads to another file than it did at the last look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.sources.settings import FilesSettings
from tests.fakes.source_host import Source

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["other.log", "app.log.1"])
async def test_inode_of_a_file_that_was_let_go(name: str, tmp_path: Path) -> None:
    """
    A rotated file was read and closed; its inode then is that of a new file, which is larger.
    """
    log, rotated = tmp_path / "app.log", tmp_path / "app.log.1"
    log.write_text("one\n")
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    route = await source.start()
    await source.settle(1)
    log.rename(rotated)
    log.write_text("two\n")
    await source.settle(10)
    route.commit()
    await source.settle(1)
    assert len(source.host.disk.opened) == 1, "the rotated file is let go"
    # The same inode with other bytes under a name that is read: what a file system makes of a
    # deletion and a creation.
    inode = rotated.stat().st_ino
    reused = tmp_path / "other.log" if name == "other.log" else log
    if reused == log:
        log.rename(tmp_path / "app.log.2")
        (tmp_path / "app.log.2").rename(tmp_path / "app.log.3")
    rotated.rename(reused)
    reused.write_text("three\nfour\n")
    assert reused.stat().st_ino == inode
    await source.settle(70, step_s=0.5)
    assert route.texts(log)[:2] == [b"one", b"two"]
    assert (route.texts(reused))[-2:] == [b"three", b"four"]
    assert not route.losses
    source.close()
