"""
The parser and the encoders in plain Python: the specification of `_fastparse` and `_fastencode`.

It also reads a chunk that the compiled one fails at.  `_reference_lines` has the tables of the
formats, `_reference_encode` the encoders.

| what | becomes |
|---|---|
| a valid line, tag `F` | a row |
| pieces `P … P F` of a stream | one row, with the time, the offset and FLAG_PARTIAL of the first |
| a raw line | a row of stream 0 with the read time |
| any other line | a row of stream 0, whole, with the read time and FLAG_INVALID; pieces stay open |
| a final CR of a row | nothing |
| a row over line_bytes_max | its first line_bytes_max bytes, at once, with FLAG_TRUNCATED (1) |
| a line of line_bytes_max + 1,024 bytes or more | the same, before its newline is there; no docker line (2) |
| what has no newline when its generation ends | a line, and its row has FLAG_UNTERMINATED |
| pieces that are released | a row with FLAG_UNTERMINATED |

(1) The rest is discarded: of a line up to its newline, of pieces up to and including the `F`.
(2) As docker's JSON it is not valid, since all of it would be needed to read its keys.

All of it is decided by bytes alone: where reads end, and where a restart resumes, changes no row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent._fastparse import (
    FLAG_EARLIER,
    FLAG_INVALID,
    FLAG_PARTIAL,
    FLAG_READ_TIME,
    FLAG_TRUNCATED,
    FLAG_UNTERMINATED,
    FORMAT_CRI,
    FORMAT_DOCKER,
    FORMAT_RAW,
    Chunk,
    Columns,
    Counts,
)
from agent._reference_encode import Body, Order, order_rows, staging_buffers
from agent._reference_lines import Line, read_cri, read_docker
from agent.core.cursor import (
    STREAM_COUNT,
    STREAM_OTHER,
    Cursor,
    StreamCursor,
    StreamMode,
    cursor_at,
    resume_place,
)

__all__ = ["Body", "Order", "Parser", "order_rows", "staging_buffers"]

LINE_ROOM_BYTES = 1_024


@dataclass(slots=True)
class _Open:
    """
    The pieces of a row whose `F` has not come.
    """

    place: StreamCursor
    first: Line
    content: bytes = b""
    pieces: int = 0


@dataclass(slots=True)
class _Stream:
    place: StreamCursor  # where it was restored to
    discarding: bool = False  # pieces, up to and including the next F
    open: _Open | None = None


@dataclass(slots=True)
class _Call:
    """
    What one call makes.
    """

    data: bytearray
    offset: int
    read_time_ns: int
    rows: list[tuple[int, int, int, int, int, int, int]] = field(default_factory=list)
    earlier: list[int] = field(default_factory=lambda: [-1] * STREAM_COUNT)
    lines: int = 0
    joined: int = 0
    discarded_bytes: int = 0

    def add(self, time_ns: int, offset: int, time: bytes, message: bytes, flags: int) -> None:
        """
        Add a row; its texts are appended to the data, wherever they are already.
        """
        start = len(self.data)
        self.data += time + message
        spans = (start, len(time), start + len(time), len(message))
        self.rows.append((time_ns, offset, *spans, flags))

    def counts(self) -> Counts:
        """
        Count the rows by flag.
        """
        flags = [row[6] for row in self.rows]
        return Counts(
            lines=self.lines,
            rows=len(self.rows),
            invalid=sum(flag & FLAG_INVALID != 0 for flag in flags),
            truncated=sum(flag & FLAG_TRUNCATED != 0 for flag in flags),
            unterminated=sum(flag & FLAG_UNTERMINATED != 0 for flag in flags),
            joined=self.joined,
            empty=sum(row[5] == 0 for row in self.rows),
            discarded_bytes=self.discarded_bytes,
        )


class Parser:
    """
    The same as `_fastparse.Parser`, except that a chunk keeps its memory.
    """

    def __init__(self, *, format: int, line_bytes_max: int) -> None:
        if format not in {FORMAT_RAW, FORMAT_CRI, FORMAT_DOCKER}:
            raise ValueError(f"format {format}: expected FORMAT_RAW, FORMAT_CRI or FORMAT_DOCKER")
        self._format = format
        self._line_bytes_max = line_bytes_max
        self._counts = Counts(0, 0, 0, 0, 0, 0, 0, 0)
        self.restore(cursor_at(0, 0))

    def restore(self, cursor: Cursor) -> None:
        rest = {StreamMode.PIECES_REST, StreamMode.LINE_PIECES_REST}
        self._streams = [_Stream(place, place.mode in rest) for place in cursor]
        self._generation, self._position, mode = resume_place(cursor)
        self._mid_line = mode in {StreamMode.LINE_REST, StreamMode.LINE_PIECES_REST}
        self._mid_counted = self._mid_line
        self.consumed = 0

    def begin(self, generation: int) -> None:
        if generation <= self._generation:
            raise ValueError(f"generation {generation} does not follow {self._generation}")
        self._generation, self._position, self._mid_line = generation, 0, False
        self.consumed = 0

    def parse(
        self, chunk: Chunk, length: int, *, offset: int, read_time_ns: int, final: bool = False
    ) -> Columns:
        if offset != self._position:
            raise ValueError(f"offset {offset}: the last call stopped at {self._position}")
        with memoryview(chunk) as view:
            if not 0 <= length <= len(view):
                raise ValueError(f"length {length}: the chunk holds {len(view)} bytes")
            text = bytes(view[:length])
        call = _Call(bytearray(), offset, read_time_ns)
        position = 0
        while position < length:
            newline = text.find(b"\n", position)
            end = newline if newline >= 0 else length
            line = text[position:end]
            if self._mid_line:
                call.discarded_bytes += len(line) if self._mid_counted else 0
                self._mid_line = newline < 0
            elif newline >= 0:
                self._line(call, position, line)
            elif len(line) >= self.chunk_bytes_min:
                self._mid_counted = self._line(call, position, line)
                self._mid_line = True
            elif final:
                self._line(call, position, line, FLAG_UNTERMINATED)
            else:
                break
            position = end + (newline >= 0)
        self._mid_line = self._mid_line and not final
        self.consumed = position
        self._position += position
        return self._columns(call)

    def release(self, streams: int, *, read_time_ns: int) -> Columns:
        call = _Call(bytearray(), self._position, read_time_ns)
        for stream in range(STREAM_COUNT):
            if streams >> stream & 1 and self._streams[stream].open:
                self._emit(call, stream, FLAG_UNTERMINATED)
        return self._columns(call)

    def _columns(self, call: _Call) -> Columns:
        self._counts = call.counts()
        return Columns.build(bytes(call.data), call.rows, tuple(call.earlier))  # type: ignore[arg-type]

    def _line(self, call: _Call, start: int, text: bytes, flags: int = 0) -> bool:
        """
        Take one physical line; False: its stream's place lies ahead, so it is skipped.
        """
        line = None
        if self._format == FORMAT_CRI:
            line = read_cri(text)
        elif self._format == FORMAT_DOCKER and len(text) < self.chunk_bytes_min:
            line = read_docker(text)
        stream = self._streams[line.stream if line else STREAM_OTHER]
        here = StreamCursor(self._generation, call.offset + start)
        if here[:2] < stream.place[:2]:
            return False
        call.lines += 1
        if line is None:
            flags |= FLAG_READ_TIME | (FLAG_INVALID if self._format != FORMAT_RAW else 0)
            message, cut = self._cut(call, text)
            call.add(call.read_time_ns, here.offset, b"", message, flags | cut)
        elif stream.discarding:
            call.discarded_bytes += len(line.content)
            stream.discarding = line.partial
        elif stream.open or line.partial:
            stream.open = stream.open or _Open(here, line)
            self._piece(call, line, flags)
        else:
            message, cut = self._cut(call, line.content)
            call.add(line.time_ns, here.offset, line.time, message, line.stream | flags | cut)
        return True

    def _cut(self, call: _Call, content: bytes) -> tuple[bytes, int]:
        """
        Return the message of a whole content, and FLAG_TRUNCATED if something is missing.
        """
        message = content.removesuffix(b"\r")
        if len(message) <= self._line_bytes_max:
            return message, 0
        call.discarded_bytes += len(content) - self._line_bytes_max
        return message[: self._line_bytes_max], FLAG_TRUNCATED

    def _piece(self, call: _Call, line: Line, flags: int) -> None:
        """
        Join *line* to its stream's open row.
        """
        stream = self._streams[line.stream]
        assert stream.open is not None
        stream.open.pieces += 1
        stream.open.content += line.content
        content = stream.open.content
        # Only of a whole row a final carriage return is not content.
        message = content if line.partial else content.removesuffix(b"\r")
        if len(message) > self._line_bytes_max:
            call.discarded_bytes += len(content) - self._line_bytes_max
            stream.open.content = content[: self._line_bytes_max]
            stream.discarding = line.partial
            self._emit(call, line.stream, flags | FLAG_TRUNCATED)
        elif not line.partial:
            self._emit(call, line.stream, flags)

    def _emit(self, call: _Call, index: int, flags: int) -> None:
        """
        Make a row of the open pieces of stream *index*.
        """
        row = self._streams[index].open
        assert row is not None
        self._streams[index].open = None
        message = row.content if flags & FLAG_TRUNCATED else row.content.removesuffix(b"\r")
        if row.place.generation != self._generation:
            flags |= FLAG_EARLIER
            call.earlier[index] = row.place.generation
        call.joined += row.pieces > 1
        flags |= index | FLAG_PARTIAL
        call.add(row.first.time_ns, row.place.offset, row.first.time, message, flags)

    @property
    def counts(self) -> Counts:
        return self._counts

    @property
    def chunk_bytes_min(self) -> int:
        return self._line_bytes_max + LINE_ROOM_BYTES

    @property
    def open_streams(self) -> int:
        return sum(1 << index for index, stream in enumerate(self._streams) if stream.open)

    @property
    def carry_bytes(self) -> int:
        return sum(len(stream.open.content) for stream in self._streams if stream.open)

    def cursor(self) -> Cursor:
        first, second, third = (self._place(stream) for stream in self._streams)
        return (first, second, third)

    def _place(self, stream: _Stream) -> StreamCursor:
        if stream.open:
            return stream.open.place
        if stream.place[:2] > (self._generation, self._position):
            return stream.place
        if self._mid_line:
            rest = StreamMode.LINE_PIECES_REST if stream.discarding else StreamMode.LINE_REST
        else:
            rest = StreamMode.PIECES_REST if stream.discarding else StreamMode.LINE
        return StreamCursor(self._generation, self._position, rest)
