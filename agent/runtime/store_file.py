"""
The checkpoint database as a file: opening, migrating, putting the backup in the place of what is lost.

Its schema is in store_schema.py, the backup in store_backup.py.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent import __version__
from agent.core.errors import RetryError, StopError, TailraceError, shown
from agent.runtime.store_backup import (
    BACKUP_NAME,
    backup_commits,
    commits_of,
    restore_backup,
    set_aside,
    sync_directory,
)
from agent.runtime.store_schema import (
    APPLICATION_ID,
    DATABASE_NAME,
    FORMAT_VERSION,
    FORMAT_VERSION_OLDEST,
    MIGRATIONS,
    READER_VERSION_MIN,
    SCHEMA,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Longer than any commit; only a person with a SQLite shell holds the database otherwise.
BUSY_TIMEOUT_S = 5.0

EXIT_CONFIGURATION = 78
EXIT_BROKEN = 70
EXIT_TRY_AGAIN = 75

_RETRY_CODES = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
        # While the disk is full, or was remounted read-only after an error; lock.py finds a wrong owner
        # at the start.
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    }
)
_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_HELD_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_START_THE_AGENT = "start the agent, which goes on from the backup beside it"
_HELD = "another process holds a lock on it: end it (`fuser` names it)"
_UNREACHABLE = "is the directory there, and its disk mounted?"
_REMEDIES = {
    sqlite3.SQLITE_FULL: "free space on its disk",
    sqlite3.SQLITE_IOERR: "its disk fails or is full: look at `dmesg` and `df`",
    sqlite3.SQLITE_BUSY: _HELD,
    sqlite3.SQLITE_LOCKED: _HELD,
    sqlite3.SQLITE_READONLY: "its file system is read-only: look at `dmesg`, and mount it writable",
    sqlite3.SQLITE_CANTOPEN: _UNREACHABLE,
    sqlite3.SQLITE_PERM: _UNREACHABLE,
}


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


class _LostError(Exception):
    """
    The file is missing, or is not the one that the backup was made of.
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
        remedy = f"; {_REMEDIES[code]}" if code in _REMEDIES else ""
        return RetryError(
            f"{path}: not written, will be tried again: {error}{remedy}", code=_code_name(error)
        )
    if code in _CORRUPT_CODES:
        return StopError(
            f"{path}: the database is damaged ({error}): check the disk; the next start sets it aside and goes on "
            "from its backup",
            exit_code=EXIT_BROKEN,
        )
    return None


def disk_error(error: OSError, path: str) -> RetryError:
    """
    Return what a failed call on a file at or beside *path* means for the caller.
    """
    return RetryError(
        f"{error.filename or path}: {error.strerror or error}: look at `df` and `dmesg`",
        code=errno.errorcode.get(error.errno or 0, "EIO"),
    )


def open_database(directory: str, *, now_ns: int) -> tuple[sqlite3.Connection, list[Notice]]:
    """
    Open, and where needed create, migrate or set aside, the database in *directory*.

    Raises StopError (78) for a database of another program or of a version too new or too old, and
    RetryError where the disk does not let us.
    """
    path = os.path.join(directory, DATABASE_NAME)
    try:
        try:
            return _open_known(directory, path, now_ns)
        except _CorruptError as error:
            return _replace_lost(directory, "store_corrupt", f"damaged ({error})", now_ns)
        except _LostError as error:
            return _replace_lost(directory, "store_lost", str(error), now_ns)
    except sqlite3.Error as error:
        raise store_error(error, path) or error from error
    except OSError as error:
        raise disk_error(error, path) from error


def _open_known(directory: str, path: str, now_ns: int) -> tuple[sqlite3.Connection, list[Notice]]:
    if not os.path.exists(path) and os.path.exists(os.path.join(directory, BACKUP_NAME)):
        raise _LostError("is missing, and its backup is there")
    has_wal = os.path.exists(path + "-wal")
    connection = _open_sound(path, now_ns)
    behind = backup_commits(directory) - commits_of(connection)
    marks = {key for (key,) in connection.execute("SELECT key FROM meta")}
    if behind > 0:
        connection.close()
        raise _LostError(
            "is older than its backup: its -wal file was deleted, or an old copy put in its place"
        )
    if has_wal or "open" not in marks:
        return connection, []
    # It was not closed, so there was a -wal.  What is left is as good as a backup.
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('rebuild', 1)")
    text = (
        f"{path}: its -wal file was deleted, and with it the last commits: CloudWatch may get the lines since "
        "then twice, Parquet does not (staged rows are taken over); leave the state directory to Tailrace"
    )
    return connection, [Notice("store_lost", text, "error", {"path": path})]


def _replace_lost(
    directory: str, event: str, reason: str, now_ns: int
) -> tuple[sqlite3.Connection, list[Notice]]:
    """
    Begin again with the backup, or with nothing where there is no sound one.
    """
    path = os.path.join(directory, DATABASE_NAME)
    # A -wal that is left behind alone as well: SQLite would play it into whatever database it finds beside it.
    aside = set_aside(path, now_ns, "corrupt" if event == "store_corrupt" else "stale")
    text = f"{path}: {reason}{', set aside as ' + aside if aside else ''}; "
    if restore_backup(directory, rebuild=True):
        saved = os.path.getmtime(os.path.join(directory, BACKUP_NAME))
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(saved))
        text += (
            f"the backup of {stamp} takes its place: CloudWatch may get the lines since then twice, Parquet "
            "does not (staged rows are taken over); check the disk"
        )
        connection = _open_sound(path, now_ns)
    else:
        text += (
            "there is no sound backup either: every file is read from its beginning again, so lines that were "
            "delivered before will be delivered twice; staged rows are taken over; check the disk"
        )
        connection = _open_sound(path, now_ns, lost=True)
    return connection, [Notice(event, text, "error", {"path": path, "aside": aside})]


def open_read_only(directory: str) -> sqlite3.Connection:
    """
    Open the database for reading, while an agent may write it.

    Raises StopError: 78, there is none or it cannot be read; 70, it is damaged or was deleted; 75, it is locked.
    """
    path = os.path.join(directory, DATABASE_NAME)
    if not os.path.exists(path):
        if os.path.exists(os.path.join(directory, BACKUP_NAME)):
            raise StopError(f"{path}: was deleted: {_START_THE_AGENT}", exit_code=EXIT_BROKEN)
        raise StopError(
            f"{path}: no such file: is state_dir right? An agent that never ran has no state",
            exit_code=EXIT_CONFIGURATION,
        )
    try:
        try:
            connection = _connect_read_only(path, "mode=ro")
        except sqlite3.OperationalError as error:
            # Reading a WAL database writes its -shm file.  On a read-only mount that fails; without a
            # -wal file nobody writes it either, so it can be read as it lies.
            if os.path.exists(path + "-wal") or primary_code(error) in _HELD_CODES:
                raise
            connection = _connect_read_only(path, "mode=ro&immutable=1")
    except (sqlite3.Error, _CorruptError) as error:
        raise _unreadable(error, path) from error
    return connection


def _unreadable(error: sqlite3.Error | _CorruptError, path: str) -> StopError:
    code = primary_code(error) if isinstance(error, sqlite3.Error) else sqlite3.SQLITE_CORRUPT
    if code in _CORRUPT_CODES:
        return StopError(
            f"{path}: is damaged ({error}): check the disk; {_START_THE_AGENT}",
            exit_code=EXIT_BROKEN,
        )
    if code in _HELD_CODES:
        return StopError(f"{path}: cannot be read now: {_HELD}", exit_code=EXIT_TRY_AGAIN)
    return StopError(f"{path}: cannot be read: {error}", exit_code=EXIT_CONFIGURATION)


def _connect_read_only(path: str, options: str) -> sqlite3.Connection:
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    connection = sqlite3.connect(
        f"file:{quoted}?{options}", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S
    )
    try:
        problems = connection.execute("PRAGMA quick_check(1)").fetchall()
        if problems != [("ok",)]:
            raise _CorruptError(" ".join(str(problems[0][0]).split()))
        check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_sound(path: str, now_ns: int, *, lost: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
    )
    try:
        if _is_new(connection, path):
            _create(connection, now_ns, lost=lost)
            sync_directory(os.path.dirname(path))
        else:
            problems = connection.execute("PRAGMA quick_check(1)").fetchall()
            if problems != [("ok",)]:
                raise _CorruptError(" ".join(str(problems[0][0]).split()))
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


def _create(connection: sqlite3.Connection, now_ns: int, *, lost: bool) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA.split(";\n"):
        connection.execute(statement)
    meta = {
        "format_version": FORMAT_VERSION,
        "reader_version_min": READER_VERSION_MIN,
        "created_ns": now_ns,
        "written_by": f"tailrace {__version__}",
        # Staging that is there all the same, the database of which was deleted, is looked into first.
        "rebuild": 1,
    }
    if lost:
        meta["lost"] = 1
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
    version = connection.execute("SELECT value FROM meta WHERE key = 'format_version'").fetchone()[
        0
    ]
    while version in migrations:
        # One transaction a step: a crash in between leaves a database of a version that exists.
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in migrations[version].split(";\n"):
                connection.execute(statement)
            version += 1
            connection.execute("UPDATE meta SET value = ? WHERE key = 'format_version'", (version,))
            connection.execute(
                "UPDATE meta SET value = ? WHERE key = 'written_by'", (f"tailrace {__version__}",)
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _code_name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "")
