"""
`key=value` pairs to fields.  `_reference_text.py` is the specification.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcpy

from agent._fastfields cimport (
    FIELD_ABSENT, FIELD_FALSE, FIELD_NULL, FIELD_NUMBER, FIELD_TEXT, FIELD_TRUE, SEVERITY_ERROR, SEVERITY_FATAL,
    SEVERITY_INFO, SEVERITY_WARN, Fields, Wanted, field_set, fields_begin, number_read, wanted_find,
)
from agent._fastparse cimport Columns, Rows

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_len, const void* needle, size_t needle_len)


cdef inline bint is_digit(uint8_t byte) noexcept nogil:
    return c'0' <= byte <= c'9'


cdef inline bint is_key(uint8_t byte) noexcept nogil:
    return byte > c' ' and byte != c'=' and byte != c'"' and byte != 0x7F


cdef int hex_value(const uint8_t* text, int digits) noexcept nogil:
    # -1 where they are none.
    cdef int value = 0
    cdef int index, digit
    for index in range(digits):
        if is_digit(text[index]):
            digit = text[index] - c'0'
        elif c'a' <= (text[index] | 0x20) <= c'f':
            digit = (text[index] | 0x20) - c'a' + 10
        else:
            return -1
        value = value * 16 + digit
    return value


cdef uint8_t* point_write(uint8_t* target, uint32_t point) noexcept nogil:
    if point < 0x80:
        target[0] = <uint8_t>point
        return target + 1
    if point < 0x800:
        target[0] = <uint8_t>(0xC0 | (point >> 6))
        target[1] = <uint8_t>(0x80 | (point & 0x3F))
        return target + 2
    if 0xD800 <= point < 0xE000 or point > 0x10FFFF:
        point = 0xFFFD
    if point < 0x10000:
        target[0] = <uint8_t>(0xE0 | (point >> 12))
        target[1] = <uint8_t>(0x80 | ((point >> 6) & 0x3F))
        target[2] = <uint8_t>(0x80 | (point & 0x3F))
        return target + 3
    target[0] = <uint8_t>(0xF0 | (point >> 18))
    target[1] = <uint8_t>(0x80 | ((point >> 12) & 0x3F))
    target[2] = <uint8_t>(0x80 | ((point >> 6) & 0x3F))
    target[3] = <uint8_t>(0x80 | (point & 0x3F))
    return target + 4


cdef Py_ssize_t unquote(uint8_t* target, const uint8_t* text, const uint8_t* end) noexcept nogil:
    # Go's escapes; what is none stays as it is.  Never longer than the text.
    cdef uint8_t* start = target
    cdef uint8_t byte
    cdef int value
    while text < end:
        byte = text[0]
        if byte != c'\\' or text + 1 >= end:
            target[0] = byte
            target += 1
            text += 1
            continue
        byte = text[1]
        if byte == c'x' and end - text >= 4:
            value = hex_value(text + 2, 2)
            if value >= 0:
                target[0] = <uint8_t>value
                target += 1
                text += 4
                continue
        if byte == c'u' and end - text >= 6:
            value = hex_value(text + 2, 4)
            if value >= 0:
                target = point_write(target, <uint32_t>value)
                text += 6
                continue
        if byte == c'n':
            byte = c'\n'
        elif byte == c't':
            byte = c'\t'
        elif byte == c'r':
            byte = c'\r'
        elif byte != c'"' and byte != c'\\':
            target[0] = c'\\'
            target += 1
        target[0] = byte
        target += 1
        text += 2
    return target - start


cdef const uint8_t* quoted_end(const uint8_t* text, const uint8_t* end) noexcept nogil:
    # The closing quote of the text behind an opening one, or NULL.
    while text < end:
        if text[0] == c'"':
            return text
        text += 2 if text[0] == c'\\' else 1
    return NULL


cdef int value_set(
    Columns columns, Fields fields, Py_ssize_t field, Py_ssize_t row, Py_ssize_t start, Py_ssize_t stop,
    bint quoted,
) except -1 nogil:
    cdef const uint8_t* text = columns.bytes + start
    cdef Py_ssize_t length = stop - start
    cdef Py_ssize_t target
    cdef double number
    cdef int kind = FIELD_TEXT
    if quoted and memchr(text, c'\\', length) != NULL:
        target = columns.bytes_reserve(length)
        length = unquote(columns.bytes + target, columns.bytes + start, columns.bytes + stop)
        columns.bytes_len = target + length
        start = target
    elif not quoted:
        if number_read(text, length, &number):
            kind = FIELD_NUMBER
        elif length == 4 and text[0] == c't' and text[1] == c'r' and text[2] == c'u' and text[3] == c'e':
            kind = FIELD_TRUE
        elif length == 5 and text[0] == c'f' and text[1] == c'a' and text[2] == c'l' and text[4] == c'e':
            kind = FIELD_FALSE if text[3] == c's' else FIELD_TEXT
    field_set(fields, field, row, start, length, kind)
    return 0


cdef Py_ssize_t block_end(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    # Behind ` >` of a block that begins with `<` and a newline, or -1.
    cdef const uint8_t* stop
    if length < 2 or text[0] != c'<' or text[1] != c'\n':
        return -1
    stop = <const uint8_t*>memmem(text, length, b"\n >", 3)
    return -1 if stop == NULL else stop + 3 - text


cdef int pairs_read(
    Columns columns, Fields fields, Py_ssize_t row, Py_ssize_t position, Py_ssize_t stop,
) except -1 nogil:
    # Pairs in the data from `position` to `stop`; what is no pair is passed over.
    cdef const uint8_t* quote
    cdef Py_ssize_t key, key_len, start, end, field
    cdef bint quoted
    while position < stop:
        while position < stop and not is_key(columns.bytes[position]):
            position += 1
        key = position
        while position < stop and is_key(columns.bytes[position]):
            position += 1
        key_len = position - key
        if key_len == 0:
            break
        field = wanted_find(fields.wanted, columns.bytes + key, key_len)
        if position >= stop or columns.bytes[position] != c'=':
            if field >= 0:
                field_set(fields, field, row, key, key_len, FIELD_TRUE)
            continue
        position += 1
        start = position
        quoted = position < stop and columns.bytes[position] == c'"'
        if quoted:
            start += 1
            quote = quoted_end(columns.bytes + start, columns.bytes + stop)
            end = stop if quote == NULL else quote - columns.bytes
            position = end + 1
        else:
            end = block_end(columns.bytes + start, stop - start)
            if end >= 0:
                end += start
                position = end
            else:
                while position < stop and columns.bytes[position] > c' ':
                    position += 1
                end = position
        if field >= 0:
            value_set(columns, fields, field, row, start, end, quoted)
    return 0


def extract_logfmt(Columns columns, Wanted wanted):
    cdef Fields fields = fields_begin(columns, wanted)
    cdef Rows* table = &columns.table
    cdef const uint8_t* text
    cdef Py_ssize_t row, length, position
    cdef Py_ssize_t unparsed = 0
    for row in range(table.count):
        if fields.parsed[row]:
            continue
        text = columns.bytes + table.message_start[row]
        length = table.message_len[row]
        position = 0
        while position < length and is_key(text[position]):
            position += 1
        if position == 0 or position >= length or text[position] != c'=':
            unparsed += 1
            continue
        fields.parsed[row] = 1
        pairs_read(
            columns, fields, row, table.message_start[row], table.message_start[row] + length
        )
    return unparsed


# -- klog -------------------------------------------------------------------------------------------


cdef bint digits_at(const uint8_t* text, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t index
    for index in range(first, first + count):
        if not is_digit(text[index]):
            return False
    return True


cdef int klog_severity(uint8_t letter) noexcept nogil:
    if letter == c'I':
        return SEVERITY_INFO
    if letter == c'W':
        return SEVERITY_WARN
    if letter == c'E':
        return SEVERITY_ERROR
    return SEVERITY_FATAL if letter == c'F' else 0


# Where the parts of a klog line are, relative to it.
cdef struct Klog:
    Py_ssize_t thread
    Py_ssize_t thread_end
    Py_ssize_t caller
    Py_ssize_t colon
    Py_ssize_t bracket


cdef bint klog_head(const uint8_t* text, Py_ssize_t length, Klog* head) noexcept nogil:
    # Lmmdd hh:mm:ss.uuuuuu threadid file:line]
    cdef Py_ssize_t position = 21
    cdef const uint8_t* bracket
    if length < 30 or klog_severity(text[0]) == 0 or not digits_at(text, 1, 4) or text[5] != c' ':
        return False
    if text[8] != c':' or text[11] != c':' or text[14] != c'.' or not digits_at(text, 15, 6):
        return False
    if not digits_at(text, 6, 2) or not digits_at(text, 9, 2) or not digits_at(text, 12, 2):
        return False
    while position < length and text[position] == c' ':
        position += 1
    head.thread = position
    while position < length and is_digit(text[position]):
        position += 1
    head.thread_end = position
    if position == head.thread or position >= length or text[position] != c' ':
        return False
    head.caller = position + 1
    bracket = <const uint8_t*>memchr(text + head.caller, c']', length - head.caller)
    if bracket == NULL:
        return False
    head.bracket = bracket - text
    head.colon = head.bracket
    while head.colon > head.caller and is_digit(text[head.colon - 1]):
        head.colon -= 1
    head.colon -= 1
    return head.colon > head.caller and text[head.colon] == c':' and head.colon + 1 < head.bracket


# Where klog's own fields are among the wanted ones; -1 for those that nobody wants.
cdef struct KlogFields:
    Py_ssize_t level, time, thread, caller, file, line, msg
    bint any


cdef void klog_fields(Wanted wanted, KlogFields* found) noexcept nogil:
    found.level = wanted_find(wanted, b"level", 5)
    found.time = wanted_find(wanted, b"time", 4)
    found.thread = wanted_find(wanted, b"thread", 6)
    found.caller = wanted_find(wanted, b"caller", 6)
    found.file = wanted_find(wanted, b"file", 4)
    found.line = wanted_find(wanted, b"line", 4)
    found.msg = wanted_find(wanted, b"msg", 3)
    found.any = wanted.count > 0


cdef inline void part_set(
    Fields fields, Py_ssize_t field, Py_ssize_t row, Py_ssize_t start, Py_ssize_t stop, int kind,
) noexcept nogil:
    if field >= 0:
        field_set(fields, field, row, start, stop - start, kind)


def extract_klog(Columns columns, Wanted wanted):
    cdef Fields fields = fields_begin(columns, wanted)
    cdef Rows* table = &columns.table
    cdef KlogFields names
    cdef Klog head
    cdef const uint8_t* text
    cdef const uint8_t* quote
    cdef Py_ssize_t row, base, position, stop, end
    cdef Py_ssize_t unparsed = 0
    klog_fields(wanted, &names)
    for row in range(table.count):
        if fields.parsed[row]:
            continue
        base = table.message_start[row]
        text = columns.bytes + base
        if not klog_head(text, table.message_len[row], &head):
            unparsed += 1
            continue
        fields.parsed[row] = 1
        fields.severity[row] = <uint8_t>klog_severity(text[0])
        if not names.any:
            continue
        stop = base + table.message_len[row]
        part_set(fields, names.level, row, base, base + 1, FIELD_TEXT)
        part_set(fields, names.time, row, base + 1, base + 21, FIELD_TEXT)
        part_set(fields, names.thread, row, base + head.thread, base + head.thread_end, FIELD_NUMBER)
        part_set(fields, names.caller, row, base + head.caller, base + head.bracket, FIELD_TEXT)
        part_set(fields, names.file, row, base + head.caller, base + head.colon, FIELD_TEXT)
        part_set(fields, names.line, row, base + head.colon + 1, base + head.bracket, FIELD_NUMBER)
        position = base + head.bracket + 1
        if position < stop and columns.bytes[position] == c' ':
            position += 1
        quote = NULL
        if position < stop and columns.bytes[position] == c'"':
            quote = quoted_end(columns.bytes + position + 1, columns.bytes + stop)
        if quote == NULL:
            part_set(fields, names.msg, row, position, stop, FIELD_TEXT)
            continue
        end = quote - columns.bytes
        pairs_read(columns, fields, row, end + 1, stop)
        if names.msg >= 0:
            value_set(columns, fields, names.msg, row, position + 1, end, True)
    return unparsed


def klog_levels(Columns columns, Py_ssize_t verbosity, Py_ssize_t error, Py_ssize_t message=-1):
    cdef Fields fields = columns.fields
    cdef Py_ssize_t row
    cdef bint failed
    if fields is None:
        return
    for row in range(fields.rows):
        if fields.severity[row] or not fields.parsed[row]:
            continue
        if message >= 0 and fields.kind[message * fields.stride + row] == FIELD_ABSENT:
            continue
        failed = fields.kind[error * fields.stride + row] > FIELD_NULL
        if not failed:
            failed = fields.kind[verbosity * fields.stride + row] == FIELD_ABSENT
        fields.severity[row] = SEVERITY_ERROR if failed else SEVERITY_INFO
