"""
A replay with several workers: processes of their own, each with its share of the Logs, and one report of all.

A worker is `tailrace replay-share SPEC.json`: a replay like any other, that writes its progress to stdout as lines of
JSON and its report to a file.  Workers share nothing.  One that fails or is killed does not stop the others: an
archive takes hours, and what they deliver need not be delivered again.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agent.core.errors import StopError
from agent.runtime.host import CODE_DIRECTORY, SystemHost
from agent.runtime.lock import StateLock
from agent.runtime.replay import Report, RouteReport, since_start, state_directory
from agent.runtime.replay_plan import shares_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent.runtime.own_log import OwnLog
    from agent.runtime.replay_plan import Share

#: Exit codes of a worker that has a report.
DONE, REJECTED = 0, 1
#: 128 + SIGTERM, as a shell reports it.
EXIT_TERMINATED = 143
CHILD_LINE_BYTES_MAX = 1 << 16


class Spec(msgspec.Struct):
    """
    What a worker is to do, as it reads it from its file.
    """

    config: str
    paths: list[str]
    state_dir: str
    report: str


class _Ended(NamedTuple):
    share: Share
    code: int
    report: Report | None


async def run_workers(
    config_path: str,
    paths: Sequence[str],
    own_log: OwnLog,
    *,
    workers: int,
    state_dir: str | None,
    progress: Callable[[int, int], None] | None,
) -> Report:
    """
    Replay *paths* with *workers* processes and return the report of all; raises StopError.
    """
    host = SystemHost(own_log)
    try:
        with state_directory(state_dir) as directory:
            async with StateLock(directory, wait_s=0, tell=host.tell, clock=host.clock):
                shares = shares_of(paths, workers, directory)
                before_s, before_cpu_s = since_start(), _own_cpu_s()
                ended = await _run(config_path, shares, progress or (lambda _done, _total: None))
    finally:
        host.close()
    broken = [item for item in ended if item.report is None]
    if broken:
        raise _failure(broken, len(ended), resumable=state_dir is not None)
    reports = [item.report for item in ended if item.report is not None]
    return merged(reports, before_s=before_s, before_cpu_s=before_cpu_s)


async def _run(
    config_path: str, shares: Sequence[Share], progress: Callable[[int, int], None]
) -> list[_Ended]:
    states = [(0, 0)] * len(shares)

    def tell(index: int, done: int, total: int) -> None:
        states[index] = (done, total)
        progress(sum(state[0] for state in states), sum(state[1] for state in states))

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                _work(config_path, share, partial(tell, index)), name=f"worker-{share.number}"
            )
            for index, share in enumerate(shares)
        ]
        with _cancelled_by_signals(tasks):
            await asyncio.wait(tasks)
    if any(task.cancelled() for task in tasks):
        raise StopError("ended by SIGTERM before all was delivered", exit_code=EXIT_TERMINATED)
    return [task.result() for task in tasks]


@contextmanager
def _cancelled_by_signals(tasks: Sequence[asyncio.Task[_Ended]]) -> Iterator[None]:
    """
    Let SIGTERM end the workers too, not only this process.
    """
    loop = asyncio.get_running_loop()

    def cancel() -> None:
        for task in tasks:
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def _prepare(config_path: str, share: Share) -> tuple[str, str]:
    """
    Write the worker's spec; return its path and that of the report to come.
    """
    os.makedirs(share.state_dir, exist_ok=True)
    report = os.path.join(share.state_dir, "report.json")
    if os.path.exists(report):
        os.unlink(report)  # Of an earlier run: it must not be taken for this one's.
    content = Spec(config=config_path, paths=share.paths, state_dir=share.state_dir, report=report)
    spec = os.path.join(share.state_dir, "share.json")
    with open(spec, "wb") as file:
        file.write(msgspec.json.encode(content))
    return spec, report


def _read(report: str) -> Report:
    with open(report, "rb") as file:
        return msgspec.json.decode(file.read(), type=Report)


async def _work(config_path: str, share: Share, tell: Callable[[int, int], None]) -> _Ended:
    spec, report = _prepare(config_path, share)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "agent", "replay-share", spec),
        env={**os.environ, "PYTHONPATH": CODE_DIRECTORY},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=CHILD_LINE_BYTES_MAX,
    )
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            done, total = msgspec.json.decode(line, type=tuple[int, int])
            tell(done, total)
        code = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if code not in (DONE, REJECTED):
        return _Ended(share, code, None)
    return _Ended(share, code, _read(report))


def _failure(broken: Sequence[_Ended], workers: int, *, resumable: bool) -> StopError:
    said = []
    for item in broken:
        how = (
            f"was killed by {signal.Signals(-item.code).name}"
            if item.code < 0
            else f"ended with exit code {item.code}"
        )
        first, *others = item.share.paths
        more = f" and {len(others):,} more" if others else ""
        said.append(f"worker {item.share.number} {how}: {first}{more} may not be delivered")
    hint = (
        "the same command goes on where it stopped"
        if resumable
        else "what it delivered is not known: replay these files again, or next time with --state DIR"
    )
    return StopError(
        "\n".join(said) + f"\n{workers - len(broken)} of {workers} workers are done; {hint}",
        # A worker that said why has its own code; one that was killed can be tried again.
        exit_code=next((item.code for item in broken if item.code > 0), os.EX_TEMPFAIL),
    )


def _own_cpu_s() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def merged(reports: Sequence[Report], *, before_s: float, before_cpu_s: float) -> Report:
    """
    Return one report of all, which were started *before_s*, and as much CPU, after this process.
    """
    own = resource.getrusage(resource.RUSAGE_SELF)
    wall_s = since_start()
    bytes_in = sum(report.bytes_in for report in reports)
    startup_s = before_s + max((report.startup_s for report in reports), default=0.0)
    names = dict.fromkeys(name for report in reports for name in report.routes)
    return Report(
        bytes_in=bytes_in,
        lines_in=sum(report.lines_in for report in reports),
        routes={name: _route([report.routes[name] for report in reports]) for name in names},
        wall_s=round(wall_s, 3),
        startup_s=round(startup_s, 3),
        startup_cpu_s=round(before_cpu_s + sum(report.startup_cpu_s for report in reports), 3),
        cpu_s=round(_own_cpu_s() + sum(report.cpu_s for report in reports), 3),
        rss_peak_bytes=own.ru_maxrss * 1024 + sum(report.rss_peak_bytes for report in reports),
        throughput_bytes_s=round(bytes_in / max(wall_s - startup_s, 1e-9)),
        workers=len(reports),
    )


def _route(reports: Sequence[RouteReport]) -> RouteReport:
    return RouteReport(
        **{
            item.name: sum(getattr(report, item.name) for report in reports)
            for item in fields(RouteReport)
        }
    )
