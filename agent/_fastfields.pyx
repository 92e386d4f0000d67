"""
Extracted fields, masks of rows, levels and times out of fields.  `_reference_fields.py` is the
specification, `_fastfields.pyi` the contract.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from libc.math cimport isfinite
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint64_t
from libc.stdlib cimport strtod
from libc.string cimport memcmp, memcpy, memmove, memset

cimport cython

from agent._fastline cimport Minute, minute_reset, time_read
from agent._fastparse cimport FLAG_READ_TIME, FLAG_SEVERITY_SHIFT, Columns, Rows

cpdef enum:
    SCALE_PINO = 0
    SCALE_PYTHON = 1
    SCALE_SYSLOG = 2
    SCALE_OTEL = 3

cdef enum:
    NUMBER_BYTES_MAX = 64
    TIME_TEXT_MAX = 40
    SPAN_TEXT_MAX = 24  # a sign, 13 digits, a point, 6 digits
    # Bytes of a row of Fields besides those of its fields: severity and parsed.
    FIELDS_ROW_BYTES = 2
    FIELD_BYTES = 4 + 4 + 1


@cython.final
cdef class Wanted:
    """
    The names of the fields that somebody uses.
    """

    def __cinit__(self, names):
        cdef Py_ssize_t index
        self.names = tuple(names)
        if len(self.names) > FIELDS_MAX:
            raise ValueError(f"{len(self.names)} fields: at most {FIELDS_MAX}")
        for index, name in enumerate(self.names):
            if not isinstance(name, bytes) or not name:
                raise ValueError(f"field {name!r}: expected bytes that are not empty")
            self.items[index].text = <const uint8_t*>PyBytes_AS_STRING(name)
            self.items[index].length = PyBytes_GET_SIZE(name)
        self.count = len(self.names)

    def __len__(self):
        return self.count


cdef Py_ssize_t wanted_find(Wanted wanted, const uint8_t* text, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t index
    for index in range(wanted.count):
        if wanted.items[index].length == length and memcmp(wanted.items[index].text, text, length) == 0:
            return index
    return -1


@cython.final
cdef class Fields:
    """
    Values of the wanted fields, per row.
    """

    def __cinit__(self, Wanted wanted, Py_ssize_t rows):
        cdef Py_ssize_t cells = wanted.count * rows
        self.wanted = wanted
        self.rows = self.stride = rows
        self.start = <int32_t*>PyMem_RawCalloc(
            1, cells * FIELD_BYTES + rows * FIELDS_ROW_BYTES + 8
        )
        if self.start == NULL:
            raise MemoryError
        self.length = self.start + cells
        self.kind = <uint8_t*>(self.length + cells)
        self.severity = self.kind + cells
        self.parsed = self.severity + rows

    def __dealloc__(self):
        PyMem_RawFree(self.start)


cdef Fields fields_begin(Columns columns, Wanted wanted):
    cdef Fields fields
    if columns.fields is None:
        fields = Fields(wanted, columns.table.count)
        columns.fields = fields
        columns.fields_bytes = fields.rows * (wanted.count * FIELD_BYTES + FIELDS_ROW_BYTES)
        return fields
    fields = columns.fields
    if fields.wanted is not wanted:
        raise ValueError("the columns have fields of another route")
    return fields


def field(Columns columns, Py_ssize_t index):
    """
    Copies of one field's values, for tests and commands: a list of (kind, bytes).
    """
    cdef Fields fields = columns.fields
    cdef Py_ssize_t row, place
    values = []
    if fields is None or not 0 <= index < fields.wanted.count:
        raise IndexError(f"field {index}")
    for row in range(fields.rows):
        place = index * fields.stride + row
        start = fields.start[place]
        values.append((
            fields.kind[place],
            (<char*>columns.bytes)[start : start + fields.length[place]] if fields.kind[place] else b"",
        ))
    return values


def severities(Columns columns):
    """
    The severity number of every row; empty bytes where nothing was parsed.
    """
    cdef Fields fields = columns.fields
    if fields is None:
        return b""
    return (<char*>fields.severity)[: fields.rows]


def flag_severities(Columns columns):
    """
    Write the severity numbers into the flags of the rows.
    """
    cdef Fields fields = columns.fields
    cdef Py_ssize_t row
    if fields is None:
        return
    for row in range(fields.rows):
        columns.table.flags[row] |= <uint16_t>(fields.severity[row] << FLAG_SEVERITY_SHIFT)


def parsed(Columns columns):
    """
    Per row whether a kernel recognised it.
    """
    cdef Fields fields = columns.fields
    if fields is None:
        return bytes(columns.table.count)
    return (<char*>fields.parsed)[: fields.rows]


# -- masks ------------------------------------------------------------------------------------------


@cython.final
cdef class Mask:
    """
    A set of rows.
    """

    def __cinit__(self, Py_ssize_t rows):
        self.bits = <uint8_t*>PyMem_RawMalloc(rows + 1)
        if self.bits == NULL:
            raise MemoryError
        memset(self.bits, 1, rows)
        self.rows = rows

    def __dealloc__(self):
        PyMem_RawFree(self.bits)

    def copy(self):
        cdef Mask other = Mask(self.rows)
        memcpy(other.bits, self.bits, self.rows)
        return other

    def clear(self):
        memset(self.bits, 0, self.rows)

    def subtract(self, Mask other):
        cdef Py_ssize_t row
        mask_check(self, other.rows)
        for row in range(self.rows):
            self.bits[row] &= other.bits[row] ^ 1

    def add(self, Mask other):
        cdef Py_ssize_t row
        mask_check(self, other.rows)
        for row in range(self.rows):
            self.bits[row] |= other.bits[row]

    def count(self):
        cdef Py_ssize_t row
        cdef Py_ssize_t total = 0
        for row in range(self.rows):
            total += self.bits[row]
        return total

    def __bytes__(self):
        return (<char*>self.bits)[: self.rows]


cdef int mask_check(Mask mask, Py_ssize_t rows) except -1:
    if mask.rows != rows:
        raise ValueError(f"a mask of {mask.rows} rows for {rows}")
    return 0


def keep(Columns columns, Mask mask):
    """
    Take out the rows that are not in the mask, and return how many they were.
    """
    cdef Rows* table = &columns.table
    cdef Fields fields = columns.fields
    cdef Py_ssize_t kept = 0
    cdef Py_ssize_t before = table.count
    cdef Py_ssize_t row, field_, place
    mask_check(mask, table.count)
    for row in range(before):
        if not mask.bits[row]:
            columns.message_bytes -= table.message_len[row]
            continue
        if kept != row:
            table.time_ns[kept] = table.time_ns[row]
            table.offset[kept] = table.offset[row]
            table.time_start[kept] = table.time_start[row]
            table.message_start[kept] = table.message_start[row]
            table.message_len[kept] = table.message_len[row]
            table.flags[kept] = table.flags[row]
            table.time_len[kept] = table.time_len[row]
        kept += 1
    table.count = kept
    if fields is not None and kept != before:
        for field_ in range(fields.wanted.count):
            place = field_ * fields.stride
            fields_compact(fields, mask, place, before)
        bytes_compact(fields.severity, mask, before)
        bytes_compact(fields.parsed, mask, before)
        fields.rows = kept
    return before - kept


cdef void fields_compact(
    Fields fields, Mask mask, Py_ssize_t place, Py_ssize_t rows,
) noexcept nogil:
    cdef Py_ssize_t row
    cdef Py_ssize_t kept = place
    for row in range(rows):
        if mask.bits[row]:
            fields.start[kept] = fields.start[place + row]
            fields.length[kept] = fields.length[place + row]
            fields.kind[kept] = fields.kind[place + row]
            kept += 1


cdef void bytes_compact(uint8_t* values, Mask mask, Py_ssize_t rows) noexcept nogil:
    cdef Py_ssize_t row
    cdef Py_ssize_t kept = 0
    for row in range(rows):
        if mask.bits[row]:
            values[kept] = values[row]
            kept += 1


# -- numbers, levels, times -------------------------------------------------------------------------


cdef bint number_read(const uint8_t* text, Py_ssize_t length, double* value) noexcept nogil:
    cdef char copied[NUMBER_BYTES_MAX + 1]
    cdef char* end
    cdef Py_ssize_t index
    cdef int64_t whole = 0
    if length == 0 or length > NUMBER_BYTES_MAX:
        return False
    if length <= 15:
        for index in range(length):
            if not c'0' <= text[index] <= c'9':
                break
            whole = whole * 10 + (text[index] - c'0')
        else:
            value[0] = <double>whole
            return True
    for index in range(length):
        # Not what else strtod takes: white space, hexadecimal, inf and nan.
        if not (
            c'0' <= text[index] <= c'9' or text[index] == c'.' or text[index] == c'-'
            or text[index] == c'+' or text[index] == c'e' or text[index] == c'E'
        ):
            return False
    memcpy(copied, text, length)
    copied[length] = 0
    value[0] = strtod(copied, &end)
    return end == copied + length and isfinite(value[0])


cdef bint word_is(const uint8_t* text, Py_ssize_t length, const char* word) noexcept nogil:
    # Whether text[:length] is a word or an abbreviation of it with at least three letters.
    cdef Py_ssize_t index
    for index in range(length):
        if (text[index] | 0x20) != <uint8_t>word[index]:  # NUL at its end is in no text.
            return False
    return length >= 3 or word[length] == 0


cdef int severity_number(int64_t number, int scale) noexcept nogil:
    if scale == SCALE_OTEL:
        return <int>number if 1 <= number <= 24 else 0
    if scale == SCALE_SYSLOG:
        if 0 <= number <= 2:
            return SEVERITY_FATAL
        if number == 5:
            return SEVERITY_NOTICE
        if number == 3 or number == 4:
            return SEVERITY_ERROR if number == 3 else SEVERITY_WARN
        return SEVERITY_INFO if number == 6 else (SEVERITY_DEBUG if number == 7 else 0)
    if number < 10 or number > 69 or number % 10:
        return 0
    if scale == SCALE_PYTHON:
        return 1 + <int>number // 10 * 4 if number <= 50 else 0
    return <int>number // 10 * 4 - 3


cdef int severity_read(const uint8_t* text, Py_ssize_t length, int scale) noexcept nogil:
    cdef uint8_t first
    cdef double number
    if length == 0 or length > 16:
        return 0
    first = text[0] | 0x20
    if c'0' <= text[0] <= c'9':
        return severity_number(<int64_t>number, scale) if number_read(text, length, &number) else 0
    if length == 1:
        if first == c'i':
            return SEVERITY_INFO
        if first == c'w':
            return SEVERITY_WARN
        if first == c'e':
            return SEVERITY_ERROR
        if first == c'd':
            return SEVERITY_DEBUG
        if first == c't':
            return SEVERITY_TRACE
        if first == c'n':
            return SEVERITY_NOTICE
        return SEVERITY_FATAL if first == c'f' or first == c'c' else 0
    if first == c'i':
        return SEVERITY_INFO if word_is(text, length, "informational") else 0
    if first == c'w':
        return SEVERITY_WARN if word_is(text, length, "warning") or word_is(text, length, "wrn") else 0
    if first == c'e':
        if word_is(text, length, "error"):
            return SEVERITY_ERROR
        return SEVERITY_FATAL if word_is(text, length, "emergency") else 0
    if first == c'd':
        return SEVERITY_DEBUG if word_is(text, length, "debug") or word_is(text, length, "dbg") else 0
    if first == c't':
        return SEVERITY_TRACE if word_is(text, length, "trace") or word_is(text, length, "trc") else 0
    if first == c'f':
        if word_is(text, length, "fatal"):
            return SEVERITY_FATAL
        if word_is(text, length, "finest") and length > 4:
            return SEVERITY_TRACE
        return SEVERITY_DEBUG if word_is(text, length, "fine") else 0
    return severity_rare(text, length)


cdef int severity_rare(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    if word_is(text, length, "notice"):
        return SEVERITY_NOTICE
    if word_is(text, length, "critical") or word_is(text, length, "panic"):
        return SEVERITY_FATAL
    if word_is(text, length, "alert"):
        return SEVERITY_FATAL
    if word_is(text, length, "severe"):
        return SEVERITY_ERROR
    return SEVERITY_TRACE if word_is(text, length, "verbose") else 0


def severity_of(bytes text, int scale = SCALE_PINO):
    """
    The severity number that a level's text means; 0 where it means none.
    """
    return severity_read(<const uint8_t*>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), scale)


def take_levels(Columns columns, tuple indices, int scale):
    """
    Give rows without a severity that of the first of the fields that means one.

    Return how many rows had such a field, and none that means a level.
    """
    cdef Fields fields = columns.fields
    cdef Py_ssize_t row, place, index
    cdef Py_ssize_t candidates[8]
    cdef Py_ssize_t count = len(indices)
    cdef Py_ssize_t strange = 0
    cdef bint seen
    if count > 8:
        raise ValueError(f"{count} fields of a level: at most 8")
    for index in range(count):
        candidates[index] = indices[index]
    if fields is None:
        return 0
    for row in range(fields.rows):
        if fields.severity[row]:
            continue
        seen = False
        for index in range(count):
            place = candidates[index] * fields.stride + row
            if fields.kind[place] != FIELD_TEXT and fields.kind[place] != FIELD_NUMBER:
                continue
            seen = True
            fields.severity[row] = <uint8_t>severity_read(
                columns.bytes + fields.start[place], fields.length[place], scale
            )
            if fields.severity[row]:
                break
        strange += seen and not fields.severity[row]
    return strange


# The least numbers that are milliseconds, microseconds and nanoseconds since 1970.
cdef int64_t EPOCH_MS_MIN = 100_000_000_000
cdef int64_t EPOCH_US_MIN = 100_000_000_000_000
cdef int64_t EPOCH_NS_MIN = 100_000_000_000_000_000


cdef bint epoch_read(const uint8_t* text, Py_ssize_t length, int64_t* time_ns) noexcept nogil:
    # Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size: digit by
    # digit, because a double has no nanoseconds.
    cdef int64_t whole = 0
    cdef int64_t fraction = 0
    cdef int64_t unit = 1_000_000_000
    cdef int64_t part
    cdef Py_ssize_t position = 0
    while position < length and c'0' <= text[position] <= c'9':
        if whole > (INT64_MAX - (text[position] - c'0')) // 10:
            return False
        whole = whole * 10 + (text[position] - c'0')
        position += 1
    if position == 0:
        return False
    if whole >= EPOCH_NS_MIN:
        unit = 1
    elif whole >= EPOCH_US_MIN:
        unit = 1_000
    elif whole >= EPOCH_MS_MIN:
        unit = 1_000_000
    if whole > INT64_MAX // unit:
        return False
    if position < length:
        if text[position] != c'.' or position + 1 == length:
            return False
        position += 1
        part = unit
        while position < length:
            if not c'0' <= text[position] <= c'9':
                return False
            part //= 10
            fraction += part * (text[position] - c'0')
            position += 1
    time_ns[0] = whole * unit
    if time_ns[0] > INT64_MAX - fraction:
        return False
    time_ns[0] += fraction
    return True


cdef bint moment_read(
    const uint8_t* text, Py_ssize_t length, Minute* minute, int64_t* time_ns,
) noexcept nogil:
    # RFC 3339, or what loggers make of it: slashes, a space, a comma, +0100, no zone (then it is UTC).
    cdef uint8_t copied[TIME_TEXT_MAX + 2]
    cdef Py_ssize_t position
    if length < 19 or length >= TIME_TEXT_MAX:
        return False
    if time_read(text, length, minute, time_ns) == length:
        return True
    memcpy(copied, text, length)
    if copied[4] == c'/' and copied[7] == c'/':
        copied[4] = copied[7] = c'-'
    if copied[10] == c' ':
        copied[10] = c'T'
    if length > 19 and copied[19] == c',':
        copied[19] = c'.'
    position = 19
    while position < length and (copied[position] == c'.' or c'0' <= copied[position] <= c'9'):
        position += 1
    if position < length and copied[position] == c' ':
        memmove(copied + position, copied + position + 1, length - position - 1)
        length -= 1
    if position == length:
        copied[length] = c'Z'
        length += 1
    elif length - position == 5 and (copied[position] == c'+' or copied[position] == c'-'):
        copied[length] = copied[length - 1]
        copied[length - 1] = copied[length - 2]
        copied[length - 2] = c':'
        length += 1
    return time_read(copied, length, minute, time_ns) == length


def take_times(Columns columns, Py_ssize_t index, bint unread=False):
    """
    Give rows the time that is in a field.  Return how many rows have the field, and no time in it.

    With *unread* only rows whose time is that of their reading: a container runtime knows better.
    """
    cdef Fields fields = columns.fields
    cdef Rows* table = &columns.table
    cdef Minute minute
    cdef Py_ssize_t row, place
    cdef Py_ssize_t strange = 0
    cdef int64_t time_ns = 0
    cdef bint read
    if fields is None:
        return 0
    minute_reset(&minute)
    for row in range(fields.rows):
        place = index * fields.stride + row
        if fields.kind[place] == FIELD_ABSENT or fields.kind[place] == FIELD_NULL:
            continue
        if unread and not table.flags[row] & FLAG_READ_TIME:
            continue
        read = time_of(
            columns.bytes + fields.start[place], fields.length[place], &minute, table.time_ns[row],
            &time_ns,
        )
        if not read:
            strange += 1
            continue
        table.time_ns[row] = time_ns
        table.time_len[row] = 0
        table.flags[row] &= ~FLAG_READ_TIME
    return strange


def take_spans(Columns columns, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t target):
    """
    Give rows in the field *target* the milliseconds from the time in *start* to that in *stop*, where both are.
    """
    cdef Fields fields = columns.fields
    cdef Minute minute
    cdef Py_ssize_t row, first, last, place
    cdef int64_t start_ns = 0
    cdef int64_t stop_ns = 0
    if fields is None:
        return
    minute_reset(&minute)
    for row in range(fields.rows):
        first = start * fields.stride + row
        last = stop * fields.stride + row
        if fields.kind[first] != FIELD_TEXT or fields.kind[last] != FIELD_TEXT:
            continue
        if time_of(
            columns.bytes + fields.start[first], fields.length[first], &minute, 0, &start_ns
        ) and time_of(columns.bytes + fields.start[last], fields.length[last], &minute, 0, &stop_ns):
            place = columns.bytes_reserve(SPAN_TEXT_MAX)
            last = span_write(columns.bytes + place, stop_ns - start_ns)
            columns.bytes_len = place + last
            field_set(fields, target, row, place, last, FIELD_NUMBER)


cdef Py_ssize_t span_write(uint8_t* target, int64_t span_ns) noexcept nogil:
    # -1234.567890: milliseconds with six digits behind the point.
    cdef uint64_t rest = <uint64_t>(-span_ns if span_ns < 0 else span_ns)
    cdef uint8_t digits[SPAN_TEXT_MAX]
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t index
    while rest or count < 8:
        if count == 6:
            digits[count] = c'.'
            count += 1
            continue
        digits[count] = <uint8_t>(c'0' + rest % 10)
        rest //= 10
        count += 1
    if span_ns < 0:
        digits[count] = c'-'
        count += 1
    for index in range(count):
        target[index] = digits[count - 1 - index]
    return count


cdef bint time_of(
    const uint8_t* text, Py_ssize_t length, Minute* minute, int64_t near_ns, int64_t* time_ns,
) noexcept nogil:
    if length == 20 and text[4] == c' ' and text[7] == c':':
        return klog_read(text, minute, near_ns, time_ns)
    if length == 26 and text[2] == c'/' and text[6] == c'/' and text[11] == c':':
        return access_read(text, minute, time_ns)
    if length == 15 and text[3] == c' ' and text[6] == c' ' and text[9] == c':':
        return stamp_read(text, minute, near_ns, time_ns)
    return moment_read(text, length, minute, time_ns) or epoch_read(text, length, time_ns)


cdef bint klog_read(
    const uint8_t* text, Minute* minute, int64_t near_ns, int64_t* time_ns,
) noexcept nogil:
    # 1231 23:59:59.123456: of the year in which it is nearest to the time of the row.
    cdef uint8_t copied[28]
    cdef int64_t year = 1970 + near_ns // 1_000_000_000 // 31_556_952  # seconds of a mean year
    cdef int64_t candidate, distance
    cdef int64_t nearest = -1
    cdef int64_t of_year = 0
    cdef int64_t rest
    cdef int index
    memcpy(copied + 4, b"-mm-ddThh:mm:ss.uuuuuuZ", 23)
    memcpy(copied + 5, text, 2)
    memcpy(copied + 8, text + 2, 2)
    memcpy(copied + 11, text + 5, 15)
    for candidate in range(year - 1, year + 2):
        rest = candidate
        for index in range(3, -1, -1):
            copied[index] = <uint8_t>(c'0' + rest % 10)
            rest //= 10
        if time_read(copied, 27, minute, &of_year) != 27:
            continue
        distance = of_year - near_ns if of_year > near_ns else near_ns - of_year
        if nearest < 0 or distance < nearest:
            nearest = distance
            time_ns[0] = of_year
    return nearest >= 0


cdef bint stamp_read(
    const uint8_t* text, Minute* minute, int64_t near_ns, int64_t* time_ns,
) noexcept nogil:
    # Nov  2 19:00:01, of RFC 3164: no year and no zone, as klog.
    cdef uint8_t copied[20]
    cdef int month = month_of(text)
    if month == 0:
        return False
    copied[0] = <uint8_t>(c'0' + month // 10)
    copied[1] = <uint8_t>(c'0' + month % 10)
    copied[2] = c'0' if text[4] == c' ' else text[4]
    copied[3] = text[5]
    memcpy(copied + 4, text + 6, 9)
    memcpy(copied + 13, b".000000", 7)
    return klog_read(copied, minute, near_ns, time_ns)


cdef int month_of(const uint8_t* text) noexcept nogil:
    # 1 to 12, or 0.
    cdef const char* months = b"JanFebMarAprMayJunJulAugSepOctNovDec"
    cdef int month
    for month in range(12):
        if memcmp(text, months + month * 3, 3) == 0:
            return month + 1
    return 0


cdef bint access_read(const uint8_t* text, Minute* minute, int64_t* time_ns) noexcept nogil:
    # 22/Nov/2026:19:00:01 +0000, of web servers.
    cdef uint8_t copied[25]
    cdef int month = month_of(text + 3)
    if month == 0:
        return False
    memcpy(copied, text + 7, 4)
    memcpy(copied + 4, b"-mm-ddT", 7)
    copied[5] = <uint8_t>(c'0' + month // 10)
    copied[6] = <uint8_t>(c'0' + month % 10)
    memcpy(copied + 8, text, 2)
    memcpy(copied + 11, text + 12, 8)
    memcpy(copied + 19, text + 21, 3)
    copied[22] = c':'
    memcpy(copied + 23, text + 24, 2)
    return time_read(copied, 25, minute, time_ns) == 25
