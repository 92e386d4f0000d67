"""
Bugs that are put into the production code on purpose: each must be found within SEEDS_MAX seeds.

A mutant is a function that is entered around a run and patches what it breaks.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

from agent.core.cursor import cursor_at
from agent.core.errors import RetryError
from agent.core.ledger import Ledger
from agent.sinks import cloudwatch_requests, parquet_recovery
from agent.sinks.parquet import ParquetSink
from agent.sinks.parquet_s3 import S3Store
from agent.sinks.parquet_staging import StagingFile
from agent.sources import follow as follow_module
from agent.sources import reader as reader_module
from agent.sources.follow import Follow
from agent.sources.segments import Segments
from tests.sim import seal
from tests.sim.schedule import plan_of
from tests.sim.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sim.promise import BrokenPromise

SEEDS_MAX = 200
MUTANTS: dict[str, Callable[[], Any]] = {}


class Found(NamedTuple):
    """
    The first seed that finds a mutant.
    """

    seed: int
    broken: BrokenPromise


def _mutant(function: Callable[[], Iterator[None]]) -> Callable[[], Any]:
    MUTANTS[function.__name__] = contextmanager(function)
    return MUTANTS[function.__name__]


@contextmanager
def _patched(*patches: tuple[Any, str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for target, name, replacement in patches:
            stack.enter_context(mock.patch.object(target, name, replacement))
        yield


@_mutant
def commit_before_ack() -> Iterator[None]:
    """A segment counts as resolved when it is read."""
    track = Ledger.track

    def early(self: Ledger, segment: Any, *args: Any, **options: Any) -> Any:
        tracked = track(self, segment, *args, **options)
        rows, segment.rows_open = segment.rows_open, 0
        self._advance()
        segment.rows_open = rows
        return tracked

    with _patched((Ledger, "track", early)):
        yield


@_mutant
def ledger_out_of_order() -> Iterator[None]:
    """The cursor of the segment that was resolved last is committed, whatever is open before it."""
    settle = Ledger.settle

    def eager(self: Ledger, segment: Any, rows: int) -> bool:
        moved = settle(self, segment, rows)
        if not segment.rows_open and segment.cursor_after > self.committed:
            self.committed = segment.cursor_after
            self.dirty = True
        return moved

    with _patched((Ledger, "settle", eager)):
        yield


@_mutant
def one_offset_for_both_streams() -> Iterator[None]:
    """The cursor is where reading stands: open pieces are behind it."""

    def frontier(self: Follow) -> Any:
        return cursor_at(self.number, self.offset)

    with _patched((Follow, "current_cursor", frontier)):
        yield


@_mutant
def lowest_offset_for_both_streams() -> Iterator[None]:
    """Every stream resumes at the lowest place: rows of the other one come again."""
    current = Follow.current_cursor

    def lowest(self: Follow) -> Any:
        place = min(current(self))
        return (place, place, place)

    with _patched((Follow, "current_cursor", lowest)):
        yield


@_mutant
def max_for_min_in_resume_place() -> Iterator[None]:
    """Reading resumes at the highest place."""
    with _patched((reader_module, "resume_place", max), (follow_module, "resume_place", max)):
        yield


@_mutant
def carry_dropped_at_rotation() -> Iterator[None]:
    """Open pieces are forgotten when reading goes on to the next generation."""
    advance = Follow.advance

    def dropping(self: Follow, generation: Any, passed: Any) -> None:
        advance(self, generation, passed)
        self.parser = None
        self.cursor = cursor_at(generation.number, 0)

    with _patched((Follow, "advance", dropping)):
        yield


@_mutant
def resolved_on_throttle() -> Iterator[None]:
    """A throttled request counts as delivered."""
    actions = cloudwatch_requests.ACTIONS
    with mock.patch.dict(actions, {"ThrottlingException": cloudwatch_requests.Action.DELIVERED}):
        yield


@_mutant
def staging_not_synced() -> Iterator[None]:
    """Staged rows count as delivered before they are on disk."""
    with _patched((StagingFile, "sync", lambda _self: None)):
        yield


@_mutant
def staging_name_not_synced() -> Iterator[None]:
    """The file is synced and its name is not."""
    begin = StagingFile.__init__

    def named(self: StagingFile, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        self._synced_name = True

    with _patched((StagingFile, "__init__", named)):
        yield


@_mutant
def staging_not_cut_at_start() -> Iterator[None]:
    """What is in the file behind the recorded length counts."""
    recover = parquet_recovery._recover_open

    def whole(disk: Any, paths: Any, window: int, length: int, now_ns: int) -> Any:
        path = paths.staging(window)
        if disk.exists(path):
            fd = disk.open_read(path)
            length = max(length, disk.size(fd))
            disk.close(fd)
        return recover(disk, paths, window, length, now_ns)

    with _patched((parquet_recovery, "_recover_open", whole)):
        yield


@_mutant
def late_child_seals_again() -> Iterator[None]:
    """The child of a killed agent makes files anew that the next agent is uploading."""
    with _patched((seal, "read_manifest", lambda *_: None)):
        yield


@_mutant
def tail_dropped_at_seal() -> Iterator[None]:
    """Frames behind the sealed stretch do not move to the next window."""
    append = ParquetSink._close_window

    async def dropping(self: ParquetSink) -> None:
        with mock.patch.object(StagingFile, "read", return_value=b""):
            await append(self)

    with _patched((ParquetSink, "_close_window", dropping)):
        yield


@_mutant
def put_without_condition() -> Iterator[None]:
    """If-None-Match is not sent."""
    send = S3Store._send

    async def plain(self: S3Store, *args: Any, headers: Any = None, **options: Any) -> Any:
        kept = {name: value for name, value in (headers or {}).items() if name != "if-none-match"}
        return await send(self, *args, headers=kept, **options)

    with _patched((S3Store, "_send", plain)):
        yield


@_mutant
def upload_error_swallowed() -> Iterator[None]:
    """An upload that failed counts as done."""
    put = S3Store.put

    async def hopeful(self: S3Store, upload: Any) -> bool:
        try:
            return await put(self, upload)
        except RetryError:
            return True

    with _patched((S3Store, "put", hopeful)):
        yield


@_mutant
def loss_not_recorded() -> Iterator[None]:
    """What was truncated or deleted is passed in silence."""
    empty = Segments._empty

    def silent(
        self: Segments, follow: Any, generation: Any, start: int, cursor: Any, loss: Any
    ) -> Any:
        segment = empty(self, follow, generation, start, cursor, loss)
        segment.loss = None
        return segment

    with _patched((Segments, "_empty", silent)):
        yield


@_mutant
def charge_not_released() -> Iterator[None]:
    """The memory of segments without rows stays charged."""
    from agent.core.budget import Charge

    release, count = Charge.release, itertools.count()

    def leaky(self: Charge) -> None:
        if next(count) % 20:
            release(self)

    with _patched((Charge, "release", leaky)):
        yield


def find(name: str, seeds: range) -> Found | None:
    """
    Return the first of *seeds* that finds the mutant.
    """
    for seed in seeds:
        with MUTANTS[name]():
            broken = World(plan_of(seed)).run()
        if broken is not None:
            return Found(seed, broken)
    return None


def find_all(names: list[str], *, jobs: int) -> int:
    """
    Look for all mutants; returns 1 if one is not found.
    """
    chosen = names or list(MUTANTS)
    if jobs > 1:
        command = [sys.executable, "-m", "tests.sim", "--mutants"]
        shares = [chosen[number::jobs] for number in range(jobs)]
        children = [subprocess.Popen([*command, *share]) for share in shares if share]
        return max(child.wait() for child in children)
    missed = 0
    for name in chosen:
        found = find(name, range(SEEDS_MAX))
        if found is None:
            missed += 1
            print(f"{name}: NOT FOUND in {SEEDS_MAX} seeds", flush=True)
        else:
            print(f"{name}: seed {found.seed}, {str(found.broken)[:120]}", flush=True)
    return 1 if missed else 0
