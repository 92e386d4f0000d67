"""
Rows of one stream that are one event, joined.  `_reference_join.py` is the specification.

Rows are joined where they lie: a row that stays alone is not copied.  What is emitted never overtakes
what is read, because of every stream one group is held back.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t, uint16_t
from libc.string cimport memcpy, memset

from typing import NamedTuple

cimport cython

from agent._fastparse cimport (
    FLAG_EARLIER, FLAG_STREAM_MASK, FLAG_TRUNCATED, FLAG_UNTERMINATED, STREAMS, Columns, Row, Rows,
)
from agent._fastregex cimport Regex
from agent._fasttrace cimport (
    LANGUAGE_ANY, LANGUAGE_DOTNET, LANGUAGE_GO, LANGUAGE_JAVA, LANGUAGE_NODE, LANGUAGE_PYTHON,
    LANGUAGE_RUBY, TRACE_JOINS, trace_step,
)

LANGUAGES = {
    "java": LANGUAGE_JAVA,
    "python": LANGUAGE_PYTHON,
    "go": LANGUAGE_GO,
    "ruby": LANGUAGE_RUBY,
    "dotnet": LANGUAGE_DOTNET,
    "node": LANGUAGE_NODE,
    "auto": LANGUAGE_ANY,
}


class Joined(NamedTuple):
    """
    What one `join` did.
    """

    joined: int
    split: int


cdef enum:
    # States of a group by patterns.
    CUSTOM_OPEN = 0
    CUSTOM_ENDED = 1


# The group of one stream that is not ended.
cdef struct Group:
    int lines  # 0: none is open
    int state
    int64_t generation
    double since
    Row row  # of its first line; its text and time are in the columns while `bytes` is not used
    bint copied
    uint8_t* bytes
    Py_ssize_t length
    Py_ssize_t capacity
    uint8_t time[35]


@cython.final
cdef class Joiner:
    """
    The open groups of one Log in one route.
    """

    cdef Group groups[STREAMS]
    cdef int languages
    cdef int lines_max
    cdef Py_ssize_t bytes_max
    cdef double hold_max_s
    # Patterns instead of a language; each may be None.
    cdef bint custom
    cdef Regex start
    cdef Regex goes_on
    cdef Regex end
    # Of the running call.
    cdef Columns out
    cdef int64_t generation
    cdef double now
    cdef Py_ssize_t emitted
    cdef int64_t joined
    cdef int64_t split

    def __cinit__(
        self, *, int languages, int lines_max, Py_ssize_t bytes_max, double hold_max_s,
        Regex start = None, Regex goes_on = None, Regex end = None,
    ):
        if lines_max < 1 or bytes_max < 1:
            raise ValueError("lines_max and bytes_max: expected at least 1")
        self.languages = languages
        self.lines_max = lines_max
        self.bytes_max = bytes_max
        self.hold_max_s = hold_max_s
        self.start = start
        self.goes_on = goes_on
        self.end = end
        self.custom = languages == 0

    def __dealloc__(self):
        cdef int stream
        for stream in range(STREAMS):
            PyMem_RawFree(self.groups[stream].bytes)

    def join(self, Columns columns, *, int64_t generation, double now, bint release):
        cdef Rows* table = &columns.table
        cdef Py_ssize_t rows = table.count
        cdef int stream
        if columns.fields is not None:
            raise ValueError("rows are joined before anything is extracted from them")
        if table.capacity < rows + STREAMS:
            columns.rows_reserve(rows + STREAMS)
        self.out = columns
        self.generation = generation
        self.now = now
        self.emitted = self.joined = self.split = 0
        columns.message_bytes = 0
        try:
            self.rows_join(rows)
            for stream in range(STREAMS):
                if not self.groups[stream].lines:
                    continue
                if release or now - self.groups[stream].since >= self.hold_max_s:
                    self.group_emit(stream)
                    self.group_free(stream)
                else:
                    self.group_keep(stream)
        finally:
            self.out = None
        table.count = self.emitted
        return Joined(self.joined, self.split)

    @property
    def open_streams(self):
        cdef int stream
        cdef int streams = 0
        for stream in range(STREAMS):
            if self.groups[stream].lines:
                streams |= 1 << stream
        return streams

    @property
    def carry_bytes(self):
        cdef int stream
        cdef Py_ssize_t total = 0
        for stream in range(STREAMS):
            total += self.groups[stream].capacity
        return total

    @property
    def since(self):
        cdef int stream
        cdef double oldest = INFINITY
        for stream in range(STREAMS):
            if self.groups[stream].lines and self.groups[stream].since < oldest:
                oldest = self.groups[stream].since
        return oldest

    def place(self, int stream):
        if not 0 <= stream < STREAMS or not self.groups[stream].lines:
            raise ValueError(f"stream {stream} has no open group")
        return (self.groups[stream].generation, self.groups[stream].row.offset)

    cdef int rows_join(self, Py_ssize_t rows) except -1 nogil:
        cdef Rows* table = &self.out.table
        cdef Py_ssize_t index
        cdef Row row
        for index in range(rows):
            row.time_ns = table.time_ns[index]
            row.offset = table.offset[index]
            row.time_start = table.time_start[index]
            row.time_len = table.time_len[index]
            row.message_start = table.message_start[index]
            row.message_len = table.message_len[index]
            row.flags = table.flags[index]
            self.row_take(&row)
        return 0

    cdef int row_take(self, const Row* row) except -1 nogil:
        cdef int stream = row.flags & FLAG_STREAM_MASK
        cdef Group* group = &self.groups[stream]
        cdef int step = self.step_of(
            group.state if group.lines else -1, self.out.bytes + row.message_start, row.message_len
        )
        cdef bint joins = group.lines > 0 and step & TRACE_JOINS
        if group.lines and row.flags & FLAG_EARLIER and group.generation != self.out.earlier[stream]:
            # Rows that began in two different earlier generations: columns name one a stream, so the
            # later one becomes part of the group.
            joins = True
        elif joins and (
            group.lines >= self.lines_max
            or (group.length if group.copied else group.row.message_len) + 1 + row.message_len > self.bytes_max
        ):
            joins = False
            self.split += 1
        if joins:
            self.group_append(group, row)
            group.state = step & ~TRACE_JOINS
            return 0
        if group.lines:
            self.group_emit(stream)
        group.lines = 1
        group.state = step & ~TRACE_JOINS
        group.generation = self.out.earlier[stream] if row.flags & FLAG_EARLIER else self.generation
        group.since = self.now
        group.row = row[0]
        group.copied = False
        group.length = 0
        return 0

    cdef int step_of(self, int state, const uint8_t* text, Py_ssize_t length) except -1 nogil:
        cdef bint joins
        if not self.custom:
            return trace_step(self.languages, state, text, length)
        joins = state == CUSTOM_OPEN
        if joins and self.start is not None:
            joins = not self.start.matches(text, length, 0)
        if joins and self.goes_on is not None:
            joins = self.goes_on.matches(text, length, 0)
        state = CUSTOM_OPEN
        if self.end is not None and self.end.matches(text, length, 0):
            state = CUSTOM_ENDED
        return TRACE_JOINS | state if joins else state

    cdef int group_room(self, Group* group, Py_ssize_t length) except -1 nogil:
        cdef Py_ssize_t capacity = group.length + length
        cdef uint8_t* memory
        if capacity > group.capacity:
            capacity += group.length
            memory = <uint8_t*>PyMem_RawRealloc(group.bytes, capacity)
            if memory == NULL:
                with gil:
                    raise MemoryError
            group.bytes = memory
            group.capacity = capacity
        return 0

    cdef int group_copy(self, Group* group) except -1 nogil:
        # The text and the time of the first line, out of the columns.
        self.group_room(group, group.row.message_len + 1)
        memcpy(group.bytes, self.out.bytes + group.row.message_start, group.row.message_len)
        memcpy(group.time, self.out.bytes + group.row.time_start, group.row.time_len)
        group.length = group.row.message_len
        group.copied = True
        return 0

    cdef int group_append(self, Group* group, const Row* row) except -1 nogil:
        if not group.copied:
            self.group_copy(group)
        self.group_room(group, row.message_len + 1)
        group.bytes[group.length] = c'\n'
        memcpy(
            group.bytes + group.length + 1, self.out.bytes + row.message_start, row.message_len
        )
        group.length += row.message_len + 1
        group.lines += 1
        group.row.flags |= row.flags & (FLAG_TRUNCATED | FLAG_UNTERMINATED)
        self.joined += 1
        return 0

    cdef int group_emit(self, int stream) except -1 nogil:
        cdef Group* group = &self.groups[stream]
        cdef Rows* table = &self.out.table
        cdef Row row = group.row
        cdef Py_ssize_t index = self.emitted
        if group.copied:
            row.message_start = self.out.bytes_reserve(group.length + row.time_len)
            row.message_len = group.length
            row.time_start = row.message_start + group.length
            memcpy(self.out.bytes + row.message_start, group.bytes, group.length)
            memcpy(self.out.bytes + row.time_start, group.time, row.time_len)
            self.out.bytes_len = row.time_start + row.time_len
        row.flags &= ~FLAG_EARLIER
        if group.generation != self.generation:
            row.flags |= FLAG_EARLIER
            self.out.earlier[stream] = group.generation
        table.time_ns[index] = row.time_ns
        table.offset[index] = row.offset
        table.time_start[index] = <int>row.time_start
        table.time_len[index] = <uint8_t>row.time_len
        table.message_start[index] = <int>row.message_start
        table.message_len[index] = <int>row.message_len
        table.flags[index] = <uint16_t>row.flags
        self.out.message_bytes += row.message_len
        self.emitted = index + 1
        group.lines = 0
        return 0

    cdef int group_keep(self, int stream) except -1:
        # For the next call: nothing of it may lie in the columns.
        cdef Group* group = &self.groups[stream]
        if not group.copied:
            self.group_copy(group)
        return 0

    cdef void group_free(self, int stream) noexcept:
        PyMem_RawFree(self.groups[stream].bytes)
        memset(&self.groups[stream], 0, sizeof(Group))
