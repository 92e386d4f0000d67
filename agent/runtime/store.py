"""
The checkpoint store: cursors, identities, windows and losses in SQLite, on a thread of their own.

The schema, row by row, is in store_schema.py.

- A commit that returned has survived a power failure; one that raised has left nothing behind.
- Calls run one after the other in the order in which they were made.  A caller that is cancelled does not
  cancel what its call has begun.
- A full disk, an I/O error or a lock is a RetryError: the route goes on and commits later.  A damaged
  database is a StopError (70); the next start sets it aside, says so, and goes on from the backup (store_backup.py).
- Files that were deleted or replaced under the agent are found before the next commit, and by `keep`: SQLite would go
  on writing into files that no name leads to.  The database is written anew from them; nothing is lost.
- A cursor belongs to the route's name.  The cursors of a route that is no longer configured stay 7 days.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from agent.core.errors import RetryError, TailraceError
from agent.runtime import store_losses, store_rows
from agent.runtime.store_backup import (
    BACKUP_AFTER_S,
    Identity,
    restore_backup,
    set_aside,
    write_backup,
)
from agent.runtime.store_file import Notice, disk_error, open_database, store_error
from agent.runtime.store_schema import DATABASE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from agent.core.checkpoint import GenerationRow, LossRow, RouteState, Transaction
    from agent.runtime.own_log import Tell

T = TypeVar("T")

#: Long enough for a week-end with a route commented out.
ROUTE_KEPT_S = 7 * 24 * 3600
_NS = 1_000_000_000


class SqliteStore:
    """
    The store of one state directory; the caller holds its lock (lock.py).
    """

    def __init__(
        self,
        directory: str,
        *,
        now_ns: Callable[[], int],
        tell: Tell,
        boot_id: str,
        reclaim: Callable[[], object],
    ) -> None:
        self._directory = directory
        self._path = os.path.join(directory, DATABASE_NAME)
        self._now_ns = now_ns
        self._tell = tell
        self._boot_id = boot_id
        self._reclaim = reclaim
        self._identity: Identity | None = None
        #: When there was a commit that the backup does not have; None: there was none.
        self._unsaved_ns: int | None = None
        self._notices: list[Notice] = []
        self._closed = False
        self._route_ids: dict[str, int] = {}
        self._connection: sqlite3.Connection | None = None
        # sqlite3 releases the GIL for every statement; one thread keeps the calls in order.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        #: Whether a route committed last under another boot of this machine: a file can then be shorter
        #: than a cursor that was fsynced.
        self.boot_changed = False
        #: Whether staging may know of more than the database, which is fresh or a backup.
        self.rebuild_wanted = False

    @classmethod
    async def open(
        cls,
        directory: str,
        *,
        now_ns: Callable[[], int],
        tell: Tell,
        routes: Collection[str],
        boot_id: str = "",
        reclaim: Callable[[], object] = lambda: None,
    ) -> SqliteStore:  # disk
        """
        Open the database in *directory*.

        *routes* are the configured names: others are forgotten after 7 days.  *boot_id* is that of the
        machine, /proc/sys/kernel/random/boot_id; empty where there is none.  *reclaim* is called on the store's
        thread before files that vanished are written anew; it raises where the directory is no longer ours.

        Raises:
            StopError: 78, a database of another program or version.
            RetryError: the disk is full or fails.
        """
        store = cls(directory, now_ns=now_ns, tell=tell, boot_id=boot_id, reclaim=reclaim)
        try:
            await store._run(store._open, frozenset(routes))
        except BaseException:
            store._thread.shutdown(wait=False)
            raise
        return store

    async def keep(self) -> None:
        """
        Look after the files: write anew what vanished, and the backup where it is due.  Called every few seconds.

        Raises as `commit` does.
        """
        await self._run(self._keep)

    async def rebuilt(self) -> None:
        """
        Note that staging was read: what it knew is committed.
        """
        await self._run(self._rebuilt)
        self.rebuild_wanted = False

    async def load_generations(self) -> list[GenerationRow]:
        """
        Return all generations, by Log and number.
        """
        return await self._run(lambda: store_rows.read_generations(self._sound))

    async def load_route(self, route: str, sink_identity: str) -> RouteState:
        """
        Return what *route* left, and note that it exists.

        Raises StopError (78) if its cursors were written with another sink identity.
        """
        return await self._run(self._load_route, route, sink_identity)

    async def commit(self, transaction: Transaction) -> None:
        """
        Make *transaction* durable, all or nothing; it must not change meanwhile.

        What is forgotten or gone is taken away first, so a cursor or window given in the same
        transaction stays.

        Raises:
            RetryError: nothing was written, now; later it may be.
            StopError: 70, the database is damaged.
        """
        await self._run(self._commit, transaction)

    async def load_losses(self, route: str | None = None) -> list[LossRow]:
        """
        Return the losses of *route*, or of all, by route and age.

        At most 10,000 a route; older ones are summed by reason in records that stand in front.
        """
        return await self._run(lambda: store_losses.read_losses(self._sound, route))

    async def close(self) -> None:
        """
        Close the database after the calls that were made; may be called again.
        """
        if self._closed:
            return
        self._closed = True
        try:
            await self._run(self._close)
        except TailraceError as error:
            # What was committed is durable; the next start looks at the database anyhow.
            self._tell("checkpoint_failed", str(error), level="error")
        finally:
            self._thread.shutdown(wait=False)

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._call, function, arguments)
        finally:
            notices, self._notices = self._notices, []
            for notice in notices:
                self._tell(notice.event, notice.text, level=notice.level, **notice.fields)

    def _call(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        try:
            return function(*arguments)
        except sqlite3.Error as error:
            known = store_error(error, self._path)
            if known is None:
                raise
            raise known from error
        except OSError as error:
            raise disk_error(error, self._path) from error

    @property
    def _sound(self) -> sqlite3.Connection:
        assert self._identity is not None, "the store is closed"
        if self._connection is None:
            # An earlier attempt to write the files anew got half-way; the backup has everything.
            self._reopen()
        assert self._connection is not None
        return self._connection

    def _open(self, routes: frozenset[str]) -> None:
        now_ns = self._now_ns()
        self._connection, self._notices = open_database(self._directory, now_ns=now_ns)
        with store_rows.transaction(self._connection):
            if store_rows.take_mark(self._connection, "lost"):
                store_rows.remember_routes(self._connection, routes, now_ns, self._boot_id)
            self._notices += self._expire(self._connection, routes, now_ns)
            store_rows.prune(self._connection)
            self.boot_changed = store_rows.booted_since(self._connection, self._boot_id)
            self.rebuild_wanted = store_rows.has_mark(self._connection, "rebuild")
            store_rows.set_mark(self._connection, "open")
        # The mark has to be in the database itself, so that a -wal that is deleted is missed.
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._identity = Identity.of(self._path)
        self._unsaved_ns = now_ns
        if not self.rebuild_wanted:
            self._save()

    def _keep(self) -> None:
        self._sound_files()
        now_ns = self._now_ns()
        # The clock may have been set back meanwhile.
        if self._unsaved_ns is not None and abs(now_ns - self._unsaved_ns) >= BACKUP_AFTER_S * _NS:
            self._save()

    def _rebuilt(self) -> None:
        store_rows.take_mark(self._sound, "rebuild")
        self._save()

    def _save(self) -> None:
        """
        Write the backup.  Where the disk does not let us it is older for a while, and tried again.
        """
        try:
            write_backup(self._sound, self._directory)
        except (sqlite3.Error, OSError) as error:
            known = store_error(error, self._path) if isinstance(error, sqlite3.Error) else None
            if known is not None and not isinstance(known, RetryError):
                raise
            self._unsaved_ns = self._now_ns()
            text = f"{self._path}.backup: not written, will be tried again: {error}"
            self._notices.append(Notice("backup_failed", text, "warning"))
        else:
            self._unsaved_ns = None

    def _sound_files(self) -> None:
        """
        See that the files that are written are those that the names lead to.
        """
        connection = self._sound
        assert self._identity is not None
        missing = self._identity.missing(self._path)
        if not missing:
            return
        self._reclaim()
        os.makedirs(self._directory, mode=0o750, exist_ok=True)
        # Everything is still there for this connection, whatever became of the names.
        write_backup(connection, self._directory)
        replaced = Identity.of(self._path)
        aside = ""
        if replaced.files[0] not in (None, self._identity.files[0]):
            aside = set_aside(self._path, self._now_ns(), "replaced")
        self._connection = None
        connection.close()
        self._reopen()
        text = (
            f"{missing} was deleted or replaced under the agent: the database is written anew, nothing is lost"
            + (f"; what stood there is kept as {aside}" if aside else "")
            + "; leave the state directory to Tailrace"
        )
        self._notices.append(Notice("store_missing", text, "error", {"path": missing}))

    def _reopen(self) -> None:
        # What is left of files whose names were deleted one by one.
        set_aside(self._path, self._now_ns(), "replaced")
        if not restore_backup(self._directory, rebuild=False):
            raise OSError(errno.EIO, "the backup that was just written is damaged", self._path)
        connection, notices = open_database(self._directory, now_ns=self._now_ns())
        self._notices += notices
        # Makes SQLite create its -wal and -shm.
        with store_rows.transaction(connection):
            store_rows.set_mark(connection, "open")
        self._connection = connection
        self._identity = Identity.of(self._path)

    def _expire(
        self, connection: sqlite3.Connection, routes: frozenset[str], now_ns: int
    ) -> list[Notice]:
        notices = []
        for route_id, name, removed_ns in connection.execute(
            "SELECT id, name, removed_ns FROM routes ORDER BY name"
        ).fetchall():
            if name in routes:
                connection.execute("UPDATE routes SET removed_ns = NULL WHERE id = ?", (route_id,))
            elif removed_ns is None:
                connection.execute(
                    "UPDATE routes SET removed_ns = ? WHERE id = ?", (now_ns, route_id)
                )
                text = f"route {name} is no longer configured: its cursors are kept for 7 days"
                notices.append(Notice("route_removed", text, "warning", {"route": name}))
            elif now_ns - removed_ns >= ROUTE_KEPT_S * _NS:
                connection.execute("DELETE FROM routes WHERE id = ?", (route_id,))
                text = f"route {name} has not been configured for 7 days: its cursors are forgotten"
                notices.append(Notice("route_expired", text, "warning", {"route": name}))
        return notices

    def _load_route(self, route: str, sink_identity: str) -> RouteState:
        route_id = store_rows.adopt_route(
            self._sound, route, sink_identity, self._now_ns(), self._path
        )
        self._route_ids[route] = route_id
        return store_rows.read_route(self._sound, route_id)

    def _commit(self, transaction: Transaction) -> None:
        assert transaction.route in self._route_ids, (
            f"commit of route {transaction.route}, which was not loaded"
        )
        self._sound_files()
        store_rows.write(
            self._sound, self._route_ids[transaction.route], transaction, self._boot_id
        )
        if self._unsaved_ns is None:
            self._unsaved_ns = transaction.at_ns
        # Files are removed on the strength of these.
        if transaction.windows_gone or any(window.objects for window in transaction.windows):
            self._save()

    def _close(self) -> None:
        if self._connection is None:
            return
        try:
            self._sound_files()
            if self._unsaved_ns is not None:
                self._save()
            store_rows.take_mark(self._sound, "open")
        finally:
            connection, self._connection = self._connection, None
            self._identity = None
            if connection is not None:
                connection.close()
