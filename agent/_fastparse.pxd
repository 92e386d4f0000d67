# Bytes of a log file to columns: the types that _fastencode reads.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t

from agent._fastline cimport Line, Minute

cpdef enum:
    FORMAT_RAW = 0
    FORMAT_CRI = 1
    FORMAT_DOCKER = 2

cpdef enum:
    FLAG_STREAM_MASK = 0x03
    FLAG_PARTIAL = 0x04
    FLAG_TRUNCATED = 0x08
    FLAG_UNTERMINATED = 0x10
    FLAG_INVALID = 0x20
    FLAG_EARLIER = 0x40
    FLAG_READ_TIME = 0x80
    FLAG_SEVERITY_SHIFT = 9
    FLAG_SEVERITY_MASK = 0x3E00

cdef enum:
    STREAMS = 3
    # Room for a line's head above line_bytes_max: whether a physical line is too long is decided by
    # its length alone, so that it does not matter where a read ended.
    LINE_ROOM_BYTES = 1_024
    # StreamMode of agent.core.cursor.
    MODE_LINE = 0
    MODE_PIECES_REST = 1
    MODE_LINE_REST = 2
    MODE_LINE_PIECES_REST = 3

# The columns, one memory block; in this order, so that each is aligned.
cdef struct Rows:
    int64_t* time_ns
    int64_t* offset
    int32_t* time_start
    int32_t* message_start
    int32_t* message_len
    uint16_t* flags
    uint8_t* time_len
    Py_ssize_t count
    Py_ssize_t capacity

# One row on its way there.
cdef struct Row:
    int64_t time_ns
    int64_t offset
    Py_ssize_t time_start
    Py_ssize_t time_len
    Py_ssize_t message_start
    Py_ssize_t message_len
    int flags

cdef class Chunk:
    cdef uint8_t* memory  # NULL once it is parsed
    cdef readonly Py_ssize_t capacity
    cdef int exports

cdef class Columns:
    cdef uint8_t* bytes  # SIMD_PADDING more are allocated
    cdef Py_ssize_t bytes_len
    cdef Py_ssize_t bytes_capacity
    cdef Rows table
    cdef readonly int64_t message_bytes
    cdef int64_t earlier[STREAMS]
    cdef object fields  # of _fastfields, or None
    cdef Py_ssize_t fields_bytes
    cdef int rows_reserve(self, Py_ssize_t capacity) except -1 nogil
    cdef Py_ssize_t bytes_reserve(self, Py_ssize_t length) except -1 nogil

# The pieces of a row whose F has not come.
cdef struct Open:
    uint8_t* bytes
    Py_ssize_t length
    Py_ssize_t capacity
    int64_t generation
    int64_t offset
    int64_t time_ns
    int pieces  # 0: nothing is open
    uint8_t time_len
    uint8_t time[35]

cdef struct Place:
    int64_t generation
    int64_t offset
    int mode

# How a physical line ends.
cdef enum Ending:
    ENDING_NEWLINE
    ENDING_CUT  # Too long; its newline has not been looked for.
    ENDING_FINAL  # The generation ends without a newline.

cdef struct Tally:
    int64_t lines
    int64_t rows
    int64_t invalid
    int64_t truncated
    int64_t unterminated
    int64_t joined
    int64_t empty
    int64_t discarded_bytes

cdef class Parser:
    cdef int format
    cdef Py_ssize_t line_bytes_max
    cdef Minute minute
    cdef Open opens[STREAMS]
    cdef Place places[STREAMS]  # Where each stream was restored to.
    cdef int modes[STREAMS]  # MODE_LINE or MODE_PIECES_REST, from the next line start on.
    cdef int64_t skip_before[STREAMS]  # In this generation, lines that start below are skipped.
    cdef int64_t generation
    cdef int64_t position  # of the next byte in this generation
    cdef bint mid_line  # The next byte is behind a cut, in the middle of a physical line
    cdef bint mid_counted  # that is not skipped.
    cdef Tally tally
    cdef Py_ssize_t consumed_bytes
    # Of the running call.
    cdef Columns out
    cdef int64_t chunk_offset
    cdef int64_t read_time_ns

    cdef void places_apply(self) noexcept
    cdef void call_begin(self, Columns columns, int64_t offset, int64_t read_time_ns) noexcept
    cdef object cursor_of(self, int stream)
    cdef Py_ssize_t parse_bytes(self, Py_ssize_t length, bint final) except -1 nogil
    cdef Py_ssize_t discard_line(self, Py_ssize_t length) noexcept nogil
    cdef int parse_line(self, Py_ssize_t start, Py_ssize_t length, Ending ending) except -1 nogil
    cdef int unescape(self, Line* line) except -1 nogil
    cdef int whole(
        self, Row* row, Py_ssize_t content_start, Py_ssize_t content_len, Ending ending,
    ) except -1 nogil
    cdef int piece(self, Row* row, Line* line, Ending ending) except -1 nogil
    cdef int open_append(self, const Row* row, const Line* line, Py_ssize_t length) except -1 nogil
    cdef int open_emit(self, int stream, int flags) except -1 nogil
    cdef void open_close(self, int stream) noexcept nogil
    cdef int row_add(self, const Row* row) except -1 nogil
