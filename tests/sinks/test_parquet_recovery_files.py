"""
Files that a run which was cut may still be removing.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from agent.runtime.state_disk import OsStateDisk

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_tree_that_somebody_else_removes_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Another thread takes a file away between the listing and the removal, and then the directory.
    """
    tree = tmp_path / "sealed"
    tree.mkdir()
    (tree / "a.parquet").write_bytes(b"")
    unlink = os.unlink

    def late(path: str, **options: int) -> None:
        unlink(path, **options)
        unlink(path, **options)

    monkeypatch.setattr(shutil.os, "unlink", late)  # type: ignore[attr-defined]
    OsStateDisk.remove_tree(str(tree))
    OsStateDisk.remove_tree(str(tree))
    assert not tree.exists()
