"""
One run of a route: from its committed cursors until an error, or until it is drained.

    reader → (select → transforms) → sink → resolve → commit

Three tasks under one TaskGroup: the pump moves segments from the reader to the sink, the sink
delivers, and the checkpointer commits what is resolved.  An error of any of them ends the run; the
supervisor starts the next one from the store, so nothing here needs to be undone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.checkpoint import Transaction
from agent.core.errors import RetryError
from agent.core.faults import point
from agent.core.resolve import Resolver
from agent.core.sayings import Sayings
from agent.runtime.dead_letters import Letter
from agent.runtime.host import GroupTasks
from agent.sources.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.core.budget import Share
    from agent.core.checkpoint import RouteState, Store
    from agent.core.counters import Counters
    from agent.core.cursor import Cursor
    from agent.core.host import Host, Tasks
    from agent.core.transform import Begin
    from agent.runtime.dead_letters import DeadLetters
    from agent.sinks.protocol import Resolve, Sink
    from agent.sources.files import Files
    from agent.sources.gate import Gate
    from agent.sources.reader import Reader

#: How often a pump looks again whether a full sink has room.  A sink is full for minutes, not
#: milliseconds: the destination is away.
SINK_FULL_POLL_S = 0.25
#: Bytes of dead letters that are in memory at once, but for the last one.
LETTERS_BYTES_MAX = 1 << 20
#: Longest that a stop reads what waited in files for more.
GATHERED_S = 1.0
#: Seconds between commits while the reader waits for memory, where `commit_interval_s` is longer.
SHORT_COMMIT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """
    What a route needs of the configuration, without its sink.
    """

    name: str
    sink_identity: str
    commit_interval_s: float
    uncommitted_bytes_max: int
    joins_lines: bool = False
    linger_s: float = 0.0  # for which the sink lets a line wait for others


class Route:
    """
    One run.  `run` returns when `drain` was asked for and is done; it raises what ended the run.
    """

    def __init__(
        self,
        settings: RouteSettings,
        *,
        host: Host,
        files: Files,
        store: Store,
        share: Share,
        counters: Counters,
        make_gate: Callable[[], Gate],
        make_sink: Callable[[RouteState, Resolve, Tasks], Sink],
        begin: Begin | None = None,
        letters: DeadLetters | None = None,
        prepare: Callable[[Reader], None] = lambda _reader: None,
    ) -> None:
        self.settings = settings
        self._host = host
        self._files = files
        self._store = store
        self._share = share
        self._counters = counters
        self._make_gate = make_gate
        self._make_sink = make_sink
        self._begin = begin
        self._letters = letters
        self._lines = Lines(files, joined=settings.joins_lines)
        self._prepare = prepare
        self._commit_wanted = asyncio.Event()
        self._draining = asyncio.Event()
        self._drain_timeout_s = 0.0
        self._stopped = False
        self._failing = False
        self._sayings = Sayings(route=settings.name, clock=host.clock, tell=host.tell)
        self.ready = False
        self.resolver: Resolver | None = None
        self.reader: Reader | None = None

    async def run(self) -> None:
        """
        Read, deliver and commit.
        """
        state = await self._store.load_route(self.settings.name, self.settings.sink_identity)
        resolver = self.resolver = Resolver(
            self.settings.name,
            state.cursors,
            self._counters,
            self._share,
            letter_reasons=frozenset() if self._letters is None else self._letters.reasons,
            checkpoint_wanted=self._commit_wanted.set,
        )
        reader = self.reader = self._files.reader(
            self.settings.name,
            cursors=state.cursors,
            first_start=state.first_start,
            share=self._share,
            gate=self._make_gate(),
            begin=self._begin,
            linger_s=self.settings.linger_s,
        )
        self._prepare(reader)
        sink: Sink | None = None
        try:
            async with asyncio.TaskGroup() as group:
                sink = self._make_sink(state, resolver, GroupTasks(group))
                await sink.open()
                name = self.settings.name
                tasks = [
                    group.create_task(self._pump(reader, sink, resolver), name=f"{name}.pump"),
                    group.create_task(sink.run(), name=f"{name}.sink"),
                    group.create_task(
                        self._checkpoint(reader, sink, resolver), name=f"{name}.checkpoint"
                    ),
                ]
                self.ready = True
                await self._draining.wait()
                await self._drain(reader, sink, resolver, tasks)
        finally:
            self.ready = False
            reader.close()
            try:
                if sink is not None:
                    await sink.close()
            finally:
                resolver.close()

    def drain(self, timeout_s: float) -> None:
        """
        Ask for the end: stop reading, deliver what was read within *timeout_s*, commit.
        """
        self._drain_timeout_s = timeout_s
        self._draining.set()

    @property
    def exhausted(self) -> bool:
        """
        Whether a run is up that has read everything known.
        """
        return self.ready and self.reader is not None and self.reader.exhausted()

    async def _pump(self, reader: Reader, sink: Sink, resolver: Resolver) -> None:
        while True:
            while sink.full:
                await self._host.clock.sleep(SINK_FULL_POLL_S)
            segment = await reader.next()
            try:
                resolver.track(segment)
                if segment.rows:
                    sink.accept(segment)
            except BaseException:
                segment.release()  # Nobody else has it yet: the next run needs the memory.
                raise
            if not segment.rows:
                segment.charge.release()
            if resolver.delivered_bytes > self.settings.uncommitted_bytes_max:
                self._commit_wanted.set()

    async def _checkpoint(self, reader: Reader, sink: Sink, resolver: Resolver) -> None:
        while not self._stopped:
            await self._until_commit()
            self._commit_wanted.clear()
            await self._commit_or_tell(reader, sink, resolver)

    async def _until_commit(self) -> None:
        clock = self._host.clock
        due = clock.monotonic() + self.settings.commit_interval_s
        while (left_s := due - clock.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(left_s, SHORT_COMMIT_S)):
                    await self._commit_wanted.wait()
            except TimeoutError:
                pass
            # What a commit confirms gives back memory: nobody waits a long interval for it.
            if self._commit_wanted.is_set() or self._share.short:
                return

    async def _commit_or_tell(self, reader: Reader, sink: Sink, resolver: Resolver) -> bool:
        try:
            await self._commit(reader, sink, resolver)
        except RetryError as error:
            # The disk is full or the database is locked: what is delivered may be repeated after a
            # crash, nothing is lost, and sinks that do not need the disk go on.
            self._failing = True
            self._counters.add(
                metric.CHECKPOINT_FAILURES, 1, self.settings.name, error.code or "store"
            )
            self._sayings.say("checkpoint_failed", str(error), cause=error.code, level="error")
            return False
        if self._failing:
            self._failing = False
            text = "checkpoints are written again"
            self._sayings.say("checkpoint_resumed", text, level="info")
        return True

    async def _commit(self, reader: Reader, sink: Sink, resolver: Resolver) -> None:
        """
        Write one checkpoint, if there is anything to write.
        """
        await self._keep_letters(resolver)
        sink_rows = await sink.confirm()
        # No await from here to the commit: the cursors must not run ahead of what confirm() made durable.
        cursors = resolver.dirty()
        cursors |= {
            log: cursor for log, cursor in reader.first_cursors().items() if log not in cursors
        }
        # Routes forget a Log one after the other; a stop must not come between them.
        finished = (
            []
            if self._draining.is_set()
            else reader.forgettable(
                log for log in reader.finished() if self._resolved(resolver, log)
            )
        )
        losses = list(resolver.losses)
        generations = reader.generation_rows(cursors)
        if not (cursors or finished or losses or generations or sink_rows is not None):
            return
        transaction = Transaction(
            route=self.settings.name,
            at_ns=self._host.clock.now_ns(),
            cursors=cursors,
            forgotten=finished,
            generations=generations,
            losses=losses,
            sink=sink_rows,
        )
        resolver.delivered_bytes = 0
        point("commit_before")
        await self._store.commit(transaction)
        point("commit_after")
        self._counters.add(metric.COMMITS, 1, self.settings.name)
        self._committed(reader, sink, resolver, transaction)

    async def _keep_letters(self, resolver: Resolver) -> None:
        """
        Keep the lines of what will never be delivered, before a cursor passes them.
        """
        while self._letters is not None and resolver.unkept:
            letters: list[Letter] = []
            size = 0
            for _, _, loss in list(resolver.unkept):
                try:
                    lines = await self._lines.of(loss)
                except OSError as error:
                    letters.append(Letter(loss, None, str(error)))
                else:
                    letters.append(Letter(loss, lines))
                    size += len(lines)
                if size >= LETTERS_BYTES_MAX:
                    break
            where = await self._letters.keep(self.settings.name, letters)
            point("letters_kept")
            resolver.kept(where)

    def _committed(
        self, reader: Reader, sink: Sink, resolver: Resolver, transaction: Transaction
    ) -> None:
        resolver.written(transaction.cursors, len(transaction.losses))
        reader.stored()
        for log, cursor in transaction.cursors.items():
            reader.release_generations(log, cursor)
        finished = set(reader.finished())
        for log in transaction.forgotten:
            if log in finished and self._resolved(resolver, log):
                resolver.ledgers.pop(log, None)
                reader.forget(log)
            else:
                # It came back while the transaction was under way, which took its cursor away.
                resolver.keep(log)
        if transaction.sink is not None:
            sink.committed(transaction.sink)

    @staticmethod
    def _resolved(resolver: Resolver, log: str) -> bool:
        ledger = resolver.ledgers.get(log)
        return ledger is None or (ledger.idle and not ledger.dirty)

    async def _drain(
        self, reader: Reader, sink: Sink, resolver: Resolver, tasks: list[asyncio.Task[None]]
    ) -> None:
        pump, sink_task, checkpoint = tasks
        clock = self._host.clock
        deadline = clock.monotonic() + self._drain_timeout_s
        if not sink.full:
            await reader.read_gathered(min(GATHERED_S, self._drain_timeout_s))
        await _cancelled(pump)
        await sink.drain(self._drain_timeout_s)
        # The checkpointer is let finish and not cancelled: a transaction that is under way would be
        # written, and its losses then written once more.
        self._stopped = True
        self._commit_wanted.set()
        await checkpoint
        await self._commit_or_tell(reader, sink, resolver)
        await sink.finish(max(0.0, deadline - clock.monotonic()))
        await self._commit_or_tell(reader, sink, resolver)
        await _cancelled(sink_task)

    def cursors(self) -> dict[str, Cursor]:
        """
        Return the committed place of every Log: what lag is measured from.
        """
        if self.resolver is None:
            return {}
        return {log: ledger.committed for log, ledger in self.resolver.ledgers.items()}


async def _cancelled(task: asyncio.Task[None]) -> None:
    """
    Cancel *task* and wait for its end.
    """
    task.cancel()
    await asyncio.wait((task,))
