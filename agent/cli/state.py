"""
`tailrace state reset|rename`: change what the state directory knows about a route, while no agent runs.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.cli.status import directory
from agent.cli.table import size_text
from agent.config.problems import EXIT_CONFIGURATION, nearest
from agent.config.values import NAME_EXPECTED, NAME_PATTERN
from agent.core.errors import StopError, shown
from agent.runtime.host import SystemClock
from agent.runtime.lock import StateLock, held
from agent.runtime.store_backup import write_backup
from agent.runtime.store_file import open_database, open_read_only
from agent.runtime.store_rows import prune, read_route, take_mark, transaction
from agent.sinks.parquet_recovery import StagingPaths
from agent.sinks.staging import FILE_HEAD

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Iterator


def reset(args: argparse.Namespace) -> int:
    """
    Forget a route's cursors.  Exit codes: 0, 75 an agent runs, 78 no such route, or rows are staged.
    """
    state_dir = directory(args)
    with _owned(state_dir) as connection:
        route_id = _route_id(connection, args.route, state_dir)
        state = read_route(connection, route_id)
        # A staging file without rows has its head.
        length = state.sink.staging_length if state.sink is not None else 0
        staged = max(0, length - FILE_HEAD.size)
        if (staged or state.windows) and not args.discard_staged:
            raise StopError(
                f"route {args.route}: {size_text(staged)} staged and {len(state.windows)} windows are not "
                "uploaded yet, and their lines would be lost: start the agent once with the old "
                "configuration so that it uploads them, or pass --discard-staged",
                exit_code=EXIT_CONFIGURATION,
            )
        with transaction(connection):
            connection.execute("DELETE FROM routes WHERE id = ?", (route_id,))
            prune(connection)
        for path in _staging_directories(state_dir, args.route):
            shutil.rmtree(path, ignore_errors=True)
    sys.stdout.write(
        f"route {args.route}: {len(state.cursors)} cursors forgotten; its next start is its first one\n"
    )
    return 0


def rename(args: argparse.Namespace) -> int:
    """
    Give the cursors of OLD to NEW.  Exit codes: 0, 75 an agent runs, 78 no such route, or NEW has cursors.
    """
    if not re.match(NAME_PATTERN, args.new):
        raise StopError(
            f"got {shown(args.new)}, expected {NAME_EXPECTED}", exit_code=EXIT_CONFIGURATION
        )
    state_dir = directory(args)
    with _owned(state_dir) as connection:
        route_id = _route_id(connection, args.old, state_dir)
        state = read_route(connection, route_id)
        with transaction(connection):
            if args.new != args.old:
                _make_room(connection, args.new)
                connection.execute(
                    "UPDATE objects SET path = replace(path, ?, ?) WHERE route_id = ?",
                    (*(_sealed_prefix(state_dir, name) for name in (args.old, args.new)), route_id),
                )
            # An empty identity is that of any sink: the next start's.
            connection.execute(
                "UPDATE routes SET name = ?, sink_identity = '', removed_ns = NULL WHERE id = ?",
                (args.new, route_id),
            )
            if args.new != args.old:
                _move(state_dir, args.old, args.new)
    sys.stdout.write(
        f"route {args.new}: goes on from {len(state.cursors)} cursors"
        + (f" of {args.old}" if args.new != args.old else "")
        + ", with the sink that its next start has\n"
    )
    return 0


@contextmanager
def _owned(state_dir: str) -> Iterator[sqlite3.Connection]:
    """
    Open the database of *state_dir*, which no agent holds meanwhile.
    """
    # Nothing is created in a directory that has no state.
    open_read_only(state_dir).close()
    lock = StateLock(state_dir, wait_s=0, tell=_tell, clock=SystemClock())
    if not lock.take():
        raise held(state_dir, lock.owner(), 0)
    try:
        connection, notices = open_database(state_dir, now_ns=time.time_ns())
        try:
            for notice in notices:
                _tell(notice.event, notice.text, level=notice.level)
            yield connection
            take_mark(connection, "open")
            # What was changed must not come back with the next loss.
            write_backup(connection, state_dir)
        finally:
            connection.close()
    finally:
        lock.release()


def _route_id(connection: sqlite3.Connection, name: str, state_dir: str) -> int:
    known = dict(connection.execute("SELECT name, id FROM routes ORDER BY name").fetchall())
    if name not in known:
        names = ", ".join(known) or "no route"
        raise StopError(
            f"{state_dir}: no route {name}{nearest(name, known)}: it knows {names}",
            exit_code=EXIT_CONFIGURATION,
        )
    return int(known[name])


def _make_room(connection: sqlite3.Connection, name: str) -> None:
    """
    See that no cursors are overwritten; a route that never committed has none.
    """
    row = connection.execute("SELECT committed_ns FROM routes WHERE name = ?", (name,)).fetchone()
    if row is not None and row[0] is not None:
        raise StopError(
            f"route {name} has cursors of its own: forget them first with `tailrace state reset {name}`",
            exit_code=EXIT_CONFIGURATION,
        )
    connection.execute("DELETE FROM routes WHERE name = ?", (name,))


def _move(state_dir: str, old: str, new: str) -> None:
    directories = (_staging_directories(state_dir, name) for name in (old, new))
    for source, target in zip(*directories, strict=True):
        if os.path.isdir(source):
            # Left by a route of that name that is forgotten.
            shutil.rmtree(target, ignore_errors=True)
            os.rename(source, target)


def _sealed_prefix(state_dir: str, route: str) -> str:
    return os.path.relpath(StagingPaths(state_dir, route).sealed_directory, state_dir) + "/"


def _staging_directories(state_dir: str, route: str) -> tuple[str, str]:
    paths = StagingPaths(state_dir, route)
    return paths.staging_directory, paths.sealed_directory


def _tell(event: str, text: str, /, *, level: str = "info", **_fields: object) -> None:
    sys.stderr.write(f"{level}: {event}: {text}\n")
