"""
Predicates over rows.  `_reference_fields.py` is the specification, `_fastwhere.pyi` the contract.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from agent._fastfields cimport (
    FIELD_ABSENT, FIELD_NULL, FIELD_NUMBER, FIELD_TEXT, Fields, Mask, number_read,
)
from agent._fastparse cimport FLAG_STREAM_MASK, Columns

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_len, const void* needle, size_t needle_len)

cpdef enum:
    TARGET_MESSAGE = -1

cpdef enum:
    COMPARE_EQ = 0
    COMPARE_LT = 1
    COMPARE_LE = 2
    COMPARE_GT = 3
    COMPARE_GE = 4


# The text of a row that a predicate looks at; NULL where there is none.
cdef inline const uint8_t* target_text(
    Columns columns, Fields fields, Py_ssize_t field, Py_ssize_t row, Py_ssize_t* length, int* kind,
) noexcept nogil:
    cdef Py_ssize_t place
    if field == TARGET_MESSAGE:
        length[0] = columns.table.message_len[row]
        kind[0] = FIELD_TEXT
        return columns.bytes + columns.table.message_start[row]
    place = field * fields.stride + row
    kind[0] = fields.kind[place]
    length[0] = fields.length[place]
    if kind[0] == FIELD_ABSENT or kind[0] == FIELD_NULL:
        return NULL
    return columns.bytes + fields.start[place]


cdef Fields fields_for(Columns columns, Mask mask, Py_ssize_t field):
    # None where the predicate needs none.  A mask of other rows, or a field that nobody extracted, is a
    # mistake of the caller's.
    cdef Fields fields = columns.fields
    if mask.rows != columns.table.count:
        raise ValueError(f"a mask of {mask.rows} rows for {columns.table.count}")
    if field != TARGET_MESSAGE and (fields is None or not 0 <= field < fields.wanted.count):
        raise ValueError(f"field {field} was not extracted")
    return fields


def narrow_severity(Columns columns, Mask mask, int low, int high):
    cdef Fields fields = fields_for(columns, mask, TARGET_MESSAGE)
    cdef Py_ssize_t row
    if fields is None:
        mask.clear()
        return
    if low < 1:
        low = 1
    for row in range(mask.rows):
        mask.bits[row] &= low <= fields.severity[row] <= high


def narrow_streams(Columns columns, Mask mask, int streams):
    cdef Py_ssize_t row
    fields_for(columns, mask, TARGET_MESSAGE)
    for row in range(mask.rows):
        mask.bits[row] &= streams >> (columns.table.flags[row] & FLAG_STREAM_MASK) & 1


def narrow_exists(Columns columns, Mask mask, Py_ssize_t field):
    cdef Fields fields = fields_for(columns, mask, field)
    cdef Py_ssize_t row, length
    cdef int kind
    for row in range(mask.rows):
        if mask.bits[row]:
            mask.bits[row] = target_text(columns, fields, field, row, &length, &kind) != NULL


cdef enum:
    TEXT_IS
    TEXT_STARTS
    TEXT_CONTAINS


cdef inline bint text_satisfies(
    const uint8_t* value, Py_ssize_t length, int comparison, const uint8_t* text, Py_ssize_t text_len,
) noexcept nogil:
    if value == NULL or length < text_len:
        return False
    if comparison == TEXT_CONTAINS:
        return memmem(value, length, text, text_len) != NULL
    return (comparison == TEXT_STARTS or length == text_len) and memcmp(value, text, text_len) == 0


cdef int narrow_by_text(Columns columns, Mask mask, Py_ssize_t field, int comparison, bytes text) except -1:
    cdef Fields fields = fields_for(columns, mask, field)
    cdef const uint8_t* wanted = <const uint8_t*>PyBytes_AS_STRING(text)
    cdef Py_ssize_t wanted_len = PyBytes_GET_SIZE(text)
    cdef const uint8_t* value
    cdef Py_ssize_t row, length
    cdef int kind
    for row in range(mask.rows):
        if mask.bits[row]:
            value = target_text(columns, fields, field, row, &length, &kind)
            mask.bits[row] = text_satisfies(value, length, comparison, wanted, wanted_len)
    return 0


def narrow_text(Columns columns, Mask mask, Py_ssize_t field, bytes text):
    narrow_by_text(columns, mask, field, TEXT_IS, text)


def narrow_starts(Columns columns, Mask mask, Py_ssize_t field, bytes text):
    narrow_by_text(columns, mask, field, TEXT_STARTS, text)


def narrow_contains(Columns columns, Mask mask, Py_ssize_t field, bytes text):
    narrow_by_text(columns, mask, field, TEXT_CONTAINS, text)


cdef inline bint number_satisfies(double value, int comparison, double number) noexcept nogil:
    if comparison == COMPARE_EQ:
        return value == number
    if comparison == COMPARE_LT:
        return value < number
    if comparison == COMPARE_LE:
        return value <= number
    return value > number if comparison == COMPARE_GT else value >= number


def narrow_number(Columns columns, Mask mask, Py_ssize_t field, int comparison, double number):
    cdef Fields fields = fields_for(columns, mask, field)
    cdef const uint8_t* text
    cdef Py_ssize_t row, length
    cdef double value = 0
    cdef int kind
    for row in range(mask.rows):
        if mask.bits[row]:
            text = target_text(columns, fields, field, row, &length, &kind)
            mask.bits[row] = (
                text != NULL and (kind == FIELD_NUMBER or kind == FIELD_TEXT)
                and number_read(text, length, &value)
                and number_satisfies(value, comparison, number)
            )
