"""
The seal child, in simulation: the production reader of staging and names of objects, without Parquet.

An object is msgpack of its rows, so that a window costs a fraction of a millisecond.  The order of steps
and of syncs is that of `agent/cli/seal_window.py`, which tests of its own run for real.

A child outlives the agent that started it (SIGKILL does not reach it), and the next one waits for its lock.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from agent._fastparse import FLAG_EARLIER, FLAG_STREAM_MASK
from agent.sinks.parquet_manifest import (
    MANIFEST_NAME,
    Partition,
    SealedObject,
    SealSpec,
    cluster_part,
    manifest_of,
    read_manifest,
    survey,
)
from agent.sinks.parquet_staging import make_directories, read_range, write_file
from agent.sinks.staging import block_bytes
from agent.sinks.staging_scan import scan
from tests.sim.disk import SimStateDisk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

    from agent.core.host import StateDisk
    from agent.sinks.staging import StagedResource, StagedSegment
    from tests.sim.node import Node

HOUR_NS = 3_600_000_000_000


class Row(msgspec.Struct, array_like=True, frozen=True):
    """
    A row of an object.
    """

    file_id: str
    offset: int
    stream: int
    time_ns: int
    message: bytes


def rows_of(segment: StagedSegment, block: bytes) -> Iterator[Row]:
    """
    Yield the rows in a segment's block (agent/sinks/staging.py).
    """
    rows, view = segment.rows, memoryview(block)
    times, offsets = view[: 8 * rows].cast("q"), view[8 * rows : 16 * rows].cast("q")
    ends_at = 16 * rows
    flags_at = ends_at + 4 * (rows + 1)
    messages_at = flags_at + 2 * rows
    ends, flags = view[ends_at:flags_at].cast("i"), view[flags_at:messages_at].cast("H")
    messages = view[messages_at:]
    for index in range(rows):
        stream = flags[index] & FLAG_STREAM_MASK
        earlier = segment.earlier[stream] if segment.earlier else ""
        file_id = earlier if flags[index] & FLAG_EARLIER and earlier else segment.file_id
        message = bytes(messages[ends[index] : ends[index + 1]])
        yield Row(file_id, offsets[index], stream, times[index], message)


def blocks(
    disk: StateDisk, path: str, length: int
) -> Iterator[tuple[StagedResource, StagedSegment, bytes]]:
    """
    Yield every whole segment of a staging file.
    """
    for scanned in scan(disk, path, length):
        if scanned.header is None or scanned.data is None:
            continue
        start = 0
        for segment in scanned.header.segments:
            stop = start + block_bytes(segment.rows, segment.message_bytes)
            yield scanned.header.resources[segment.resource], segment, scanned.data[start:stop]
            start = stop


def seal(disk: StateDisk, spec: SealSpec) -> Iterator[None]:
    """
    Do what the child does; between two steps it yields, and may never be resumed.
    """
    if read_manifest(disk, spec.directory, spec.staging_length) is not None:
        return
    for name, is_directory in disk.list(spec.directory):
        path = os.path.join(spec.directory, name)
        if is_directory:
            disk.remove_tree(path)
        elif name.startswith(MANIFEST_NAME):
            disk.unlink(path)
    names, damage = survey(disk, spec)
    yield
    pieces: dict[Partition, list[tuple[Any, list[Row]]]] = {}
    for resource, segment, block in blocks(disk, spec.staging_path, spec.staging_length):
        place = (resource.namespace, resource.pod, resource.container, resource.path)
        parts: dict[Partition, list[Row]] = {}
        for row in rows_of(segment, block):
            hour = row.time_ns // HOUR_NS
            partition = Partition(cluster_part(resource.cluster), hour, resource.prefix)
            parts.setdefault(partition, []).append(row)
        for partition, rows in parts.items():
            pieces.setdefault(partition, []).append((place, rows))
    objects = []
    for partition, found in pieces.items():
        key = names.key(partition)
        found.sort(key=lambda piece: piece[0])
        rows = [row for _, piece in found for row in piece]
        encoded = msgspec.msgpack.encode(rows)
        path = os.path.join(spec.directory, key)
        make_directories(disk, os.path.dirname(path))
        write_file(disk, path, encoded, durable=True)
        disk.sync_directory(os.path.dirname(path))
        objects.append(SealedObject(key=key, bytes=len(encoded), rows=len(rows)))
        yield
    objects.sort(key=lambda item: item.key)
    manifest = manifest_of(spec, objects, damage)
    path = os.path.join(spec.directory, MANIFEST_NAME)
    write_file(disk, f"{path}.tmp", msgspec.json.encode(manifest), durable=True)
    yield
    disk.rename(f"{path}.tmp", path)
    disk.sync_directory(spec.directory)


@dataclass
class Child:
    """
    One process: windows one after the other.
    """

    paths: list[str]
    #: None: nobody waits for it any more, or it is dead.
    done: asyncio.Future[tuple[int, str]] | None
    work: Iterator[None] = field(default_factory=lambda: iter(()))


class Children:
    """
    The seal children of a node.
    """

    def __init__(self, world: Node, random: Random) -> None:
        self._world = world
        self._random = random
        self._running: dict[str, list[Child]] = {}
        self._started: list[Child] = []

    async def start(self, spec_paths: Sequence[str]) -> tuple[int, str]:
        """
        Run a child for the specs at *spec_paths*; cancelled, it is killed.
        """
        done: asyncio.Future[tuple[int, str]] = self._world.loop.create_future()
        child = Child(list(spec_paths), done)
        self._started.append(child)
        # On a busy node it takes a while: windows pile up behind it, and the agent may be gone before it begins.
        start_s = self._random.choice((0.05, 0.05, 3.0))
        self._world.loop.call_later(start_s, self._begin, child)
        try:
            return await done
        except asyncio.CancelledError:
            # SIGKILL for the agent is none for the child; a cancelled run kills it.
            if self._world.host is not None and self._world.host.alive:
                child.done = None
            raise

    def lose_power(self) -> None:
        """
        End them all.
        """
        for child in self._started:
            child.done = None
        self._started.clear()
        self._running.clear()

    def _begin(self, child: Child) -> None:
        if child.done is None:
            return
        if not child.paths:
            self._end(child, 0, "")
            return
        disk = SimStateDisk(self._world.tree, fault=self._world.disk_fault)
        try:
            spec = msgspec.json.decode(read_range(disk, child.paths.pop(0), 0, None), type=SealSpec)
        except (OSError, msgspec.DecodeError) as error:
            self._end(child, 1, str(error))
            return
        queue = self._running.setdefault(spec.directory, [])
        queue.append(child)
        child.work = seal(disk, spec)
        if len(queue) == 1:
            self._step(spec.directory)

    def _step(self, directory: str) -> None:
        queue = self._running.get(directory, [])
        while queue and queue[0].done is None:
            queue.pop(0)
        if not queue:
            return
        child = queue[0]
        try:
            next(child.work)
        except StopIteration:
            queue.pop(0)
            self._begin(child)
        except OSError as error:
            queue.pop(0)
            self._end(child, 1, str(error))
        self._world.loop.call_later(self._random.random() * 0.05, self._step, directory)

    @staticmethod
    def _end(child: Child, code: int, text: str) -> None:
        if child.done is not None and not child.done.done():
            child.done.set_result((code, text))
