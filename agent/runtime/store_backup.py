"""
The second copy of the checkpoint database, and what is done when the first one is lost.

`<state_dir>/tailrace.db.backup` is a whole SQLite database, written by copy → quick_check → fsync → rename, so it
is sound or the one before.  It is made anew

- at the start and at the end of the agent, and within a minute of a commit;
- in every commit on whose strength files are removed: the manifest of a window, a confirmed object, a window
  that is gone.  So what the backup does not know of, staging and sealed files still hold (sinks/parquet_rebuild.py).

A database is lost if it is damaged, is missing while its backup is there, or has seen fewer commits than its
backup (its -wal was deleted while no agent ran).  Then the backup takes its place, marked with the key `rebuild`
in `meta`: staging is read before anything in it is removed.

SQLite keeps its locks on descriptors in a way that an unrelated open and close of the same file would drop them:
nothing here opens the database of a running agent but through its connection.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from typing import NamedTuple

from agent.runtime.store_schema import DATABASE_NAME

BACKUP_NAME = DATABASE_NAME + ".backup"
#: After a commit: what CloudWatch may see again when the database is lost.
BACKUP_AFTER_S = 60.0
#: A disk that corrupts every database must not also be filled by them.
ASIDE_KEPT_MAX = 3
#: SQLite's own files beside the database.
SUFFIXES = ("", "-wal", "-shm")


class Identity(NamedTuple):
    """
    Which files a connection works on: (device, inode) of the database, its -wal and its -shm.
    """

    files: tuple[tuple[int, int] | None, ...]

    @classmethod
    def of(cls, path: str) -> Identity:  # disk
        """
        Return what stands at *path* now; None for a file that is missing.
        """
        return cls(tuple(_key(path + suffix) for suffix in SUFFIXES))

    def missing(self, path: str) -> str:  # disk
        """
        Return the name of the file that is not what it was, "" where all are.
        """
        for suffix, known in zip(SUFFIXES, self.files, strict=True):
            # A -wal that was not there yet may appear.
            if known is not None and _key(path + suffix) != known:
                return path + suffix
        return ""


def _key(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_dev, found.st_ino)


def write_backup(connection: sqlite3.Connection, directory: str) -> None:  # disk
    """
    Copy the database of *connection* to the backup's place, if the copy is sound.

    Raises sqlite3.DatabaseError (SQLITE_CORRUPT) where it is not: then the backup before stays.
    """
    temporary = os.path.join(directory, BACKUP_NAME + ".tmp")
    _remove(temporary)
    with closing(sqlite3.connect(temporary, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous=OFF")
        connection.backup(copy)
        # One file, without a -wal beside it.
        copy.execute("PRAGMA journal_mode=DELETE")
        problems = copy.execute("PRAGMA quick_check(1)").fetchall()
        if problems != [("ok",)]:
            error = sqlite3.DatabaseError(" ".join(str(problems[0][0]).split()))
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            error.sqlite_errorname = "SQLITE_CORRUPT"
            raise error
    _sync(temporary)
    os.replace(temporary, os.path.join(directory, BACKUP_NAME))
    sync_directory(directory)


def restore_backup(directory: str, *, rebuild: bool) -> bool:  # disk
    """
    Put a copy of the backup where the database was; False where there is no sound one.

    *rebuild*: mark it as older than what staging holds.
    """
    backup = os.path.join(directory, BACKUP_NAME)
    path = os.path.join(directory, DATABASE_NAME)
    temporary = path + ".new"
    for suffix in (*SUFFIXES, "-journal"):
        _remove(temporary + suffix)
    try:
        shutil.copyfile(backup, temporary)
    except FileNotFoundError:
        return False
    try:
        with closing(sqlite3.connect(temporary, isolation_level=None)) as copy:
            if copy.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                return False
            # Nobody has it open, so there need be no -wal.
            copy.execute("DELETE FROM meta WHERE key = 'open'")
            if rebuild:
                copy.execute("INSERT OR REPLACE INTO meta VALUES ('rebuild', 1)")
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
            sqlite3.SQLITE_ERROR,  # No such table: a copy of something else.
        ):
            return False
        raise
    _sync(temporary)
    os.replace(temporary, path)
    sync_directory(directory)
    return True


def commits_of(connection: sqlite3.Connection) -> int:
    """
    Return how many commits the database has seen.
    """
    row = connection.execute("SELECT value FROM meta WHERE key = 'commits'").fetchone()
    return row[0] if row is not None and isinstance(row[0], int) else 0


def backup_commits(directory: str) -> int:  # disk
    """
    Return how many commits the backup has seen; 0 where there is no sound one.
    """
    path = os.path.join(directory, BACKUP_NAME)
    if not os.path.exists(path):
        return 0
    try:
        with closing(open_backup(path)) as connection:
            return commits_of(connection)
    except sqlite3.DatabaseError:
        return 0


def open_backup(path: str) -> sqlite3.Connection:
    """
    Open the backup at *path* for reading.
    """
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(f"file:{quoted}?mode=ro&immutable=1", uri=True, isolation_level=None)


def set_aside(path: str, now_ns: int, kind: str) -> str:  # disk
    """
    Rename the database at *path*, with what belongs to it, and return its new name; "" where nothing is.

    The oldest of these are removed.
    """
    if not any(os.path.exists(path + suffix) for suffix in SUFFIXES):
        return ""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_ns // 1_000_000_000))
    aside = f"{path}.{kind}-{stamp}"
    for suffix in SUFFIXES:
        with suppress(FileNotFoundError):
            os.replace(path + suffix, aside + suffix)
    directory = os.path.dirname(path)
    sync_directory(directory)
    prefix = f"{DATABASE_NAME}.{kind}-"
    kept = sorted(
        name for name in os.listdir(directory) if name.startswith(prefix) and name[-1] == "Z"
    )
    for name in kept[:-ASIDE_KEPT_MAX]:
        for suffix in SUFFIXES:
            _remove(os.path.join(directory, name + suffix))
    return os.path.basename(aside)


def sync_directory(directory: str) -> None:  # disk
    """
    Make the names in *directory* durable.
    """
    _sync(directory or ".", os.O_DIRECTORY)


def _sync(path: str, flags: int = 0) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
