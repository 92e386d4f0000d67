"""
The checkpoint store of a simulated node: the model that passes the store's contract, with a crash's semantics.

One thread writes, so commits happen in order.  A transaction is durable at one moment between its beginning
and its answer; a crash comes before that moment or behind it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agent.core.errors import RetryError

if TYPE_CHECKING:
    import asyncio
    from random import Random

    from agent.core.checkpoint import GenerationRow, LossRow, RouteState, Transaction
    from tests.fakes.store_model import StoreModel
    from tests.sim.host import SimHost


class SimStore:
    """
    Implements `Store` of core/checkpoint.py for one life.
    """

    def __init__(self, model: StoreModel, host: SimHost, random: Random) -> None:
        self._model = model
        self._host = host
        self._random = random
        self._free_at = 0.0

    async def load_generations(self) -> list[GenerationRow]:
        return await self._model.load_generations()

    async def load_route(self, route: str, sink_identity: str) -> RouteState:
        return await self._model.load_route(route, sink_identity)

    async def load_losses(self, route: str | None = None) -> list[LossRow]:
        return await self._model.load_losses(route)

    async def commit(self, transaction: Transaction) -> None:
        self._host.check()
        loop = self._host.world.loop
        done: asyncio.Future[None] = loop.create_future()
        at = max(loop.now, self._free_at) + self._random.random() * 0.01
        self._free_at = at
        loop.call_at(at, self._apply, done, transaction)
        await done

    def _apply(self, done: asyncio.Future[None], transaction: Transaction) -> None:
        world = self._host.world
        if not self._host.alive:
            return
        if world.store_fails:
            self._answer(done, RetryError("database is locked", code="SQLITE_BUSY"))
            return
        coroutine: Any = self._model.commit(transaction)
        with suppress(StopIteration):
            coroutine.send(None)
        world.committed(transaction)
        world.loop.call_later(self._random.random() * 0.01, self._answer, done, None)

    @staticmethod
    def _answer(done: asyncio.Future[None], error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(None)
