"""
What a process and its children cost: CPU, memory, time.

Memory is PSS from /proc/*/smaps_rollup, summed over the process tree: pages that are shared are counted
once.  Its peak is sampled, so a spike shorter than the interval is missed; a seal child is not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SAMPLE_INTERVAL_S = 0.05
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def process_tree(pid: int) -> list[int]:
    """
    Return *pid* and all its descendants.
    """
    found = [pid]
    for parent in found:  # Grows while it is walked.
        try:
            threads = os.listdir(f"/proc/{parent}/task")
        except FileNotFoundError:
            continue
        for thread in threads:
            found += [
                int(child) for child in _read(f"/proc/{parent}/task/{thread}/children").split()
            ]
    return found


def pss_bytes(pids: Sequence[int]) -> int:
    """
    Sum the proportional set sizes.
    """
    return sum(_rollup(pid, "Pss:") for pid in pids)


def rss_bytes(pids: Sequence[int]) -> int:
    """
    Sum the resident set sizes.
    """
    return sum(_rollup(pid, "Rss:") for pid in pids)


def cpu_seconds(pids: Sequence[int]) -> float:
    """
    Sum user and system time, with that of children that have ended.
    """
    ticks = 0
    for pid in pids:
        # The name in parentheses may hold anything; behind it, utime is the 12th field.
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        ticks += sum(int(value) for value in fields[11:15])
    return ticks / TICKS_PER_S


def _rollup(pid: int, name: str) -> int:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) << 10
    return 0


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""  # The process has ended.


def pinned(command: Sequence[str], core: int) -> list[str]:
    """
    Return *command* bound to one core, where that can be done and leaves another one free.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 or shutil.which("taskset") is None:
        return list(command)
    return ["taskset", "--cpu-list", str(cores[core % len(cores)]), *command]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """
    One run of a command.
    """

    wall_s: float
    cpu_s: float  # children included
    pss_peak_bytes: int
    rss_peak_bytes: int


class Sampler(threading.Thread):
    """
    Samples the memory of a process tree until it is stopped.
    """

    def __init__(self, pid: int, interval_s: float = SAMPLE_INTERVAL_S) -> None:
        super().__init__(name=f"sampler-{pid}", daemon=True)
        self.pss_peak_bytes = 0
        self.rss_peak_bytes = 0
        self.samples: list[int] = []
        self._pid = pid
        self._interval_s = interval_s
        self._stopped = threading.Event()

    def run(self) -> None:
        """
        Sample at once, then every interval.
        """
        while True:
            tree = process_tree(self._pid)
            pss = pss_bytes(tree)
            if pss:
                self.samples.append(pss)
            self.pss_peak_bytes = max(self.pss_peak_bytes, pss)
            self.rss_peak_bytes = max(self.rss_peak_bytes, rss_bytes(tree))
            if self._stopped.wait(self._interval_s):
                return

    def stop(self) -> None:
        """
        End, and wait for the end.
        """
        self._stopped.set()
        self.join()


def run_measured(
    command: Sequence[str], *, log: IO[bytes], environment: Mapping[str, str], timeout_s: float
) -> Cost:
    """
    Run *command* to its end; raises CalledProcessError if it fails, TimeoutExpired if it hangs.
    """
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(environment))
    sampler = Sampler(process.pid)
    sampler.start()
    killer = threading.Timer(timeout_s, process.kill)
    killer.start()
    try:
        # wait4 and not RUSAGE_CHILDREN: the server beside is a child, too.
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        timed_out = not killer.is_alive()
        killer.cancel()
        sampler.stop()
    wall_s = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if timed_out:
        raise subprocess.TimeoutExpired(command, timeout_s)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(
        wall_s=wall_s,
        cpu_s=usage.ru_utime + usage.ru_stime,
        pss_peak_bytes=sampler.pss_peak_bytes,
        rss_peak_bytes=sampler.rss_peak_bytes,
    )
