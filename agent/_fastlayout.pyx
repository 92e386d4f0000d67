"""
Lines with their parts in a fixed order, and groups of patterns, to fields.  `_reference_text.py` is the
specification.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memcmp

cimport cython

from agent._fastfields cimport (
    FIELD_NULL, FIELD_NUMBER, FIELD_TEXT, Fields, Wanted, field_set, fields_begin, number_read, wanted_find,
)
from agent._fastparse cimport Columns, Rows
from agent._fastregex cimport REGEX_SLOTS_MAX, Regex

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_len, const void* needle, size_t needle_len)

cdef enum:
    PARTS_MAX = 24

cdef struct Part:
    const uint8_t* name
    Py_ssize_t name_len
    const uint8_t* stop
    Py_ssize_t stop_len
    Py_ssize_t field


@cython.final
cdef class Layout:
    """
    The parts of a line.
    """

    cdef tuple kept
    cdef const uint8_t* begin
    cdef Py_ssize_t begin_len
    cdef Part parts[PARTS_MAX]
    cdef Py_ssize_t count
    cdef Py_ssize_t required
    cdef bint syslog

    def __cinit__(self, bytes begin, tuple parts, *, Py_ssize_t required, bint syslog = False):
        cdef Py_ssize_t index
        if not 0 < len(parts) <= PARTS_MAX:
            raise ValueError(f"{len(parts)} parts: expected 1 to {PARTS_MAX}")
        self.kept = (begin, parts)
        self.begin = <const uint8_t*>PyBytes_AS_STRING(begin)
        self.begin_len = PyBytes_GET_SIZE(begin)
        for index, (name, stop) in enumerate(parts):
            self.parts[index].name = <const uint8_t*>PyBytes_AS_STRING(name)
            self.parts[index].name_len = PyBytes_GET_SIZE(name)
            self.parts[index].stop = <const uint8_t*>PyBytes_AS_STRING(stop)
            self.parts[index].stop_len = PyBytes_GET_SIZE(stop)
        self.count = len(parts)
        self.required = required
        self.syslog = syslog


cdef void text_set(
    Columns columns, Fields fields, Py_ssize_t field, Py_ssize_t row, Py_ssize_t start, Py_ssize_t stop,
) noexcept nogil:
    # A dash stands for nothing.
    cdef double number
    cdef int kind = FIELD_TEXT
    if field < 0:
        return
    if stop - start == 1 and columns.bytes[start] == c'-':
        kind = FIELD_NULL
    elif number_read(columns.bytes + start, stop - start, &number):
        kind = FIELD_NUMBER
    field_set(fields, field, row, start, stop - start, kind)


cdef Py_ssize_t structured_end(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    # Behind RFC 5424's structured data, or -1.
    cdef Py_ssize_t position = 0
    cdef bint quoted = False
    if length and text[0] == c'-':
        return 1
    while position < length and text[position] == c'[':
        while position < length and (quoted or text[position] != c']'):
            if quoted and text[position] == c'\\':
                position += 1
            elif text[position] == c'"':
                quoted = not quoted
            position += 1
        if position >= length:
            return -1
        position += 1
    return position if position else -1


cdef bint syslog_rest(
    Columns columns, Fields fields, Wanted wanted, Py_ssize_t row, Py_ssize_t start, Py_ssize_t stop,
) noexcept nogil:
    cdef Py_ssize_t end = structured_end(columns.bytes + start, stop - start)
    if end < 0 or (start + end < stop and columns.bytes[start + end] != c' '):
        return False
    text_set(
        columns, fields, wanted_find(wanted, b"structured_data", 15), row, start, start + end
    )
    start += end + 1
    if stop - start >= 3 and memcmp(columns.bytes + start, b"\xef\xbb\xbf", 3) == 0:
        start += 3
    if start < stop:
        text_set(columns, fields, wanted_find(wanted, b"message", 7), row, start, stop)
    return True


cdef int priority_severity(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    # Of <0> to <191>; 0 where it is none.
    cdef int value = 0
    cdef Py_ssize_t index
    cdef const uint8_t* severities = <const uint8_t*>b"\x15\x15\x15\x11\x0d\x0a\x09\x05"
    if not 1 <= length <= 3:
        return 0
    for index in range(length):
        if not c'0' <= text[index] <= c'9':
            return 0
        value = value * 10 + text[index] - c'0'
    return severities[value & 7] if value <= 191 else 0


cdef bint layout_read(
    Columns columns, Fields fields, Layout layout, Wanted wanted, Py_ssize_t row,
) noexcept nogil:
    cdef Py_ssize_t base = columns.table.message_start[row]
    cdef Py_ssize_t stop = base + columns.table.message_len[row]
    cdef Py_ssize_t starts[PARTS_MAX]
    cdef Py_ssize_t ends[PARTS_MAX]
    cdef const uint8_t* found
    cdef Py_ssize_t index
    cdef Py_ssize_t count = 0
    cdef int severity = 0
    if stop - base < layout.begin_len or memcmp(columns.bytes + base, layout.begin, layout.begin_len):
        return False
    base += layout.begin_len
    for index in range(layout.count):
        if base > stop:
            break
        starts[index] = base
        ends[index] = stop
        if layout.parts[index].stop_len:
            found = <const uint8_t*>memmem(
                columns.bytes + base, stop - base, layout.parts[index].stop,
                layout.parts[index].stop_len,
            )
            if found == NULL:
                break
            ends[index] = found - columns.bytes
        base = ends[index] + layout.parts[index].stop_len
        count += 1
    if count < layout.required:
        return False
    if layout.syslog:
        severity = priority_severity(columns.bytes + starts[0], ends[0] - starts[0])
        if severity == 0 or not syslog_rest(columns, fields, wanted, row, starts[count - 1], stop):
            return False
        fields.severity[row] = <uint8_t>severity
        count -= 1
    for index in range(count):
        text_set(columns, fields, layout.parts[index].field, row, starts[index], ends[index])
    return True


def extract_layout(Columns columns, Wanted wanted, Layout layout):
    cdef Fields fields = fields_begin(columns, wanted)
    cdef Py_ssize_t row, index
    cdef Py_ssize_t unparsed = 0
    for index in range(layout.count):
        layout.parts[index].field = wanted_find(
            wanted, layout.parts[index].name, layout.parts[index].name_len
        )
    for row in range(columns.table.count):
        if fields.parsed[row]:
            continue
        if layout_read(columns, fields, layout, wanted, row):
            fields.parsed[row] = 1
        else:
            unparsed += 1
    return unparsed


def extract_groups(Columns columns, Wanted wanted, Regex regex, tuple fields):
    cdef Fields made = fields_begin(columns, wanted)
    cdef Rows* table = &columns.table
    cdef const uint8_t* needle = <const uint8_t*>PyBytes_AS_STRING(regex.literal)
    cdef Py_ssize_t needle_len = PyBytes_GET_SIZE(regex.literal)
    cdef int32_t slots[REGEX_SLOTS_MAX]
    cdef Py_ssize_t indices[REGEX_SLOTS_MAX]
    cdef const uint8_t* text
    cdef Py_ssize_t row, length, group
    cdef Py_ssize_t groups = len(fields)
    cdef Py_ssize_t unparsed = 0
    if groups != len(regex.names):
        raise ValueError(f"{groups} fields for {len(regex.names)} groups")
    for group in range(groups):
        indices[group] = fields[group]
    for row in range(table.count):
        if made.parsed[row]:
            continue
        text = columns.bytes + table.message_start[row]
        length = table.message_len[row]
        if (
            (needle_len and memmem(text, length, needle, needle_len) == NULL)
            or not regex.matches(text, length, 0) or not regex.where(text, length, 0, slots)
        ):
            unparsed += 1
            continue
        made.parsed[row] = 1
        for group in range(groups):
            if slots[group * 2 + 2] >= 0:
                text_set(
                    columns, made, indices[group], row, table.message_start[row] + slots[group * 2 + 2],
                    table.message_start[row] + slots[group * 2 + 3],
                )
    return unparsed
