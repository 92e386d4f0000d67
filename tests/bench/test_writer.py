"""
The writer writes what it says, at the rate that it was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.writer import make_files, write_lines

if TYPE_CHECKING:
    from pathlib import Path


def test_every_line_is_counted(tmp_path: Path) -> None:
    """
    Files get the same share; a line is whole, and ends.
    """
    files = make_files(str(tmp_path), 3, seed=1, lines=2)
    written = write_lines(files, rate=200, seconds=0.3)
    counts = [len((tmp_path / path).read_bytes().splitlines()) for path in files]
    assert sum(counts) == written + 6
    assert max(counts) - min(counts) <= 1
    # A busy machine writes fewer, never more.
    assert 0 < written <= 3 * 200 * 0.3 + 3
    assert all(b" stdout F " in line for line in (tmp_path / files[0]).read_bytes().splitlines())
