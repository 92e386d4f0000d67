"""
Read given files to their end, as fast as possible, through the configured routes.

The same agent as the daemon, over files that nobody writes any more: their last line needs no
newline and open pieces are released.  Without a state directory of its own it works in a temporary
one, so it touches no cursor.
"""

from __future__ import annotations

import asyncio
import glob
import os
import resource
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.batch import LossReason
from agent.core.errors import StopError
from agent.runtime import crash, heap, memory
from agent.runtime.agent import Agent
from agent.runtime.host import SystemHost
from agent.runtime.lock import StateLock
from agent.runtime.process import boot_id, raise_open_files_max
from agent.runtime.rebuild import rebuild_staging
from agent.runtime.store import SqliteStore
from agent.sources.spooled import settings_of as followed_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent.config.values import Config
    from agent.core.counters import Counters
    from agent.runtime.own_log import OwnLog

#: A replay waits for its sinks as long as they take; a person ends it with Ctrl-C.
DRAIN_TIMEOUT_S = 7 * 24 * 3600.0
PROGRESS_INTERVAL_S = 0.05
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteReport:
    """
    What became of a replay's rows in one route.

    `events_out` counts as the destination does, `bytes_out` before and `wire_bytes` after compression.
    """

    events_out: int
    rows_delivered: int
    bytes_out: int
    wire_bytes: int
    requests: int
    rejected: int
    rejected_too_old: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    The result of a replay.  `bytes_in` and `lines_in` count what was read once, not once per route.

    `cpu_s` includes children; `startup_s` and `startup_cpu_s` are from the start of the process until
    the first byte is read; `throughput_bytes_s` is bytes_in over the wall time after start-up.  With several
    workers, CPU and memory are sums, this process included, and `startup_s` ends when the slowest reads.
    """

    bytes_in: int
    lines_in: int
    routes: dict[str, RouteReport]
    wall_s: float
    startup_s: float
    startup_cpu_s: float
    cpu_s: float
    rss_peak_bytes: int
    throughput_bytes_s: float
    workers: int


def settings_of(config: Config, paths: Sequence[str], state_dir: str) -> Config:
    """
    Return *config* with its sources replaced by *paths*, read from their beginning, in *state_dir*.

    Raises StopError (66) for a path that does not exist.
    """
    patterns: list[str] = []
    for path in paths:
        absolute = os.path.abspath(path)
        if os.path.isdir(absolute):
            patterns.append(os.path.join(glob.escape(absolute), "**", "*.log"))
        elif os.path.exists(absolute):
            patterns.append(glob.escape(absolute))
        else:
            raise StopError(f"{path}: no such file or directory", exit_code=os.EX_NOINPUT)
    sources = tuple(
        replace(
            source,
            settings=replace(
                followed_with(source.settings, state_dir=state_dir, source=source.name),
                paths=tuple(patterns),
                exclude=(),
                start="beginning",
                ignore_older_s=0,
                rotated=False,
            ),
        )
        for source in config.sources
    )
    # What is refused again still is where it was read from.
    return replace(config, sources=sources, state_dir=state_dir, dead_letter_bytes_max=0)


async def run_replay(
    config: Config,
    paths: Sequence[str],
    own_log: OwnLog,
    *,
    state_dir: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """
    Replay *paths* and return the report; raises StopError.

    Args:
        state_dir: where cursors are kept; None works in a temporary directory.
        progress: called with (bytes resolved or in flight, bytes in all) many times a second.
    """
    crash.install()
    memory.settle()
    heap.use_one_heap(large_apart_bytes=heap.LARGE_BYTES)
    raise_open_files_max()
    with state_directory(state_dir) as directory:
        config = settings_of(config, paths, directory)
        host = SystemHost(own_log)
        async with StateLock(directory, wait_s=0, tell=host.tell, clock=host.clock):
            store = await SqliteStore.open(
                directory,
                now_ns=host.clock.now_ns,
                tell=host.tell,
                routes=[route.name for route in config.routes],
                boot_id=boot_id(),
            )
            agent = Agent(config, host=host, store=store, finite=True, rebooted=store.boot_changed)
            try:
                await rebuild_staging(config, store=store, host=host, counters=agent.counters)
                started = since_start()
                startup_cpu_s = time.process_time()
                await _to_the_end(agent, progress)
            finally:
                await store.close()
                host.close()
    return _report(agent.counters, config, started_s=started, startup_cpu_s=startup_cpu_s)


async def _to_the_end(agent: Agent, progress: Callable[[int, int], None] | None) -> None:
    running = asyncio.ensure_future(agent.run())
    routes = [route.name for route in agent.config.routes]
    try:
        while not running.done() and not agent.exhausted:
            await asyncio.wait((running,), timeout=PROGRESS_INTERVAL_S)
            if progress is not None:
                read = min(int(agent.counters.get(metric.READ_BYTES, name)) for name in routes)
                progress(read, agent.bytes_known)
        if not running.done():
            await agent.drain(DRAIN_TIMEOUT_S)
        await running
    finally:
        running.cancel()


def _report(
    counters: Counters, config: Config, *, started_s: float, startup_cpu_s: float
) -> Report:
    names = [route.name for route in config.routes]
    wall_s = since_start()
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    bytes_in = max(int(counters.get(metric.READ_BYTES, name)) for name in names)
    return Report(
        bytes_in=bytes_in,
        lines_in=max(int(counters.get(metric.READ_LINES, name)) for name in names),
        routes={name: _route_report(counters, name) for name in names},
        wall_s=round(wall_s, 3),
        startup_s=round(started_s, 3),
        startup_cpu_s=round(startup_cpu_s, 3),
        cpu_s=round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 3),
        # Children run one at a time beside the agent: the sum is an upper bound of what was there at once.
        rss_peak_bytes=(own.ru_maxrss + children.ru_maxrss) * 1024,
        throughput_bytes_s=round(bytes_in / max(wall_s - started_s, 1e-9)),
        workers=1,
    )


def _route_report(counters: Counters, name: str) -> RouteReport:
    rows = int(counters.get(metric.DELIVERED_ROWS, name))
    return RouteReport(
        events_out=int(counters.get(metric.DELIVERED_EVENTS, name)) or rows,
        rows_delivered=rows,
        bytes_out=int(counters.get(metric.SENT_BYTES, name)),
        wire_bytes=int(counters.get(metric.WIRE_BYTES, name)),
        requests=int(counters.total(metric.REQUESTS, name)),
        rejected=int(counters.total(metric.REJECTED_ROWS, name)),
        rejected_too_old=int(counters.get(metric.REJECTED_ROWS, name, LossReason.TOO_OLD)),
        lost=int(counters.total(metric.LOST_BYTES, name)),
    )


def since_start() -> float:
    """
    Return the seconds since this process was started, interpreter and imports included.
    """
    with open("/proc/self/stat", encoding="ascii") as file:
        # The command name can hold spaces and parentheses; start time is field 22 of proc(5).
        start_ticks = int(file.read().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / CLOCK_TICKS


@contextmanager
def state_directory(state_dir: str | None) -> Iterator[str]:
    """
    Give *state_dir*, made where it is missing; None: a temporary one, for the length of the block.
    """
    if state_dir is not None:
        os.makedirs(state_dir, exist_ok=True)
        yield state_dir
        return
    # Staging needs room for what is replayed: beside the user's data, not in a /tmp of memory.
    directory = tempfile.mkdtemp(prefix="tailrace-replay-", dir="/var/tmp")
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
