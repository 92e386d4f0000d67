"""
Extracted fields to typed column buffers.  `tests/transforms/test_columns.py` has the same in plain Python.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memset

from typing import NamedTuple

from agent._fastfields cimport FIELD_NULL, Fields, number_read, time_of
from agent._fastjson cimport ESCAPE_NONE, SIMD_PADDING, escape_write
from agent._fastline cimport Minute, minute_reset
from agent._fastparse cimport Columns

cpdef enum:
    TYPE_STRING = 0
    TYPE_BIGINT = 1
    TYPE_DOUBLE = 2
    TYPE_BOOLEAN = 3
    TYPE_TIMESTAMP = 4

cdef enum:
    NS_PER_MS = 1_000_000


class Typed(NamedTuple):
    """
    One column.
    """

    valid: bytes
    values: bytes
    text: bytes
    misfits: int


cdef bint integer_read(const uint8_t* text, Py_ssize_t length, int64_t* value) noexcept nogil:
    cdef bint negative = length > 1 and text[0] == c'-'
    cdef Py_ssize_t index
    cdef uint64_t whole = 0
    cdef uint64_t largest = <uint64_t>INT64_MAX + negative
    cdef uint64_t digit
    if length == negative or length > 40:
        return False
    for index in range(negative, length):
        if not c'0' <= text[index] <= c'9':
            return False
        digit = text[index] - c'0'
        if whole > (largest - digit) // 10:
            return False
        whole = whole * 10 + digit
    value[0] = <int64_t>(0 - whole) if negative else <int64_t>whole
    return True


cdef int boolean_read(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    # 1, 0, or -1.
    if length == 4 and memcmp(text, b"true", 4) == 0:
        return 1
    return 0 if length == 5 and memcmp(text, b"false", 5) == 0 else -1


def typed_column(Columns columns, Py_ssize_t field, int type):
    cdef Fields fields = columns.fields
    cdef Py_ssize_t rows = columns.table.count
    cdef Py_ssize_t row, place
    cdef Py_ssize_t misfits = 0
    cdef bytes valid = PyBytes_FromStringAndSize(NULL, (rows + 7) // 8)
    cdef uint8_t* bits = <uint8_t*>PyBytes_AS_STRING(valid)
    cdef bytes values
    cdef uint8_t* out
    cdef const uint8_t* text
    cdef Minute minute
    cdef int64_t whole = 0
    cdef double number = 0
    cdef int boolean
    cdef bint fits
    if fields is not None and not 0 <= field < fields.wanted.count:
        raise IndexError(f"field {field}")
    memset(bits, 0, (rows + 7) // 8)
    if type == TYPE_STRING:
        return string_column(columns, field, valid)
    values = PyBytes_FromStringAndSize(NULL, (rows + 7) // 8 if type == TYPE_BOOLEAN else rows * 8)
    out = <uint8_t*>PyBytes_AS_STRING(values)
    memset(out, 0, len(values))
    minute_reset(&minute)
    for row in range(rows if fields is not None else 0):
        place = field * fields.stride + row
        if fields.kind[place] <= FIELD_NULL:
            continue
        text = columns.bytes + fields.start[place]
        if type == TYPE_BOOLEAN:
            boolean = boolean_read(text, fields.length[place])
            fits = boolean >= 0
            if boolean > 0:
                out[row >> 3] |= 1 << (row & 7)
        elif type == TYPE_DOUBLE:
            fits = number_read(text, fields.length[place], &number)
            if fits:
                (<double*>out)[row] = number
        else:
            if type == TYPE_BIGINT:
                fits = integer_read(text, fields.length[place], &whole)
            else:
                fits = time_of(
                    text, fields.length[place], &minute, columns.table.time_ns[row], &whole
                )
                whole = whole // NS_PER_MS
            if fits:
                (<int64_t*>out)[row] = whole
        if fits:
            bits[row >> 3] |= 1 << (row & 7)
        else:
            misfits += 1
    return Typed(valid, values, b"", misfits)


cdef object string_column(Columns columns, Py_ssize_t field, bytes valid):
    cdef Fields fields = columns.fields
    cdef Py_ssize_t rows = columns.table.count
    cdef Py_ssize_t capacity = 256
    cdef Py_ssize_t row, place, needed
    cdef int64_t used = 0
    cdef uint8_t* bits = <uint8_t*>PyBytes_AS_STRING(valid)
    cdef bytes offsets = PyBytes_FromStringAndSize(NULL, (rows + 1) * 4)
    cdef int32_t* offset = <int32_t*>PyBytes_AS_STRING(offsets)
    cdef uint8_t* memory = <uint8_t*>PyMem_RawMalloc(capacity)
    cdef uint8_t* larger
    if memory == NULL:
        raise MemoryError
    try:
        offset[0] = 0
        for row in range(rows):
            if fields is not None:
                place = field * fields.stride + row
                if fields.kind[place] > FIELD_NULL:
                    needed = used + fields.length[place] * 3 + SIMD_PADDING
                    if needed > capacity:
                        capacity = needed + needed // 2
                        larger = <uint8_t*>PyMem_RawRealloc(memory, capacity)
                        if larger == NULL:
                            raise MemoryError
                        memory = larger
                    escape_write(
                        memory + used, columns.bytes + fields.start[place], fields.length[place],
                        ESCAPE_NONE, &used,
                    )
                    bits[row >> 3] |= 1 << (row & 7)
            offset[row + 1] = <int32_t>used
        return Typed(valid, offsets, PyBytes_FromStringAndSize(<char*>memory, used), 0)
    finally:
        PyMem_RawFree(memory)
