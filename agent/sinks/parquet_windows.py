"""
Sealed windows on their way to objects.

    sealed → (child) → manifest in the store → uploads, each recorded → gone

A window is in one of these states in the store, and every step can be repeated: the child writes the same
keys and rows, an upload of a key that exists is a success, a file that is gone was recorded before.  So
a crash anywhere is followed by the same step again.

Nothing here gives up: an error is told, counted and tried again on the schedules of core/retry.py.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.batch import Loss, LossReason
from agent.core.checkpoint import Transaction
from agent.core.errors import RetryError
from agent.core.faults import point
from agent.core.retry import Backoff
from agent.sinks.parquet_child import SealChild
from agent.sinks.parquet_recovery import losses_of, remove_file
from agent.sinks.parquet_upload import Upload, wait_after

if TYPE_CHECKING:
    from agent.core.checkpoint import Store, Window
    from agent.core.counters import Counters
    from agent.core.host import Host
    from agent.core.sayings import Sayings
    from agent.sinks.changes import Changes
    from agent.sinks.parquet_manifest import SealManifest
    from agent.sinks.parquet_recovery import StagingPaths
    from agent.sinks.parquet_settings import ParquetSettings
    from agent.sinks.parquet_upload import ObjectStore

#: What a new measurement of Parquet bytes per staged byte counts for.
RATIO_WEIGHT = 0.5


class SealedWindows:
    """
    The windows of one route that are sealed and not gone.
    """

    def __init__(
        self,
        settings: ParquetSettings,
        *,
        paths: StagingPaths,
        node: str,
        host: Host,
        store: Store,
        counters: Counters,
        objects: ObjectStore,
        changes: Changes,
        sayings: Sayings,
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._host = host
        self._child = SealChild(settings, paths=paths, node=node, host=host)
        self._store = store
        self._counters = counters
        self._objects = objects
        self._changes = changes
        self._sayings = sayings
        self._windows: dict[int, Window] = {}
        self._uploading: set[tuple[int, int]] = set()
        self._resumed: set[int] = set()
        # One transaction at a time: a later state of a window must not be overtaken by an earlier one.
        self._recording = asyncio.Lock()
        #: Parquet bytes per staged byte.  Staging compresses less, so 1 makes the first window small.
        self.ratio = 1.0
        self.staged_bytes = 0
        self.sealed_bytes = 0

    @property
    def idle(self) -> bool:
        """
        Whether everything sealed is uploaded.
        """
        return not self._windows

    @property
    def sealing(self) -> bool:
        """
        Whether a window is not yet a Parquet file.
        """
        return any(not item.objects for item in self._windows.values())

    def add(self, window: Window, *, resumed: bool) -> None:
        """
        Take a window that the store knows as sealed; *resumed*: an earlier run may have begun to upload it.
        """
        if resumed:
            self._resumed.add(window.number)
        self._set(window)

    async def run_seal(self) -> None:
        """
        Turn windows into Parquet files, oldest first, until cancelled.
        """
        failures, backoff = 0, Backoff()
        while True:
            unsealed = [self._windows[number] for number in sorted(self._windows)]
            unsealed = [window for window in unsealed if not window.objects]
            if not unsealed:
                await self._changes.wait(None)
                continue
            # Made by a child just now, or by an earlier run that got so far.
            manifest = await self._child.manifest(unsealed[0])
            if manifest is not None:
                await self._seal(unsealed[0], manifest)
                continue
            # What fails is tried alone: it may not take the others with it.
            count = 1 if failures else self._child.takes(unsealed)
            error = await self._child.run(unsealed[:count], failures)
            if error is None:
                failures, backoff = 0, Backoff()
            else:
                failures += 1
                self.told_and_counted("seal_failed", error, "seal")
                await wait_after(error, backoff, host=self._host)

    async def run_upload(self) -> None:
        """
        Upload objects, oldest window first, until cancelled.  Several of these run side by side.
        """
        while True:
            job = self._next_upload()
            if job is None:
                await self._changes.wait(None)
                continue
            self._uploading.add(job)
            try:
                await self._upload(*job)
            finally:
                self._uploading.discard(job)

    def _set(self, window: Window | None, number: int = -1) -> None:
        if window is None:
            self._windows.pop(number, None)
        else:
            self._windows[window.number] = window
        windows = self._windows.values()
        self.staged_bytes = sum(item.staging_length for item in windows if not item.objects)
        self.sealed_bytes = sum(
            size for item in windows for _, _, size, confirmed in item.objects if not confirmed
        )
        self._counters.set(metric.SEALED_BYTES, self.sealed_bytes, self._paths.route)
        self._changes.tell()

    async def _seal(self, window: Window, manifest: SealManifest) -> None:
        """
        Record what *manifest* says of *window*; staging has nothing more to do with it.
        """
        point("seal_child_done")
        relative = os.path.relpath(self._paths.sealed(window.number), self._paths.state_dir)
        objects = tuple(
            (item.key, os.path.join(relative, item.key), item.bytes, False)
            for item in manifest.objects
        )
        losses = losses_of(list(manifest.damage), window=window.number)
        if losses:
            self._tell_damage(window.number, len(losses))
        if objects:
            sealed = replace(window, objects=objects)
            await self._record(windows=[sealed], losses=losses)
            parquet_bytes = sum(item.bytes for item in manifest.objects)
            # A window of few rows is mostly footers, which says nothing of a larger one.
            measured = min(1.0, parquet_bytes / max(1, window.staging_length))
            self.ratio += RATIO_WEIGHT * (measured - self.ratio)
            self._set(sealed)
        else:
            await self._record(windows_gone=[window.number], losses=losses)
            self._set(None, window.number)
        point("manifest_committed")
        await self._host.run_blocking(
            remove_file, self._host.state_disk, self._paths.staging(window.number)
        )
        if not objects:
            await self._host.run_blocking(
                self._host.state_disk.remove_tree, self._paths.sealed(window.number)
            )

    def _next_upload(self) -> tuple[int, int] | None:
        for number in sorted(self._windows):
            for index, (_, _, _, confirmed) in enumerate(self._windows[number].objects):
                if not confirmed and (number, index) not in self._uploading:
                    return number, index
        return None

    async def _upload(self, number: int, index: int) -> None:
        key, path, size, _ = self._windows[number].objects[index]
        local = os.path.join(self._paths.state_dir, path)
        resumed = number in self._resumed
        backoff = Backoff()
        losses: list[Loss] = []
        point("upload_before")
        while True:
            try:
                await self._objects.put(Upload(key=key, path=local, size=size, resumed=resumed))
            except RetryError as error:
                self.told_and_counted("upload_failed", error, "upload")
                await wait_after(error, backoff, host=self._host)
                resumed = True
            except FileNotFoundError:
                if await self._host.run_blocking(self._host.state_disk.exists, local):
                    raise  # Something else is missing: that is no reason to give up what is there.
                losses = [self._lost_object(number, key, local)]
                break
            else:
                break
        point("upload_after")
        await self._confirmed(number, index, losses)

    async def _confirmed(self, number: int, index: int, losses: list[Loss]) -> None:
        """
        Record that the object needs no further attempt, and let go of what it needed.
        """
        async with self._recording:
            window = self._windows[number]
            key, path, size, _ = window.objects[index]
            objects = (
                *window.objects[:index],
                (key, path, size, True),
                *window.objects[index + 1 :],
            )
            window = replace(window, objects=objects)
            await self._commit(
                Transaction(self._paths.route, self._now_ns(), windows=[window], losses=losses)
            )
            self._set(window)
        point("object_recorded")
        await self._host.run_blocking(
            remove_file, self._host.state_disk, os.path.join(self._paths.state_dir, path)
        )
        await self.forget(number)

    async def forget(self, number: int) -> None:
        """
        Let go of the window if all of its objects are confirmed.
        """
        async with self._recording:
            window = self._windows.get(number)
            if window is None or not window.objects or not all(item[3] for item in window.objects):
                return
            await self._commit(
                Transaction(self._paths.route, self._now_ns(), windows_gone=[number])
            )
            point("window_gone")
            await self._host.run_blocking(
                self._host.state_disk.remove_tree, self._paths.sealed(number)
            )
            self._resumed.discard(number)
            self._set(None, number)

    async def _record(
        self,
        *,
        windows: list[Window] | None = None,
        windows_gone: list[int] | None = None,
        losses: list[Loss],
    ) -> None:
        transaction = Transaction(
            self._paths.route,
            self._now_ns(),
            windows=windows or [],
            windows_gone=windows_gone or [],
            losses=losses,
        )
        async with self._recording:
            await self._commit(transaction)

    async def _commit(self, transaction: Transaction) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._store.commit(transaction)
            except RetryError as error:
                self.told_and_counted("checkpoint_failed", error, "store")
                await wait_after(error, backoff, host=self._host)
            else:
                break
        for loss in transaction.losses:
            self._counters.add(metric.LOSSES, 1, self._paths.route, loss.reason)

    def _now_ns(self) -> int:
        return self._host.clock.now_ns()

    def told_and_counted(self, event: str, error: RetryError, what: str) -> None:
        """
        Count *error*, and say it once a minute.
        """
        route = self._paths.route
        self._counters.add(metric.RETRIES, 1, route, error.code or what)
        level = "error" if error.slow else "warning"
        text = f"{error}; trying again, nothing is lost"
        self._sayings.say(event, text, cause=error.code, level=level)

    def _tell_damage(self, number: int, count: int) -> None:
        self._host.tell(
            "staging_damaged",
            f"staging of window {number} failed its checksums: {count} byte ranges are lost and recorded; "
            "check the disk of the state directory",
            level="error",
            route=self._paths.route,
        )

    def _lost_object(self, number: int, key: str, local: str) -> Loss:
        self._host.tell(
            "sealed_file_vanished",
            f"{local} vanished before it was uploaded: its rows are lost; leave the state directory to Tailrace",
            level="error",
            route=self._paths.route,
        )
        detail = f"object {key} of window {number} vanished"
        return Loss(
            log="",
            file_id="",
            generation=0,
            start=0,
            stop=0,
            reason=LossReason.DAMAGED,
            detail=detail,
        )
