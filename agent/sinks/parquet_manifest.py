"""
What the agent and its seal child tell each other, and the names of objects.

The agent writes a `SealSpec`, the child reads the staging file, writes Parquet files beside the spec and
last of all the `SealManifest`: where that file exists, the window's files are whole and durable.

An object's key is a function of the window and of the byte ranges in it: the same window gives the same
keys and the same rows for ever, however often it is sealed and uploaded.

    [<prefix>/]<cluster=c>/<dt=2026-11-22>/<hour=10>/<node>-<window, 8 digits>-<hash>.parquet

where hash = blake2b-128 of route, node, every (file_id, start, stop) of the window in staging order, and partition, its
prefix included.
"""

from __future__ import annotations

import hashlib
import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agent.sinks.parquet_staging import read_range
from agent.sinks.staging_scan import scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.core.host import StateDisk
    from agent.sinks.staging_scan import Scanned

SPEC_NAME = "spec.json"
MANIFEST_NAME = "manifest.json"
#: Stands for a cluster that is not configured.
CLUSTER_UNKNOWN = "unknown"
#: A key is at most 1,024 bytes; a node name (253) and a cluster name (100) are far below it.
NAME_PART_MAX = 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]")


class SealSpec(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the child has to do.
    """

    route: str
    node: str
    window: int
    staging_path: str
    staging_length: int
    directory: str
    compression_level: int
    row_group_rows_max: int
    row_group_bytes_max: int
    pending_bytes_max: int
    columns: tuple[tuple[str, str], ...] = ()  # promoted ones: name and type


class SealedObject(msgspec.Struct, frozen=True, kw_only=True):
    """
    One Parquet file: its key below the sink's prefix, which is also its path below the spec's directory.
    """

    key: str
    bytes: int
    rows: int


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """
    A byte range whose staged rows failed their checksum; log is "" where only the place in staging is known.
    """

    log: str
    file_id: str
    generation: int
    start: int
    stop: int
    rows: int


class SealManifest(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the child has done.
    """

    window: int
    staging_length: int
    rows: int
    objects: tuple[SealedObject, ...]
    damage: tuple[Damage, ...]


class Partition(NamedTuple):
    """
    Where rows belong: cluster as `cluster_part` returns it, hours since the epoch, and the prefix above them or "".
    """

    cluster: str
    hour: int
    prefix: str = ""

    @property
    def path(self) -> str:
        """
        The Hive-style directory.  64-bit nanoseconds end in 2262, so every hour has a date.
        """
        at = _EPOCH + timedelta(hours=self.hour)
        above = f"{self.prefix}/" if self.prefix else ""
        day = f"{at.year:04d}-{at.month:02d}-{at.day:02d}"
        return f"{above}cluster={self.cluster}/dt={day}/hour={at.hour:02d}"


class ObjectNames:
    """
    The keys of one window's objects.
    """

    def __init__(
        self, *, route: str, node: str, window: int, ranges: Iterable[tuple[str, int, int]]
    ) -> None:
        self._node = name_part(node) or "node"
        self._window = window
        self._state = hashlib.blake2b(digest_size=16)
        for text in (route, node, str(window)):
            self._state.update(text.encode("utf-8", "surrogateescape") + b"\0")
        for file_id, start, stop in ranges:
            self._state.update(f"{file_id} {start} {stop}\n".encode())

    def key(self, partition: Partition) -> str:
        """
        Return the key, below the sink's prefix, of the window's rows in *partition*.
        """
        state = self._state.copy()
        path = partition.path
        state.update(path.encode())
        return f"{path}/{self._node}-{self._window:08d}-{state.hexdigest()}.parquet"


def survey(disk: StateDisk, spec: SealSpec) -> tuple[ObjectNames, list[Damage]]:
    """
    Return the names of the window's objects, and what of its staging is damaged; reads all of it, and decodes nothing.
    """
    damage: list[Damage] = []
    ranges: list[tuple[str, int, int]] = []
    for scanned in scan(disk, spec.staging_path, spec.staging_length, decode=False):
        if scanned.header is not None:
            ranges += [(item.file_id, item.start, item.stop) for item in scanned.header.segments]
        if scanned.data is None:
            damage += damage_of(scanned)
    names = ObjectNames(route=spec.route, node=spec.node, window=spec.window, ranges=ranges)
    return names, damage


def manifest_of(
    spec: SealSpec, objects: Sequence[SealedObject], damage: Iterable[Damage]
) -> SealManifest:
    """
    Return what the child says to have made of the window.
    """
    return SealManifest(
        window=spec.window,
        staging_length=spec.staging_length,
        rows=sum(item.rows for item in objects),
        objects=tuple(objects),
        damage=tuple(damage),
    )


def damage_of(scanned: Scanned) -> Iterator[Damage]:
    """
    Yield what is lost with a damaged stretch of staging: its segments, or its place where they are unknown.
    """
    if scanned.header is None:
        yield Damage(
            log="", file_id="", generation=0, start=scanned.start, stop=scanned.stop, rows=0
        )
        return
    for item in scanned.header.segments:
        yield Damage(
            log=scanned.header.resources[item.resource].log,
            file_id=item.file_id,
            generation=item.generation,
            start=item.start,
            stop=item.stop,
            rows=item.rows,
        )


def cluster_part(cluster: str) -> str:
    """
    Return the value of the partition column for *cluster*.
    """
    return name_part(cluster) or CLUSTER_UNKNOWN


def name_part(text: str) -> str:
    """
    Return *text* with what is awkward in a key replaced: a partition's value must not need an escape.
    """
    return _ILLEGAL.sub("-", text)[:NAME_PART_MAX]


def read_manifest(
    disk: StateDisk, directory: str, staging_length: int | None = None
) -> SealManifest | None:
    """
    Return what a child says to have made in *directory*; None where it has to be made (again).

    Where *staging_length* is given, a manifest of more or less than that is none.
    """
    try:
        encoded = read_range(disk, os.path.join(directory, MANIFEST_NAME), 0, None)
        manifest = msgspec.json.decode(encoded, type=SealManifest)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        # One that the disk has damaged is none: the staging file is there until the store knows the objects.
        return None
    return manifest if staging_length in (None, manifest.staging_length) else None
