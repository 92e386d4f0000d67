# One physical line to its parts.  `_reference.py` gives the grammars.
#
# Leaves: no Python, no errors, no state but the cache of the minute.

from libc.stdint cimport int64_t, uint8_t

cdef enum:
    # A CRI head (time, stream, tags) that is longer is not one; cri-api's tags are one letter.
    HEAD_BYTES_MAX = 1_000
    # Longest time: 2026-11-22T19:00:01.123456789+00:00
    TIME_BYTES_MAX = 35

# The last minute that was read: lines of a chunk mostly share it.
cdef struct Minute:
    uint8_t text[17]  # 2026-11-22T19:00:
    int64_t seconds  # since the epoch, as if written in UTC

cdef struct Line:
    int64_t time_ns
    Py_ssize_t time_start  # positions are relative to the line
    Py_ssize_t time_len
    Py_ssize_t content_start
    Py_ssize_t content_len
    int stream
    bint partial  # of a docker line that is `escaped`, known only after unescaping
    bint escaped  # the content is the inside of a JSON string

cdef void minute_reset(Minute* minute) noexcept nogil

# Length of the time that text[:length] begins with, or 0.
cdef Py_ssize_t time_read(
    const uint8_t* text, Py_ssize_t length, Minute* minute, int64_t* time_ns,
) noexcept nogil

# Write a number in decimal; the end of it.
cdef uint8_t* integer_write(uint8_t* target, int64_t value) noexcept nogil

# Write 2026-11-22T19:00:01.123456789Z; the end of it.
cdef uint8_t* time_write(uint8_t* target, int64_t time_ns) noexcept nogil

# Whether text[:length] is a CRI line.  What is behind its head may be missing.
cdef bint cri_read(
    const uint8_t* text, Py_ssize_t length, Minute* minute, Line* line,
) noexcept nogil

# Whether text[:length] is a line of docker's json-file.
cdef bint docker_read(
    const uint8_t* text, Py_ssize_t length, Minute* minute, Line* line,
) noexcept nogil
