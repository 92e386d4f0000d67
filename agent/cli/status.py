"""
`tailrace status`: what the state directory says, read while an agent may run.

Lag is what the files hold behind the cursors now: the live file is asked for its size, earlier generations
count with the size that they had when the agent last saw them.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from agent.cli import spools
from agent.cli.spools import SpoolStatus, read_spools
from agent.cli.table import age_text, printable, size_text, table
from agent.config import load
from agent.core.cursor import resume_place
from agent.runtime.dead_letters import DIRECTORY, list_letters
from agent.runtime.lock import is_held, read_owner
from agent.runtime.state_disk import OsStateDisk
from agent.runtime.store_file import open_read_only
from agent.runtime.store_losses import read_losses
from agent.runtime.store_rows import read_generations, read_route

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Sequence

    from agent.core.checkpoint import GenerationRow, LossRow, RouteState
    from agent.core.cursor import Cursor

_NS = 1_000_000_000


class LogStatus(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where one route stands in one Log.
    """

    log: str
    generation: int
    offset: int
    #: None where the live file is gone.
    lag_bytes: int | None


class LossStatus(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one route lost for one reason.
    """

    reason: str
    bytes: int
    rows: int


class RouteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """
    One route.
    """

    name: str
    sink: str
    #: None: never committed.
    committed_age_s: float | None
    removed: bool
    lag_bytes: int
    staged_bytes: int
    sealed_bytes: int
    losses: list[LossStatus]
    logs: list[LogStatus]


class LettersStatus(msgspec.Struct, frozen=True, kw_only=True):
    """
    Lines of one route that will never be delivered, and are kept.
    """

    route: str
    files: int
    bytes: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """
    The state directory.
    """

    state_dir: str
    running: bool
    owner: str
    routes: list[RouteStatus]
    dead_letters: list[LettersStatus]
    spools: list[SpoolStatus]


def main(args: argparse.Namespace) -> int:
    """
    Print the status.  Exit codes: 0, or 78 where there is no state.
    """
    status = read_status(directory(args), time.time_ns())
    if args.json:
        print_json(status)
    else:
        sys.stdout.write(render(status, args.logs))
    return 0


def directory(args: argparse.Namespace) -> str:
    """
    Return the state directory that the arguments mean.
    """
    return args.state_dir or load(args.config).state_dir


def read_status(state_dir: str, now_ns: int) -> Status:
    """
    Read everything about the state directory at one moment.
    """
    connection = open_read_only(state_dir)
    try:
        # One read transaction: what two commits wrote is not mixed.
        connection.execute("BEGIN")
        routes = _routes(connection, now_ns)
    finally:
        connection.close()
    running = is_held(state_dir)
    return Status(
        state_dir=os.path.abspath(state_dir),
        running=running,
        owner=read_owner(state_dir) if running else "",
        routes=routes,
        dead_letters=_dead_letters(state_dir),
        spools=read_spools(state_dir),
    )


def _dead_letters(state_dir: str) -> list[LettersStatus]:
    root = os.path.join(os.path.abspath(state_dir), DIRECTORY)
    try:
        routes = sorted(os.listdir(root))
    except OSError:
        return []
    found = []
    for route in routes:
        letters = list_letters(OsStateDisk(), os.path.join(root, route))
        if letters:
            size = sum(held for _, held in letters)
            found.append(LettersStatus(route=route, files=len(letters), bytes=size))
    return found


def _routes(connection: sqlite3.Connection, now_ns: int) -> list[RouteStatus]:
    generations: dict[str, list[GenerationRow]] = {}
    for row in read_generations(connection):
        generations.setdefault(row.log, []).append(row)
    lost = read_losses(connection, None)
    rows = connection.execute(
        "SELECT id, name, sink_identity, committed_ns, removed_ns FROM routes ORDER BY name"
    )
    found = []
    for route_id, name, sink, committed_ns, removed_ns in rows.fetchall():
        state = read_route(connection, route_id)
        logs = [
            _log(log, cursor, generations.get(log, ())) for log, cursor in state.cursors.items()
        ]
        logs.sort(key=lambda item: (-(item.lag_bytes or 0), item.log))
        staged, sealed = _staged(state)
        found.append(
            RouteStatus(
                name=name,
                sink=sink,
                committed_age_s=None if committed_ns is None else (now_ns - committed_ns) / _NS,
                removed=removed_ns is not None,
                lag_bytes=sum(item.lag_bytes or 0 for item in logs),
                staged_bytes=staged,
                sealed_bytes=sealed,
                losses=_sums([row for row in lost if row.route == name]),
                logs=logs,
            )
        )
    return found


def _log(log: str, cursor: Cursor, generations: Sequence[GenerationRow]) -> LogStatus:
    place = resume_place(cursor)
    return LogStatus(
        log=printable(log),
        generation=place.generation,
        offset=place.offset,
        lag_bytes=_lag(log, place.generation, place.offset, generations),
    )


def _lag(log: str, generation: int, offset: int, known: Sequence[GenerationRow]) -> int | None:
    try:
        live = os.stat(log)
    except OSError:
        return None
    sizes = {row.number: row.size for row in known if row.number >= generation}
    places = {(row.device, row.inode): row.number for row in known}
    # A live file that is not known yet is the generation after the last one.
    number = places.get((live.st_dev, live.st_ino), max(sizes, default=generation - 1) + 1)
    sizes[number] = live.st_size
    return sum(
        max(0, size - (offset if number == generation else 0))
        for number, size in sizes.items()
        if number >= generation
    )


def _staged(state: RouteState) -> tuple[int, int]:
    # A window without a manifest is still being made into Parquet: its rows are in staging.
    staged = state.sink.staging_length if state.sink is not None else 0
    staged += sum(window.staging_length for window in state.windows if not window.objects)
    sealed = sum(
        size
        for window in state.windows
        for _, _, size, confirmed in window.objects
        if not confirmed
    )
    return staged, sealed


def _sums(rows: Sequence[LossRow]) -> list[LossStatus]:
    sums: dict[str, list[int]] = {}
    for row in rows:
        entry = sums.setdefault(str(row.loss.reason), [0, 0])
        entry[0] += row.loss.stop - row.loss.start
        entry[1] += row.loss.rows
    return [
        LossStatus(reason=key, bytes=size, rows=count)
        for key, (size, count) in sorted(sums.items())
    ]


def render(status: Status, logs_max: int) -> str:
    """
    Return the status as text.
    """
    state = f"held by {status.owner}" if status.running else "no agent is running"
    parts = [f"{status.state_dir}: {state}\n"]
    if not status.routes:
        return parts[0] + "no routes yet\n"
    head = ("route", "committed", "Logs", "lag", "staged", "sealed", "sink")
    rows = [
        (
            route.name + (" (removed)" if route.removed else ""),
            age_text(route.committed_age_s) + (" ago" if route.committed_age_s is not None else ""),
            len(route.logs),
            size_text(route.lag_bytes),
            size_text(route.staged_bytes),
            size_text(route.sealed_bytes),
            printable(route.sink),
        )
        for route in status.routes
    ]
    parts += ["\n", table(head, rows, right="2345")]
    lost = [
        (route.name, item.reason, size_text(item.bytes), item.rows or None)
        for route in status.routes
        for item in route.losses
    ]
    if lost:
        parts += ["\n", table(("route", "lost because", "bytes", "rows"), lost, right="23")]
    if status.spools:
        moments = {
            item.source: time_text(item.read_ns)
            for item in status.spools
            if item.read_ns is not None
        }
        parts += ["\n", spools.render(status.spools, moments)]
    if status.dead_letters:
        kept = [
            (
                item.route,
                item.files,
                size_text(item.bytes),
                f"tailrace replay --route {item.route} {status.state_dir}/{DIRECTORY}/{item.route}",
            )
            for item in status.dead_letters
        ]
        titles = ("dead letters of", "files", "bytes", "send them again, then delete them")
        parts += ["\n", table(titles, kept, right="12")]
    for route in status.routes:
        logs = route.logs[: logs_max or None]
        if not logs:
            continue
        cells = [
            (item.log, f"{item.generation}:{item.offset}", size_text(item.lag_bytes))
            for item in logs
        ]
        parts += ["\n", table((f"Logs of {route.name}", "cursor", "lag"), cells, right="12")]
        if len(logs) < len(route.logs):
            parts.append(f"and {len(route.logs) - len(logs)} more (--logs 0 shows all)\n")
    return "".join(parts)


def time_text(at_ns: int) -> str:
    """
    Return a moment as text.
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ns // _NS))


def print_json(value: object) -> None:
    """
    Print *value* as JSON for people and programs.
    """
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
