"""
One sealed window of staging to Parquet: the work of `tailrace seal`.

- Reads the frames of the window in order, decompresses each once, and writes one Parquet file per
  partition (prefix, cluster, day and hour of the event time, UTC) below the spec's directory.
- Within a row group, segments are ordered by namespace, pod, container and file.  Rows keep the order of
  their file.
- Memory: at most `pending_bytes_max` of decoded rows wait for their row group, for at most
  PARTITIONS_OPEN_MAX partitions at a time; a window of more is read again for the next ones.
- Writes the manifest last, by rename, when all files are durable.  Run again before that, it does the same
  again: same keys, same rows.
- Damaged frames are left out and named in the manifest; they do not stop the others.
- Two of them never work in one directory: the child of an agent that was killed goes on for a while, and
  the next agent's child waits for the lock on the directory until that one has ended.  Where a manifest is,
  nothing is left to do: a child that comes late does not take files from under their upload.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow.parquet as pq

from agent.cli.seal_rows import Piece, pieces, schema_of, table
from agent.core.transform import BUFFERS
from agent.runtime.state_disk import OsStateDisk
from agent.sinks.parquet_manifest import (
    MANIFEST_NAME,
    ObjectNames,
    SealedObject,
    SealManifest,
    SealSpec,
    manifest_of,
    read_manifest,
    survey,
)
from agent.sinks.parquet_schema import COLUMNS, ColumnType, Encoding, columns_with
from agent.sinks.staging import block_bytes
from agent.sinks.staging_scan import scan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.sinks.parquet_manifest import Partition
    from agent.sinks.parquet_schema import Column
    from agent.sinks.staging import FrameHeader, StagedResource, StagedSegment

#: Open Parquet files: each holds a descriptor and the metadata of its row groups.
PARTITIONS_OPEN_MAX = 64
_DISK = OsStateDisk()

_DELTA_COLUMNS = {
    item.name: "DELTA_BINARY_PACKED" for item in COLUMNS if item.encoding is Encoding.DELTA
}


def _dictionaries(columns: tuple[Column, ...]) -> list[str]:
    return [
        *(
            item.name
            for item in columns
            if item.encoding is Encoding.DICTIONARY and item.type is not ColumnType.LABELS
        ),
        "labels.key_value.key",
        "labels.key_value.value",
    ]


def _statistics(columns: tuple[Column, ...]) -> list[str]:
    """
    Return the columns with statistics: smallest and largest message say nothing, and labels are not pruned by.
    """
    return [
        item.name
        for item in columns
        if item.name != "message" and item.type is not ColumnType.LABELS
    ]


class PartitionFile:
    """
    The Parquet file of one partition while it is written.
    """

    def __init__(self, spec: SealSpec, key: str) -> None:
        self.key = key
        self.path = Path(spec.directory, key)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.pending: list[Piece] = []
        self.pending_rows = 0
        self.pending_bytes = 0
        self.rows = 0
        self._rows_max = spec.row_group_rows_max
        columns = columns_with(spec.columns)
        self._schema = schema_of(columns)
        self._writer = pq.ParquetWriter(
            self.path,
            self._schema,
            compression="zstd",
            compression_level=spec.compression_level,
            use_dictionary=_dictionaries(columns),
            column_encoding=_DELTA_COLUMNS,
            write_statistics=_statistics(columns),
            # Readers other than Arrow do not know it, and Arrow's own types (dictionaries) are not the contract.
            store_schema=False,
        )

    def add(self, piece: Piece) -> None:
        """
        Keep *piece* for the next row group.
        """
        self.pending.append(piece)
        self.pending_rows += piece.rows
        self.pending_bytes += piece.nbytes

    def flush(self) -> None:
        """
        Write what is pending as a row group, or as several where one segment is larger than a row group.
        """
        if not self.pending:
            return
        self.pending.sort(key=_order)
        self._writer.write_table(table(self.pending, self._schema), row_group_size=self._rows_max)
        self.rows += self.pending_rows
        self.pending, self.pending_rows, self.pending_bytes = [], 0, 0

    def close(self) -> SealedObject:
        """
        Finish the file and make it durable.
        """
        self.flush()
        self._writer.close()
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        return SealedObject(key=self.key, bytes=self.path.stat().st_size, rows=self.rows)


class Sealer:
    """
    Writes the partitions of one window, PARTITIONS_OPEN_MAX at a time.
    """

    def __init__(self, spec: SealSpec, names: ObjectNames) -> None:
        self._spec = spec
        self._names = names
        self._open: dict[Partition, PartitionFile] = {}
        self._done: set[Partition] = set()
        self._left_out = False
        self._pending_bytes = 0

    def run(self) -> list[SealedObject]:
        """
        Return every object of the window, by key.
        """
        objects: list[SealedObject] = []
        while True:
            self._left_out = False
            for resource, segment, block, typed in _blocks(self._spec):
                for partition, piece in pieces(resource, segment, block, typed):
                    self._add(partition, piece)
            objects += [file.close() for file in self._open.values()]
            self._done |= self._open.keys()
            self._open.clear()
            self._pending_bytes = 0
            if not self._left_out:
                return sorted(objects, key=_key)

    def _add(self, partition: Partition, piece: Piece) -> None:
        if partition in self._done:
            return
        file = self._open.get(partition)
        if file is None:
            if len(self._open) == PARTITIONS_OPEN_MAX:
                self._left_out = True
                return
            file = self._open[partition] = PartitionFile(self._spec, self._names.key(partition))
        if file.pending and self._is_row_group(
            file.pending_rows + piece.rows, file.pending_bytes + piece.nbytes
        ):
            self._flush(file)
        file.add(piece)
        self._pending_bytes += piece.nbytes
        if self._pending_bytes > self._spec.pending_bytes_max:
            self._flush(max(self._open.values(), key=_pending_bytes))

    def _is_row_group(self, rows: int, nbytes: int) -> bool:
        return rows > self._spec.row_group_rows_max or nbytes > self._spec.row_group_bytes_max

    def _flush(self, file: PartitionFile) -> None:
        self._pending_bytes -= file.pending_bytes
        file.flush()


def seal(spec: SealSpec) -> SealManifest:
    """
    Write the window's Parquet files and its manifest into the spec's directory, if no other child has done so.
    """
    with _locked(spec.directory):
        # An agent may know of it, and be at its upload: then no file of it may go, not even for a moment.
        made = read_manifest(_DISK, spec.directory, spec.staging_length)
        return made if made is not None else _seal(spec)


def _seal(spec: SealSpec) -> SealManifest:
    _clear(spec.directory)
    names, damage = survey(_DISK, spec)
    objects = Sealer(spec, names).run()
    _sync_directories(spec.directory, objects)
    manifest = manifest_of(spec, objects, damage)
    _write_manifest(Path(spec.directory), msgspec.json.encode(manifest))
    return manifest


def _blocks(
    spec: SealSpec,
) -> Iterator[tuple[StagedResource, StagedSegment, bytes, dict[tuple[str, str], list[bytes]]]]:
    """
    Yield every whole segment with a copy of its block, so that a frame's memory ends with the frame.

    With it the buffers of its typed columns, by name and type.
    """
    for scanned in scan(_DISK, spec.staging_path, spec.staging_length):
        if scanned.header is None or scanned.data is None:
            continue
        header = scanned.header
        start = 0
        typed_start = sum(block_bytes(item.rows, item.message_bytes) for item in header.segments)
        for segment in header.segments:
            stop = start + block_bytes(segment.rows, segment.message_bytes)
            buffers = []
            for length in segment.typed:
                buffers.append(scanned.data[typed_start : typed_start + length])
                typed_start += (length + 7) & ~7
            block = scanned.data[start:stop]
            yield header.resources[segment.resource], segment, block, _by_column(header, buffers)
            start = stop


def _by_column(header: FrameHeader, buffers: list[bytes]) -> dict[tuple[str, str], list[bytes]]:
    found = {}
    for name, kind in header.columns if buffers else ():
        count = BUFFERS[kind]
        found[name, kind] = buffers[:count]
        buffers = buffers[count:]
    return found


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _clear(directory: str) -> None:
    # What an interrupted run left.  The spec stays.
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name.startswith(MANIFEST_NAME):
            os.unlink(entry.path)


def _sync_directories(directory: str, objects: list[SealedObject]) -> None:
    root = Path(directory)
    above = {
        parent for item in objects for parent in (root / item.key).parents if root in parent.parents
    }
    for path in sorted(above):
        _DISK.sync_directory(str(path))


def _write_manifest(directory: Path, encoded: bytes) -> None:
    temporary = directory / f"{MANIFEST_NAME}.tmp"
    with temporary.open("wb") as file:
        file.write(encoded)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(directory / MANIFEST_NAME)
    _DISK.sync_directory(str(directory))


def _order(piece: Piece) -> tuple[str, str, str, str]:
    return piece.order


def _key(item: SealedObject) -> str:
    return item.key


def _pending_bytes(file: PartitionFile) -> int:
    return file.pending_bytes
