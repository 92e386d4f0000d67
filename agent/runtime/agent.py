"""
The whole wiring: store, files, budget, a supervised route per configured route, admin endpoint.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.budget import Budget
from agent.core.checkpoint import Transaction
from agent.core.counters import Counters
from agent.core.select import Select
from agent.runtime.dead_letters import DeadLetters
from agent.runtime.held import HeldFiles
from agent.runtime.metadata import learn_instance, open_kubernetes, refuse_blind_routes
from agent.runtime.producers import World, producers_of
from agent.runtime.route import Route, RouteSettings
from agent.runtime.sinks import AwsOnce, sink_identity, sink_maker
from agent.runtime.supervisor import Supervisor
from agent.runtime.transforms import begin_transforms
from agent.sources.files import Files
from agent.sources.gate import Gate
from agent.sources.resources import Resources
from agent.sources.spooled import settings_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.config.values import Config, RouteConfig
    from agent.core.batch import Loss
    from agent.core.checkpoint import GenerationRow, Store
    from agent.core.host import Host
    from agent.runtime.kubernetes import Kubernetes
    from agent.sources.reader import Reader


#: Seconds before discovery, or the watch of the API server, is started again after an error.
KEEP_RETRY_S = 1.0
READY_WAIT_S = 0.1


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
        aws: AwsOnce | None = None,
    ) -> None:
        self.config = config
        self.counters = Counters()
        #: Nobody writes the files any more: read them to their end (replay).
        self.finite = finite
        self._rebooted = rebooted
        self.budget = Budget(
            config.memory_budget_bytes, tuple(route.name for route in config.routes)
        )
        self._letters = DeadLetters(
            config.state_dir,
            bytes_max=config.dead_letter_bytes_max,
            reasons=config.dead_letter_reasons,
            host=host,
            counters=self.counters,
        )
        self.files: dict[str, Files] = {}
        self.supervisors: list[Supervisor] = []
        self._host = host
        self._store = store
        self._aws = aws or AwsOnce(host.clock)
        #: Fills the gauges of the API server's watch.
        self.refresh: Callable[[], None] = lambda: None
        self._started = asyncio.Event()

    async def run(self) -> None:
        """
        Run until drained; raises StopError.
        """
        kubernetes = open_kubernetes(self.config, host=self._host, counters=self.counters)
        refuse_blind_routes(self.config, kubernetes)
        self._open_files(kubernetes, await self._store.load_generations())
        self.supervisors = [self._supervisor(route) for route in self.config.routes]
        for files in self.files.values():
            await files.scan()
            if self.finite:
                files.freeze()
        producers = [] if self.finite else producers_of(self._world())
        async with asyncio.TaskGroup() as group:
            upkeep = [
                group.create_task(self._keep(files.run, f"source {name}"), name=f"files.{name}")
                for name, files in self.files.items()
            ]
            if kubernetes is not None:
                self.refresh = kubernetes.refresh
                keep = self._keep(kubernetes.run, "the watch of the API server")
                upkeep.append(group.create_task(keep, name="kubernetes"))
            held = HeldFiles(
                self.files,
                host=self._host,
                counters=self.counters,
                bytes_max=self.config.held_deleted_bytes_max,
                free_min=self.config.disk_free_min_bytes,
            )
            keep = self._keep(held.run, "the check of deleted files")
            upkeep.append(group.create_task(keep, name="held"))
            upkeep += [
                group.create_task(self._keep(run, what), name=what.replace(" ", "."))
                for what, run in producers
            ]
            resources = [files.resources for files in self.files.values()]
            learn = learn_instance(self.config, kubernetes, resources)
            upkeep.append(group.create_task(learn, name="instance"))
            routes = [
                group.create_task(item.run(), name=f"route.{item.name}")
                for item in self.supervisors
            ]
            self._started.set()
            await asyncio.wait(routes)
            for task in upkeep:
                task.cancel()
        await self._aws.close()

    def _world(self) -> World:
        return World(
            config=self.config,
            host=self._host,
            counters=self.counters,
            aws=self._aws,
            files=self.files,
            record_loss=self._record_loss,
        )

    async def _record_loss(self, source: str, loss: Loss) -> None:
        """
        Make *loss* durable for every route that reads *source*, once they are up.
        """
        for supervisor, route in zip(self.supervisors, self.config.routes, strict=True):
            if route.source != source:
                continue
            while not supervisor.ready:
                await self._host.clock.sleep(READY_WAIT_S)
            now_ns = self._host.clock.now_ns()
            await self._store.commit(Transaction(route.name, now_ns, losses=[loss]))
            self.counters.add(metric.LOSSES, 1, route.name, loss.reason)

    def _open_files(self, kubernetes: Kubernetes | None, rows: list[GenerationRow]) -> None:
        for source in self.config.sources:
            settings = settings_of(
                source.settings, state_dir=self.config.state_dir, source=source.name
            )
            self.files[source.name] = Files(
                settings,
                host=self._host,
                counters=self.counters,
                resources=Resources(
                    cluster=self.config.cluster,
                    node=self.config.node,
                    # What is configured need not be found out first.
                    region=self.config.instance.region,
                    zone=self.config.instance.zone,
                    instance_id=self.config.instance.instance_id,
                    pods=kubernetes.pods if kubernetes is not None else None,
                    components=settings.components_by_path,
                ),
                generations=rows,
                routes=[item.name for item in self.config.routes if item.source == source.name],
                rebooted=self._rebooted,
                finite=self.finite,
            )

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

    async def _keep(self, run: Callable[[], Awaitable[None]], what: str) -> None:
        """
        Keep *run* going: an error in it must not end the routes.
        """
        while True:
            try:
                await run()
            except Exception as error:
                # Told and tried again: what is already known goes on being read meanwhile.
                self._host.tell(
                    "upkeep_failed",
                    f"{what} failed and goes on in {KEEP_RETRY_S:g} s: {type(error).__name__}: {error}",
                    level="error",
                )
            await self._host.clock.sleep(KEEP_RETRY_S)

    def _supervisor(self, route: RouteConfig) -> Supervisor:
        settings = RouteSettings(
            name=route.name,
            sink_identity=sink_identity(route.sink),
            commit_interval_s=self.config.commit_interval_s,
            uncommitted_bytes_max=self.config.uncommitted_bytes_max,
            joins_lines=any(hasattr(item, "multiline") for item in route.transforms),
            linger_s=route.sink.linger_s,
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

        def make_gate() -> Gate:
            return Gate(
                route.name,
                select=Select(route.select),
                pods=self.files[route.source].resources.pods,
                wait_s=self.config.kubernetes.metadata_wait_s,
                on_missing=route.on_missing,
                counters=self.counters,
                facts=self.files[route.source].resources.facts,
            )

        begin = begin_transforms(route, counters=self.counters, tell=self._host.tell)

        def make_route(prepare: Callable[[Reader], None]) -> Route:
            return Route(
                settings,
                host=self._host,
                files=self.files[route.source],
                store=self._store,
                share=share,
                counters=self.counters,
                make_gate=make_gate,
                make_sink=make_sink,
                begin=begin,
                letters=self._letters,
                prepare=prepare,
            )

        return Supervisor(
            route.name, host=self._host, counters=self.counters, make_route=make_route
        )
