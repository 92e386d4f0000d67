"""
The whole wiring: store, files, budget, a supervised route per configured route, admin endpoint.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.core.budget import Budget
from agent.core.counters import Counters
from agent.runtime.route import Route, RouteSettings
from agent.runtime.sinks import sink_identity, sink_maker
from agent.runtime.supervisor import Supervisor
from agent.sources.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config import Config, RouteConfig
    from agent.core.checkpoint import Store
    from agent.core.host import Host
    from agent.sources.reader import Reader


class Agent:
    """
    The routes of one configuration over one store.
    """

    def __init__(self, config: Config, *, host: Host, store: Store, counters: Counters | None = None) -> None:
        self.config = config
        self.counters = counters or Counters()
        self.budget = Budget(config.memory_budget_bytes, tuple(route.name for route in config.routes))
        self.files: dict[str, Files] = {}
        self.supervisors: list[Supervisor] = []
        self._host = host
        self._store = store
        self._started = asyncio.Event()

    async def run(self) -> None:
        """
        Run until drained; raises StopError.
        """
        generations = await self._store.load_generations()
        for source in self.config.sources:
            self.files[source.name] = Files(
                source.settings,
                host=self._host,
                counters=self.counters,
                cluster=self.config.cluster,
                node=self.config.node,
                generations=generations,
            )
        self.supervisors = [self._supervisor(route) for route in self.config.routes]
        for files in self.files.values():
            await files.scan()
        async with asyncio.TaskGroup() as group:
            followers = [group.create_task(files.run(), name=f"files.{name}") for name, files in self.files.items()]
            routes = [group.create_task(item.run(), name=f"route.{item.name}") for item in self.supervisors]
            self._started.set()
            await asyncio.wait(routes)
            for follower in followers:
                follower.cancel()

    async def drain(self, timeout_s: float) -> None:
        """
        Stop reading; deliver and commit what was read within *timeout_s*.
        """
        await self._started.wait()
        for supervisor in self.supervisors:
            supervisor.drain(timeout_s)

    @property
    def ready(self) -> bool:
        """
        Whether every route is up.
        """
        return bool(self.supervisors) and all(supervisor.ready for supervisor in self.supervisors)

    def _supervisor(self, route: RouteConfig) -> Supervisor:
        settings = RouteSettings(
            name=route.name,
            sink_identity=sink_identity(route.sink),
            commit_interval_s=self.config.commit_interval_s,
            uncommitted_bytes_max=self.config.uncommitted_bytes_max,
        )
        share = self.budget.shares[route.name]
        make_sink = sink_maker(route, self.config, host=self._host, store=self._store, share=share, counters=self.counters)

        def make_route(prepare: Callable[[Reader], None]) -> Route:
            return Route(
                settings,
                host=self._host,
                files=self.files[route.source],
                store=self._store,
                share=share,
                counters=self.counters,
                make_sink=make_sink,
                prepare=prepare,
            )

        return Supervisor(route.name, host=self._host, counters=self.counters, make_route=make_route)
