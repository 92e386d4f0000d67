"""
What a start makes of the staging directory: exactly what the checkpoint store says, and nothing else.

| found | becomes |
|---|---|
| staging file of the open window, longer than recorded | cut: what is behind never happened, its cursors did not move |
| the same, damaged or shorter than recorded | its whole frames move to the next window; the rest is a loss |
| staging file of a sealed window without a manifest | kept: the window is sealed again |
| any other staging file, directory of an unknown window | removed |

Paths below the state directory:

    staging/<route>/<window>.staging
    sealed/<route>/<window>/{spec.json, manifest.json, cluster=…/dt=…/hour=…/*.parquet}
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from agent.core import counters as metric
from agent.core.batch import Loss, LossReason
from agent.core.checkpoint import SinkRows, Transaction
from agent.sinks.parquet_manifest import Damage, damage_of
from agent.sinks.parquet_staging import make_directories, read_range, write_all
from agent.sinks.staging import FILE_HEAD, encode_file_head
from agent.sinks.staging_scan import read_created_ns, scan

if TYPE_CHECKING:
    from agent.core.checkpoint import RouteState, Store
    from agent.core.counters import Counters
    from agent.core.host import Host, StateDisk


class StagingPaths(NamedTuple):
    """
    Where a route's files are.
    """

    state_dir: str
    route: str

    @property
    def staging_directory(self) -> str:
        return os.path.join(self.state_dir, "staging", self.route)

    @property
    def sealed_directory(self) -> str:
        return os.path.join(self.state_dir, "sealed", self.route)

    def staging(self, window: int) -> str:
        """
        Return the path of a window's staging file.
        """
        return os.path.join(self.staging_directory, f"{window}.staging")

    def sealed(self, window: int) -> str:
        """
        Return the directory of a window's Parquet files.
        """
        return os.path.join(self.sealed_directory, str(window))


class Recovered(NamedTuple):
    """
    The open window, and what is lost of it.
    """

    window: int
    length: int
    created_ns: int
    damage: list[Damage]


async def recover(
    paths: StagingPaths, state: RouteState, *, host: Host, store: Store, counters: Counters
) -> Recovered:
    """
    Bring the directories to what *state* says, and record what is lost.
    """
    now_ns = host.clock.now_ns()
    found = await host.run_blocking(_recover, host.state_disk, paths, state, now_ns)
    if not found.damage:
        return found
    damaged = found.window - 1
    losses = losses_of(found.damage, window=damaged)
    # The store learns of the new open window and of the losses at once, before anything is appended.
    sink = SinkRows(found.window, found.length)
    await store.commit(Transaction(paths.route, now_ns, sink=sink, losses=losses))
    for loss in losses:
        counters.add(metric.LOSSES, 1, paths.route, loss.reason)
    host.tell(
        "staging_damaged",
        f"staging of window {damaged} failed its checksums: {len(losses)} byte ranges are lost and "
        "recorded; check the disk of the state directory",
        level="error",
        route=paths.route,
    )
    await host.run_blocking(remove_file, host.state_disk, paths.staging(damaged))
    return found


def remove_file(disk: StateDisk, path: str) -> None:
    """
    Remove *path* if it is there.
    """
    with suppress(FileNotFoundError):
        disk.unlink(path)


def losses_of(damage: list[Damage], *, window: int) -> list[Loss]:
    """
    Return loss records for *damage* in the staging of *window*.
    """
    return [
        Loss(
            log=item.log,
            file_id=item.file_id,
            generation=item.generation,
            start=item.start,
            stop=item.stop,
            reason=LossReason.DAMAGED,
            rows=item.rows,
            detail=f"staging of window {window}"
            + (
                ""
                if item.log
                else "; the byte range is one of the staging file, its rows are not known"
            ),
        )
        for item in damage
    ]


def _recover(disk: StateDisk, paths: StagingPaths, state: RouteState, now_ns: int) -> Recovered:
    numbers = [window.number for window in state.windows]
    window = state.sink.window if state.sink is not None else max(numbers, default=-1) + 1
    length = state.sink.staging_length if state.sink is not None else 0
    kept = {paths.staging(item.number) for item in state.windows if not item.objects}
    if length:
        kept.add(paths.staging(window))
    for directory in (paths.staging_directory, paths.sealed_directory):
        make_directories(disk, directory)
    _remove_others(disk, paths.staging_directory, kept)
    _remove_others(disk, paths.sealed_directory, {paths.sealed(number) for number in numbers})
    if not length:
        return Recovered(window, 0, now_ns, [])
    return _recover_open(disk, paths, window, length, now_ns)


def _recover_open(
    disk: StateDisk, paths: StagingPaths, window: int, length: int, now_ns: int
) -> Recovered:
    path = paths.staging(window)
    if disk.exists(path):
        _cut(disk, path, length)
    whole: list[tuple[int, int]] = []
    damage: list[Damage] = []
    for scanned in scan(disk, path, length, decode=False):
        if scanned.data is None:
            damage += damage_of(scanned)
        else:
            whole.append((scanned.start, scanned.stop))
    if not damage:
        return Recovered(window, length, read_created_ns(disk, path) or now_ns, [])
    # A new window, because the store has to learn of the shorter length and of the losses at once.
    # The old file stays until then: a crash here finds everything as it was.
    if not whole:
        return Recovered(window + 1, 0, now_ns, damage)
    return Recovered(window + 1, _copy_ranges(disk, paths, window, whole, now_ns), now_ns, damage)


def _cut(disk: StateDisk, path: str, length: int) -> None:
    fd = disk.open(path)
    try:
        if disk.size(fd) > length:
            disk.truncate(fd, length)
    finally:
        disk.close(fd)


def _copy_ranges(
    disk: StateDisk, paths: StagingPaths, window: int, ranges: list[tuple[int, int]], now_ns: int
) -> int:
    source = paths.staging(window)
    target = disk.open(paths.staging(window + 1))
    try:
        disk.truncate(target, 0)
        write_all(disk, target, encode_file_head(window + 1, now_ns), 0)
        length = FILE_HEAD.size
        for start, stop in ranges:
            write_all(disk, target, read_range(disk, source, start, stop), length)
            length += stop - start
        disk.sync(target)
    finally:
        disk.close(target)
    disk.sync_directory(paths.staging_directory)
    return length


def _remove_others(disk: StateDisk, directory: str, kept: set[str]) -> None:
    for name, is_directory in disk.list(directory):
        path = os.path.join(directory, name)
        if path in kept:
            continue
        if is_directory:
            disk.remove_tree(path)
        else:
            remove_file(disk, path)
