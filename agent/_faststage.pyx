"""
Columns to column buffers.  `_reference_encode.py` is the specification, `_faststage.pyi` the contract.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from libc.stdint cimport int32_t, int64_t, uint8_t

from typing import NamedTuple

from agent._fastjson cimport ESCAPE_NONE, SIMD_PADDING, escape_write
from agent._fastparse cimport Columns, Rows


class Staged(NamedTuple):
    """
    Column buffers of rows, ready for staging.
    """

    rows: int
    time_ns: bytes
    offset: bytes
    flags: bytes
    message_ends: bytes
    messages: bytes



def staging_buffers(Columns columns) -> Staged:
    cdef const Rows* table = &columns.table
    cdef Py_ssize_t rows = table.count
    cdef Py_ssize_t row
    cdef Py_ssize_t capacity = columns.message_bytes + columns.message_bytes // 16 + SIMD_PADDING
    cdef Py_ssize_t needed
    cdef uint8_t* memory = <uint8_t*>PyMem_RawMalloc(capacity)
    cdef uint8_t* larger
    cdef int64_t used = 0
    cdef bytes ends = PyBytes_FromStringAndSize(NULL, rows * 4)
    cdef int32_t* end = <int32_t*>PyBytes_AS_STRING(ends)
    if memory == NULL:
        raise MemoryError
    try:
        for row in range(rows):
            needed = used + table.message_len[row] * 3 + SIMD_PADDING
            if needed > capacity:
                capacity = needed + needed // 2
                larger = <uint8_t*>PyMem_RawRealloc(memory, capacity)
                if larger == NULL:
                    raise MemoryError
                memory = larger
            escape_write(
                memory + used, columns.bytes + table.message_start[row], table.message_len[row],
                ESCAPE_NONE, &used,
            )
            end[row] = <int32_t>used
        return Staged(
            rows,
            PyBytes_FromStringAndSize(<char*>table.time_ns, rows * 8),
            PyBytes_FromStringAndSize(<char*>table.offset, rows * 8),
            PyBytes_FromStringAndSize(<char*>table.flags, rows * 2),
            ends,
            PyBytes_FromStringAndSize(<char*>memory, used),
        )
    finally:
        PyMem_RawFree(memory)
