"""
State directories for the tests of the store: one on disk, one in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.runtime.store import SqliteStore
from tests.contract.store_values import Moment
from tests.fakes.store_model import StoreModel

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection
    from pathlib import Path


class SqliteWorld:
    """
    A state directory on disk.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.moment = Moment()
        self.told: list[tuple[str, str, str]] = []
        self.store: SqliteStore

    @property
    def connection(self) -> sqlite3.Connection:
        return self.store._sound

    def tell(self, event: str, text: str, /, *, level: str = "info", **_fields: object) -> None:
        self.told.append((event, level, text))

    async def reopen(
        self, *, routes: Collection[str] = ("a", "b"), boot_id: str = "boot-1"
    ) -> SqliteStore:
        await self.close()
        self.store = await SqliteStore.open(
            str(self.directory),
            now_ns=self.moment.now_ns,
            tell=self.tell,
            routes=routes,
            boot_id=boot_id,
        )
        return self.store

    async def close(self) -> None:
        if hasattr(self, "store"):
            await self.store.close()


class ModelWorld:
    """
    No state directory.
    """

    def __init__(self) -> None:
        self.moment = Moment()
        self.store = StoreModel(now_ns=self.moment.now_ns)

    async def reopen(
        self, *, routes: Collection[str] = ("a", "b"), boot_id: str = "boot-1"
    ) -> StoreModel:
        self.store = self.store.reopened(routes=routes, boot_id=boot_id)
        return self.store

    async def close(self) -> None:
        return


async def opened(directory: Path) -> SqliteWorld:
    """
    Return the world of *directory*, opened.
    """
    world = SqliteWorld(directory)
    await world.reopen()
    return world
