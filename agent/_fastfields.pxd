# Fields that were extracted from messages: columns of spans beside the rows of a Columns.
#
# A kernel that parses a format is a function of a module of its own: it asks `fields_begin` for the
# Fields of a Columns, leaves rows alone whose `parsed` is set, and writes what it finds with
# `field_set`.  Positions are in the data of the Columns; text that is not there as it is meant
# (escapes) is appended with `bytes_reserve` first.

from libc.stdint cimport int32_t, int64_t, uint8_t

from agent._fastline cimport Minute
from agent._fastparse cimport Columns

cpdef enum:
    FIELD_ABSENT = 0
    FIELD_NULL = 1
    FIELD_FALSE = 2
    FIELD_TRUE = 3
    FIELD_NUMBER = 4
    FIELD_TEXT = 5
    FIELD_JSON = 6  # an object or an array, as written

cdef enum:
    # More than anybody promotes to columns; Athena reads 100 columns a table well.
    FIELDS_MAX = 64
    # OpenTelemetry's severity numbers: 1 to 24.
    SEVERITY_TRACE = 1
    SEVERITY_DEBUG = 5
    SEVERITY_INFO = 9
    SEVERITY_NOTICE = 10
    SEVERITY_WARN = 13
    SEVERITY_ERROR = 17
    SEVERITY_FATAL = 21

cdef struct Name:
    const uint8_t* text
    Py_ssize_t length

cdef class Wanted:
    cdef readonly tuple names
    cdef Name items[FIELDS_MAX]
    cdef Py_ssize_t count

cdef class Fields:
    cdef readonly Wanted wanted
    cdef Py_ssize_t rows
    cdef Py_ssize_t stride  # The value of field f in row r is at f * stride + r.
    cdef int32_t* start
    cdef int32_t* length
    cdef uint8_t* kind
    cdef uint8_t* severity  # per row; 0: not known
    cdef uint8_t* parsed  # per row; whether a kernel recognised it

cdef class Mask:
    cdef uint8_t* bits  # 0 or 1 per row
    cdef readonly Py_ssize_t rows

# The Fields of `columns`, all absent if there were none.
cdef Fields fields_begin(Columns columns, Wanted wanted)

cdef inline void field_set(
    Fields fields, Py_ssize_t field, Py_ssize_t row, Py_ssize_t start, Py_ssize_t length, int kind,
) noexcept nogil:
    cdef Py_ssize_t place = field * fields.stride + row
    fields.start[place] = <int32_t>start
    fields.length[place] = <int32_t>length
    fields.kind[place] = <uint8_t>kind

# The index of a name among the wanted ones, or -1.
cdef Py_ssize_t wanted_find(Wanted wanted, const uint8_t* text, Py_ssize_t length) noexcept nogil

# Severity number of a level's text, 0 where it means none; numbers are read on `scale`.
cdef int severity_read(const uint8_t* text, Py_ssize_t length, int scale) noexcept nogil

# Whether text[:length] is a number that a double can hold, as a whole.
cdef bint number_read(const uint8_t* text, Py_ssize_t length, double* value) noexcept nogil

# The time that text[:length] is, as a whole; one of klog has the year in which it is nearest to `near_ns`.
cdef bint time_of(
    const uint8_t* text, Py_ssize_t length, Minute* minute, int64_t near_ns, int64_t* time_ns,
) noexcept nogil
