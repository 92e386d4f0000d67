"""
What staging and sealed files say when the checkpoint store is fresh, or is a backup of a moment ago.

| found | becomes |
|---|---|
| a window that the store knows | stays as it is: the backup is never older than what windows' files were removed for |
| Parquet files with their manifest, or whose staging is gone | a sealed window; a file that is missing was uploaded |
| staging files besides | the open window: every whole frame, once (frames behind a seal stand in two files) |
| the places in their frames | cursors and identities: reading resumes behind what is staged |
| damage that a cursor is behind | a loss; other damage is read again from the log files |

So rows that were confirmed are uploaded, and no row of a Log that staging or the backup knows is staged twice.
Frames that were written and not yet committed are taken, too: their rows are whole, and the cursors follow.

Nothing is removed here; afterwards the usual recovery (parquet_recovery.py) removes what the store does not know of.
It can be repeated: a crash before the commit leaves frames twice, which counts once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.checkpoint import SinkRows, Transaction, Window
from agent.core.cursor import resume_place
from agent.core.errors import RetryError
from agent.sinks.parquet_manifest import Damage, damage_of, read_manifest
from agent.sinks.parquet_recovery import losses_of, remove_file
from agent.sinks.parquet_staging import make_directories, read_range, write_all
from agent.sinks.staging import FILE_HEAD, FRAME_HEAD, encode_file_head
from agent.sinks.staging_scan import scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.core.batch import Loss
    from agent.core.checkpoint import GenerationRow, RouteState, Store
    from agent.core.counters import Counters
    from agent.core.cursor import Cursor
    from agent.core.host import Host, StateDisk
    from agent.sinks.parquet_recovery import StagingPaths
    from agent.sinks.staging_places import StagedPlace
    from agent.sinks.staging_scan import Scanned

_STAGING_SUFFIX = ".staging"


@dataclass(slots=True)
class _Found:
    """
    What the files say.
    """

    sink: SinkRows
    windows: list[Window] = field(default_factory=list)  # that the store does not know
    places: dict[str, StagedPlace] = field(default_factory=dict)  # the last of each Log
    #: (window, where in its file the store is known to count on the rows, the damage)
    damage: list[tuple[int, bool, Damage]] = field(default_factory=list)
    frames: int = 0


async def rebuild(
    paths: StagingPaths,
    state: RouteState,
    known: Iterable[GenerationRow],
    *,
    host: Host,
    store: Store,
    counters: Counters,
) -> None:
    """
    Tell the store what the files of the route know beyond *state* and the generations *known*.

    Raises RetryError where the disk does not let us.
    """
    now_ns = host.clock.now_ns()
    try:
        found = await host.run_blocking(_survey, host.state_disk, paths, state, now_ns)
    except OSError as error:
        raise RetryError(
            f"{error.filename or paths.staging_directory}: {error.strerror or error}: staging cannot be read after the "
            "database was lost: look at `df` and `dmesg`",
            code="staging",
        ) from error
    if found is None:
        return
    cursors = {log: _later(state.cursors.get(log), item) for log, item in found.places.items()}
    losses = _losses(found, state.cursors | cursors)
    rows = {(row.log, row.number): row for row in known}
    for place in found.places.values():
        for row in place.rows:
            before = rows.get((row.log, row.number))
            if before is None or before.file_id != row.file_id:
                rows[row.log, row.number] = row
            else:
                rows[row.log, row.number] = replace(before, size=max(row.size, before.size))
    transaction = Transaction(
        paths.route,
        now_ns,
        cursors=cursors,
        generations=[row for row in rows.values() if row.log in found.places],
        losses=losses,
        sink=found.sink,
        windows=found.windows,
    )
    await store.commit(transaction)
    for loss in losses:
        counters.add(metric.LOSSES, 1, paths.route, loss.reason)
    host.tell(
        "staging_rebuilt",
        f"route {paths.route}: after the loss of the database {found.frames} staged frames of {len(cursors)} Logs and "
        f"{len(found.windows)} sealed windows were taken over from disk; {len(losses)} losses",
        level="warning",
        route=paths.route,
    )


def _later(known: Cursor | None, place: StagedPlace) -> Cursor:
    if known is None:
        return place.streams
    other, stdout, stderr = (
        staged if staged[:2] >= stored[:2] else stored
        for staged, stored in zip(place.streams, known, strict=True)
    )
    return (other, stdout, stderr)


def _losses(found: _Found, cursors: dict[str, Cursor]) -> list[Loss]:
    losses: list[Loss] = []
    for window, counted_on, damage in found.damage:
        if damage.log:
            cursor = cursors.get(damage.log)
            passed = cursor is not None and resume_place(cursor) > (damage.generation, damage.start)
        else:
            passed = counted_on
        if passed:
            losses += losses_of([damage], window=window)
    return losses


def _survey(disk: StateDisk, paths: StagingPaths, state: RouteState, now_ns: int) -> _Found | None:
    staged = sorted(_numbers(disk, paths.staging_directory, _STAGING_SUFFIX))
    sealed = sorted(_numbers(disk, paths.sealed_directory, ""))
    if not staged and not sealed:
        return None
    for directory in (paths.staging_directory, paths.sealed_directory):
        make_directories(disk, directory)
    known = {window.number for window in state.windows}
    found = _Found(state.sink or SinkRows(0, 0))
    for number in sealed:
        if number not in known:
            _adopt(disk, paths, number, found, has_staging=number in staged, now_ns=now_ns)
    adopted = {window.number: window.staging_length for window in found.windows}
    seen: set[bytes] = set()
    # In order: of a Log's places the one that was staged last counts.
    for number in sorted(adopted.keys() & set(staged)):
        path = paths.staging(number)
        for scanned in scan(disk, path, adopted[number], decode=False):
            if scanned.header is not None:
                # The child of a killed agent may finish after an earlier rebuild took these frames.
                seen.add(_head(disk, path, scanned))
                found.places |= {place.key: place for place in scanned.header.places}
    used = [*staged, *sealed, *known, *([state.sink.window] if state.sink is not None else [])]
    mine = [number for number in staged if number not in known and number not in adopted]
    counted = {number: _size(disk, paths, number) for number in mine[:-1]}
    if state.sink is not None and state.sink.window in mine:
        counted[state.sink.window] = state.sink.staging_length
    _take(disk, paths, mine, counted, found, seen=seen, free=max(used) + 1, now_ns=now_ns)
    return found


def _adopt(
    disk: StateDisk,
    paths: StagingPaths,
    number: int,
    found: _Found,
    *,
    has_staging: bool,
    now_ns: int,
) -> None:
    """
    Take the Parquet files of a window that the store does not know, if they are whole.
    """
    directory = paths.sealed(number)
    relative = os.path.relpath(directory, paths.state_dir)
    manifest = read_manifest(disk, directory)
    if manifest is not None:
        named = [(item.key, item.bytes) for item in manifest.objects]
    elif not has_staging:
        # Staging is removed only when the files are whole; the manifest may be the first that goes.
        named = sorted(_parquet_files(disk, directory, ""))
    else:
        return
    objects = tuple(
        (key, os.path.join(relative, key), size, not disk.exists(os.path.join(directory, key)))
        for key, size in named
    )
    if all(confirmed for _, _, _, confirmed in objects):
        return
    length = manifest.staging_length if manifest is not None else 0
    found.windows.append(Window(paths.route, number, length, now_ns, objects))
    if manifest is not None:
        found.damage += [(number, True, item) for item in manifest.damage]


def _take(
    disk: StateDisk,
    paths: StagingPaths,
    numbers: list[int],
    counted: dict[int, int],
    found: _Found,
    *,
    seen: set[bytes],
    free: int,
    now_ns: int,
) -> None:
    """
    Make one open window of the staging files of *numbers*.
    """
    ranges: list[tuple[int, int, int]] = []
    in_place = True
    for number in numbers:
        path = paths.staging(number)
        for scanned in scan(disk, path, _size(disk, paths, number), decode=False):
            if scanned.data is None or scanned.header is None:
                certain = scanned.start < counted.get(number, 0)
                found.damage += [(number, certain, item) for item in damage_of(scanned)]
                continue
            head = _head(disk, path, scanned)
            if head in seen:
                continue
            seen.add(head)
            in_place = in_place and scanned.start == (ranges[-1][2] if ranges else FILE_HEAD.size)
            in_place = in_place and number == numbers[-1]
            ranges.append((number, scanned.start, scanned.stop))
            found.places |= {place.key: place for place in scanned.header.places}
    found.frames = len(ranges)
    if not ranges:
        found.sink = SinkRows(free, 0)
    elif in_place:
        # The usual case, without a copy: what is behind the whole frames is cut.
        found.sink = SinkRows(ranges[-1][0], ranges[-1][2])
    else:
        found.sink = SinkRows(free, _copy(disk, paths, ranges, free, now_ns))


def _head(disk: StateDisk, path: str, scanned: Scanned) -> bytes:
    """
    Return the lengths and checksums of a frame: the same frame has the same, wherever it stands.
    """
    return read_range(disk, path, scanned.start, scanned.start + FRAME_HEAD.size)


def _copy(
    disk: StateDisk, paths: StagingPaths, ranges: list[tuple[int, int, int]], free: int, now_ns: int
) -> int:
    length = FILE_HEAD.size
    target = disk.open(paths.staging(free))
    try:
        disk.truncate(target, 0)
        write_all(disk, target, encode_file_head(free, now_ns), 0)
        for number, start, stop in ranges:
            frame = read_range(disk, paths.staging(number), start, stop)
            write_all(disk, target, frame, length)
            length += stop - start
        disk.sync(target)
    except OSError:
        remove_file(disk, paths.staging(free))
        raise
    finally:
        disk.close(target)
    disk.sync_directory(paths.staging_directory)
    return length


def _numbers(disk: StateDisk, directory: str, suffix: str) -> list[int]:
    try:
        names = [name for name, _ in disk.list(directory)]
    except FileNotFoundError:
        return []
    stems = [name.removesuffix(suffix) for name in names if name.endswith(suffix)]
    return [int(stem) for stem in stems if stem.isdecimal()]


def _size(disk: StateDisk, paths: StagingPaths, number: int) -> int:
    return _size_of(disk, paths.staging(number))


def _size_of(disk: StateDisk, path: str) -> int:
    fd = disk.open_read(path)
    try:
        return disk.size(fd)
    finally:
        disk.close(fd)


def _parquet_files(disk: StateDisk, directory: str, below: str) -> Iterator[tuple[str, int]]:
    for name, is_directory in disk.list(os.path.join(directory, below)):
        relative = os.path.join(below, name)
        if is_directory:
            yield from _parquet_files(disk, directory, relative)
        elif name.endswith(".parquet"):
            yield relative, _size_of(disk, os.path.join(directory, relative))
