"""
Bytes of a log file to columns.  `_reference.py` is the specification; this is the same, fast.

The parser is sans-I/O.  The caller reads bytes into a Chunk and calls `Parser.parse`; what comes
back is a Columns that *owns* the chunk's memory: messages are not copied, they are offsets into it.
Joined rows (`P … F`) and unescaped docker-json messages are appended behind the chunk's bytes in
the same buffer.
"""

from typing import Final, Literal, NamedTuple, Self, final

from agent.core.cursor import Cursor

#: Formats of a file.
FORMAT_RAW: Final = 0
FORMAT_CRI: Final = 1
FORMAT_DOCKER: Final = 2

#: Bits of a row's flags.  The two lowest bits are the stream index of agent.core.cursor.
FLAG_STREAM_MASK: Final = 0x03
FLAG_PARTIAL: Final = 0x04  # Its first line carried tag P (record key `_p`: "P"); joined or not.
FLAG_TRUNCATED: Final = 0x08  # Cut at line_bytes_max.
FLAG_UNTERMINATED: Final = 0x10  # Its F (or its newline) never came.
FLAG_INVALID: Final = 0x20  # Not a line of the file's format: kept whole, with the read time.
FLAG_EARLIER: Final = 0x40  # Began in an earlier generation: see Columns.earlier_generation.
FLAG_READ_TIME: Final = 0x80  # time_ns is the time of reading; time_len is 0.
#: The severity number in five bits, where the sink's records have one; 0 where it is not known.
FLAG_SEVERITY_SHIFT: Final = 9
FLAG_SEVERITY_MASK: Final = 0x3E00

@final
class Chunk:
    """
    Memory for one read, writable through the buffer protocol until it is parsed.
    """

    def __new__(cls, capacity: int) -> Self: ...
    @property
    def capacity(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Columns:
    """
    The rows of one chunk; immutable.

    Columns, each of `rows` items: `time_ns` int64 (ns since the epoch), `offset` int64 (file offset
    of the row's first line), `time_start` int32, `time_len` uint8 (the time as the runtime wrote it;
    0 where there is none), `message_start` int32, `message_len` int32, `flags` uint16.
    """

    @property
    def rows(self) -> int: ...
    @property
    def nbytes(self) -> int:
        """Bytes of memory held: the data buffer and the columns."""
    @property
    def message_bytes(self) -> int:
        """Sum of message_len."""
    @property
    def data(self) -> memoryview:
        """The chunk's bytes and the appended ones, read-only."""
    def column(self, name: str) -> memoryview:
        """A read-only view of one column, by the names above."""
    def earlier_generation(self, stream: int) -> int:
        """Generation in which the row of *stream* flagged FLAG_EARLIER began (at most one a stream); -1 for none."""
    def drop_streams(self, streams: int) -> int:
        """
        Take out the rows of the streams in the bit mask (1 << stream), and return how many they were.

        For the select stage, before anybody else holds the columns.
        """
    @staticmethod
    def build(
        data: bytes,
        rows: list[tuple[int, int, int, int, int, int, int]],
        earlier: tuple[int, int, int] = ...,
    ) -> Columns:
        """Make columns from rows of (time_ns, offset, time_start, time_len, message_start, message_len, flags)."""

class Counts(NamedTuple):
    """
    What one `parse` or `release` call saw.
    """

    lines: int  # physical lines, skipped ones not included
    rows: int
    invalid: int
    truncated: int
    unterminated: int
    joined: int  # rows made of more than one piece
    empty: int  # rows with an empty message
    discarded_bytes: int  # bytes behind a cut

@final
class Parser:
    """
    The state of one Log in one route: format, open pieces per stream, places.
    """

    def __new__(cls, *, format: int, line_bytes_max: int) -> Self: ...
    def restore(self, cursor: Cursor) -> None:
        """Start from *cursor*; reading resumes at its lowest place."""
    def begin(self, generation: int) -> None:
        """Go to offset 0 of a later *generation*; open pieces stay open."""
    def parse(
        self, chunk: Chunk, length: int, *, offset: int, read_time_ns: int, final: bool = False
    ) -> Columns:
        """
        Parse chunk[:length], read at *offset* of the current generation, and take the chunk's memory.

        Whole lines are consumed, and see `consumed`; a partial last line is not, unless *final* (the
        generation is finished) or it is `chunk_bytes_min` long.  Nothing consumed from a full chunk
        means: read again with a chunk of at least `chunk_bytes_min`.
        Raises ValueError for an offset that is not where the last call stopped.
        """
    def release(self, streams: int, *, read_time_ns: int) -> Columns:
        """Emit the open pieces of the streams in the bit mask (1 << stream) as FLAG_UNTERMINATED rows."""
    @property
    def consumed(self) -> int:
        """Bytes consumed by the last parse."""
    @property
    def counts(self) -> Counts:
        """Of the last call."""
    @property
    def chunk_bytes_min(self) -> int:
        """A chunk of this capacity always makes progress: line_bytes_max and room for a line's head."""
    @property
    def open_streams(self) -> int:
        """Bit mask of the streams with open pieces."""
    @property
    def carry_bytes(self) -> int:
        """Memory held by open pieces."""
    def cursor(self) -> Cursor:
        """Where each stream would resume now: its open row, else the end of what was consumed."""

def detect(line: bytes, *, kubelet: bool) -> Literal[0, 1, 2]:
    """The format of a file from its first line; *kubelet*: its path is kubelet-shaped, so CRI unless docker."""
