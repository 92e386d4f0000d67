"""
The checkpoint database as a file: its schema, opening, migrating, setting aside.

`<state_dir>/tailrace.db` is one SQLite database in WAL mode.  It is written by one agent (lock.py) and
may be read by any number of `tailrace status` meanwhile.

**meta**: one row per key.

| column | example | meaning |
|---|---|---|
| key | `format_version` | `format_version`, `reader_version_min`, `created_ns`, `written_by` |
| value | `1` | integer or text |

A program can read a database whose `reader_version_min` is not above the format that it knows: migrations
only add (columns with defaults, tables), so the version before can still read what this one wrote.

**routes**: one row per route name that an agent ever ran with.

| column | example | meaning |
|---|---|---|
| id | `1` | what the other tables refer to; so a rename is one row |
| name | `cloudwatch` | from the configuration |
| sink_identity | `cloudwatch:eu-west-1:/apps` | where the cursors' rows went; empty: adopt that of the next start |
| first_seen_ns, last_seen_ns | `1795428000000000000` | first and last start with this route |
| committed_ns | `1795428060000000000` | last commit; NULL: none ever, the route's first start is still to come |
| removed_ns | NULL | first start without this route; 7 days later its rows are deleted |
| boot_id | `5c3f…` | boot of the machine in which it last committed |

**generations**: the identity of one file of a Log's chain (core/checkpoint.py, GenerationRow).

| column | example | meaning |
|---|---|---|
| log, number | `/var/log/pods/…/0.log`, `3` | the Log and the place in its chain |
| head, head_length | 16 bytes, `187` | blake2b-128 of the first line, and the length hashed |
| ordinal | `0` | earlier generations with the same head |
| file_id | `9f86d081884c7d65…` | 32 hex digits |
| device, inode, name, size | `2049`, `131`, `0.log.20261122-101500`, `10485760` | hints, when last seen |

**cursors**: one row per route and Log; the three streams of core/cursor.py side by side, because they
are always written together (measured, 5,000 Logs in one commit: 28 ms; a row per stream: 52 ms).

| column | example | meaning |
|---|---|---|
| route_id, log | `1`, `/var/log/pods/…/0.log` | |
| other_generation, other_offset, other_mode | `3`, `4096`, `0` | place of stream 0 |
| stdout_generation, stdout_offset, stdout_mode | `3`, `4096`, `0` | place of stream 1 |
| stderr_generation, stderr_offset, stderr_mode | `3`, `2048`, `1` | place of stream 2 |

**sink_rows**: what a staging sink relies on: route_id, `window` (number of the open one), `staging_length` (bytes fsynced).

**windows**: sealed stretches of staging: route_id, `number`, `staging_length`, `sealed_ns`.
**objects**: their manifest, in order: route_id, `window`, `position`, `key`, `path` (relative to the state
directory), `bytes`, `confirmed` (0 or 1).

**losses**: named byte ranges that will never be delivered, at most 10,000 a route, oldest first by id.

| column | example | meaning |
|---|---|---|
| id, route_id, at_ns | `17`, `1`, `1795428060000000000` | |
| log, file_id, generation | `/var/log/pods/…/0.log`, `9f86…`, `3` | |
| start, stop | `4096`, `8192` | bytes of that generation; adjacent losses are one row |
| reason, rows, detail | `too_old`, `12`, `` | rows is 0 where nobody could count them |

**losses_dropped**: what no longer fits, summed: route_id, `reason`, `records`, `bytes`, `rows`, `at_ns` of the latest.

Paths are text; one that is not UTF-8 is kept as a blob of its bytes.
"""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent import __version__
from agent.core.errors import RetryError, StopError, TailraceError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASE_NAME = "tailrace.db"
#: "Tail", so that `file tailrace.db` and we can tell the database from someone else's.
APPLICATION_ID = 0x5461696C
FORMAT_VERSION = 1
#: The oldest format that MIGRATIONS lead on from.
FORMAT_VERSION_OLDEST = 1
READER_VERSION_MIN = 1
#: SQL that leads from the format in the key to the next one; additive only.
MIGRATIONS: Mapping[int, str] = {}
#: A disk that corrupts every database must not also be filled by them.
CORRUPT_KEPT_MAX = 3
#: Longer than any commit; only a person with a SQLite shell holds the database otherwise.
BUSY_TIMEOUT_S = 5.0

EXIT_CONFIGURATION = 78
EXIT_BROKEN = 70

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE routes (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    sink_identity TEXT NOT NULL,
    first_seen_ns INTEGER NOT NULL,
    last_seen_ns INTEGER NOT NULL,
    committed_ns INTEGER,
    removed_ns INTEGER,
    boot_id TEXT NOT NULL DEFAULT ''
);
CREATE TABLE generations (
    log TEXT NOT NULL, number INTEGER NOT NULL,
    head BLOB NOT NULL, head_length INTEGER NOT NULL, ordinal INTEGER NOT NULL, file_id TEXT NOT NULL,
    device INTEGER NOT NULL, inode INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (log, number)
) WITHOUT ROWID;
CREATE TABLE cursors (
    route_id INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE, log TEXT NOT NULL,
    other_generation INTEGER NOT NULL, other_offset INTEGER NOT NULL, other_mode INTEGER NOT NULL,
    stdout_generation INTEGER NOT NULL, stdout_offset INTEGER NOT NULL, stdout_mode INTEGER NOT NULL,
    stderr_generation INTEGER NOT NULL, stderr_offset INTEGER NOT NULL, stderr_mode INTEGER NOT NULL,
    PRIMARY KEY (log, route_id)
) WITHOUT ROWID;
CREATE INDEX cursors_by_route ON cursors (route_id);
CREATE TABLE sink_rows (
    route_id INTEGER PRIMARY KEY REFERENCES routes ON DELETE CASCADE,
    window INTEGER NOT NULL, staging_length INTEGER NOT NULL
);
CREATE TABLE windows (
    route_id INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE, number INTEGER NOT NULL,
    staging_length INTEGER NOT NULL, sealed_ns INTEGER NOT NULL,
    PRIMARY KEY (route_id, number)
) WITHOUT ROWID;
CREATE TABLE objects (
    route_id INTEGER NOT NULL, window INTEGER NOT NULL, position INTEGER NOT NULL,
    key TEXT NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL, confirmed INTEGER NOT NULL,
    PRIMARY KEY (route_id, window, position),
    FOREIGN KEY (route_id, window) REFERENCES windows (route_id, number) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE losses (
    id INTEGER PRIMARY KEY,
    route_id INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE, at_ns INTEGER NOT NULL,
    log TEXT NOT NULL, file_id TEXT NOT NULL, generation INTEGER NOT NULL,
    start INTEGER NOT NULL, stop INTEGER NOT NULL,
    reason TEXT NOT NULL, rows INTEGER NOT NULL, detail TEXT NOT NULL
);
CREATE INDEX losses_by_end ON losses (route_id, log, generation, stop);
CREATE TABLE losses_dropped (
    route_id INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE, reason TEXT NOT NULL,
    records INTEGER NOT NULL, bytes INTEGER NOT NULL, rows INTEGER NOT NULL, at_ns INTEGER NOT NULL,
    PRIMARY KEY (route_id, reason)
) WITHOUT ROWID;
"""

_RETRY_CODES = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
        # Seen while the disk is full or was remounted read-only after an error; a wrong owner is found by lock.py at the start.
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    }
)
_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


@dataclass(frozen=True, slots=True)
class Notice:
    """
    Something that opening found and the operator should read.
    """

    event: str
    text: str
    level: str = "info"
    fields: dict[str, object] = field(default_factory=dict)


class _CorruptError(Exception):
    """
    The file is a damaged database, or none.
    """


def primary_code(error: sqlite3.Error) -> int:
    """
    Return SQLite's primary result code behind *error*; 0 where there is none.
    """
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def store_error(error: sqlite3.Error, path: str) -> TailraceError | None:
    """
    Return what *error* means for the caller; None for a bug of ours.
    """
    code = primary_code(error)
    if code in _RETRY_CODES:
        return RetryError(f"{path}: not written, will be tried again: {error}", code=_code_name(error))
    if code in _CORRUPT_CODES:
        return StopError(
            f"{path}: the database is damaged ({error}): the next start sets it aside and begins with a fresh one",
            exit_code=EXIT_BROKEN,
        )
    return None


def open_database(directory: str, *, now_ns: int) -> tuple[sqlite3.Connection, list[Notice]]:
    """
    Open, and where needed create, migrate or set aside, the database in *directory*.

    Raises StopError (78) for a database of another program or of a version too new or too old, and
    RetryError where the disk does not let us.
    """
    path = os.path.join(directory, DATABASE_NAME)
    try:
        try:
            return _open_sound(path, now_ns), []
        except _CorruptError as error:
            notice = _set_aside(path, str(error), now_ns)
            return _open_sound(path, now_ns), [notice]
    except sqlite3.Error as error:
        raise store_error(error, path) or error from error


def open_read_only(directory: str) -> sqlite3.Connection:
    """
    Open the database for reading, while an agent may write it.

    Raises StopError (78) where there is none or it cannot be read.
    """
    path = os.path.join(directory, DATABASE_NAME)
    if not os.path.exists(path):
        raise StopError(
            f"{path}: no such file: is state_dir right? An agent that never ran has no state", exit_code=EXIT_CONFIGURATION
        )
    try:
        try:
            connection = _connect_read_only(path, "mode=ro")
        except sqlite3.OperationalError:
            # Reading a WAL database writes its -shm file.  On a read-only mount that fails; without a
            # -wal file nobody writes it either, so it can be read as it lies.
            if os.path.exists(path + "-wal"):
                raise
            connection = _connect_read_only(path, "mode=ro&immutable=1")
    except (sqlite3.Error, _CorruptError) as error:
        raise StopError(f"{path}: cannot be read: {error}", exit_code=EXIT_CONFIGURATION) from error
    return connection


def _connect_read_only(path: str, options: str) -> sqlite3.Connection:
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    connection = sqlite3.connect(f"file:{quoted}?{options}", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
    try:
        check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_sound(path: str, now_ns: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        if _is_new(connection, path):
            _create(connection, now_ns)
            _sync_directory(os.path.dirname(path))
        else:
            problems = connection.execute("PRAGMA quick_check(1)").fetchall()
            if problems != [("ok",)]:
                raise _CorruptError(str(problems[0][0]))
            check_version(connection, path)
            _migrate(connection, MIGRATIONS)
        # A commit that returned has survived a power failure: in WAL mode FULL is one fsync a commit,
        # and there is at most one commit a second and route.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # KiB of page cache; the default of 2 MB would be for a database that is queried.
        connection.execute("PRAGMA cache_size=-1024")
        # After one large commit, give the log's disk space back.
        connection.execute("PRAGMA journal_size_limit=8388608")
    except sqlite3.DatabaseError as error:
        connection.close()
        if primary_code(error) in _CORRUPT_CODES:
            raise _CorruptError(str(error)) from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _is_new(connection: sqlite3.Connection, path: str) -> bool:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application_id != APPLICATION_ID:
        raise StopError(
            f"{path}: is a SQLite database of another program: move it away or choose another state_dir",
            exit_code=EXIT_CONFIGURATION,
        )
    return not tables


def _create(connection: sqlite3.Connection, now_ns: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA.split(";\n"):
        connection.execute(statement)
    meta = {
        "format_version": FORMAT_VERSION,
        "reader_version_min": READER_VERSION_MIN,
        "created_ns": now_ns,
        "written_by": f"tailrace {__version__}",
    }
    connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute("COMMIT")


def check_version(connection: sqlite3.Connection, path: str) -> None:
    """
    Raise StopError (78) unless this program can read the database.
    """
    try:
        meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    except sqlite3.OperationalError as error:
        if primary_code(error) != sqlite3.SQLITE_ERROR:
            raise
        raise _CorruptError(str(error)) from error  # no such table
    version, reader_min = meta.get("format_version"), meta.get("reader_version_min")
    if not isinstance(version, int) or not isinstance(reader_min, int):
        raise _CorruptError(f"format_version is {shown(version)}")
    written_by = meta.get("written_by", "another version")
    if reader_min > FORMAT_VERSION:
        raise StopError(
            f"{path}: has format {version}, written by {written_by}; this is tailrace {__version__}, which reads up to "
            f"{FORMAT_VERSION}: run that version or a newer one, or choose another state_dir",
            exit_code=EXIT_CONFIGURATION,
        )
    if version < FORMAT_VERSION_OLDEST:
        raise StopError(
            f"{path}: has format {version}, written by {written_by}; this is tailrace {__version__}, which reads from "
            f"{FORMAT_VERSION_OLDEST}: run a version between them first, or choose another state_dir",
            exit_code=EXIT_CONFIGURATION,
        )


def _migrate(connection: sqlite3.Connection, migrations: Mapping[int, str]) -> None:
    version = connection.execute("SELECT value FROM meta WHERE key = 'format_version'").fetchone()[0]
    while version in migrations:
        # One transaction a step: a crash in between leaves a database of a version that exists.
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in migrations[version].split(";\n"):
                connection.execute(statement)
            version += 1
            connection.execute("UPDATE meta SET value = ? WHERE key = 'format_version'", (version,))
            connection.execute("UPDATE meta SET value = ? WHERE key = 'written_by'", (f"tailrace {__version__}",))
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _set_aside(path: str, reason: str, now_ns: int) -> Notice:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_ns // 1_000_000_000))
    aside = f"{path}.corrupt-{stamp}"
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.replace(path + suffix, aside + suffix)
    directory = os.path.dirname(path)
    _sync_directory(directory)
    prefix = DATABASE_NAME + ".corrupt-"
    kept = sorted(name for name in os.listdir(directory) if name.startswith(prefix) and name[-1] == "Z")
    for name in kept[:-CORRUPT_KEPT_MAX]:
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(os.path.join(directory, name + suffix)):
                os.unlink(os.path.join(directory, name + suffix))
    return Notice(
        "store_corrupt",
        f"{path}: damaged ({reason}), set aside as {os.path.basename(aside)}; every file is read from its beginning again, "
        "so lines that were delivered before will be delivered twice",
        "error",
        {"path": path, "aside": aside},
    )


def _sync_directory(directory: str) -> None:
    fd = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _code_name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "")
