"""
`tailrace replay`: read given files to their end through the configured routes, then report.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import uvloop

from agent.config.load import load
from agent.core.errors import StopError, shown
from agent.runtime.own_log import OwnLog
from agent.runtime.replay import run_replay
from agent.runtime.replay_plan import refuse_workers
from agent.runtime.replay_workers import Spec, run_workers

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from agent.config.values import Config
    from agent.runtime.replay import Report

_MIB = 1 << 20
#: How often a worker says how far it is.
PROGRESS_INTERVAL_S = 0.25


def main(args: argparse.Namespace) -> int:
    """
    Replay files.

    Exit codes: 0 everything delivered, 1 something was rejected or lost, 66 no such file, 75 a worker was killed.
    """
    config = only_routes(load(args.config), args.route)
    if args.route and args.workers > 1:
        raise StopError("--route is for one worker: leave out --workers", exit_code=os.EX_USAGE)
    own_log = OwnLog(format="text", level="warning")
    with (
        _progress() as progress,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        if args.workers > 1:
            replay = run_workers(
                os.path.abspath(args.config),
                args.paths,
                own_log,
                workers=args.workers,
                state_dir=args.state,
                progress=progress,
            )
        else:
            if args.state:
                refuse_workers(args.state)
            replay = run_replay(
                config, args.paths, own_log, state_dir=args.state, progress=progress
            )
        report = runner.run(replay)
    if args.report:
        _write(args.report, msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    _print(report)
    return _exit_code(report)


def share(args: argparse.Namespace) -> int:
    """
    Replay the share of one worker, which its spec names: for `tailrace replay --workers` alone.
    """
    with open(args.spec, "rb") as file:
        spec = msgspec.json.decode(file.read(), type=Spec)
    config = load(spec.config)
    said_at = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= PROGRESS_INTERVAL_S:
            said_at = time.monotonic()
            # Where nobody reads any more, the replay has been ended: BrokenPipeError ends this worker.
            sys.stdout.write(f"[{done},{total}]\n")
            sys.stdout.flush()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(
            run_replay(
                config,
                spec.paths,
                OwnLog(format="text", level="warning"),
                state_dir=spec.state_dir,
                progress=tell,
            )
        )
    _write(spec.report, msgspec.json.encode(report))
    return _exit_code(report)


def _exit_code(report: Report) -> int:
    return int(any(route.rejected or route.lost for route in report.routes.values()))


def only_routes(config: Config, names: Sequence[str]) -> Config:
    """
    Return *config* with the routes *names* only; all of them where none is named.
    """
    known = {route.name: route for route in config.routes}
    for name in names:
        if name not in known:
            raise StopError(
                f"no route is called {shown(name)}; there are {', '.join(known)}",
                exit_code=os.EX_CONFIG,
            )
    routes = [route for route in config.routes if not names or route.name in names]
    sources = {route.source for route in routes}
    return replace(
        config,
        routes=tuple(routes),
        sources=tuple(source for source in config.sources if source.name in sources),
    )


def _print(report: Report) -> None:
    out = sys.stdout.write
    out(
        f"read {report.bytes_in / _MIB:,.1f} MiB, {report.lines_in:,} lines "
        f"at {report.throughput_bytes_s / _MIB:,.0f} MiB/s\n"
    )
    for name, route in report.routes.items():
        out(
            f"  {name}: {route.events_out:,} events out, {route.bytes_out / _MIB:,.1f} MiB, "
            f"{route.wire_bytes / _MIB:,.1f} MiB on the wire in {route.requests:,} requests, "
            f"{route.rejected:,} rejected, {route.lost:,} bytes lost\n"
        )
        if route.rejected_too_old:
            out(
                f"  warning: {name}: {route.rejected_too_old:,} lines are older than CloudWatch takes "
                "(14 days, or the retention of their group); send old files to a Parquet route\n"
            )
    out(
        f"wall {report.wall_s:.2f} s (start-up {report.startup_s:.2f} s), CPU {report.cpu_s:.2f} s "
        f"with children (start-up {report.startup_cpu_s:.2f} s), "
        f"peak {report.rss_peak_bytes / _MIB:,.0f} MiB\n"
    )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """
    Give a function that draws a progress bar; None where stderr is not a terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("replay", total=None)

        def draw(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield draw


def _write(path: str, content: bytes) -> None:
    """
    Replace the file at *path* whole: a reader sees the old report or the new one.
    """
    temporary = f"{path}.tmp"
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
