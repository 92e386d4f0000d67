"""
Where a route stands in a Log.

A Log is a chain of generations, numbered upwards from 0 in the order in which they were written.
A place in it is (generation, offset): tuples of it compare in reading order.

Three streams share one file and each has a place of its own, because an open `P` piece of one must
neither hold back nor lose rows of another:

| index | stream | holds |
|---|---|---|
| 0 | other | raw files, and lines of a CRI or docker file that are not valid |
| 1 | stdout | |
| 2 | stderr | |

A stream's place is where its first unresolved or open row begins.  Reading resumes at the lowest of
the three places, and the parser skips every line of a stream that starts below that stream's place.
So a place is always the start of a line, except in the two modes `LINE_…REST`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

STREAM_OTHER = 0
STREAM_STDOUT = 1
STREAM_STDERR = 2
STREAM_COUNT = 3
STREAM_NAMES = ("other", "stdout", "stderr")


class StreamMode(IntEnum):
    """
    What is to be done with the bytes at a stream's place.
    """

    #: They begin a line.
    LINE = 0
    #: They begin a line, and pieces of this stream are discarded up to and including its next `F`:
    #: the rest of a joined line that was cut at `line_bytes_max`.
    PIECES_REST = 1
    #: They are the middle of a physical line that was cut at `line_bytes_max`: discard up to and
    #: including the next newline.
    LINE_REST = 2
    #: As LINE_REST, and then as PIECES_REST: the cut line was a `P`, or its stream was discarding.
    LINE_PIECES_REST = 3


class StreamCursor(NamedTuple):
    """
    The place of one stream.
    """

    generation: int
    offset: int
    mode: int = StreamMode.LINE


#: One StreamCursor per stream, in the order of the stream indices.
Cursor = tuple[StreamCursor, StreamCursor, StreamCursor]


def cursor_at(generation: int, offset: int) -> Cursor:
    """
    Return the cursor whose streams all stand at the line start (*generation*, *offset*).
    """
    place = StreamCursor(generation, offset)
    return (place, place, place)


def resume_place(cursor: Cursor) -> StreamCursor:
    """
    Return the lowest place of *cursor*, where reading resumes.
    """
    return min(cursor)
