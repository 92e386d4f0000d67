"""
One physical line to its parts: CRI and docker json-file.  See `_fastline.pxd`.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from agent._fastjson cimport json_space, json_string_end, json_value_end

cdef extern from "_simd.h" nogil:
    int64_t simd_eight_digits(const uint8_t* text)
    uint64_t simd_digits_of(uint32_t value)

cdef enum:
    SECONDS_MAX = 9_223_372_036  # The last whole second in int64 nanoseconds, in 2262.
    NANOSECONDS_MAX = 854_775_807  # and what of it fits.


cdef inline int two_digits(const uint8_t* text) noexcept nogil:
    # 0 to 99, or -1.
    cdef unsigned int high = <unsigned int>text[0] - c'0'
    cdef unsigned int low = <unsigned int>text[1] - c'0'
    return -1 if high > 9 or low > 9 else <int>(high * 10 + low)


cdef int64_t days_before(int year, int month, int day) noexcept nogil:
    # Days from 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day is
    # the last of its year.
    cdef int64_t shifted = year - 1 if month <= 2 else year
    cdef int64_t era = shifted // 400
    cdef int64_t year_of_era = shifted - era * 400
    cdef int64_t day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return (
        era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100
        + day_of_year - 719_468
    )


cdef int month_days(int year, int month) noexcept nogil:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


cdef bint minute_read(const uint8_t* text, Minute* minute) noexcept nogil:
    # 2026-11-22T19:00: into the cache.
    cdef int century = two_digits(text)
    cdef int year = two_digits(text + 2)
    cdef int month = two_digits(text + 5)
    cdef int day = two_digits(text + 8)
    cdef int hour = two_digits(text + 11)
    cdef int of_hour = two_digits(text + 14)
    if century < 0 or year < 0 or month < 1 or month > 12 or hour < 0 or hour > 23:
        return False
    if of_hour < 0 or of_hour > 59:
        return False
    if text[4] != c'-' or text[7] != c'-' or text[10] != c'T' or text[13] != c':' or text[16] != c':':
        return False
    year += century * 100
    if year < 1970 or year > 2262 or day < 1 or day > month_days(year, month):
        return False
    memcpy(minute.text, text, 17)
    minute.seconds = days_before(year, month, day) * 86_400 + hour * 3_600 + of_hour * 60
    return True


cdef void minute_reset(Minute* minute) noexcept nogil:
    minute_read(b"1970-01-01T00:00:", minute)


cdef inline bint minute_same(const uint8_t* text, const Minute* minute) noexcept nogil:
    cdef uint64_t here[2]
    cdef uint64_t there[2]
    memcpy(here, text, 16)
    memcpy(there, minute.text, 16)
    return here[0] == there[0] and here[1] == there[1] and text[16] == c':'


cdef Py_ssize_t time_read(
    const uint8_t* text, Py_ssize_t length, Minute* minute, int64_t* time_ns,
) noexcept nogil:
    cdef int second, zone_hour, zone_minute
    cdef int digits = 0
    cdef int64_t fraction = 0
    cdef int64_t seconds
    cdef Py_ssize_t position = 19
    if length < 20:
        return 0
    if not minute_same(text, minute) and not minute_read(text, minute):
        return 0
    second = two_digits(text + 17)
    if second < 0 or second > 60:  # :60 is the first second of the next minute.
        return 0
    if text[19] == c'.':
        position = 20
        while position < length and c'0' <= text[position] <= c'9':
            if digits == 9:
                return 0
            fraction = fraction * 10 + (text[position] - c'0')
            digits += 1
            position += 1
        if digits == 0:
            return 0
        while digits < 9:
            fraction *= 10
            digits += 1
    if position >= length:
        return 0
    seconds = minute.seconds + second
    if text[position] == c'Z':
        position += 1
    else:
        if length - position < 6 or text[position + 3] != c':':
            return 0
        zone_hour = two_digits(text + position + 1)
        zone_minute = two_digits(text + position + 4)
        if zone_hour < 0 or zone_hour > 23 or zone_minute < 0 or zone_minute > 59:
            return 0
        if text[position] == c'+':
            seconds -= zone_hour * 3_600 + zone_minute * 60
        elif text[position] == c'-':
            seconds += zone_hour * 3_600 + zone_minute * 60
        else:
            return 0
        position += 6
    if seconds < 0 or seconds > <int64_t>SECONDS_MAX:
        return 0
    if seconds == <int64_t>SECONDS_MAX and fraction > NANOSECONDS_MAX:
        return 0
    time_ns[0] = seconds * 1_000_000_000 + fraction
    return position


cdef int64_t TIME_MS_13 = 1_000_000_000_000  # The first time of 13 digits.


cdef inline uint8_t* digits_write(uint8_t* target, int64_t value, int width) noexcept nogil:
    # Decimal, filled with zeros to `width`.
    cdef int index
    for index in range(width - 1, -1, -1):
        target[index] = <uint8_t>(c'0' + value % 10)
        value //= 10
    return target + width


cdef uint8_t* integer_write(uint8_t* target, int64_t value) noexcept nogil:
    cdef int width = 1
    cdef int64_t rest = value // 10
    cdef uint64_t word
    if TIME_MS_13 <= value < 10 * TIME_MS_13:  # 2001 to 2286
        word = simd_digits_of(<uint32_t>(<uint64_t>value // 100_000))
        memcpy(target, &word, 8)
        word = simd_digits_of(<uint32_t>(<uint64_t>value % 100_000)) >> 24
        memcpy(target + 8, &word, 5)
        return target + 13
    while rest:
        width += 1
        rest //= 10
    return digits_write(target, value, width)


cdef uint8_t* time_write(uint8_t* target, int64_t time_ns) noexcept nogil:
    # 2026-11-22T19:00:01.123456789Z; days_before, backwards.
    cdef int64_t seconds = time_ns // 1_000_000_000
    cdef int64_t shifted = seconds // 86_400 + 719_468
    cdef int64_t of_day = seconds % 86_400
    cdef int64_t era = shifted // 146_097
    cdef int64_t day_of_era = shifted - era * 146_097
    cdef int64_t year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    cdef int64_t day_of_year = (
        day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    )
    cdef int64_t shifted_month = (5 * day_of_year + 2) // 153
    cdef uint64_t word
    cdef int64_t month = shifted_month + (3 if shifted_month < 10 else -9)
    target = digits_write(target, year_of_era + era * 400 + (1 if month <= 2 else 0), 4)
    target[0] = c'-'
    target = digits_write(target + 1, month, 2)
    target[0] = c'-'
    target = digits_write(target + 1, day_of_year - (153 * shifted_month + 2) // 5 + 1, 2)
    target[0] = c'T'
    target = digits_write(target + 1, of_day // 3_600, 2)
    target[0] = c':'
    target = digits_write(target + 1, of_day // 60 % 60, 2)
    target[0] = c':'
    target = digits_write(target + 1, of_day % 60, 2)
    target[0] = c'.'
    word = simd_digits_of(<uint32_t>(time_ns % 1_000_000_000 // 10))
    memcpy(target + 1, &word, 8)
    target[9] = <uint8_t>(c'0' + time_ns % 10)
    target[10] = c'Z'
    return target + 11


cdef inline bint cri_read_usual(
    const uint8_t* text, Py_ssize_t length, const Minute* minute, Line* line,
) noexcept nogil:
    # What nine lines of ten look like: nine digits, Z, a single tag; in the minute of the last line.
    cdef int64_t digits
    cdef int second
    if length < 40 or not minute_same(text, minute):
        return False
    if text[19] != c'.' or text[29] != c'Z' or text[39] != c' ' or memcmp(text + 30, b" std", 4) != 0:
        return False
    if memcmp(text + 34, b"out ", 4) == 0:
        line.stream = 1
    elif memcmp(text + 34, b"err ", 4) == 0:
        line.stream = 2
    else:
        return False
    if text[38] != c'F' and text[38] != c'P':
        return False
    digits = simd_eight_digits(text + 20)
    second = two_digits(text + 17)
    # Near the end of int64 the careful way decides.
    if digits < 0 or second < 0 or second > 60 or minute.seconds > <int64_t>SECONDS_MAX - 120:
        return False
    if not (c'0' <= text[28] <= c'9'):
        return False
    line.time_ns = (minute.seconds + second) * 1_000_000_000 + digits * 10 + (text[28] - c'0')
    line.time_start = 0
    line.time_len = 30
    line.content_start = 40
    line.content_len = length - 40
    line.partial = text[38] == c'P'
    line.escaped = False
    return True


cdef bint cri_read(
    const uint8_t* text, Py_ssize_t length, Minute* minute, Line* line,
) noexcept nogil:
    cdef Py_ssize_t position
    cdef Py_ssize_t head_max = length if length < HEAD_BYTES_MAX else HEAD_BYTES_MAX
    if cri_read_usual(text, length, minute, line):
        return True
    line.time_start = 0
    line.time_len = position = time_read(text, length, minute, &line.time_ns)
    if position == 0 or length - position < 9:
        return False
    if memcmp(text + position, b" stdout ", 8) == 0:
        line.stream = 1
    elif memcmp(text + position, b" stderr ", 8) == 0:
        line.stream = 2
    else:
        return False
    position += 8
    line.partial = text[position] == c'P'
    if not line.partial and text[position] != c'F':
        return False
    position += 1
    if position < length and text[position] == c':':
        # Further tags, unknown today, must be passed over.
        while position < head_max and text[position] != c' ':
            position += 1
        if position == head_max and position < length:
            return False
    if position < length:
        if text[position] != c' ':
            return False
        position += 1
    line.content_start = position
    line.content_len = length - position
    line.escaped = False
    return True


cdef bint docker_value(
    const uint8_t* text, const uint8_t* key, Py_ssize_t key_len, const uint8_t* value,
    const uint8_t* value_end, Minute* minute, Line* line, int* seen,
) noexcept nogil:
    # One member: take it, or pass over it; False where it is not what its name says.
    cdef const uint8_t* first_escape
    if key_len == 3 and memcmp(key, b"log", 3) == 0:
        if value[0] != c'"':
            return False
        json_string_end(value + 1, value_end, &first_escape)
        line.content_start = value + 1 - text
        line.content_len = value_end - 1 - (value + 1)
        line.partial = first_escape == value_end - 1
        line.escaped = not line.partial
        if line.escaped and first_escape == value_end - 3 and first_escape[1] == c'n':
            # The only escape is the line's end: what is before it can stay where it is.
            line.content_len -= 2
            line.escaped = False
        seen[0] |= 1
    elif key_len == 6 and memcmp(key, b"stream", 6) == 0:
        if value_end - value != 8:
            return False
        if memcmp(value, b'"stdout"', 8) == 0:
            line.stream = 1
        elif memcmp(value, b'"stderr"', 8) == 0:
            line.stream = 2
        else:
            return False
        seen[0] |= 2
    elif key_len == 4 and memcmp(key, b"time", 4) == 0:
        if value[0] != c'"':
            return False
        line.time_start = value + 1 - text
        line.time_len = value_end - 1 - (value + 1)
        if line.time_len == 0:
            return False
        if time_read(value + 1, line.time_len, minute, &line.time_ns) != line.time_len:
            return False
        seen[0] |= 4
    return True


cdef bint docker_read(
    const uint8_t* text, Py_ssize_t length, Minute* minute, Line* line,
) noexcept nogil:
    cdef const uint8_t* end = text + length
    cdef const uint8_t* cursor = json_space(text, end)
    cdef const uint8_t* first_escape
    cdef const uint8_t* key
    cdef const uint8_t* value
    cdef Py_ssize_t key_len
    cdef int seen = 0
    if cursor >= end or cursor[0] != c'{':
        return False
    cursor += 1
    while True:
        cursor = json_space(cursor, end)
        if cursor >= end or cursor[0] != c'"':
            return False
        key = cursor + 1
        cursor = json_string_end(key, end, &first_escape)
        if cursor == NULL:
            return False
        key_len = cursor - 1 - key
        cursor = json_space(cursor, end)
        if cursor >= end or cursor[0] != c':':
            return False
        value = json_space(cursor + 1, end)
        cursor = json_value_end(value, end)
        if cursor == NULL:
            return False
        if not docker_value(text, key, key_len, value, cursor, minute, line, &seen):
            return False
        cursor = json_space(cursor, end)
        if cursor >= end:
            return False
        if cursor[0] == c'}':
            break
        if cursor[0] != c',':
            return False
        cursor += 1
    # All three are there, and nothing follows.
    return seen == 7 and json_space(cursor + 1, end) == end
