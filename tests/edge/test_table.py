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
    assert len(named) > 20
    for path, name in named:
        assert re.search(rf"\bdef {name}\(", (HERE.parent.parent / path).read_text()), (path, name)
