"""
The corpus is what it says it is: reproducible, in CRI form, and never the same line twice.
"""

from __future__ import annotations

import filecmp
import json
import re
from typing import TYPE_CHECKING

import pytest

from bench.corpus import KINDS, MIB, NANOSECONDS, write_corpus

if TYPE_CHECKING:
    from pathlib import Path

START_NS = 1_795_375_801 * NANOSECONDS
CRI_LINE = re.compile(rb"(\S+Z) (stdout|stderr) ([PF]) (.*)")
KUBELET_PATH = re.compile(r".*/pods/[a-z0-9-]+_[a-z0-9-]+_[0-9a-f-]{36}/[a-z]+/0\.log")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    """
    And another seed gives other ones.
    """
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_corpus(str(tmp_path / name), kind=kind, mib=0.2, seed=seed, start_ns=START_NS)
    first, second, other = (next((tmp_path / name).rglob("0.log")) for name in "abc")
    assert filecmp.cmp(first, second, shallow=False)
    assert not filecmp.cmp(first, other, shallow=False)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_line_is_cri_and_differs(tmp_path: Path, kind: str) -> None:
    """
    Times go forward, pieces end, and the manifest counts what is there.
    """
    manifest = write_corpus(str(tmp_path), kind=kind, mib=1, seed=3, start_ns=START_NS)
    (path,) = manifest.files
    assert KUBELET_PATH.fullmatch(path)
    content = (tmp_path / path).read_bytes()
    lines = content.splitlines()
    assert manifest.bytes == len(content) >= MIB
    assert manifest.lines == len(lines) == len(set(lines))
    matches = [CRI_LINE.fullmatch(line) for line in lines]
    assert all(matches)
    tags = [match[3] for match in matches if match]
    assert manifest.rows == tags.count(b"F")
    assert len({match[4] for match in matches if match}) > 0.9 * len(lines)
    times = [match[1].decode().rstrip("Z").ljust(29, "0") for match in matches if match]
    assert times == sorted(times)
    if kind == "json":
        assert all(json.loads(match[4]) for match in matches if match)


def test_many_files_share_the_size(tmp_path: Path) -> None:
    """
    Each is another container's.
    """
    manifest = write_corpus(str(tmp_path), kind="access", mib=1, files=20, seed=1)
    assert len(set(manifest.files)) == 20
    assert MIB <= manifest.bytes < 1.5 * MIB
