"""
What travels down a route: segments, the resources they belong to, and what becomes of them.

A segment is one contiguous byte range of one generation of a Log, with its rows as columns.
Segments of a Log tile its chain in reading order, so a segment can have no rows (a stretch of a line
that is discarded) and no bytes (open pieces released after a timeout), but never a gap before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent._fastparse import Columns
    from agent.core.budget import Charge
    from agent.core.cursor import Cursor
    from agent.core.generations import Generation
    from agent.core.pod_facts import Metadata
    from agent.core.transform import Tally, TypedRows


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Resource:
    """
    Everything that is constant for a container.  Empty strings stand for what is not known.
    """

    path: str  # of the live file
    cluster: str = ""
    node: str = ""
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    container: str = ""
    restart: str = ""
    region: str = ""
    zone: str = ""
    instance_id: str = ""
    #: What the API server says; None where it is not known, or nobody asked.
    metadata: Metadata | None = None

    @property
    def container_id(self) -> str:
        """
        Id of this run of the container, without its runtime's name.
        """
        return self.metadata.container_id if self.metadata is not None else ""

    @property
    def image(self) -> str:
        """
        The image as the runtime names it.
        """
        return self.metadata.image if self.metadata is not None else ""

    @property
    def pod_ip(self) -> str:
        """
        Address of the pod.
        """
        return self.metadata.pod_ip if self.metadata is not None else ""

    @property
    def owner_kind(self) -> str:
        """
        Kind of what a person would call the owner: Deployment and not ReplicaSet.
        """
        return self.metadata.owner_kind if self.metadata is not None else ""

    @property
    def owner_name(self) -> str:
        """
        Name of that owner.
        """
        return self.metadata.owner_name if self.metadata is not None else ""

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """
        Labels of the pod.
        """
        return self.metadata.labels if self.metadata is not None else ()

    @property
    def annotations(self) -> tuple[tuple[str, str], ...]:
        """
        Those annotations of the pod that are kept.
        """
        return self.metadata.annotations if self.metadata is not None else ()

    @property
    def namespace_labels(self) -> tuple[tuple[str, str], ...]:
        """
        Labels of the namespace.
        """
        return self.metadata.namespace_labels if self.metadata is not None else ()


class LossReason(StrEnum):
    """
    Why a byte range will never be delivered.
    """

    DELETED = "deleted"  # The file vanished before it was read.
    TRUNCATED = "truncated"  # The file was cut or overwritten before it was read.
    TOO_OLD = "too_old"  # The service refused the event: older than it takes.
    TOO_NEW = "too_new"
    EXPIRED = "expired"  # Older than the retention of its log group.
    REFUSED = "refused"  # The service refuses the event however it is sent.
    POISON = "poison"  # No parser or encoder gets through these bytes.
    HELD_TOO_LONG = "held_too_long"  # held_deleted_bytes_max or disk_free_min_bytes was passed.
    IGNORED_OLDER = "ignored_older"
    DAMAGED = (
        "damaged"  # Staged rows, or the object made of them, failed their checksum or vanished.
    )


@dataclass(frozen=True, slots=True)
class Loss:
    """
    A named byte range that will never be delivered.

    `rows` is 0 where nobody could count them.
    """

    log: str
    file_id: str
    generation: int
    start: int
    stop: int
    reason: LossReason
    rows: int = 0
    detail: str = ""


@dataclass(slots=True, eq=False)
class Segment:
    """
    A byte range [start, stop) of one generation and its rows: the unit of accounting.

    Immutable but for its accounting: `columns` is dropped by the sink that has encoded all rows (`encoded` counts
    them until then), and `rows_open` counts the rows without an outcome.
    """

    log: str  # key of the Log: the path of its live file
    generation: int
    file_id: str  # 32 hex digits
    start: int
    stop: int
    resource: Resource
    columns: Columns | None
    cursor_after: Cursor  # where the streams resume once this and all before it are resolved
    read_ns: int  # wall clock when it was read
    charge: Charge
    #: file_id of earlier generations that rows flagged FLAG_EARLIER began in, by generation.
    earlier_file_ids: dict[int, str] = field(default_factory=dict)
    #: The Log's chain: what staging writes down, so that it can stand for a checkpoint that is lost.
    generations: Sequence[Generation] = ()
    loss: Loss | None = None
    rows: int = 0
    rows_open: int = 0
    #: Of the rows in `columns`, how many a sink has encoded already.
    encoded: int = 0
    #: Counted when a checkpoint has passed the segment, so that nothing is counted twice.
    tallies: tuple[Tally, ...] = ()
    #: What a parse found that the sink takes as columns.
    typed: TypedRows | None = None
    #: Values of the fields that the sink's names are made of.
    values: tuple[str, ...] = ()
    #: Where rows go to several names: the segment by name.  A part has columns and a charge of its own, and the segment
    #: none; all else is the segment's.  Sinks settle rows of parts, the ledger counts them in the segment.
    parts: tuple[Segment, ...] = ()
    whole: Segment | None = None  # of a part
    #: Of a part: where all rows of the segment begin, int64, so that a row's range ends at the next row of any part.
    offsets: bytes = b""
    sequence: int = -1  # given by the ledger
    waited_s: float = 0.0  # for which its oldest bytes were left in the file, for more to come

    @property
    def by_name(self) -> tuple[Segment, ...]:
        """
        Its parts; itself, where all rows go to one name.
        """
        return self.parts or (self,)

    @property
    def rows_left(self) -> int:
        """
        Rows in memory that are not encoded yet.
        """
        return self.columns.rows - self.encoded if self.columns is not None else 0

    @property
    def message_bytes(self) -> int:
        """
        Bytes of the messages that are in memory.
        """
        held = [part.columns for part in self.by_name]
        return sum(columns.message_bytes for columns in held if columns is not None)

    def release(self) -> None:
        """
        Give back the memory of its rows.
        """
        for part in self.by_name:
            part.columns = None
            part.charge.release()


class Rejection(StrEnum):
    """
    Outcomes of rows other than delivered, as metric labels.
    """

    REJECTED = "rejected"
    LOST = "lost"
