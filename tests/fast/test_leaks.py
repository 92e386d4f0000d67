"""
The compiled path in a loop: what it takes it gives back, also where it fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent._fastparse import FORMAT_CRI, FORMAT_DOCKER, FORMAT_RAW, Parser
from tests.fast.test_memory import LINES, read, whole_path

#: The allocator moves the resident set by less; a leak of one chunk a round is a hundred times as much.
GROWTH_MAX = 4 << 20
CHUNK = 64 << 10
REPOSITORY = Path(__file__).resolve().parents[2]


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def rounds(count: int) -> None:
    for file_format, line in LINES.items():
        text = line * (CHUNK // len(line))
        for _ in range(count):
            whole_path(text, file_format)
    for _ in range(count):
        # Open pieces, a cut line, a parser that is thrown away in the middle, a place that is wrong.
        parser = Parser(format=FORMAT_CRI, line_bytes_max=1024)
        read(parser, b"2026-11-22T19:00:01Z stdout P " + b"x" * CHUNK + b"\n")
        parser.release(parser.open_streams, read_time_ns=0)
        with pytest.raises(ValueError, match="offset"):
            read(parser, b"more")
        read(Parser(format=FORMAT_RAW, line_bytes_max=1024), b"\xff" * CHUNK)
        read(Parser(format=FORMAT_DOCKER, line_bytes_max=1024), b'{"log":"' + b"\\ud83d" * 9000)


def grown(count: int) -> int:
    rounds(20)
    before = resident()
    rounds(count)
    return resident() - before


@pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""),
    reason="AddressSanitizer keeps what is freed, to find whoever uses it",
)
def test_a_short_loop_is_flat() -> None:
    """
    Some hundred rounds of 64 KiB.
    """
    assert grown(100) < GROWTH_MAX


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_long_loop_is_flat() -> None:
    """
    Ten thousand: a leak of 400 bytes a round shows.
    """
    assert grown(10_000) < GROWTH_MAX


def leaks() -> bool:
    """
    Whether a kept result a round is seen.
    """
    rounds(20)
    before = resident()
    kept = [whole_path(LINES[FORMAT_CRI] * (CHUNK // 70), FORMAT_CRI) for _ in range(200)]
    assert kept
    return resident() - before > GROWTH_MAX


def test_a_leak_is_seen() -> None:
    """
    One kept result a round is more than is allowed: in a process that has no memory to spare from other tests.
    """
    code = "from tests.fast.test_leaks import leaks; raise SystemExit(not leaks())"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, timeout=120)
