"""
JSON objects out of fields, in the place of messages.  `_reference_compose.py` is the specification.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t
from libc.string cimport memcpy

from agent._fastfields cimport FIELD_FALSE, FIELD_JSON, FIELD_NULL, FIELD_TRUE, Fields
from agent._fastjson cimport ESCAPE_ONCE, SIMD_PADDING, escape_measure, escape_write
from agent._fastline cimport time_write
from agent._fastparse cimport FLAG_PARTIAL, FLAG_STREAM_MASK, Columns, Rows

cpdef enum:
    # Where a member comes from.
    FROM_FIELD = 0
    FROM_MESSAGE = 1
    FROM_TIME = 2
    FROM_STREAM = 3
    FROM_TAG = 4

cdef enum:
    MEMBERS_MAX = 64
    TIME_BYTES_MAX = 48
    # Quotes, a comma, and the longest of true, false, stdout and stderr.
    MEMBER_BYTES = 16
    LOG_BYTES = 8  # "log":"

cdef struct Member:
    const uint8_t* name  # with its quotes and the colon
    Py_ssize_t name_len
    int source
    Py_ssize_t field

# What a member of a row is: text in the data, or a word.
cdef struct Value:
    const uint8_t* text
    Py_ssize_t length
    bint escaped  # and put into quotes; else it is written as it is


cdef bint value_of(
    Columns columns, Fields fields, const Member* member, Py_ssize_t row, Value* value,
) noexcept nogil:
    # False where the row has none.  Times are not found here.
    cdef const Rows* table = &columns.table
    cdef Py_ssize_t place
    cdef int stream = table.flags[row] & FLAG_STREAM_MASK
    value.escaped = True
    if member.source == FROM_MESSAGE:
        value.text = columns.bytes + table.message_start[row]
        value.length = table.message_len[row]
        return True
    if member.source == FROM_STREAM:
        value.text = <const uint8_t*>(b'"stdout"' if stream == 1 else b'"stderr"')
        value.length = 8
        # Nor could it be: what escapes reads behind the end of its text.
        value.escaped = False
        return stream == 1 or stream == 2
    if member.source == FROM_TAG:
        value.text = <const uint8_t*>(b'"P"' if table.flags[row] & FLAG_PARTIAL else b'"F"')
        value.length = 3
        value.escaped = False
        return True
    if fields is None:
        return False
    place = member.field * fields.stride + row
    if fields.kind[place] <= FIELD_NULL:
        return False
    value.text = columns.bytes + fields.start[place]
    value.length = fields.length[place]
    if fields.kind[place] == FIELD_TRUE:
        value.text, value.length, value.escaped = <const uint8_t*>b"true", 4, False
    elif fields.kind[place] == FIELD_FALSE:
        value.text, value.length, value.escaped = <const uint8_t*>b"false", 5, False
    elif fields.kind[place] == FIELD_JSON:
        value.escaped = False
    return True


cdef int64_t bytes_of(const Value* value) noexcept nogil:
    cdef int64_t written = value.length
    if value.escaped:
        escape_measure(value.text, value.length, ESCAPE_ONCE, INT64_MAX, &written)
    return written


cdef uint8_t* value_write(uint8_t* target, const Value* value) noexcept nogil:
    cdef int64_t decoded = 0
    if not value.escaped:
        memcpy(target, value.text, value.length)
        target += value.length
        return target
    target[0] = c'"'
    target = escape_write(target + 1, value.text, value.length, ESCAPE_ONCE, &decoded)
    target[0] = c'"'
    return target + 1


cdef int64_t row_bytes(
    Columns columns, Fields fields, const Member* members, Py_ssize_t count, Py_ssize_t row, Value* message,
) noexcept nogil:
    # Room for the object of a row, at most.
    cdef int64_t size = bytes_of(message) + LOG_BYTES + MEMBER_BYTES
    cdef Value value
    cdef Py_ssize_t index
    for index in range(count):
        size += members[index].name_len + MEMBER_BYTES
        if members[index].source == FROM_TIME:
            size += TIME_BYTES_MAX + columns.table.time_len[row]
        elif value_of(columns, fields, &members[index], row, &value):
            size += bytes_of(&value)
    return size


cdef uint8_t* row_write(
    Columns columns, Fields fields, const Member* members, Py_ssize_t count, Py_ssize_t row,
    const Value* message, uint8_t* target,
) noexcept nogil:
    cdef const Rows* table = &columns.table
    cdef const Member* member
    cdef Value value
    cdef Py_ssize_t index
    cdef bint own = False
    target[0] = c'{'
    target += 1
    for index in range(count):
        member = &members[index]
        if member.source != FROM_TIME and not value_of(columns, fields, member, row, &value):
            continue
        memcpy(target, member.name, member.name_len)
        target += member.name_len
        if member.source == FROM_TIME:
            target[0] = c'"'
            if table.time_len[row]:
                memcpy(target + 1, columns.bytes + table.time_start[row], table.time_len[row])
                target += table.time_len[row] + 1
            else:
                target = time_write(target + 1, table.time_ns[row])
            target[0] = c'"'
            target += 1
        else:
            own = own or member.source <= FROM_MESSAGE
            target = value_write(target, &value)
        target[0] = c','
        target += 1
    if not own:
        # Nothing of the line is in it: it is kept whole.
        memcpy(target, b'"log":', 6)
        target = value_write(target + 6, message)
        target[0] = c','
        target += 1
    return target


def compose(Columns columns, tuple members, bytes tail):
    cdef Fields fields = columns.fields
    cdef Rows* table = &columns.table
    cdef Member[MEMBERS_MAX] made
    cdef Member whole = Member(NULL, 0, FROM_MESSAGE, 0)
    cdef Value message
    cdef const uint8_t* rest = <const uint8_t*>PyBytes_AS_STRING(tail)
    cdef Py_ssize_t rest_len = PyBytes_GET_SIZE(tail)
    cdef Py_ssize_t count = len(members)
    cdef Py_ssize_t row, index, start
    cdef uint8_t* end
    cdef bytes name
    if count > MEMBERS_MAX:
        raise ValueError(f"{count} members: at most {MEMBERS_MAX}")
    for index in range(count):
        name, made[index].source, made[index].field = members[index]
        if made[index].source == FROM_FIELD and fields is not None:
            if not 0 <= made[index].field < fields.wanted.count:
                raise IndexError(f"field {made[index].field}")
        made[index].name = <const uint8_t*>PyBytes_AS_STRING(name)
        made[index].name_len = PyBytes_GET_SIZE(name)
    for row in range(table.count):
        value_of(columns, fields, &whole, row, &message)
        start = columns.bytes_reserve(
            row_bytes(columns, fields, made, count, row, &message) + rest_len + SIMD_PADDING
        )
        # The data may have moved.
        value_of(columns, fields, &whole, row, &message)
        end = row_write(columns, fields, made, count, row, &message, columns.bytes + start)
        memcpy(end, rest, rest_len)
        end += rest_len
        if not rest_len and end[-1] == c',':
            end -= 1
        end[0] = c'}'
        end += 1
        columns.bytes_len = end - columns.bytes
        columns.message_bytes += columns.bytes_len - start - table.message_len[row]
        table.message_start[row] = <int32_t>start
        table.message_len[row] = <int32_t>(columns.bytes_len - start)
