"""
The columns of the Parquet files, as data: what seal writes and what the Athena table declares.

Names are lower-case and never change their meaning or type; new ones are added before `labels`, and
read as NULL from older files.  The partition columns are in the path of an object, never in its file.
Columns that queries filter on are flat, and the one complex column is last: Athena reads whole rows as
soon as a query names a complex one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class ColumnType(StrEnum):
    """
    Types, by the name that Athena has for them.
    """

    #: Milliseconds, UTC: Athena fails on a timestamp with a finer unit.
    TIMESTAMP = "timestamp"
    BIGINT = "bigint"
    STRING = "string"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    LABELS = "map<string,string>"


class Encoding(StrEnum):
    """
    How a column is encoded in Parquet.
    """

    PLAIN = "plain"
    #: Few different values in a row group.
    DICTIONARY = "dictionary"
    #: Grows steadily within a segment: DELTA_BINARY_PACKED.
    DELTA = "delta"


class Column(NamedTuple):
    """
    One column of the base schema.
    """

    name: str
    type: ColumnType
    encoding: Encoding
    comment: str


_STRING, _DICTIONARY = ColumnType.STRING, Encoding.DICTIONARY

COLUMNS = (
    Column("time", ColumnType.TIMESTAMP, Encoding.DELTA, "Event time, UTC, milliseconds"),
    Column(
        "time_ns", ColumnType.BIGINT, Encoding.DELTA, "Event time, nanoseconds since 1970-01-01 UTC"
    ),
    Column("stream", _STRING, _DICTIONARY, "stdout, stderr or other"),
    Column(
        "level",
        _STRING,
        _DICTIONARY,
        "TRACE, DEBUG, INFO, WARN, ERROR or FATAL; NULL where it was not parsed",
    ),
    Column("message", _STRING, Encoding.PLAIN, "The line, without its container runtime prefix"),
    Column("namespace", _STRING, _DICTIONARY, "Kubernetes namespace"),
    Column("pod", _STRING, _DICTIONARY, "Pod name"),
    Column("container", _STRING, _DICTIONARY, "Container name"),
    Column("node", _STRING, _DICTIONARY, "Node name"),
    Column("pod_uid", _STRING, _DICTIONARY, "Pod UID"),
    Column("file", _STRING, _DICTIONARY, "Path of the log file on the node"),
    Column("file_id", _STRING, _DICTIONARY, "Identity of the file over renames and compression"),
    Column("offset", ColumnType.BIGINT, Encoding.DELTA, "Byte offset of the row in its file"),
    Column(
        "row_kind",
        _STRING,
        _DICTIONARY,
        "line, or summary of dropped lines; (node, file_id, offset, row_kind) is unique",
    ),
    Column("truncated", ColumnType.BOOLEAN, Encoding.PLAIN, "Cut at the maximum length of a line"),
    Column("unterminated", ColumnType.BOOLEAN, Encoding.PLAIN, "The end of the line never came"),
    Column(
        "invalid",
        ColumnType.BOOLEAN,
        Encoding.PLAIN,
        "Not a line of the file's format; time is that of reading",
    ),
    Column("container_id", _STRING, _DICTIONARY, "Id of the container; NULL where not known"),
    Column("image", _STRING, _DICTIONARY, "Image of the container; NULL where not known"),
    Column("pod_ip", _STRING, _DICTIONARY, "Address of the pod; NULL where not known"),
    Column(
        "owner_kind", _STRING, _DICTIONARY, "Deployment, DaemonSet, CronJob, …; NULL without one"
    ),
    Column("owner_name", _STRING, _DICTIONARY, "Name of the owner; NULL without one"),
    Column("region", _STRING, _DICTIONARY, "Region of the node; NULL where not known"),
    Column("zone", _STRING, _DICTIONARY, "Availability zone of the node; NULL where not known"),
    Column("instance_id", _STRING, _DICTIONARY, "EC2 instance; NULL where not known"),
    Column("labels", ColumnType.LABELS, _DICTIONARY, "Labels of the pod"),
)

PARTITIONS = (
    Column("cluster", _STRING, Encoding.PLAIN, "Cluster name"),
    Column("dt", _STRING, Encoding.PLAIN, "Day of the event time, UTC, yyyy-MM-dd"),
    Column("hour", _STRING, Encoding.PLAIN, "Hour of the event time, UTC, 00 to 23"),
)

ROW_KINDS = ("line", "summary")


def columns_with(promoted: Iterable[tuple[str, str]]) -> tuple[Column, ...]:
    """
    Return the columns of a file with *promoted* ones (name and type) before the last, `labels`.
    """
    more = [
        Column(
            name,
            ColumnType(kind),
            Encoding.DICTIONARY if kind == "string" else Encoding.PLAIN,
            "Extracted from the message; NULL where it is not there or not of the type",
        )
        for name, kind in promoted
    ]
    return (*COLUMNS[:-1], *more, COLUMNS[-1])
