"""
What every checkpoint store does with the identities of files; part of the contract in store.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.checkpoint import Transaction
from agent.core.cursor import cursor_at
from agent.core.identity import Tail
from tests.contract.store_values import LOG, generation

if TYPE_CHECKING:
    from tests.contract.store import World


class GenerationsContract:
    """
    Identities are shared by all routes.
    """

    async def load(self, world: World, *routes: str) -> None:
        for route in routes:
            await world.store.load_route(route, f"sink-{route}")

    async def test_tails_come_and_go_with_their_generation(self, world: World) -> None:
        """
        The tail of a file is as durable as its identity; another file at the same number has not got it.
        """
        await self.load(world, "a")
        tail = Tail(4096, 1024, bytes(range(16)))
        cursors = {LOG: cursor_at(0, 5)}
        await world.store.commit(
            Transaction("a", 1, cursors=cursors, generations=[generation(tail=tail)])
        )
        await world.reopen()
        assert await world.store.load_generations() == [generation(tail=tail)]
        await self.load(world, "a")
        other = generation(file_id="f" * 32)
        await world.store.commit(Transaction("a", 2, generations=[other]))
        assert await world.store.load_generations() == [other]
        await world.store.commit(Transaction("a", 3, forgotten=[LOG]))
        assert await world.store.load_generations() == []

    async def test_generations_alone_are_no_commit_but_the_first(self, world: World) -> None:
        """
        A route that stands still stores what its files become; under a new boot it has yet to commit.
        """
        await self.load(world, "a", "b")
        await world.store.commit(Transaction("a", 1, generations=[generation()]))
        assert not (await world.store.load_route("a", "sink-a")).first_start
        await world.store.commit(Transaction("b", 1, cursors={LOG: cursor_at(0, 0)}))
        await world.reopen(boot_id="boot-2")
        assert world.store.boot_changed
        await self.load(world, "a", "b")
        await world.store.commit(Transaction("a", 2, cursors={LOG: cursor_at(0, 0)}))
        await world.store.commit(Transaction("b", 2, generations=[generation()]))
        await world.reopen(boot_id="boot-2")
        assert world.store.boot_changed, "b has not committed since"
