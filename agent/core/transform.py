"""
What a source asks of a route's transforms.

A transform is a pure function of (columns, carry, settings): it makes other columns before anybody else
holds them.  The carry is what is open between two segments of one Log: it begins empty at the committed
cursor, so a row that it holds back holds the cursor of its stream, as an open `P` piece does.

No I/O and no clock: *now* is in monotonic seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent._fastparse import Columns
    from agent.core.batch import Resource
    from agent.core.counters import Metric
    from agent.core.cursor import Cursor


class Tally(NamedTuple):
    """
    What is added to a counter once the segment that it was found in is committed.
    """

    metric: Metric
    amount: float
    labels: tuple[str, ...]


class TypedRows(NamedTuple):
    """
    Levels, and the fields that the sink takes as columns, of the rows of a segment: buffers as Arrow lays them out.

    The first column is `level`, of the type `level`: a byte a row, OpenTelemetry's severity number or 0.  Others have a
    bitmap of what is not null and their values; a string has its offsets and its text.
    """

    columns: tuple[tuple[str, str], ...]  # name and type
    buffers: tuple[bytes, ...]  # of all columns, one after the other

    @property
    def nbytes(self) -> int:
        """
        Memory that they hold.
        """
        return sum(map(len, self.buffers))


#: How many buffers a column has, by type.
BUFFERS = {"level": 1, "string": 3, "bigint": 2, "double": 2, "boolean": 2, "timestamp": 2}


class NamedRows(NamedTuple):
    """
    Rows of a segment that go to one name: the fields that the sink's names are made of have the same values.
    """

    values: tuple[str, ...]
    columns: Columns
    typed: TypedRows | None


class Applied(NamedTuple):
    """
    What the transforms made of the rows of a segment.
    """

    columns: Columns
    tallies: tuple[Tally, ...]
    typed: TypedRows | None = None
    #: Where the sink's names are made of fields: the rows by name, as copies but for a single one; `typed` is there.
    named: tuple[NamedRows, ...] = ()


class LogTransforms(Protocol):
    """
    The transforms of one route, in one Log.
    """

    @property
    def open_streams(self) -> int:
        """
        Bit mask (1 << stream) of the streams with rows that are held back.
        """

    @property
    def carry_bytes(self) -> int:
        """
        Memory of the rows that are held back.
        """

    def apply(
        self, columns: Columns, *, resource: Resource, generation: int, now: float, release: bool
    ) -> Applied:
        """
        Transform rows of *generation*; with *release* nothing is held back afterwards.
        """

    def cursor(self, cursor: Cursor) -> Cursor:
        """
        Return *cursor*, of the parser, with the places of what is held back.
        """

    def due(self, now: float) -> bool:
        """
        Whether something is held back for as long as it may be.
        """


#: Returns the transforms of a route for one Log, with nothing held back.
Begin: TypeAlias = "Callable[[], LogTransforms]"
