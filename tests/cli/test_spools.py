"""
What `tailrace status` says of spools.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.cli.spools import read_spools, render

if TYPE_CHECKING:
    from pathlib import Path

CURSOR = "s=aa;i=2a;b=bb;m=3e9;t=6615ddd0fe283;x=cc"


def test_spools(tmp_path: Path) -> None:
    """
    How far the journal was read, and a control plane; a damaged position says nothing and is no error.
    """
    queries = {"queries": {"a": {"reach": 1_795_374_001_000}, "b": {"reach": 1_795_374_002_000}}}
    positions = {"eks": json.dumps(queries), "kubelet": CURSOR, "odd": "\x1b"}
    for source, position in positions.items():
        directory = tmp_path / "spool" / source
        directory.mkdir(parents=True)
        head = {"version": 1, "number": 1, "bytes": len(position)}
        (directory / "position").write_text(f"{json.dumps(head)}\n{position}")
        (directory / "kubelet.log-00000000-00000000000001").write_text("x" * 2048)
        (directory / "00000000000002.kubelet.tmp").write_text("x")
    with (tmp_path / "spool" / "odd" / "position").open("a") as file:
        file.write("more")
    (tmp_path / "spool" / "new").mkdir()
    found = {item.source: item for item in read_spools(str(tmp_path))}
    assert found["eks"].read_ns == 1_795_374_001_000_000_000
    assert found["kubelet"].read_ns == 0x6615DDD0FE283 * 1000
    assert {name: item.position for name, item in found.items()} == {
        "eks": "",
        "kubelet": CURSOR,
        "new": "",
        "odd": "",
    }
    assert (found["odd"].files, found["odd"].bytes) == (1, 2048)
    assert (found["new"].files, found["new"].read_ns) == (0, None)
    lines = render(list(found.values()), {"kubelet": "2026-11-28T22:40:28Z"}).splitlines()
    assert lines[0].split() == ["spool", "of", "read", "up", "to", "files", "bytes", "cursor"]
    assert lines[2].split() == ["kubelet", "2026-11-28T22:40:28Z", "1", "2.0", "KiB", CURSOR]


def test_no_spools(tmp_path: Path) -> None:
    assert read_spools(str(tmp_path)) == []
