"""
The table of complaints names tests that exist.
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_named_test_exists() -> None:
    """
    A test that was renamed is renamed in the table, too.
    """
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (HERE / "README.md").read_text())
    assert len(named) > 35
    for path, name in named:
        assert re.search(rf"\bdef {name}\(", (HERE.parent.parent / path).read_text()), (path, name)
    for path in re.findall(r"`(tests/[\w/]+\.py)`", (HERE / "README.md").read_text()):
        assert (HERE.parent.parent / path).is_file(), path


def test_every_complaint_about_lost_and_repeated_lines_has_a_row() -> None:
    """
    One to fifteen: files, buffers, duplicates.
    """
    rows = re.findall(r"(?m)^\| (\d+) ", (HERE / "README.md").read_text())
    assert [row for row in map(int, rows) if row <= 15] == list(range(1, 16))
