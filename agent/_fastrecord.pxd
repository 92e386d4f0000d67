# The fixed text of records, and what a message is: an object, a metric.
#
# Leaves: no Python, no errors, no state.  `text` can be read for SIMD_PADDING bytes past its end.

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

# Text as it stands in a body, and the bytes of the message that it stands for.
cdef struct Literal:
    const char* text
    Py_ssize_t length
    int64_t decoded

cdef inline uint8_t* literal_write(uint8_t* target, const Literal* text) noexcept nogil:
    memcpy(target, text.text, text.length)
    return target + text.length

cdef Literal NOTHING
# Behind text that was cut.
cdef Literal MARK
# Behind the text of a record, behind a record.
cdef Literal TEXT_END
cdef Literal RECORD_END

# Fluent Bit's record.
cdef Literal RECORD_TIME
cdef Literal RECORD_PROCESSED
# From the time's end to the log's first byte, for the flags of a row.
cdef const Literal* record_stream(int flags) noexcept nogil

# A record of OpenTelemetry.  With FLAG_READ_TIME nobody knows when it happened, only when it was seen.
cdef const Literal* otel_time(int flags) noexcept nogil
# From the time's end to the body: the severity, as far as the flags know it.
cdef const Literal* otel_body(int flags) noexcept nogil
cdef Literal TEXT_BEGIN
# `log.iostream` and `logtag`, as far as the flags know them.
cdef const Literal* otel_attributes(int flags) noexcept nogil

# Where the message's JSON object begins, if it is one, complete and not empty; or -1.
cdef Py_ssize_t object_start(const uint8_t* text, Py_ssize_t length, Py_ssize_t* stop) noexcept nogil

# Whether the message is one JSON object whose root has `_aws.CloudWatchMetrics`, an array.  A name that is
# written with escapes is not recognised.
cdef bint metric_is(const uint8_t* text, Py_ssize_t length) noexcept nogil
