"""
The whole wiring: store, files, budget, a supervised route per configured route, admin endpoint.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.core.budget import Budget
from agent.core.counters import Counters
from agent.runtime.route import Route, RouteSettings
from agent.runtime.sinks import AwsOnce, sink_identity, sink_maker
from agent.runtime.supervisor import Supervisor
from agent.sources.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config.values import Config, RouteConfig
    from agent.core.checkpoint import Store
    from agent.core.host import Host
    from agent.sources.reader import Reader


#: Seconds before discovery is started again after an error.
FOLLOW_RETRY_S = 1.0


class Agent:
    """
    The routes of one configuration over one store.
    """

    def __init__(
        self,
        config: Config,
        *,
        host: Host,
        store: Store,
        finite: bool = False,
        rebooted: bool = False,
    ) -> None:
        self.config = config
        self.counters = Counters()
        #: Nobody writes the files any more: read them to their end (replay).
        self.finite = finite
        self._rebooted = rebooted
        self.budget = Budget(
            config.memory_budget_bytes, tuple(route.name for route in config.routes)
        )
        self.files: dict[str, Files] = {}
        self.supervisors: list[Supervisor] = []
        self._host = host
        self._store = store
        self._aws = AwsOnce(host.clock)
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
                routes=[item.name for item in self.config.routes if item.source == source.name],
                rebooted=self._rebooted,
            )
        self.supervisors = [self._supervisor(route) for route in self.config.routes]
        for files in self.files.values():
            await files.scan()
            if self.finite:
                files.freeze()
        async with asyncio.TaskGroup() as group:
            followers = [
                group.create_task(self._follow(name), name=f"files.{name}") for name in self.files
            ]
            routes = [
                group.create_task(item.run(), name=f"route.{item.name}")
                for item in self.supervisors
            ]
            self._started.set()
            await asyncio.wait(routes)
            for follower in followers:
                follower.cancel()
        await self._aws.close()

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

    @property
    def exhausted(self) -> bool:
        """
        Whether every route has read everything that is known.
        """
        routes = [supervisor.route for supervisor in self.supervisors]
        return bool(routes) and all(route is not None and route.exhausted for route in routes)

    @property
    def bytes_known(self) -> int:
        """
        Bytes of all known files: what a replay has before it.
        """
        return sum(
            generation.size
            for files in self.files.values()
            for log in files.logs.values()
            for generation in log.chain.generations
        )

    async def _follow(self, name: str) -> None:
        """
        Keep discovery and the tick going: an error in them must not end the routes.
        """
        while True:
            try:
                await self.files[name].run()
            except Exception as error:
                # Told and tried again: what is already known goes on being read meanwhile.
                self._host.tell(
                    "discovery_failed",
                    f"source {name} failed and goes on in {FOLLOW_RETRY_S:g} s: {type(error).__name__}: {error}",
                    level="error",
                    source=name,
                )
            await self._host.clock.sleep(FOLLOW_RETRY_S)

    def _supervisor(self, route: RouteConfig) -> Supervisor:
        settings = RouteSettings(
            name=route.name,
            sink_identity=sink_identity(route.sink),
            commit_interval_s=self.config.commit_interval_s,
            uncommitted_bytes_max=self.config.uncommitted_bytes_max,
        )
        share = self.budget.shares[route.name]
        make_sink = sink_maker(
            route.sink,
            route=route.name,
            node=self.config.node,
            state_dir=self.config.state_dir,
            host=self._host,
            store=self._store,
            share=share,
            counters=self.counters,
            aws=self._aws,
        )

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

        return Supervisor(
            route.name, host=self._host, counters=self.counters, make_route=make_route
        )
