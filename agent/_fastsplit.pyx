"""
Rows by the values of fields.  `_reference_split.py` is the specification, `_fastsplit.pyi` the contract.

A combination is kept as its *key*: for every field two bytes of length and the value.  Keys that are known stand in a
hash table with open addressing, twice as large as the limit, so it never fills.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from typing import NamedTuple

cimport cython

from agent._fastfields cimport FIELD_ABSENT, FIELD_JSON, FIELD_NULL, Fields, field_set, fields_begin
from agent._fastparse cimport STREAMS, Columns, Rows

cpdef enum:
    VALUE_BYTES_MAX = 256
    SPLIT_FIELDS_MAX = 8

cdef enum:
    LENGTH_BYTES = 2
    KEY_BYTES_MAX = 8 * (256 + 2)
    LIMIT_MAX = 1_000_000


class Numbered(NamedTuple):
    """
    Which combination of values every row has.
    """

    numbers: bytes
    fresh: int
    beyond: int


cdef struct Entry:
    uint64_t hash
    uint8_t* key
    int32_t length
    int32_t number  # 0: free


@cython.final
cdef class Values:
    """
    Combinations of the values of fields.
    """

    cdef Py_ssize_t fields[SPLIT_FIELDS_MAX]
    cdef Py_ssize_t fields_count
    cdef Py_ssize_t limit
    cdef Py_ssize_t count
    cdef Entry* table
    cdef uint64_t slots  # a power of two
    cdef int32_t* slot_of  # by number

    def __cinit__(self, tuple indices, Py_ssize_t limit):
        cdef Py_ssize_t index
        if not 1 <= len(indices) <= SPLIT_FIELDS_MAX:
            raise ValueError(f"{len(indices)} fields: expected 1 to {SPLIT_FIELDS_MAX}")
        if not 1 <= limit <= LIMIT_MAX:
            raise ValueError(f"limit {limit}: expected 1 to {LIMIT_MAX}")
        for index in range(len(indices)):
            self.fields[index] = indices[index]
            if self.fields[index] < 0:
                raise ValueError(f"field {self.fields[index]}")
        self.fields_count = len(indices)
        self.limit = limit
        self.slots = 4
        while self.slots < <uint64_t>limit * 2:
            self.slots *= 2
        self.table = <Entry*>PyMem_RawCalloc(self.slots, sizeof(Entry))
        self.slot_of = <int32_t*>PyMem_RawCalloc(limit + 1, sizeof(int32_t))
        if self.table == NULL or self.slot_of == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef uint64_t slot
        if self.table != NULL:
            for slot in range(self.slots):
                PyMem_RawFree(self.table[slot].key)
        PyMem_RawFree(self.table)
        PyMem_RawFree(self.slot_of)

    def __len__(self):
        return self.count

    def texts(self, Py_ssize_t number):
        cdef const Entry* entry
        cdef Py_ssize_t position = 0
        cdef Py_ssize_t length
        if not 1 <= number <= self.count:
            raise IndexError(f"combination {number} of {self.count}")
        entry = &self.table[self.slot_of[number]]
        found = []
        while position < entry.length:
            length = entry.key[position] << 8 | entry.key[position + 1]
            position += LENGTH_BYTES
            found.append((<char*>entry.key)[position : position + length])
            position += length
        return tuple(found)

    def number(self, Columns columns, Py_ssize_t fresh_max):
        cdef Fields fields = columns.fields
        cdef Py_ssize_t rows = columns.table.count
        cdef Py_ssize_t index, row, length
        cdef Py_ssize_t before = self.count
        cdef Py_ssize_t beyond = 0
        cdef Py_ssize_t last_length = -1
        cdef int32_t last = 0
        cdef uint8_t keys[2][KEY_BYTES_MAX]
        cdef int at = 0
        cdef bytes numbers = PyBytes_FromStringAndSize(NULL, rows * 4)
        cdef int32_t* out = <int32_t*>PyBytes_AS_STRING(numbers)
        for index in range(self.fields_count):
            if fields is not None and self.fields[index] >= fields.wanted.count:
                raise IndexError(f"field {self.fields[index]}")
        for row in range(rows):
            length = self.key_write(columns, fields, row, keys[at])
            if length < 0:
                out[row] = 0
            elif length == last_length and memcmp(keys[at], keys[1 - at], length) == 0:
                # Rows come in runs.
                out[row] = last
            else:
                out[row] = last = self.find(keys[at], length, self.count - before < fresh_max)
                last_length = length
                at = 1 - at
            beyond += out[row] == 0
        return Numbered(numbers, self.count - before, beyond)

    cdef Py_ssize_t key_write(
        self, Columns columns, Fields fields, Py_ssize_t row, uint8_t* key,
    ) noexcept nogil:
        # Its length; -1 where a value is too long.
        cdef Py_ssize_t index, place, length
        cdef Py_ssize_t used = 0
        cdef int kind
        for index in range(self.fields_count):
            length = 0
            place = 0
            if fields is not None:
                place = self.fields[index] * fields.stride + row
                kind = fields.kind[place]
                if kind > FIELD_NULL and kind != FIELD_JSON:
                    length = fields.length[place]
            if length > VALUE_BYTES_MAX:
                return -1
            key[used] = <uint8_t>(length >> 8)
            key[used + 1] = <uint8_t>(length & 0xFF)
            used += LENGTH_BYTES
            if length:
                memcpy(key + used, columns.bytes + fields.start[place], length)
                used += length
        return used

    cdef int32_t find(self, const uint8_t* key, Py_ssize_t length, bint fresh) except -1 nogil:
        # The number of the key, a new one if it may have one; else 0.
        cdef uint64_t hash_ = 0xCBF29CE484222325ULL
        cdef uint64_t slot
        cdef Py_ssize_t index
        cdef Entry* entry
        for index in range(length):
            hash_ = (hash_ ^ key[index]) * <uint64_t>0x100000001B3ULL
        slot = (hash_ ^ (hash_ >> 29)) & (self.slots - 1)
        while True:
            entry = &self.table[slot]
            if not entry.number:
                break
            if entry.hash == hash_ and entry.length == length and memcmp(entry.key, key, length) == 0:
                return entry.number
            slot = (slot + 1) & (self.slots - 1)
        if not fresh or self.count == self.limit:
            return 0
        entry.key = <uint8_t*>PyMem_RawMalloc(length)
        if entry.key == NULL:
            with gil:
                raise MemoryError
        memcpy(entry.key, key, length)
        entry.hash = hash_
        entry.length = <int32_t>length
        self.count += 1
        entry.number = <int32_t>self.count
        self.slot_of[self.count] = <int32_t>slot
        return entry.number


# The rows of one number, while they are copied: order[start : start + rows].
cdef struct Group:
    int32_t number
    Py_ssize_t start
    Py_ssize_t rows
    int64_t bytes


cdef int64_t row_bytes(Columns columns, Fields fields, Py_ssize_t row) noexcept nogil:
    cdef int64_t size = columns.table.message_len[row] + columns.table.time_len[row]
    cdef Py_ssize_t field, place
    if fields is not None:
        for field in range(fields.wanted.count):
            place = field * fields.stride + row
            if fields.kind[place] != FIELD_ABSENT:
                size += fields.length[place]
    return size


cdef int32_t copied(Columns source, Columns target, Py_ssize_t start, Py_ssize_t length) noexcept nogil:
    # Room was made before.
    cdef Py_ssize_t position = target.bytes_len
    if length:
        memcpy(target.bytes + position, source.bytes + start, length)
        target.bytes_len += length
    return <int32_t>position


cdef void row_copy(Columns source, Columns target, Py_ssize_t row) noexcept nogil:
    cdef const Rows* old = &source.table
    cdef Rows* table = &target.table
    cdef Py_ssize_t new = table.count
    table.time_ns[new] = old.time_ns[row]
    table.offset[new] = old.offset[row]
    table.flags[new] = old.flags[row]
    table.time_len[new] = old.time_len[row]
    table.time_start[new] = copied(source, target, old.time_start[row], old.time_len[row])
    table.message_len[new] = old.message_len[row]
    table.message_start[new] = copied(source, target, old.message_start[row], old.message_len[row])
    target.message_bytes += old.message_len[row]
    table.count = new + 1


cdef void fields_copy(
    Columns source, Fields old, Columns target, Fields fields, Py_ssize_t row, Py_ssize_t new,
) noexcept nogil:
    cdef Py_ssize_t field, place, start
    for field in range(old.wanted.count):
        place = field * old.stride + row
        if old.kind[place] != FIELD_ABSENT:
            start = copied(source, target, old.start[place], old.length[place])
            field_set(fields, field, new, start, old.length[place], old.kind[place])
    fields.severity[new] = old.severity[row]
    fields.parsed[new] = old.parsed[row]


cdef Columns part_of(Columns source, Fields old, const Group* group, const int32_t* order):
    cdef Columns target = Columns.__new__(Columns)
    cdef Fields fields = None
    cdef Py_ssize_t index
    cdef int stream
    target.rows_reserve(group.rows)
    target.bytes_reserve(group.bytes + 1)
    for stream in range(STREAMS):
        target.earlier[stream] = source.earlier[stream]
    if old is not None:
        target.table.count = group.rows  # What the fields are made for.
        fields = fields_begin(target, old.wanted)
        target.table.count = 0
    for index in range(group.rows):
        row_copy(source, target, order[group.start + index])
        if old is not None:
            fields_copy(source, old, target, fields, order[group.start + index], index)
    return target


cdef Py_ssize_t groups_find(
    Columns columns, Fields fields, const int32_t* numbers, int32_t* group_of, Group* groups, int32_t* order,
) noexcept nogil:
    # How many there are.  `group_of`, by number, is zeros.
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t row, index
    for row in range(columns.table.count):
        index = group_of[numbers[row]] - 1
        if index < 0:
            index = count
            count += 1
            group_of[numbers[row]] = <int32_t>count
            groups[index].number = numbers[row]
        groups[index].rows += 1
        groups[index].bytes += row_bytes(columns, fields, row)
    for index in range(count):
        groups[index].start = start
        start += groups[index].rows
        groups[index].rows = 0
    for row in range(columns.table.count):
        index = group_of[numbers[row]] - 1
        order[groups[index].start + groups[index].rows] = <int32_t>row
        groups[index].rows += 1
    return count


def split(Columns columns, bytes numbers, *, bint fields):
    cdef Fields old = columns.fields if fields else None
    cdef Py_ssize_t rows = columns.table.count
    cdef const int32_t* number_of = <const int32_t*>PyBytes_AS_STRING(numbers)
    cdef Py_ssize_t row, count
    cdef Py_ssize_t others = 0
    cdef int32_t largest = 0
    cdef Group* groups = NULL
    cdef int32_t* group_of = NULL
    cdef int32_t* order = NULL
    if PyBytes_GET_SIZE(numbers) != rows * 4:
        raise ValueError(f"{PyBytes_GET_SIZE(numbers)} bytes of numbers for {rows} rows")
    for row in range(rows):
        if not 0 <= number_of[row] <= LIMIT_MAX:
            raise ValueError(f"row {row}: number {number_of[row]}")
        largest = max(largest, number_of[row])
        others += number_of[row] != number_of[0]
    if not others:
        return [(number_of[0], columns)] if rows else []
    groups = <Group*>PyMem_RawCalloc(min(rows, largest + 1), sizeof(Group))
    group_of = <int32_t*>PyMem_RawCalloc(largest + 1, sizeof(int32_t))
    order = <int32_t*>PyMem_RawMalloc(rows * sizeof(int32_t))
    try:
        if groups == NULL or group_of == NULL or order == NULL:
            raise MemoryError
        count = groups_find(columns, old, number_of, group_of, groups, order)
        return [
            (groups[row].number, part_of(columns, old, &groups[row], order))
            for row in range(count)
        ]
    finally:
        PyMem_RawFree(groups)
        PyMem_RawFree(group_of)
        PyMem_RawFree(order)
