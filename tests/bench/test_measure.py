"""
What is measured is the whole process tree, and all of its time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench import yardsticks
from bench.measure import Cost, process_tree, pss_bytes, run_measured

if TYPE_CHECKING:
    from pathlib import Path

MEMORY_MIB = 64
#: A child that holds memory, and a parent that waits for it.
CHILD = f"import time; held = bytearray({MEMORY_MIB} << 20); time.sleep(0.4)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}], check=True)"
BUSY_CHILD = "import time\nwhile time.process_time() < 0.3: pass"
BUSY = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY_CHILD!r}], check=True)"


def run(source: str, directory: Path, timeout_s: float = 20) -> Cost:
    with open(directory / "log", "wb") as log:
        return run_measured(
            [sys.executable, "-c", source], log=log, environment=os.environ, timeout_s=timeout_s
        )


def test_memory_of_a_child_counts(tmp_path: Path) -> None:
    """
    Its pages are in the peak.
    """
    assert run(PARENT, tmp_path).pss_peak_bytes > MEMORY_MIB << 20


def test_cpu_of_a_child_counts(tmp_path: Path) -> None:
    """
    Also after it has ended.
    """
    assert run(BUSY, tmp_path).cpu_s > 0.3


def test_a_failure_and_a_hang_are_errors(tmp_path: Path) -> None:
    """
    A run that did not do its work has no figures.
    """
    with pytest.raises(subprocess.CalledProcessError):
        run("raise SystemExit(3)", tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        run("import time; time.sleep(30)", tmp_path, timeout_s=0.3)


def test_the_tree_holds_children(tmp_path: Path) -> None:
    """
    A process and what it started; nothing after it has ended.
    """
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as child:
        assert child.pid in process_tree(os.getpid())
        assert pss_bytes([child.pid]) > 0
        child.communicate(b"\n")
    assert pss_bytes([child.pid]) == 0


def test_yardsticks_see_every_byte(tmp_path: Path) -> None:
    """
    All four do their work on the given files.
    """
    path = tmp_path / "0.log"
    path.write_bytes(os.urandom(2_000_000))
    figures = yardsticks.measure([str(path)])
    assert set(figures) == {"read", "ISA-L gzip level 1", "SHA-256", "TLS write"}
    assert all(rate > 0 for rate in figures.values())
