"""
Bytes of a log file to columns.  `_reference.py` is the specification, `_fastparse.pyi` the contract.

`Parser.parse_bytes` is the loop: what nearly every line is (valid, whole, of a stream with nothing
open) becomes a row there and then; all others go through `parse_line`.  Errors inside are of one
kind, memory; after one the parser has to be restored.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t
from libc.string cimport memchr, memcpy, memset

from typing import NamedTuple

cimport cython

from agent._fastjson cimport SIMD_PADDING, json_unescape
from agent._fastline cimport Line, Minute, cri_read, docker_read, minute_reset

from agent.core.cursor import StreamCursor

cdef enum:
    ROW_BYTES = 8 + 8 + 4 + 4 + 4 + 2 + 1
    # Positions are int32, and joined pieces and unescaped text are appended to the chunk's bytes.
    CHUNK_BYTES_MAX = 512 * 1024 * 1024
    LINE_BYTES_MAX = 128 * 1024 * 1024
    INT32_MAX_BYTES = 2_147_483_647


class Counts(NamedTuple):
    """
    What one `parse` or `release` call saw.
    """

    lines: int
    rows: int
    invalid: int
    truncated: int
    unterminated: int
    joined: int
    empty: int
    discarded_bytes: int


@cython.final
cdef class Chunk:
    """
    Memory for one read, writable through the buffer protocol until it is parsed.
    """

    def __cinit__(self, Py_ssize_t capacity):
        if capacity < 0 or capacity > CHUNK_BYTES_MAX:
            raise ValueError(f"chunk of {capacity} bytes: at most {CHUNK_BYTES_MAX} are possible")
        self.memory = <uint8_t*>PyMem_RawMalloc(capacity + SIMD_PADDING)
        if self.memory == NULL:
            raise MemoryError
        self.capacity = capacity

    def __dealloc__(self):
        PyMem_RawFree(self.memory)

    def __getbuffer__(self, Py_buffer* view, int flags):
        if self.memory == NULL:
            raise BufferError("the chunk has been parsed, its memory belongs to the columns")
        PyBuffer_FillInfo(view, self, self.memory, self.capacity, False, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1


@cython.final
cdef class _View:
    # One column, for the buffer protocol.
    cdef Columns owner
    cdef const void* memory
    cdef char* code
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]

    def __getbuffer__(self, Py_buffer* view, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("columns are read-only")
        view.obj = self
        view.buf = <void*>self.memory
        view.itemsize = self.strides[0]
        view.len = self.shape[0] * self.strides[0]
        view.readonly = True
        view.ndim = 1
        view.format = self.code
        view.shape = self.shape
        view.strides = self.strides
        view.suboffsets = NULL
        view.internal = NULL


cdef object view_of(
    Columns owner, const void* memory, char* code, Py_ssize_t count, Py_ssize_t size,
):
    cdef _View view = _View.__new__(_View)
    view.owner = owner
    view.memory = memory
    view.code = code
    view.shape[0] = count
    view.strides[0] = size
    return memoryview(view)


cdef void rows_layout(Rows* rows, uint8_t* block, Py_ssize_t capacity) noexcept nogil:
    rows.time_ns = <int64_t*>block
    rows.offset = rows.time_ns + capacity
    rows.time_start = <int32_t*>(rows.offset + capacity)
    rows.message_start = rows.time_start + capacity
    rows.message_len = rows.message_start + capacity
    rows.flags = <uint16_t*>(rows.message_len + capacity)
    rows.time_len = <uint8_t*>(rows.flags + capacity)
    rows.capacity = capacity


@cython.final
cdef class Columns:
    """
    The rows of one chunk; immutable.
    """

    def __cinit__(self):
        cdef int stream
        for stream in range(STREAMS):
            self.earlier[stream] = -1

    def __dealloc__(self):
        PyMem_RawFree(self.bytes)
        PyMem_RawFree(self.table.time_ns)

    @property
    def rows(self):
        return self.table.count

    @property
    def nbytes(self):
        cdef Py_ssize_t held = self.bytes_capacity + SIMD_PADDING + self.fields_bytes
        return held + self.table.capacity * ROW_BYTES

    @property
    def data(self):
        return view_of(self, self.bytes, b"B", self.bytes_len, 1)

    def column(self, str name):
        cdef Py_ssize_t rows = self.table.count
        if name == "time_ns":
            return view_of(self, self.table.time_ns, b"q", rows, 8)
        if name == "offset":
            return view_of(self, self.table.offset, b"q", rows, 8)
        if name == "time_start":
            return view_of(self, self.table.time_start, b"i", rows, 4)
        if name == "message_start":
            return view_of(self, self.table.message_start, b"i", rows, 4)
        if name == "message_len":
            return view_of(self, self.table.message_len, b"i", rows, 4)
        if name == "flags":
            return view_of(self, self.table.flags, b"H", rows, 2)
        if name == "time_len":
            return view_of(self, self.table.time_len, b"B", rows, 1)
        raise KeyError(name)

    def earlier_generation(self, int stream):
        if not 0 <= stream < STREAMS:
            raise ValueError(f"stream {stream}: expected 0 to {STREAMS - 1}")
        return self.earlier[stream]

    def drop_streams(self, int streams):
        cdef Rows* table = &self.table
        cdef Py_ssize_t kept = 0
        cdef Py_ssize_t row
        for row in range(table.count):
            if streams >> (table.flags[row] & FLAG_STREAM_MASK) & 1:
                self.message_bytes -= table.message_len[row]
                continue
            if kept != row:
                table.time_ns[kept] = table.time_ns[row]
                table.offset[kept] = table.offset[row]
                table.time_start[kept] = table.time_start[row]
                table.message_start[kept] = table.message_start[row]
                table.message_len[kept] = table.message_len[row]
                table.flags[kept] = table.flags[row]
                table.time_len[kept] = table.time_len[row]
            kept += 1
        row = table.count - kept
        table.count = kept
        return row

    @staticmethod
    def build(bytes data, list rows, tuple earlier = (-1, -1, -1)):
        cdef Columns columns = columns_new(NULL, 0)
        cdef Py_ssize_t size = len(data)
        cdef Rows* table = &columns.table
        cdef int stream
        if size > INT32_MAX_BYTES:
            raise ValueError(f"{size} bytes of data: positions are int32")
        columns.bytes = <uint8_t*>PyMem_RawMalloc(size + SIMD_PADDING)
        if columns.bytes == NULL:
            raise MemoryError
        memcpy(columns.bytes, PyBytes_AS_STRING(data), size)
        columns.bytes_len = columns.bytes_capacity = size
        columns.rows_reserve(len(rows))
        for stream in range(STREAMS):
            columns.earlier[stream] = earlier[stream]
        for time_ns, offset, time_start, time_len, message_start, message_len, flags in rows:
            if not (
                0 <= time_start and 0 <= time_len <= 255 and time_start + time_len <= size
                and 0 <= message_start and 0 <= message_len and message_start + message_len <= size
            ):
                raise ValueError(f"row {table.count}: its time or its message is outside of the data")
            table.time_ns[table.count] = time_ns
            table.offset[table.count] = offset
            table.time_start[table.count] = time_start
            table.time_len[table.count] = time_len
            table.message_start[table.count] = message_start
            table.message_len[table.count] = message_len
            table.flags[table.count] = flags
            table.count += 1
            columns.message_bytes += message_len
        return columns

    cdef int rows_reserve(self, Py_ssize_t capacity) except -1 nogil:
        # Move the rows to a block of exactly `capacity` rows.
        cdef Rows old = self.table
        cdef uint8_t* block = <uint8_t*>PyMem_RawMalloc(capacity * ROW_BYTES + 8)
        if block == NULL:
            with gil:
                raise MemoryError
        rows_layout(&self.table, block, capacity)
        if old.count:
            memcpy(self.table.time_ns, old.time_ns, old.count * 8)
            memcpy(self.table.offset, old.offset, old.count * 8)
            memcpy(self.table.time_start, old.time_start, old.count * 4)
            memcpy(self.table.message_start, old.message_start, old.count * 4)
            memcpy(self.table.message_len, old.message_len, old.count * 4)
            memcpy(self.table.flags, old.flags, old.count * 2)
            memcpy(self.table.time_len, old.time_len, old.count)
        PyMem_RawFree(old.time_ns)
        return 0

    cdef Py_ssize_t bytes_reserve(self, Py_ssize_t length) except -1 nogil:
        # Make room behind the data, and return where that is.  Pointers into the data end here.
        cdef Py_ssize_t capacity = self.bytes_len + length
        cdef uint8_t* memory
        if capacity > self.bytes_capacity:
            capacity += self.bytes_len // 2
            memory = <uint8_t*>PyMem_RawRealloc(self.bytes, capacity + SIMD_PADDING)
            if memory == NULL:
                with gil:
                    raise MemoryError
            self.bytes = memory
            self.bytes_capacity = capacity
        return self.bytes_len


cdef Columns columns_new(uint8_t* memory, Py_ssize_t capacity):
    cdef Columns columns = Columns.__new__(Columns)
    columns.bytes = memory
    columns.bytes_capacity = capacity
    return columns


cdef int columns_trim(Columns columns) except -1:
    # Give back what was too much: a chunk is sized for a full read, and may hold one line.
    cdef uint8_t* memory
    if columns.bytes_capacity - columns.bytes_len > columns.bytes_len // 8 + 64:
        memory = <uint8_t*>PyMem_RawRealloc(columns.bytes, columns.bytes_len + SIMD_PADDING)
        if memory != NULL:
            columns.bytes = memory
            columns.bytes_capacity = columns.bytes_len
    if columns.table.capacity - columns.table.count > columns.table.count // 4 + 8:
        columns.rows_reserve(columns.table.count)
    return 0


@cython.final
cdef class Parser:
    """
    The state of one Log in one route: format, open pieces per stream, places.
    """

    def __cinit__(self, *, int format, Py_ssize_t line_bytes_max):
        if format != FORMAT_RAW and format != FORMAT_CRI and format != FORMAT_DOCKER:
            raise ValueError(f"format {format}: expected FORMAT_RAW, FORMAT_CRI or FORMAT_DOCKER")
        if not 1 <= line_bytes_max <= LINE_BYTES_MAX:
            raise ValueError(f"line_bytes_max {line_bytes_max}: expected 1 to {LINE_BYTES_MAX}")
        self.format = format
        self.line_bytes_max = line_bytes_max
        minute_reset(&self.minute)

    def __dealloc__(self):
        cdef int stream
        for stream in range(STREAMS):
            PyMem_RawFree(self.opens[stream].bytes)

    def restore(self, cursor) -> None:
        cdef int stream
        lowest = min(cursor)
        for stream in range(STREAMS):
            generation, offset, mode = cursor[stream]
            self.open_close(stream)
            self.places[stream].generation = generation
            self.places[stream].offset = offset
            self.places[stream].mode = mode
            self.modes[stream] = (
                MODE_PIECES_REST
                if mode == MODE_PIECES_REST or mode == MODE_LINE_PIECES_REST
                else MODE_LINE
            )
        self.generation, self.position = lowest[0], lowest[1]
        self.mid_line = self.mid_counted = lowest[2] >= MODE_LINE_REST
        self.consumed_bytes = 0
        self.places_apply()

    def begin(self, int64_t generation) -> None:
        if generation <= self.generation:
            raise ValueError(f"generation {generation} does not follow {self.generation}")
        self.generation = generation
        self.position = 0
        self.mid_line = False
        self.consumed_bytes = 0
        self.places_apply()

    cdef void places_apply(self) noexcept:
        cdef int stream
        for stream in range(STREAMS):
            if self.places[stream].generation > self.generation:
                self.skip_before[stream] = INT64_MAX
            elif self.places[stream].generation == self.generation:
                self.skip_before[stream] = self.places[stream].offset
            else:
                self.skip_before[stream] = 0

    def parse(
        self, Chunk chunk, Py_ssize_t length, *, int64_t offset, int64_t read_time_ns,
        bint final = False,
    ) -> Columns:
        cdef Columns columns
        cdef Py_ssize_t consumed
        if chunk.memory == NULL:
            raise ValueError("the chunk has been parsed already")
        if chunk.exports:
            raise BufferError("the chunk is still exported: release its memoryview first")
        if not 0 <= length <= chunk.capacity:
            raise ValueError(f"length {length}: the chunk holds {chunk.capacity} bytes")
        if offset != self.position:
            raise ValueError(f"offset {offset}: the last call stopped at {self.position}")
        columns = columns_new(chunk.memory, chunk.capacity)
        chunk.memory = NULL
        columns.bytes_len = length
        columns.rows_reserve(length // 128 + 4)
        self.call_begin(columns, offset, read_time_ns)
        try:
            consumed = self.parse_bytes(length, final)
        finally:
            self.out = None
        self.consumed_bytes = consumed
        self.position += consumed
        if columns.bytes_len == length:
            columns.bytes_len = consumed
        columns_trim(columns)
        return columns

    def release(self, int streams, *, int64_t read_time_ns) -> Columns:
        cdef Columns columns = columns_new(NULL, 0)
        cdef int stream
        self.call_begin(columns, self.position, read_time_ns)
        try:
            columns.rows_reserve(STREAMS)
            columns.bytes_reserve(1)
            for stream in range(STREAMS):
                if streams & (1 << stream) and self.opens[stream].pieces:
                    self.open_emit(stream, FLAG_UNTERMINATED)
        finally:
            self.out = None
        columns_trim(columns)
        return columns

    cdef void call_begin(self, Columns columns, int64_t offset, int64_t read_time_ns) noexcept:
        memset(&self.tally, 0, sizeof(Tally))
        self.out = columns
        self.chunk_offset = offset
        self.read_time_ns = read_time_ns

    @property
    def consumed(self):
        return self.consumed_bytes

    @property
    def counts(self):
        cdef Tally* tally = &self.tally
        return Counts(
            tally.lines, tally.rows, tally.invalid, tally.truncated, tally.unterminated,
            tally.joined, tally.empty, tally.discarded_bytes,
        )

    @property
    def chunk_bytes_min(self):
        return self.line_bytes_max + LINE_ROOM_BYTES

    @property
    def open_streams(self):
        cdef int stream
        cdef int streams = 0
        for stream in range(STREAMS):
            if self.opens[stream].pieces:
                streams |= 1 << stream
        return streams

    @property
    def carry_bytes(self):
        cdef int stream
        cdef Py_ssize_t total = 0
        for stream in range(STREAMS):
            total += self.opens[stream].capacity
        return total

    def cursor(self):
        return (self.cursor_of(0), self.cursor_of(1), self.cursor_of(2))

    cdef object cursor_of(self, int stream):
        cdef Place* place = &self.places[stream]
        cdef int mode = self.modes[stream]
        if self.opens[stream].pieces:
            return StreamCursor(self.opens[stream].generation, self.opens[stream].offset, MODE_LINE)
        if place.generation > self.generation or (
            place.generation == self.generation and place.offset > self.position
        ):
            return StreamCursor(place.generation, place.offset, place.mode)
        if self.mid_line:
            mode = MODE_LINE_PIECES_REST if mode == MODE_PIECES_REST else MODE_LINE_REST
        return StreamCursor(self.generation, self.position, mode)

    cdef Py_ssize_t parse_bytes(self, Py_ssize_t length, bint final) except -1 nogil:
        cdef Line line
        cdef Row row
        cdef Py_ssize_t line_len
        cdef const uint8_t* text
        cdef const uint8_t* newline
        cdef bint cri = self.format == FORMAT_CRI
        cdef Py_ssize_t start = self.discard_line(length) if self.mid_line else 0
        while start < length:
            text = self.out.bytes + start
            newline = <const uint8_t*>memchr(text, c'\n', length - start)
            if newline == NULL:
                break
            line_len = newline - text
            if (
                cri and cri_read(text, line_len, &self.minute, &line)
                and not line.partial
                and self.modes[line.stream] == MODE_LINE
                and self.opens[line.stream].pieces == 0
                and self.chunk_offset + start >= self.skip_before[line.stream]
                and line.content_len <= self.line_bytes_max
            ):
                row.time_ns = line.time_ns
                row.offset = self.chunk_offset + start
                row.time_start = start
                row.time_len = line.time_len
                row.message_start = start + line.content_start
                row.message_len = line.content_len
                row.flags = line.stream
                if line.content_len and (newline - 1)[0] == c'\r':
                    row.message_len -= 1
                self.tally.lines += 1
                self.row_add(&row)
            else:
                self.parse_line(start, line_len, ENDING_NEWLINE)
            start += line_len + 1
        line_len = length - start
        if line_len >= self.line_bytes_max + LINE_ROOM_BYTES:
            self.mid_counted = self.parse_line(start, line_len, ENDING_CUT)
            self.mid_line = True
            start = length
        elif line_len > 0 and final:
            self.parse_line(start, line_len, ENDING_FINAL)
            start = length
        if final:
            self.mid_line = False
        return start

    cdef Py_ssize_t discard_line(self, Py_ssize_t length) noexcept nogil:
        # Behind a cut: up to and including the newline.
        cdef const uint8_t* newline = <const uint8_t*>memchr(self.out.bytes, c'\n', length)
        cdef Py_ssize_t discarded = length if newline == NULL else newline - self.out.bytes
        if self.mid_counted:
            self.tally.discarded_bytes += discarded
        if newline == NULL:
            return length
        self.mid_line = False
        return discarded + 1

    cdef int parse_line(self, Py_ssize_t start, Py_ssize_t length, Ending ending) except -1 nogil:
        # Returns whether the line was taken; False: it is skipped, its stream's place lies ahead.
        cdef const uint8_t* text = self.out.bytes + start
        cdef bint valid = False
        cdef Line line
        cdef Row row
        if self.format == FORMAT_CRI:
            valid = cri_read(text, length, &self.minute, &line)
        elif self.format == FORMAT_DOCKER and length < self.line_bytes_max + LINE_ROOM_BYTES:
            valid = docker_read(text, length, &self.minute, &line)
        if self.chunk_offset + start < self.skip_before[line.stream if valid else 0]:
            return False
        self.tally.lines += 1
        row.offset = self.chunk_offset + start
        if not valid:
            row.time_ns = self.read_time_ns
            row.time_start = row.time_len = 0
            row.flags = FLAG_READ_TIME if self.format == FORMAT_RAW else FLAG_READ_TIME | FLAG_INVALID
            self.whole(&row, start, length, ending)
            return True
        row.time_ns = line.time_ns
        row.time_start = start + line.time_start
        row.time_len = line.time_len
        row.flags = line.stream
        line.content_start += start
        if line.escaped:
            self.unescape(&line)
        if self.modes[line.stream] == MODE_PIECES_REST:
            self.tally.discarded_bytes += line.content_len
            if not line.partial:
                self.modes[line.stream] = MODE_LINE
        elif line.partial or self.opens[line.stream].pieces:
            self.piece(&row, &line, ending)
        else:
            self.whole(&row, line.content_start, line.content_len, ending)
            if line.escaped:
                # Before this the text was only lent; now a row points to it.
                self.out.bytes_len = line.content_start + line.content_len
        return True

    cdef int unescape(self, Line* line) except -1 nogil:
        # Put what a docker line's `log` stands for behind the data, and let the content point there.
        cdef Py_ssize_t target = self.out.bytes_reserve(line.content_len)
        cdef const uint8_t* text = self.out.bytes + line.content_start
        line.content_len = json_unescape(self.out.bytes + target, text, text + line.content_len)
        line.content_start = target
        line.partial = line.content_len == 0 or (
            self.out.bytes[target + line.content_len - 1] != c'\n'
        )
        if not line.partial:
            line.content_len -= 1
        return 0

    cdef int whole(
        self, Row* row, Py_ssize_t content_start, Py_ssize_t content_len, Ending ending,
    ) except -1 nogil:
        # A row of one line.
        row.message_start = content_start
        row.message_len = content_len
        if content_len and self.out.bytes[content_start + content_len - 1] == c'\r':
            row.message_len -= 1
        if row.message_len > self.line_bytes_max:
            self.tally.discarded_bytes += content_len - self.line_bytes_max
            row.message_len = self.line_bytes_max
            row.flags |= FLAG_TRUNCATED
        if ending == ENDING_FINAL:
            row.flags |= FLAG_UNTERMINATED
        return self.row_add(row)

    cdef int piece(self, Row* row, Line* line, Ending ending) except -1 nogil:
        # A `P`, or the `F` that ends an open row.
        cdef Open* open_ = &self.opens[line.stream]
        cdef Py_ssize_t total = open_.length + line.content_len
        cdef Py_ssize_t room = self.line_bytes_max - open_.length
        cdef Py_ssize_t over = total - self.line_bytes_max
        cdef int flags = FLAG_UNTERMINATED if ending == ENDING_FINAL else 0
        cdef bint returned = False
        if not line.partial and total:
            # Of a whole row a final carriage return is not content.
            if line.content_len:
                returned = self.out.bytes[line.content_start + line.content_len - 1] == c'\r'
            else:
                returned = open_.bytes[open_.length - 1] == c'\r'
        if over > returned:
            self.tally.discarded_bytes += over
            self.open_append(row, line, room)
            if line.partial:
                self.modes[line.stream] = MODE_PIECES_REST
            return self.open_emit(line.stream, flags | FLAG_TRUNCATED)
        self.open_append(row, line, line.content_len)
        return 0 if line.partial else self.open_emit(line.stream, flags)

    cdef int open_append(self, const Row* row, const Line* line, Py_ssize_t length) except -1 nogil:
        cdef Open* open_ = &self.opens[line.stream]
        cdef uint8_t* memory
        cdef Py_ssize_t capacity
        if open_.length + length > open_.capacity:
            capacity = open_.length + length + open_.length // 2
            memory = <uint8_t*>PyMem_RawRealloc(open_.bytes, capacity)
            if memory == NULL:
                with gil:
                    raise MemoryError
            open_.bytes = memory
            open_.capacity = capacity
        if open_.pieces == 0:
            open_.generation = self.generation
            open_.offset = row.offset
            open_.time_ns = row.time_ns
            open_.time_len = <uint8_t>row.time_len
            memcpy(open_.time, self.out.bytes + row.time_start, row.time_len)
        if length:
            memcpy(open_.bytes + open_.length, self.out.bytes + line.content_start, length)
        open_.length += length
        open_.pieces += 1
        return 0

    cdef int open_emit(self, int stream, int flags) except -1 nogil:
        # The open row of the stream, joined, with the time and the offset of its first piece.
        cdef Open* open_ = &self.opens[stream]
        cdef Row row
        row.time_ns = open_.time_ns
        row.offset = open_.offset
        row.message_start = self.out.bytes_reserve(open_.length + open_.time_len)
        row.message_len = open_.length
        row.time_start = row.message_start + open_.length
        row.time_len = open_.time_len
        row.flags = stream | FLAG_PARTIAL | flags
        if open_.length:
            memcpy(self.out.bytes + row.message_start, open_.bytes, open_.length)
            if not flags & FLAG_TRUNCATED and open_.bytes[open_.length - 1] == c'\r':
                row.message_len -= 1
        memcpy(self.out.bytes + row.time_start, open_.time, open_.time_len)
        self.out.bytes_len = row.time_start + row.time_len
        if open_.generation != self.generation:
            row.flags |= FLAG_EARLIER
            self.out.earlier[stream] = open_.generation
        if open_.pieces > 1:
            self.tally.joined += 1
        self.open_close(stream)
        return self.row_add(&row)

    cdef void open_close(self, int stream) noexcept nogil:
        PyMem_RawFree(self.opens[stream].bytes)
        memset(&self.opens[stream], 0, sizeof(Open))

    cdef int row_add(self, const Row* row) except -1 nogil:
        cdef Rows* table = &self.out.table
        cdef Py_ssize_t index = table.count
        if index == table.capacity:
            self.out.rows_reserve(index * 2 + 8)
        table.time_ns[index] = row.time_ns
        table.offset[index] = row.offset
        table.time_start[index] = <int32_t>row.time_start
        table.time_len[index] = <uint8_t>row.time_len
        table.message_start[index] = <int32_t>row.message_start
        table.message_len[index] = <int32_t>row.message_len
        table.flags[index] = <uint16_t>row.flags
        table.count = index + 1
        self.out.message_bytes += row.message_len
        self.tally.rows += 1
        self.tally.empty += row.message_len == 0
        if row.flags > FLAG_PARTIAL:
            self.tally.invalid += (row.flags & FLAG_INVALID) != 0
            self.tally.truncated += (row.flags & FLAG_TRUNCATED) != 0
            self.tally.unterminated += (row.flags & FLAG_UNTERMINATED) != 0
        return 0


def detect(bytes line, *, bint kubelet):
    """
    The format of a file from its first line, or from the beginning of that.

    docker: a whole line of json-file, or the beginning that docker itself writes, `{"log":"`.  CRI: a
    CRI head, or a kubelet-shaped path.
    """
    cdef Py_ssize_t length = len(line)
    cdef Minute minute
    cdef Line parts
    cdef bytes padded = line + bytes(SIMD_PADDING)
    cdef const uint8_t* text = <const uint8_t*>PyBytes_AS_STRING(padded)
    minute_reset(&minute)
    if length and text[length - 1] == c'\n':
        length -= 1
    if line.startswith(b'{"log":"') or docker_read(text, length, &minute, &parts):
        return FORMAT_DOCKER
    if kubelet or cri_read(text, length, &minute, &parts):
        return FORMAT_CRI
    return FORMAT_RAW
