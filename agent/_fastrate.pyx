"""
Fewer rows: a part of them, or so many a second.  `tests/transforms/test_rates.py` has the same in plain Python.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy, memset

from typing import NamedTuple

from agent._fastfields cimport FIELD_NULL, Fields, Mask, number_read
from agent._fastline cimport integer_write
from agent._fastparse cimport FLAG_EARLIER, FLAG_STREAM_MASK, STREAMS, Columns, Rows

from agent._fastfields import keep

cdef enum:
    BOUNDS_MAX = 40

cpdef enum:
    FLAG_SUMMARY = 0x100

cdef double NS_PER_S = 1e9
cdef double TWO_64 = 18_446_744_073_709_551_616.0


class Bucket(NamedTuple):
    """
    What a limit keeps of a Log.
    """

    tokens: float
    time_ns: int


cdef inline uint64_t mixed(uint64_t value) noexcept nogil:
    # The finaliser of MurmurHash3: every bit of the value changes half of the result's.
    value ^= value >> 33
    value *= <uint64_t>0xFF51AFD7ED558CCDULL
    value ^= value >> 33
    value *= <uint64_t>0xC4CEB9FE1A85EC53ULL
    return value ^ (value >> 33)


cdef uint64_t text_hash(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    cdef uint64_t value = <uint64_t>length
    cdef Py_ssize_t index
    for index in range(length):
        value = (value ^ text[index]) * <uint64_t>0x100000001B3ULL
    return mixed(value)


def narrow_sample(Columns columns, Mask mask, Py_ssize_t field, double ratio):
    cdef Fields fields = columns.fields
    cdef Py_ssize_t row, place
    cdef uint64_t value
    if mask.rows != columns.table.count:
        raise ValueError(f"a mask of {mask.rows} rows for {columns.table.count}")
    if field >= 0 and (fields is None or field >= fields.wanted.count):
        raise ValueError(f"field {field} was not extracted")
    for row in range(mask.rows):
        if not mask.bits[row]:
            continue
        place = field * fields.stride + row if field >= 0 else 0
        if field >= 0 and fields.kind[place] > FIELD_NULL:
            value = text_hash(columns.bytes + fields.start[place], fields.length[place])
        else:
            value = mixed(
                mixed(<uint64_t>columns.table.offset[row]) ^ <uint64_t>columns.table.time_ns[row]
            )
        mask.bits[row] = <double>value / TWO_64 < ratio


def narrow_limit(Columns columns, Mask mask, bucket, double lines_per_s, double burst):
    cdef double tokens = bucket[0]
    cdef int64_t last_ns = bucket[1]
    cdef int64_t time_ns
    cdef Py_ssize_t row
    if mask.rows != columns.table.count:
        raise ValueError(f"a mask of {mask.rows} rows for {columns.table.count}")
    for row in range(mask.rows):
        if not mask.bits[row]:
            continue
        time_ns = columns.table.time_ns[row]
        if time_ns > last_ns:
            tokens += <double>(time_ns - last_ns) / NS_PER_S * lines_per_s
            if tokens > burst:
                tokens = burst
            last_ns = time_ns
        if tokens >= 1.0:
            tokens -= 1.0
        else:
            mask.bits[row] = 0
    return Bucket(tokens, last_ns)


def keep_with_summary(Columns columns, Mask mask, bytes before, bytes behind):
    cdef Rows* table = &columns.table
    cdef int64_t dropped[STREAMS]
    cdef int64_t offsets[STREAMS]
    cdef int64_t times[STREAMS]
    cdef int flags[STREAMS]
    cdef Py_ssize_t row, target, index
    cdef uint8_t* end
    cdef int stream
    memset(dropped, 0, sizeof(dropped))
    for row in range(table.count):
        if mask.bits[row]:
            continue
        stream = table.flags[row] & FLAG_STREAM_MASK
        if not dropped[stream]:
            offsets[stream] = table.offset[row]
            flags[stream] = table.flags[row] & (FLAG_STREAM_MASK | FLAG_EARLIER)
        dropped[stream] += 1
        times[stream] = table.time_ns[row]
    taken = keep(columns, mask)
    for stream in range(STREAMS):
        if not dropped[stream]:
            continue
        # Where rows were taken out there is room for as many, in the fields as well.
        index = table.count
        target = columns.bytes_reserve(PyBytes_GET_SIZE(before) + PyBytes_GET_SIZE(behind) + 20)
        end = columns.bytes + target
        memcpy(end, PyBytes_AS_STRING(before), PyBytes_GET_SIZE(before))
        end = integer_write(end + PyBytes_GET_SIZE(before), dropped[stream])
        memcpy(end, PyBytes_AS_STRING(behind), PyBytes_GET_SIZE(behind))
        end += PyBytes_GET_SIZE(behind)
        table.time_ns[index] = times[stream]
        table.offset[index] = offsets[stream]
        table.time_start[index] = 0
        table.time_len[index] = 0
        table.message_start[index] = <int>target
        table.message_len[index] = <int>(end - columns.bytes - target)
        table.flags[index] = <uint16_t>(flags[stream] | FLAG_SUMMARY)
        table.count = index + 1
        columns.message_bytes += table.message_len[index]
        columns.bytes_len = end - columns.bytes
        fields_blank(columns, index)
    return taken


cdef void fields_blank(Columns columns, Py_ssize_t row) noexcept:
    # The summary has no fields; its level is that of a warning.
    cdef Fields fields = columns.fields
    cdef Py_ssize_t field
    if fields is None:
        return
    for field in range(fields.wanted.count):
        fields.kind[field * fields.stride + row] = 0
    fields.severity[row] = 13
    fields.parsed[row] = 0
    fields.rows = row + 1


def histogram(Columns columns, Mask mask, Py_ssize_t field, tuple bounds):
    cdef Fields fields = columns.fields
    cdef double limits[BOUNDS_MAX]
    cdef int64_t counts[BOUNDS_MAX + 1]
    cdef Py_ssize_t count = len(bounds)
    cdef Py_ssize_t row, place, index
    cdef double number = 0
    cdef double total = 0
    if count > BOUNDS_MAX:
        raise ValueError(f"{count} bounds: at most {BOUNDS_MAX}")
    if mask.rows != columns.table.count or fields is None or not 0 <= field < fields.wanted.count:
        raise ValueError(f"field {field} was not extracted from these rows")
    for index in range(count):
        limits[index] = bounds[index]
    memset(counts, 0, sizeof(counts))
    for row in range(mask.rows):
        place = field * fields.stride + row
        if not mask.bits[row] or fields.kind[place] <= FIELD_NULL:
            continue
        if not number_read(columns.bytes + fields.start[place], fields.length[place], &number):
            continue
        total += number
        index = 0
        while index < count and number > limits[index]:
            index += 1
        counts[index] += 1
    return [counts[index] for index in range(count + 1)], total
