"""
Parquet on S3 (or in a directory), exactly once.

    accept → frame → staging file → confirm (fsync) → checkpoint → seal → child → upload

Segments collect in memory until there are `frame_bytes` of them or the oldest is `frame_age_s` old, and
are written as one frame to the staging file of the open window.  `confirm` makes the file durable and
reports its rows as delivered; the route commits cursors and staging length in one transaction.  So a
row is in the committed part of staging exactly when its cursor has passed it, and in one window.

A window is closed when it is large enough, or old enough and the one before is sealed, or for good at
the end.  Only what is committed is sealed, so a full window asks for a checkpoint; frames behind it, written
while that was under way, move to the next window.  From there on it belongs to parquet_windows.py.  Rows of
a Log reach staging in the order of `accept`.

"Delivered" means fsynced on this node's disk.  Losing that disk loses what is staged and not uploaded.

At `staging_bytes_max` the sink is `full`: the route stops reading, the files of the node are the buffer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.checkpoint import SinkRows, Transaction, Window
from agent.core.errors import RetryError
from agent.core.faults import point
from agent.core.retry import Backoff
from agent.core.sayings import TELL_EVERY_S, Sayings
from agent.sinks.changes import Changes
from agent.sinks.parquet_frames import PendingFrame
from agent.sinks.parquet_prefixes import Prefixes
from agent.sinks.parquet_recovery import StagingPaths, recover
from agent.sinks.parquet_staging import StagingFile, no_space
from agent.sinks.parquet_upload import open_object_store, wait_after
from agent.sinks.parquet_windows import SealedWindows
from agent.sinks.protocol import Sink
from agent.sinks.staging import encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.core.batch import Segment
    from agent.core.budget import Share
    from agent.core.checkpoint import RouteState, Store
    from agent.core.counters import Counters
    from agent.core.host import AwsClient, Host, Tasks
    from agent.sinks.parquet_settings import ParquetSettings
    from agent.sinks.protocol import Resolve
    from agent.sinks.staging import Frame


class ParquetSink(Sink):
    """
    Stages segments, seals windows, uploads objects.
    """

    def __init__(
        self,
        settings: ParquetSettings,
        *,
        route: str,
        node: str,
        share: Share,
        resolve: Resolve,
        host: Host,
        tasks: Tasks,
        counters: Counters,
        store: Store,
        state: RouteState,
        state_dir: str,
        client: AwsClient | None,
    ) -> None:
        self.share = share
        self._settings, self._route, self._state = settings, route, state
        self._resolve, self._host, self._tasks = resolve, host, tasks
        self._counters, self._store = counters, store
        self._paths = StagingPaths(state_dir, route)
        self._prefixes = Prefixes(settings, route=route, counters=counters, tell=host.tell)
        self._changes = Changes()
        self._sayings = Sayings(route=route, clock=host.clock, tell=host.tell)
        self._sealed = SealedWindows(
            settings,
            paths=self._paths,
            node=node,
            host=host,
            store=store,
            counters=counters,
            objects=open_object_store(
                settings, client=client, host=host, counters=counters, route=route
            ),
            changes=self._changes,
            sayings=self._sayings,
        )
        # In memory, not yet framed.
        self._pending = PendingFrame(settings)
        self._framing: list[Segment] = []
        # The open window.  `_written` ≥ what `confirm` returned last ≥ `_committed`.
        self._file: StagingFile | None = None
        self._next_file: StagingFile | None = None
        self._written = 0
        self._confirmed = 0
        self._committed = 0
        self._opened_at = 0.0
        self._unconfirmed: list[tuple[Segment, int]] = []
        # Held by whoever appends to, syncs or replaces the staging file.
        self._lock = asyncio.Lock()
        self._draining = False
        self._finishing = False

    @property
    def full(self) -> bool:
        """
        Whether the disk holds as much as it may.
        """
        return self._disk_bytes >= self._settings.staging_bytes_max

    async def open(self) -> None:
        """
        Recover the open window, resume the sealed ones.
        """
        state, clock = self._state, self._host.clock
        now_ns = clock.now_ns()
        found = await recover(
            self._paths, state, host=self._host, store=self._store, counters=self._counters
        )
        age_s = min(max(0.0, (now_ns - found.created_ns) / 1e9), self._settings.window_age_s)
        self._file = self._staging_file(found.window, found.length, found.created_ns)
        self._written = self._confirmed = self._committed = found.length
        self._opened_at = clock.monotonic() - age_s
        for window in sorted(state.windows, key=lambda window: window.number):
            self._sealed.add(window, resumed=True)
            await self._sealed.forget(window.number)
        self._gauge()

    def accept(self, segment: Segment) -> None:
        """
        Take *segment* for the next frame.
        """
        if self._pending.add(segment, self._host.clock.monotonic()):
            self._changes.tell()

    async def run(self) -> None:
        """
        Stage, seal and upload until cancelled.
        """
        name = self._route
        children = [self._tasks.start(self._sealed.run_seal(), name=f"{name}.seal")]
        children += [
            self._tasks.start(self._sealed.run_upload(), name=f"{name}.upload-{number}")
            for number in range(self._settings.upload_concurrency)
        ]
        try:
            while True:
                self._tell_full()
                if self._checkpoint_due:
                    self._resolve.checkpoint_wanted()
                # Before the next frame: under a load that never pauses there is always one.
                closing = self._close_due and self._confirmed == self._committed
                if closing:
                    await self._close_window()
                if self._frame_due:
                    await self._stage()
                elif not closing:
                    await self._changes.wait(self._wait_s())
        finally:
            for child in children:
                child.cancel()

    async def confirm(self) -> SinkRows | None:
        """
        Make the staging file durable and report its rows as delivered.
        """
        assert self._file is not None
        async with self._lock:
            if self._written != self._confirmed:
                await self._sync(self._file)
                point("staging_fsynced")
            self._confirmed = self._written
            settled, self._unconfirmed = self._unconfirmed, []
            rows = SinkRows(self._file.window, self._confirmed)
        # No await from here on: the cursors that the route takes now belong to these rows.
        for segment, count in settled:
            self._resolve.delivered(segment, count)
            self._counters.add(metric.DELIVERED_EVENTS, count, self._route)
        return rows if self._confirmed != self._committed else None

    def committed(self, rows: SinkRows) -> None:
        """
        Learn what the store knows: it may be sealed now.
        """
        assert self._file is not None
        assert rows.window == self._file.window, "a window was replaced during a checkpoint"
        self._committed = rows.staging_length
        self._changes.tell()

    async def drain(self, timeout_s: float) -> None:
        """
        Stage everything accepted.
        """
        self._draining = True
        await self._until(lambda: not self._pending and not self._framing, timeout_s)

    async def finish(self, timeout_s: float) -> None:
        """
        Seal and upload what is committed.
        """
        self._finishing = True
        await self._until(lambda: not self._committed and self._sealed.idle, timeout_s)

    async def close(self) -> None:
        """
        Close the staging file, after the write that may be under way; give back the memory of the rest.
        """
        for segment in self._framing:
            segment.release()
        self._framing = []
        self._pending.release()
        for file in (self._file, self._next_file):
            if file is not None:
                await self._host.run_blocking(file.close)

    @property
    def _disk_bytes(self) -> int:
        return self._written + self._sealed.staged_bytes + self._sealed.sealed_bytes

    @property
    def _frame_due(self) -> bool:
        if not self._pending:
            return False
        if self._draining or self._pending.full:
            return True
        return self._host.clock.monotonic() >= self._pending.due_at

    @property
    def _checkpoint_due(self) -> bool:
        """
        Whether a window is full of rows that no checkpoint has: only what is committed can be sealed.
        """
        return (
            # Where what was confirmed could not be committed, the next time is a matter of the interval.
            self._confirmed == self._committed
            and not self._is_full(self._committed)
            and self._is_full(self._written)
        )

    @property
    def _close_due(self) -> bool:
        if not self._committed:
            return False
        if self._finishing or self._is_full(self._committed):
            return True
        # Where sealing takes longer than that, as on a busy node, windows become larger, not more.
        age_s = self._host.clock.monotonic() - self._opened_at
        return age_s >= self._settings.window_age_s and not self._sealed.sealing

    def _is_full(self, staged: int) -> bool:
        """
        Return whether a window of *staged* bytes of staging is to be sealed for its size.
        """
        settings = self._settings
        return (
            staged * self._sealed.ratio >= settings.window_bytes_max
            or staged >= settings.staged_at_once_max
        )

    def _wait_s(self) -> float | None:
        """
        Return how long nothing but a change can make a difference.
        """
        now = self._host.clock.monotonic()
        until: list[float] = []
        if self._pending:
            until.append(self._pending.due_at)
        # Not `_close_due`: the age can be reached between its answer and this one.
        if self._committed and self._confirmed == self._committed and not self._sealed.sealing:
            until.append(self._opened_at + self._settings.window_age_s)
        if self.full:
            until.append(now + TELL_EVERY_S)
        return max(0.0, min(until) - now) if until else None

    async def _stage(self) -> None:
        """
        Write one frame.
        """
        segments = self._framing = self._pending.take()
        parts = [part for segment in segments for part in segment.by_name]
        frame = await self._host.run_blocking(encode_frame, segments, self._prefixes.of(parts))
        backoff = Backoff()
        while (error := await self._append(frame, segments)) is not None:
            self._sealed.told_and_counted("staging_disk_full", error, "staging")
            await wait_after(error, backoff, host=self._host)
        self._framing = []
        self._changes.tell()

    async def _append(self, frame: Frame, segments: list[Segment]) -> RetryError | None:
        """
        Append *frame* to the open window and drop the rows from memory; return an error where the disk is full.
        """
        assert self._file is not None
        async with self._lock:
            try:
                await self._host.run_blocking(self._file.append, frame.encoded)
            except OSError as error:
                return no_space(error, self._paths.staging_directory)
            if not self._written:
                self._opened_at = self._host.clock.monotonic()
            self._written = self._file.length
            for segment, rows in zip(segments, frame.rows, strict=True):
                segment.release()
                segment.parts = ()
                self._unconfirmed.append((segment, rows))
        self._counters.add(metric.SENT_BYTES, frame.data_bytes, self._route)
        self._gauge()
        point("staging_written")
        return None

    async def _close_window(self) -> None:
        """
        Seal what is committed of the open window and open the next one.
        """
        assert self._file is not None
        now_ns = self._host.clock.now_ns()
        async with self._lock:
            # A checkpoint that began while we waited for the lock goes first.
            if self._confirmed != self._committed:
                return
            old = self._file
            await self._sync(old)  # From here on only its name leads to it.
            new = self._next_file = self._staging_file(old.window + 1, 0, now_ns)
            window = Window(self._route, old.window, self._committed, now_ns)
            change = Transaction(
                self._route, now_ns, sink=SinkRows(new.window, 0), windows=[window]
            )
            failed: tuple[str, RetryError, str] | None = None
            try:
                if self._written > self._committed:
                    tail = await self._host.run_blocking(old.read, self._committed, self._written)
                    await self._host.run_blocking(new.append, tail)
                await self._store.commit(change)
            except RetryError as error:
                failed = ("checkpoint_failed", error, "store")
            except OSError as error:
                failed = (
                    "staging_disk_full",
                    no_space(error, self._paths.staging_directory),
                    "staging",
                )
            if failed is not None:
                await self._host.run_blocking(new.discard)
            else:
                self._file = new
                self._written, self._confirmed, self._committed = new.length, 0, 0
                self._opened_at = self._host.clock.monotonic()
        if failed is not None:
            self._sealed.told_and_counted(*failed)
            await wait_after(failed[1], Backoff(), host=self._host)
            return
        point("seal_committed")
        self._sealed.add(window, resumed=False)
        await self._host.run_blocking(old.close)
        self._gauge()

    async def _until(self, done: Callable[[], bool], timeout_s: float) -> None:
        deadline = self._host.clock.monotonic() + timeout_s
        self._changes.tell()
        while not done():
            left_s = deadline - self._host.clock.monotonic()
            if left_s <= 0:
                return
            await self._changes.wait(left_s)

    async def _sync(self, file: StagingFile) -> None:
        if await self._host.run_blocking(file.sync):
            text = f"{file.path} was deleted under the agent and is written anew; leave the state directory to Tailrace"
            self._host.tell("staging_missing", text, level="error", route=self._route)

    def _tell_full(self) -> None:
        if self.full:
            self._sayings.say(
                "staging_full",
                f"{self._disk_bytes} bytes wait on disk for their upload, staging_bytes_max is "
                f"{self._settings.staging_bytes_max}: the route does not read until some are uploaded",
            )

    def _gauge(self) -> None:
        staged_bytes = self._written + self._sealed.staged_bytes
        self._counters.set(metric.STAGED_BYTES, staged_bytes, self._route)

    def _staging_file(self, window: int, length: int, created_ns: int) -> StagingFile:
        path, disk = self._paths.staging(window), self._host.state_disk
        return StagingFile(path, disk=disk, window=window, length=length, created_ns=created_ns)
