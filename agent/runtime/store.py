"""
The checkpoint store: cursors, identities, windows and losses in SQLite, on a thread of their own.

The schema, row by row, is in store_schema.py.

- A commit that returned has survived a power failure; one that raised has left nothing behind.
- Calls run one after the other in the order in which they were made.  A caller that is cancelled does not
  cancel what its call has begun.
- A full disk, an I/O error or a lock is a RetryError: the route goes on and commits later.  A damaged
  database is a StopError (70); the next start sets it aside, says so, and begins with a fresh one.
- A cursor belongs to the route's name.  The cursors of a route that is no longer configured stay 7 days.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from agent.runtime import store_losses, store_rows
from agent.runtime.store_file import Notice, open_database, store_error
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

    def __init__(self, directory: str, *, now_ns: Callable[[], int], boot_id: str) -> None:
        self._path = os.path.join(directory, DATABASE_NAME)
        self._now_ns = now_ns
        self._boot_id = boot_id
        self._route_ids: dict[str, int] = {}
        self._connection: sqlite3.Connection | None = None
        # sqlite3 releases the GIL for every statement; one thread keeps the calls in order.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        #: Whether a route committed last under another boot of this machine: a file can then be shorter
        #: than a cursor that was fsynced.
        self.boot_changed = False

    @classmethod
    async def open(
        cls,
        directory: str,
        *,
        now_ns: Callable[[], int],
        tell: Tell,
        routes: Collection[str],
        boot_id: str = "",
    ) -> SqliteStore:  # disk
        """
        Open the database in *directory*.

        *routes* are the configured names: others are forgotten after 7 days.  *boot_id* is that of the
        machine, /proc/sys/kernel/random/boot_id; empty where there is none.

        Raises:
            StopError: 78, a database of another program or version.
            RetryError: the disk is full or fails.
        """
        store = cls(directory, now_ns=now_ns, boot_id=boot_id)
        try:
            notices = await store._run(store._open, directory, frozenset(routes))
        except BaseException:
            store._thread.shutdown(wait=False)
            raise
        for notice in notices:
            tell(notice.event, notice.text, level=notice.level, **notice.fields)
        return store

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
        if self._connection is not None:
            await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._call, function, arguments)

    def _call(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        try:
            return function(*arguments)
        except sqlite3.Error as error:
            known = store_error(error, self._path)
            if known is None:
                raise
            raise known from error

    @property
    def _sound(self) -> sqlite3.Connection:
        assert self._connection is not None, "the store is closed"
        return self._connection

    def _open(self, directory: str, routes: frozenset[str]) -> list[Notice]:
        now_ns = self._now_ns()
        self._connection, notices = open_database(directory, now_ns=now_ns)
        with store_rows.transaction(self._connection):
            notices += self._expire(self._connection, routes, now_ns)
            store_rows.prune(self._connection)
            self.boot_changed = store_rows.booted_since(self._connection, self._boot_id)
        return notices

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
        store_rows.write(
            self._sound, self._route_ids[transaction.route], transaction, self._boot_id
        )

    def _close(self) -> None:
        self._sound.close()
        self._connection = None
