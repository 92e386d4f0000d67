"""
The rows of the checkpoint database to values and back: plain functions on a connection, one thread.

`write` is one transaction: all of it is durable when it returns, or nothing is.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agent.core.checkpoint import GenerationRow, RouteState, SinkRows, Transaction, Window
from agent.core.cursor import Cursor, StreamCursor
from agent.core.errors import StopError
from agent.core.identity import NO_TAIL, Tail
from agent.runtime.store_file import EXIT_CONFIGURATION
from agent.runtime.store_losses import write_losses
from agent.runtime.store_schema import path_in, path_out

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

#: Generations of a Log behind every cursor that stay known, so that a rotated file that was read is
#: recognised on disk and not read twice.  Kubelet keeps 5 files a container, Docker as many as asked for.
GENERATIONS_KEPT_MAX = 32

_CURSOR_COLUMNS = ", ".join(
    f"{stream}_{part}"
    for stream in ("other", "stdout", "stderr")
    for part in ("generation", "offset", "mode")
)
# Only names of columns are put into SQL as text.
_CURSOR_UPSERT = (
    f"INSERT INTO cursors (route_id, log, {_CURSOR_COLUMNS})"  # noqa: S608
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _CURSOR_COLUMNS.split(", "))
)
_GENERATION_COLUMNS = "log, number, head, head_length, ordinal, file_id, device, inode, name, size"
_PRUNE_TAILS = (
    "DELETE FROM tails WHERE NOT EXISTS (SELECT 1 FROM generations WHERE generations.log = tails.log"
    " AND generations.number = tails.number AND generations.file_id = tails.file_id)"
)
_PRUNE_PASSED, _PRUNE_PASSED_TAILS = (
    f"DELETE FROM {table} WHERE log = ? AND number < -? +"  # noqa: S608
    " (SELECT min(min(other_generation, stdout_generation, stderr_generation))"
    f" FROM cursors WHERE cursors.log = {table}.log)"
    for table in ("generations", "tails")
)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """
    Commit what the block does, or nothing of it.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors (a full disk).
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def adopt_route(
    connection: sqlite3.Connection, name: str, sink_identity: str, now_ns: int, path: str
) -> int:
    """
    Note that *name* exists and return its id.

    Raises StopError (78) if its cursors belong to another sink.
    """
    with transaction(connection):
        row = connection.execute(
            "SELECT id, sink_identity, committed_ns FROM routes WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            cursor = connection.execute(
                "INSERT INTO routes (name, sink_identity, first_seen_ns, last_seen_ns) VALUES (?, ?, ?, ?)",
                (name, sink_identity, now_ns, now_ns),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid
        route_id, known, committed_ns = row
        if known not in {"", sink_identity} and committed_ns is not None:
            raise StopError(
                changed_sink(path, name, known, sink_identity), exit_code=EXIT_CONFIGURATION
            )
        connection.execute(
            "UPDATE routes SET sink_identity = ?, last_seen_ns = ?, removed_ns = NULL WHERE id = ?",
            (sink_identity, now_ns, route_id),
        )
        return int(route_id)


def changed_sink(path: str, name: str, known: str, sink_identity: str) -> str:
    """
    Return the message for a route whose sink changed under its name.
    """
    return (
        f"{path}: route {name}: its cursors belong to the sink {known}, but the configuration says {sink_identity}: "
        f"`tailrace state reset {name}` forgets them and starts the route anew, "
        f"`tailrace state rename {name} {name}` lets the new sink go on from them, "
        "or give the route another name"
    )


def read_route(connection: sqlite3.Connection, route_id: int) -> RouteState:
    """
    Return what the route left.
    """
    state = RouteState()
    (committed_ns,) = connection.execute(
        "SELECT committed_ns FROM routes WHERE id = ?", (route_id,)
    ).fetchone()
    state.first_start = committed_ns is None
    cursors = connection.execute(
        f"SELECT log, {_CURSOR_COLUMNS} FROM cursors WHERE route_id = ? ORDER BY log",  # noqa: S608
        (route_id,),
    )
    state.cursors = {path_out(row[0]): cursor_out(row[1:]) for row in cursors}
    sink = connection.execute(
        "SELECT window, staging_length FROM sink_rows WHERE route_id = ?", (route_id,)
    ).fetchone()
    if sink is not None:
        state.sink = SinkRows(window=sink[0], staging_length=sink[1])
    state.windows = read_windows(connection, route_id)
    return state


def read_windows(connection: sqlite3.Connection, route_id: int) -> list[Window]:
    """
    Return the route's windows, by number.
    """
    (name,) = connection.execute("SELECT name FROM routes WHERE id = ?", (route_id,)).fetchone()
    objects: dict[int, list[tuple[str, str, int, bool]]] = {}
    for number, key, path, size, confirmed in connection.execute(
        "SELECT window, key, path, bytes, confirmed FROM objects WHERE route_id = ? ORDER BY window, position",
        (route_id,),
    ):
        objects.setdefault(number, []).append(
            (path_out(key), path_out(path), size, bool(confirmed))
        )
    return [
        Window(
            route=name,
            number=number,
            staging_length=length,
            sealed_ns=sealed_ns,
            objects=tuple(objects.get(number, ())),
        )
        for number, length, sealed_ns in connection.execute(
            "SELECT number, staging_length, sealed_ns FROM windows WHERE route_id = ? ORDER BY number",
            (route_id,),
        )
    ]


def read_generations(connection: sqlite3.Connection) -> list[GenerationRow]:
    """
    Return all generations, by Log and number.
    """
    # `tailrace status` may read what the version before writes.
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'tails'").fetchone()
    tails = {}
    if known is not None:
        for log, number, file_id, *tail in connection.execute(
            "SELECT log, number, file_id, offset, length, digest FROM tails"
        ):
            tails[log, number, file_id] = Tail(*tail)
    rows = connection.execute(
        f"SELECT {_GENERATION_COLUMNS} FROM generations ORDER BY log, number"  # noqa: S608
    )
    return [
        GenerationRow(
            path_out(log),
            number,
            head,
            length,
            ordinal,
            file_id,
            device,
            inode,
            path_out(name),
            size,
            tails.get((log, number, file_id), NO_TAIL),
        )
        for log, number, head, length, ordinal, file_id, device, inode, name, size in rows
    ]


def write(
    connection: sqlite3.Connection, route_id: int, changes: Transaction, boot_id: str
) -> None:
    """
    Make *changes* durable, all or nothing.
    """
    with transaction(connection):
        connection.executemany(
            "DELETE FROM cursors WHERE route_id = ? AND log = ?",
            [(route_id, path_in(log)) for log in changes.forgotten],
        )
        connection.executemany(
            _CURSOR_UPSERT,
            [
                (route_id, path_in(log), *_cursor_in(cursor))
                for log, cursor in changes.cursors.items()
            ],
        )
        connection.executemany(
            # By name: the version after this one may have more columns.
            f"INSERT OR REPLACE INTO generations ({_GENERATION_COLUMNS})"  # noqa: S608
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(path_in(row.log), row.number, row.head, row.head_length, row.ordinal),
                    *(row.file_id, row.device, row.inode, path_in(row.name), row.size),
                )
                for row in changes.generations
            ],
        )
        connection.executemany(
            "INSERT OR REPLACE INTO tails (log, number, file_id, offset, length, digest)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [
                (path_in(row.log), row.number, row.file_id, *row.tail)
                for row in changes.generations
                if row.tail.length
            ],
        )
        _prune_forgotten(connection, changes.forgotten)
        _prune_passed(connection, changes)
        write_losses(connection, route_id, changes)
        if changes.sink is not None:
            connection.execute(
                "INSERT OR REPLACE INTO sink_rows (route_id, window, staging_length) VALUES (?, ?, ?)",
                (route_id, changes.sink.window, changes.sink.staging_length),
            )
        _write_windows(connection, route_id, changes)
        connection.execute(
            "INSERT INTO meta (key, value) VALUES ('commits', 1) ON CONFLICT DO UPDATE SET value = value + 1"
        )
        connection.execute(
            "UPDATE routes SET committed_ns = ?1, boot_id = ?2 WHERE id = ?3"
            " AND (?4 OR committed_ns IS NULL)",
            (changes.at_ns, boot_id, route_id, changes.moved),
        )


def has_mark(connection: sqlite3.Connection, name: str) -> bool:
    """
    Return whether *name* is a key of `meta`.
    """
    return connection.execute("SELECT 1 FROM meta WHERE key = ?", (name,)).fetchone() is not None


def set_mark(connection: sqlite3.Connection, name: str) -> None:
    """
    Put the key *name* into `meta`.
    """
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 1)", (name,))


def take_mark(connection: sqlite3.Connection, name: str) -> bool:
    """
    Remove the key *name* from `meta`; return whether it was there.
    """
    return connection.execute("DELETE FROM meta WHERE key = ?", (name,)).rowcount > 0


def remember_routes(
    connection: sqlite3.Connection, names: Iterable[str], now_ns: int, boot_id: str
) -> None:
    """
    Note that *names* have committed before, in a database that is lost: this is not their first start.
    """
    connection.executemany(
        "INSERT OR IGNORE INTO routes (name, sink_identity, first_seen_ns, last_seen_ns, committed_ns, boot_id)"
        " VALUES (?, '', ?, ?, ?, ?)",
        [(name, now_ns, now_ns, now_ns, boot_id) for name in sorted(names)],
    )


def booted_since(connection: sqlite3.Connection, boot_id: str) -> bool:
    """
    Return whether a configured route committed last under another boot than *boot_id*.
    """
    query = "SELECT count(*) FROM routes WHERE committed_ns IS NOT NULL AND removed_ns IS NULL AND boot_id <> ?"
    return bool(connection.execute(query, (boot_id,)).fetchone()[0])


def prune(connection: sqlite3.Connection) -> None:
    """
    Delete the generations of Logs that no route has a cursor in.
    """
    connection.execute("DELETE FROM generations WHERE log NOT IN (SELECT log FROM cursors)")
    connection.execute(_PRUNE_TAILS)


def _prune_forgotten(connection: sqlite3.Connection, logs: Iterable[str]) -> None:
    connection.executemany(
        "DELETE FROM generations WHERE log = ?1 AND NOT EXISTS (SELECT 1 FROM cursors WHERE log = ?1)",
        [(path_in(log),) for log in logs],
    )
    connection.executemany(
        "DELETE FROM tails WHERE log = ?1 AND NOT EXISTS (SELECT 1 FROM cursors WHERE log = ?1)",
        [(path_in(log),) for log in logs],
    )


def _prune_passed(connection: sqlite3.Connection, changes: Transaction) -> None:
    # Only a new generation can push an old one out of the kept ones.
    logs = {path_in(row.log) for row in changes.generations}
    for statement in (_PRUNE_PASSED, _PRUNE_PASSED_TAILS):
        connection.executemany(statement, [(log, GENERATIONS_KEPT_MAX) for log in logs])


def _write_windows(connection: sqlite3.Connection, route_id: int, changes: Transaction) -> None:
    gone = [*changes.windows_gone, *(window.number for window in changes.windows)]
    connection.executemany(
        "DELETE FROM windows WHERE route_id = ? AND number = ?",
        [(route_id, number) for number in gone],
    )
    for window in changes.windows:
        assert window.route == changes.route, (
            f"window of route {window.route} in a transaction of {changes.route}"
        )
        connection.execute(
            "INSERT INTO windows (route_id, number, staging_length, sealed_ns) VALUES (?, ?, ?, ?)",
            (route_id, window.number, window.staging_length, window.sealed_ns),
        )
        connection.executemany(
            "INSERT INTO objects (route_id, window, position, key, path, bytes, confirmed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (route_id, window.number, position, path_in(key), path_in(path), size, confirmed)
                for position, (key, path, size, confirmed) in enumerate(window.objects)
            ],
        )


def _cursor_in(cursor: Cursor) -> tuple[int, ...]:
    other, stdout, stderr = cursor
    return (*other, *stdout, *stderr)


def cursor_out(values: tuple[Any, ...]) -> Cursor:
    """
    Return the cursor behind its nine columns.
    """
    return (StreamCursor(*values[0:3]), StreamCursor(*values[3:6]), StreamCursor(*values[6:9]))
