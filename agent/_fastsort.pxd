# Rows of several parts by time: all inline, there is no module behind this file.

from libc.stdint cimport int32_t, int64_t

cdef struct Ref:
    int64_t time_ms
    int32_t part
    int32_t row


cdef inline void runs_merge(
    const Ref* source, Ref* target, Py_ssize_t left, Py_ssize_t middle, Py_ssize_t right,
) noexcept nogil:
    # Merge two neighbouring runs; of equals, those of the left one first.
    cdef Py_ssize_t one = left
    cdef Py_ssize_t two = middle
    cdef Py_ssize_t index
    for index in range(left, right):
        if one < middle and (two >= right or source[one].time_ms <= source[two].time_ms):
            target[index] = source[one]
            one += 1
        else:
            target[index] = source[two]
            two += 1


cdef inline Ref* refs_sort(
    Ref* refs, Ref* spare, Py_ssize_t* starts, Py_ssize_t count,
) noexcept nogil:
    # Natural merge sort: the parts are sorted runs already, or nearly.  Returns which one is sorted.
    cdef Py_ssize_t runs = 1
    cdef Py_ssize_t index, left, middle, right
    starts[0] = 0
    for index in range(1, count):
        if refs[index].time_ms < refs[index - 1].time_ms:
            starts[runs] = index
            runs += 1
    while runs > 1:
        index = 0
        while index < runs:
            left = starts[index]
            middle = starts[index + 1] if index + 1 < runs else count
            right = starts[index + 2] if index + 2 < runs else count
            runs_merge(refs, spare, left, middle, right)
            starts[index // 2] = left
            index += 2
        runs = (runs + 1) // 2
        refs, spare = spare, refs
    return refs
