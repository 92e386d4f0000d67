"""
The table of zstd's levels.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bench import levels

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_files_are_compressed_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A line for each, with what is left of it: two pages that are alike do not help each other.
    """
    page = bytes(range(256)) * (levels.PAGE_BYTES // 256)
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    one.write_bytes(page)
    two.write_bytes(page + page)
    size, _ = levels.measured(page, 1)
    assert levels.measured(page + page, 1)[0] == 2 * size
    monkeypatch.setattr(sys, "argv", ["levels", str(one), str(two)])
    assert levels.main() == 0
    out = capsys.readouterr().out
    left = f"{size / len(page):.2%}"
    assert [line.count(left) > 0 for line in out.splitlines()[-2:]] == [True, True]
    assert f"| two.log | {2 * len(page):,} |" in out
