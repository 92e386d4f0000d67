"""
Staged blocks to Arrow tables: the inner part of `tailrace seal`.

A *piece* is the rows of one segment in one partition.  Its arrays are views of the segment's block, or
filtered copies where the segment crosses an hour.  What is constant for a segment becomes a dictionary
index repeated by run length; nothing here looks at a single row.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from agent._fastparse import (
    FLAG_EARLIER,
    FLAG_INVALID,
    FLAG_STREAM_MASK,
    FLAG_TRUNCATED,
    FLAG_UNTERMINATED,
)
from agent._fastrate import FLAG_SUMMARY
from agent.core.cursor import STREAM_COUNT, STREAM_NAMES
from agent.sinks.parquet_manifest import Partition, cluster_part
from agent.sinks.parquet_schema import COLUMNS, ROW_KINDS, ColumnType, Encoding

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from agent.sinks.parquet_schema import Column
    from agent.sinks.staging import StagedResource, StagedSegment

Value = TypeVar("Value", bound="Hashable")

HOUR_NS = 3_600_000_000_000
MILLISECOND_NS = 1_000_000

_DICTIONARY = pa.dictionary(pa.int32(), pa.string())
_TYPES = {
    ColumnType.TIMESTAMP: pa.timestamp("ms", tz="UTC"),
    ColumnType.BIGINT: pa.int64(),
    ColumnType.STRING: pa.string(),
    ColumnType.DOUBLE: pa.float64(),
    ColumnType.BOOLEAN: pa.bool_(),
    #: Dictionaries inside the map: labels repeat on every row of a pod.
    ColumnType.LABELS: pa.map_(_DICTIONARY, _DICTIONARY),
}


def _arrow_type(column_type: ColumnType, encoding: Encoding) -> pa.DataType:
    if column_type is ColumnType.STRING and encoding is Encoding.DICTIONARY:
        return _DICTIONARY
    return _TYPES[column_type]


#: Columns that only the API server, or the cloud, knows about: named as in a StagedResource, NULL where not known.
_METADATA_COLUMNS = (
    *("container_id", "image", "pod_ip", "owner_kind", "owner_name"),
    *("region", "zone", "instance_id"),
)

_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
#: Severity numbers of a level: 1 to 4 are TRACE, 5 to 8 are DEBUG, ….
_LEVEL_SEVERITIES = 4


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """
    Return Arrow's schema of *columns*.
    """
    return pa.schema([(item.name, _arrow_type(item.type, item.encoding)) for item in columns])


#: Of the columns that every file has.
SCHEMA = schema_of(COLUMNS)
NOTHING_TYPED: Mapping[tuple[str, str], Sequence[bytes]] = {}


class Piece(NamedTuple):
    """
    The rows of one segment in one partition, in the order of the file.
    """

    resource: StagedResource
    segment: StagedSegment
    time_ns: pa.Array
    offset: pa.Array
    flags: pa.Array
    message: pa.Array
    typed: dict[str, pa.Array]
    rows: int
    nbytes: int

    @property
    def order(self) -> tuple[str, str, str, str]:
        """
        The place of the piece in its row group; those of one file stay in the order of staging.

        That is the order of their rows.  The order of their byte ranges is not: after a crash one stream is
        read again from the start of an open row, in a segment that begins before rows of the other.
        """
        resource = self.resource
        return (resource.namespace, resource.pod, resource.container, resource.path)


def pieces(
    resource: StagedResource,
    segment: StagedSegment,
    block: bytes,
    typed: Mapping[tuple[str, str], Sequence[bytes]] = NOTHING_TYPED,
) -> Iterator[tuple[Partition, Piece]]:
    """
    Yield the rows in *block*, the segment's block of a frame, by partition; *typed* are buffers by column.
    """
    piece = _piece(resource, segment, block, typed)
    cluster = cluster_part(resource.cluster)
    bounds = pc.min_max(piece.time_ns)
    first, last = int(bounds["min"]) // HOUR_NS, int(bounds["max"]) // HOUR_NS
    if first == last:
        yield Partition(cluster, first, resource.prefix), piece
        return
    hours = _floor_divide(piece.time_ns, HOUR_NS)
    for hour in memoryview(pc.unique(hours).buffers()[1]).cast("q"):
        mask = pc.equal(hours, pa.scalar(hour, pa.int64()))
        yield Partition(cluster, hour, resource.prefix), _filtered(piece, mask)


def table(group: Sequence[Piece], schema: pa.Schema = SCHEMA) -> pa.Table:
    """
    Return the rows of *group* in its order, with *schema*.
    """
    run_ends = pa.array(accumulate(piece.rows for piece in group), pa.int32())
    time_ns = _joined([piece.time_ns for piece in group])
    flags = _joined([piece.flags for piece in group])
    streams = pc.bit_wise_and(flags, pa.scalar(FLAG_STREAM_MASK, pa.uint16())).cast(pa.int32())
    rows = len(time_ns)
    resources = [piece.resource for piece in group]
    arrays = {
        "time": _floor_divide(time_ns, MILLISECOND_NS).cast(schema.field("time").type),
        "time_ns": time_ns,
        "stream": pa.DictionaryArray.from_arrays(streams, pa.array(STREAM_NAMES)),
        "level": _levels(group, rows),
        "message": pa.chunked_array([piece.message for piece in group]),
        "namespace": _repeated([item.namespace for item in resources], run_ends),
        "pod": _repeated([item.pod for item in resources], run_ends),
        "container": _repeated([item.container for item in resources], run_ends),
        "node": _repeated([item.node for item in resources], run_ends),
        "pod_uid": _repeated([item.pod_uid for item in resources], run_ends),
        "file": _repeated([item.path for item in resources], run_ends),
        "file_id": _file_ids(group, run_ends, flags, streams),
        "offset": _joined([piece.offset for piece in group]),
        "row_kind": pa.DictionaryArray.from_arrays(
            _flag(flags, FLAG_SUMMARY).cast(pa.int8()).cast(pa.int32()), pa.array(ROW_KINDS)
        ),
        "truncated": _flag(flags, FLAG_TRUNCATED),
        "unterminated": _flag(flags, FLAG_UNTERMINATED),
        "invalid": _flag(flags, FLAG_INVALID),
        **{
            name: _known([getattr(item, name) for item in resources], run_ends)
            for name in _METADATA_COLUMNS
        },
        "labels": _labels([item.labels for item in resources], run_ends),
    }
    for field in schema:
        if field.name not in arrays:
            arrays[field.name] = _promoted(group, field)
    return pa.table({field.name: arrays[field.name] for field in schema}, schema)


def _levels(group: Sequence[Piece], rows: int) -> pa.Array:
    if not any("level" in piece.typed for piece in group):
        return pa.nulls(rows, _DICTIONARY)
    numbers = _joined(
        [piece.typed.get("level", pa.nulls(piece.rows, pa.int32())) for piece in group]
    )
    below = pc.subtract(numbers, pa.scalar(1, pa.int32()))
    codes = pc.divide(below, pa.scalar(_LEVEL_SEVERITIES, pa.int32()))
    known = pc.greater(numbers, pa.scalar(0, pa.int32()))
    return pa.DictionaryArray.from_arrays(
        pc.if_else(known, codes, pa.scalar(None, pa.int32())), pa.array(_LEVELS)
    )


def _promoted(group: Sequence[Piece], field: pa.Field) -> pa.Array:
    plain = pa.string() if field.type == _DICTIONARY else field.type
    parts = []
    for piece in group:
        part = piece.typed.get(field.name)
        # Staged before the configuration named it, or gave it another type.
        parts.append(
            part if part is not None and part.type == plain else pa.nulls(piece.rows, plain)
        )
    joined = _joined(parts)
    return joined.dictionary_encode() if field.type == _DICTIONARY else joined


def _piece(
    resource: StagedResource,
    segment: StagedSegment,
    block: bytes,
    typed: Mapping[tuple[str, str], Sequence[bytes]],
) -> Piece:
    # The layout of staging.py: views, no copies.
    rows = segment.rows
    buffer = pa.py_buffer(block)
    ends_at = 16 * rows
    flags_at = ends_at + 4 * (rows + 1)
    messages_at = flags_at + 2 * rows
    message = [None, buffer.slice(ends_at), buffer.slice(messages_at, segment.message_bytes)]
    return Piece(
        resource=resource,
        segment=segment,
        time_ns=pa.Array.from_buffers(pa.int64(), rows, [None, buffer]),
        offset=pa.Array.from_buffers(pa.int64(), rows, [None, buffer.slice(8 * rows)]),
        flags=pa.Array.from_buffers(pa.uint16(), rows, [None, buffer.slice(flags_at)]),
        message=pa.Array.from_buffers(pa.string(), rows, message),
        typed={name: _typed(kind, parts, rows) for (name, kind), parts in typed.items()},
        rows=rows,
        nbytes=len(block) + sum(len(part) for parts in typed.values() for part in parts),
    )


def _typed(kind: str, parts: Sequence[bytes], rows: int) -> pa.Array:
    buffers = [pa.py_buffer(part) for part in parts]
    if kind == "level":
        return pa.Array.from_buffers(pa.uint8(), rows, [None, *buffers]).cast(pa.int32())
    return pa.Array.from_buffers(_TYPES[ColumnType(kind)], rows, buffers)


def _filtered(piece: Piece, mask: pa.Array) -> Piece:
    time_ns, offset, flags, message = (
        column.filter(mask) for column in (piece.time_ns, piece.offset, piece.flags, piece.message)
    )
    typed = {name: column.filter(mask) for name, column in piece.typed.items()}
    nbytes = time_ns.nbytes + offset.nbytes + flags.nbytes + message.nbytes
    nbytes += sum(column.nbytes for column in typed.values())
    return Piece(
        resource=piece.resource,
        segment=piece.segment,
        time_ns=time_ns,
        offset=offset,
        flags=flags,
        message=message,
        typed=typed,
        rows=len(time_ns),
        nbytes=nbytes,
    )


def _joined(arrays: list[pa.Array]) -> pa.Array:
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def _floor_divide(values: pa.Array, divisor: int) -> pa.Array:
    # Arrow divides towards zero, time before 1970 is below it.
    by = pa.scalar(divisor, pa.int64())
    one = pa.scalar(1, pa.int64())
    below = pc.subtract(pc.divide(pc.add(values, one), by), one)
    return pc.if_else(pc.less(values, pa.scalar(0, pa.int64())), below, pc.divide(values, by))


def _coded(values: Sequence[Value]) -> tuple[list[Value], pa.Array]:
    """
    Return the different values, and the index of each of *values* among them.
    """
    index: dict[Value, int] = {}
    codes = pa.array([index.setdefault(value, len(index)) for value in values], pa.int32())
    return list(index), codes


def _spread(per_piece: pa.Array, run_ends: pa.Array) -> pa.Array:
    return pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(run_ends, per_piece))


def _repeated(values: Sequence[str], run_ends: pa.Array) -> pa.DictionaryArray:
    different, codes = _coded(values)
    return pa.DictionaryArray.from_arrays(
        _spread(codes, run_ends), pa.array(different, pa.string())
    )


def _known(values: Sequence[str], run_ends: pa.Array) -> pa.DictionaryArray:
    index: dict[str, int] = {}
    codes = [index.setdefault(value, len(index)) if value else None for value in values]
    return pa.DictionaryArray.from_arrays(
        _spread(pa.array(codes, pa.int32()), run_ends), pa.array(list(index), pa.string())
    )


def _flag(flags: pa.Array, bit: int) -> pa.Array:
    return pc.not_equal(
        pc.bit_wise_and(flags, pa.scalar(bit, pa.uint16())), pa.scalar(0, pa.uint16())
    )


def _file_ids(
    group: Sequence[Piece], run_ends: pa.Array, flags: pa.Array, streams: pa.Array
) -> pa.DictionaryArray:
    """
    Return the file in which each row began: an earlier one for rows flagged FLAG_EARLIER.
    """
    own = _repeated([piece.segment.file_id for piece in group], run_ends)
    if not any(piece.segment.earlier for piece in group):
        return own
    # A table with one entry for each piece and stream, looked up for the flagged rows only.
    entries = [
        (piece.segment.earlier[stream] if piece.segment.earlier else "") or piece.segment.file_id
        for piece in group
        for stream in range(STREAM_COUNT)
    ]
    different, codes = _coded([piece.segment.file_id for piece in group] + entries)
    own_codes = _spread(codes.slice(0, len(group)), run_ends)
    firsts = pa.array(range(0, STREAM_COUNT * len(group), STREAM_COUNT), pa.int32())
    places = pc.add(_spread(firsts, run_ends), streams)
    earlier_codes = codes.slice(len(group)).take(places)
    mixed = pc.if_else(_flag(flags, FLAG_EARLIER), earlier_codes, own_codes)
    return pa.DictionaryArray.from_arrays(mixed, pa.array(different, pa.string()))


def _labels(values: Sequence[tuple[tuple[str, str], ...]], run_ends: pa.Array) -> pa.MapArray:
    different, codes = _coded(values)
    offsets = pa.array(accumulate((len(labels) for labels in different), initial=0), pa.int32())
    names, name_codes = _coded([name for labels in different for name, _ in labels])
    texts, text_codes = _coded([text for labels in different for _, text in labels])
    unique = pa.MapArray.from_arrays(
        offsets,
        pa.DictionaryArray.from_arrays(name_codes, pa.array(names, pa.string())),
        pa.DictionaryArray.from_arrays(text_codes, pa.array(texts, pa.string())),
    )
    return unique.take(_spread(codes, run_ends))
