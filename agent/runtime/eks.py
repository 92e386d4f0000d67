"""
Fetches the logs of EKS control planes into a spool: the producer of sources of type `eks_control_plane`.

One agent does it, chosen by a Lease (election.py), or alone.  Per Region a task asks FilterLogEvents, one query after
another, no faster than `requests_per_s_max`; what is new is gathered, and written as one batch with the progress of
all queries (core/pull.py).  So a crash, or a request without an answer, repeats a request and no event.  While no
query is due, a page of a sweep is asked for (core/pull_sweep.py), and now and then which streams there are.

A query that fails (no such group, not allowed) waits and is said once a minute; the others go on.
A spool that is full stops the asking until routes have caught up.

What others may go on from, should this node be lost, is the progress of the last batch that every route has
committed: it is written into the Lease with every renewal.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import orjson

from agent.core import counters as metric
from agent.core.errors import StopError
from agent.core.pull import Progress
from agent.core.pull_sweep import Sweep
from agent.core.sayings import Sayings
from agent.runtime.eks_records import Records
from agent.runtime.eks_requests import Asking
from agent.runtime.eks_streams import Streams
from agent.runtime.spool import passed_by_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.config.values import Config, SourceConfig
    from agent.core.pull import Query
    from agent.runtime.producers import World
    from agent.runtime.spool import Spool
    from agent.sources.eks_settings import EksControlPlaneSettings

#: Bytes of records that are gathered before they are written: what a crash would fetch again.
BATCH_BYTES = 4 << 20
#: A batch that is smaller is written after this.
BATCH_AGE_S = 5.0
#: A page has up to 10,000 events; readers and sinks get their turn every few milliseconds.
EVENTS_AT_ONCE = 1000
#: Progress without records is written this often: an hour of silence is not asked for again.
POSITION_AGE_S = 60.0
#: How often a full spool is looked at.
FULL_WAIT_S = 1.0
#: The shortest wait for something to do.
IDLE_WAIT_S = 0.05


def check(source: SourceConfig, config: Config) -> None:
    """
    Raise StopError (78) where the source cannot work.
    """
    settings: EksControlPlaneSettings = source.settings
    if not settings.queries(config.cluster):
        raise StopError(
            f"source {source.name}: no cluster is named: set `cluster`, or `clusters` of the source",
            exit_code=78,
        )
    if settings.election == "lease":
        from agent.runtime.election import lease_place

        lease_place(settings, config, source=source.name)


async def produce(source: SourceConfig, spool: Spool, world: World) -> None:
    """
    Fetch until cancelled.
    """
    settings: EksControlPlaneSettings = source.settings
    puller = Puller(source.name, settings, spool, world)
    await puller.open({})
    if settings.election == "none":
        await puller.run()
        return
    from agent.runtime.election import Candidate

    await Candidate(settings, world, identity=puller.identity, source=source.name).run(puller)


class Puller:
    """
    The queries of one source, and what they have found.
    """

    def __init__(
        self, name: str, settings: EksControlPlaneSettings, spool: Spool, world: World
    ) -> None:
        self._name = name
        self._settings = settings
        self._spool = spool
        self._world = world
        self._clock = world.host.clock
        #: Who this agent is in elections, for as long as its state directory lives.
        self.identity = ""
        #: Whether it may: asked before every request and every write.
        self.may: Callable[[], bool] = lambda: True
        self._progress: dict[str, Progress] = {}
        self._sweeps: dict[str, Sweep] = {}
        self._records = Records()
        self._writing = asyncio.Lock()
        self._written_at = float("-inf")
        self._sayings = Sayings(clock=self._clock, tell=world.host.tell, source=name)
        #: Reach of all queries, by the number of the batch before which everything up to there is.
        self._reaches: dict[int, dict[str, int]] = {}
        self._published: dict[str, int] = {}

    async def open(self, left: Mapping[str, int]) -> None:
        """
        Find out how far this agent was, and go on from what a holder before has *left* where that is further.

        Progress in memory that was not written is forgotten: its events are fetched again.
        """
        kept = _decoded(await self._spool.open())
        self._records = Records()
        known = kept.get("queries", {})
        for query in self._settings.queries(self._world.config.cluster):
            self._begin(query, known.get(query.key), left.get(query.key, 0))
        self._reaches = {self._spool.number: self._reach()}
        self._published = {}
        self.identity = str(kept.get("identity") or f"{self._world.config.node}_{uuid.uuid4().hex}")
        if kept.get("identity") != self.identity:
            # Without a holder before nobody may take the first look's beginning for progress.
            await self._spool.append({}, _encoded(self.identity, {}))

    def _begin(self, query: Query, kept: Mapping[str, Any] | None, left_ms: int) -> None:
        settings = self._settings
        progress = Progress(query=query, overlap_ms=int(settings.overlap_s * 1000), reach_ms=0)
        if kept is not None:
            progress.restore(kept)
        if progress.reach_ms < left_ms:
            # Since then another agent has fetched: what it has found late is its own.
            progress.reach_ms, progress.whole_ms, kept = left_ms, 0, None
        if not progress.reach_ms:
            now_ms = self._clock.now_ns() // 1_000_000
            progress.reach_ms = now_ms - int(settings.history_s * 1000)
            # What was before is not wanted, however late it was.
            progress.late.floor_ms = progress.overlap_start_ms
        late_ms = int(settings.late_s * 1000)
        sweep = Sweep(query=query, progress=progress, late_ms=late_ms, whole_ms=progress.reach_ms)
        if kept is not None:
            sweep.restore(kept)
        self._progress[query.key], self._sweeps[query.key] = progress, sweep

    def published(self) -> dict[str, int]:
        """
        Return how far every route has what was fetched: from there on another agent can go on.
        """
        passed = self._spool.passed(passed_by_all(self._world.files[self._name], self._spool))
        done = sorted(number for number in self._reaches if number <= passed)
        for number in done:
            self._published = self._reaches[number]
        for number in done[:-1]:
            del self._reaches[number]
        return self._published

    # -- fetching -----------------------------------------------------------------------------

    async def run(self) -> None:
        """
        Fetch until cancelled.
        """
        regions: dict[str, list[Progress]] = {}
        for progress in self._progress.values():
            regions.setdefault(progress.query.region, []).append(progress)
        try:
            async with asyncio.TaskGroup() as group:
                for region, queries in regions.items():
                    asking = Asking(region, self._settings, self._world, source=self._name)
                    follow = self._follow(asking, queries)
                    group.create_task(follow, name=f"eks.{self._name}.{region}")
                group.create_task(self._write_regularly(), name=f"eks.{self._name}.batches")
        except BaseExceptionGroup as failed:
            # One is enough to begin again; the others are of the same disk.
            raise failed.exceptions[0] from None

    async def _follow(self, asking: Asking, queries: Sequence[Progress]) -> None:
        streams = Streams(asking, queries, self._settings, self._world, source=self._name)
        while True:
            await self._until_room()
            now = self._clock.monotonic()
            progress = min(queries, key=lambda item: item.ready_at)
            if not self.may():
                await self._clock.sleep(IDLE_WAIT_S)
            elif progress.ready_at <= now:
                await self._step(asking, progress)
                self._measure(asking, progress)
            elif not await streams.look() and not await self._sweep(asking, queries):
                await self._clock.sleep(max(IDLE_WAIT_S, progress.ready_at - now))

    async def _step(self, asking: Asking, progress: Progress) -> None:
        settings, clock = self._settings, self._clock
        interval_s = settings.poll_interval_s * self._spool.stretch
        lag_ms = int(settings.lag_s * 1000)
        if not progress.begin(asking.now_ms(), clock.monotonic(), lag_ms=lag_ms):
            # Should our clock be behind: the next look at the streams learns the service's.
            progress.ready_at = clock.monotonic() + interval_s
            return
        if await self._ask(asking, progress) is None:
            return
        self._say_limits(progress)
        if not progress.open:
            # Far behind, the next hour follows at once; else it is time to wait.
            behind_ms = asking.now_ms() - lag_ms - progress.reach_ms
            wait_s = interval_s if behind_ms < 1000 * interval_s else 0
            progress.ready_at = clock.monotonic() + wait_s

    async def _sweep(self, asking: Asking, queries: Sequence[Progress]) -> bool:
        """
        Ask for one page of what may have come late; return whether there was anything to ask for.
        """
        now = self._clock.monotonic()
        sweep = min((self._sweeps[item.query.key] for item in queries), key=lambda s: s.ready_at)
        if sweep.ready_at > now:
            return False
        if not sweep.begin(asking.now_ms()):
            sweep.ready_at = now + self._settings.poll_interval_s
            return True
        found = await self._ask(asking, sweep)
        if found:
            query = sweep.query
            self._world.counters.add(metric.PULL_LATE_EVENTS, found, self._name, query.cluster)
            self._sayings.say(
                "eks_events_late",
                f"source {self._name}: {found} events of {query.key} arrived after overlap_s "
                f"({self._settings.overlap_s:g} s) and were found by the slow look only: where that is usual, raise it",
                cause=query.key,
            )
        return True

    async def _ask(self, asking: Asking, span: Progress | Sweep) -> int | None:
        """
        Ask for a page and gather what of it is new; return how many events, None without a page.
        """
        page, delay_s = await asking.page(span)
        if page is None:
            span.ready_at = self._clock.monotonic() + delay_s
            return None
        # A batch that is written in between would have the ids, and not the events.
        async with self._writing:
            fresh = span.take(page.events, page.token, now_ms=asking.now_ms())
            for start in range(0, len(fresh), EVENTS_AT_ONCE):
                self._records.add(span.query, fresh[start : start + EVENTS_AT_ONCE])
                await asyncio.sleep(0)
        if self._records.size >= BATCH_BYTES:
            await self._write()
        return len(fresh)

    def _say_limits(self, progress: Progress) -> None:
        key = progress.query.key
        if progress.shortened:
            since_s = (progress.reach_ms - progress.seen.floor_ms) / 1000
            self._sayings.say(
                "eks_overlap_shortened",
                f"source {self._name}: {key} has more events in overlap_s than can be remembered: "
                f"events that arrive later than {since_s:.0f} s are not found; a subscription filter is for logs of "
                "this size",
            )
        if progress.late_shortened:
            since_s = (progress.reach_ms - progress.late.floor_ms) / 1000
            self._sayings.say(
                "eks_late_shortened",
                f"source {self._name}: {key} has more late events in late_s than can be remembered: those that "
                f"arrive later than {since_s:.0f} s are not found; a larger overlap_s makes fewer of them late",
            )

    # -- batches ------------------------------------------------------------------------------

    async def _write_regularly(self) -> None:
        while True:
            age_s = min(BATCH_AGE_S, self._settings.poll_interval_s)
            await self._clock.sleep(age_s * self._spool.stretch)
            old = self._clock.monotonic() - self._written_at >= POSITION_AGE_S
            if self._records.counts or old:
                await self._write()

    async def _write(self) -> None:
        async with self._writing:
            if not self.may():
                return
            reach = self._reach()
            position = _encoded(self.identity, self._kept())
            # What is found from here on belongs to the next batch.
            records, self._records = self._records, Records()
            await self._spool.append(records.by_component(), position)
            self._reaches[self._spool.number] = reach
            self.published()  # Forgets what every route has passed.
            self._written_at = self._clock.monotonic()
            for (cluster, kind), count in records.counts.items():
                self._world.counters.add(metric.PULLED_EVENTS, count, self._name, cluster, kind)

    async def _until_room(self) -> None:
        while not self._spool.has_room:
            self._sayings.say(
                "spool_full",
                f"source {self._name}: the spool is full ({self._spool.bytes_held} bytes): nothing is fetched until "
                "the slowest route has caught up (tailrace status says which); spool_bytes_max raises the limit",
            )
            await self._clock.sleep(FULL_WAIT_S)

    def _kept(self) -> dict[str, Any]:
        return {key: item.kept() | self._sweeps[key].kept() for key, item in self._progress.items()}

    def _reach(self) -> dict[str, int]:
        return {key: progress.reach_ms for key, progress in self._progress.items()}

    def _measure(self, asking: Asking, progress: Progress) -> None:
        behind_s = max(0.0, (asking.now_ms() - progress.reach_ms) / 1000)
        query = progress.query
        self._world.counters.set(
            metric.PULL_BEHIND_SECONDS, behind_s, self._name, query.cluster, query.prefix
        )


def _encoded(identity: str, queries: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"identity": identity, "queries": queries})


def _decoded(position: bytes) -> dict[str, Any]:
    kept: dict[str, Any] = orjson.loads(position) if position else {}
    return kept
