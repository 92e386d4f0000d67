"""
Members of JSON objects to fields.  `_reference_fields.py` is the specification.

One strict pass over a row: a value that nobody wants is only passed over.  What nests deeper than
JSON_DEPTH_MAX, or is cut off, is not an object: the row stays text.
"""

from libc.stdint cimport int16_t, uint8_t
from libc.string cimport memchr, memcmp, memset

from agent._fastfields cimport (
    FIELD_FALSE, FIELD_JSON, FIELD_NULL, FIELD_NUMBER, FIELD_TEXT, FIELD_TRUE, FIELDS_MAX, Fields, Wanted,
    field_set, fields_begin,
)
from agent._fastjson cimport json_space, json_string_end, json_unescape, json_value_end
from agent._fastparse cimport Columns, Rows

# Where the value of each wanted field is, while a row is read.
cdef struct Found:
    const uint8_t* start[FIELDS_MAX]
    const uint8_t* stop[FIELDS_MAX]
    bint escaped[FIELDS_MAX]
    bint any

# How much of each wanted name lies in the objects around the one that is read; -1: it is not in here.
cdef struct Depth:
    int16_t passed[FIELDS_MAX]


cdef const uint8_t* object_read(
    const uint8_t* text, const uint8_t* end, Wanted wanted, const Depth* depth, Found* found,
) noexcept nogil:
    # From behind the opening brace to behind the closing one, or NULL.
    cdef const uint8_t* key
    cdef const uint8_t* value
    cdef const uint8_t* first_escape
    cdef Py_ssize_t key_len
    text = json_space(text, end)
    if text < end and text[0] == c'}':
        return text + 1
    while True:
        text = json_space(text, end)
        if text >= end or text[0] != c'"':
            return NULL
        key = text + 1
        text = json_string_end(key, end, &first_escape)
        if text == NULL:
            return NULL
        key_len = text - 1 - key
        text = json_space(text, end)
        if text >= end or text[0] != c':':
            return NULL
        value = json_space(text + 1, end)
        text = json_value_end(value, end)
        if text == NULL:
            return NULL
        member_take(key, key_len, value, text, wanted, depth, found)
        text = json_space(text, end)
        if text >= end:
            return NULL
        if text[0] == c'}':
            return text + 1
        if text[0] != c',':
            return NULL
        text += 1


cdef void member_take(
    const uint8_t* key, Py_ssize_t key_len, const uint8_t* value, const uint8_t* stop, Wanted wanted,
    const Depth* depth, Found* found,
) noexcept nogil:
    cdef const uint8_t* first_escape
    cdef const uint8_t* rest
    cdef Py_ssize_t rest_len, index
    cdef bint inside = False
    cdef Depth below
    for index in range(wanted.count):
        if depth.passed[index] < 0:
            continue
        rest = wanted.items[index].text + depth.passed[index]
        rest_len = wanted.items[index].length - depth.passed[index]
        if rest_len < key_len or rest[0] != key[0] or memcmp(rest, key, key_len) != 0:
            continue
        if rest_len == key_len:
            found.start[index] = value
            found.stop[index] = stop
            found.escaped[index] = False
            found.any = True
            if value[0] == c'"':
                json_string_end(value + 1, stop, &first_escape)
                found.escaped[index] = first_escape != stop - 1
        elif rest[key_len] == c'.' and value[0] == c'{':
            if not inside:
                memset(below.passed, 0xFF, sizeof(Depth))
                inside = True
            below.passed[index] = <int16_t>(depth.passed[index] + key_len + 1)
    if inside:
        # It is valid already: this only looks for members.
        object_read(value + 1, stop, wanted, &below, found)


cdef int found_write(
    Columns columns, Fields fields, Py_ssize_t row, Found* found,
) except -1 nogil:
    # Positions instead of pointers from here on: unescaping may move the data.
    cdef const uint8_t* text
    cdef Py_ssize_t index, start, stop, target, length
    cdef const uint8_t* origin = columns.bytes
    for index in range(fields.wanted.count):
        if found.start[index] == NULL:
            continue
        start = found.start[index] - origin
        stop = found.stop[index] - origin
        text = columns.bytes + start
        if text[0] == c'"':
            start += 1
            stop -= 1
            if found.escaped[index]:
                target = columns.bytes_reserve(stop - start)
                length = json_unescape(
                    columns.bytes + target, columns.bytes + start, columns.bytes + stop
                )
                columns.bytes_len = target + length
                field_set(fields, index, row, target, length, FIELD_TEXT)
            else:
                field_set(fields, index, row, start, stop - start, FIELD_TEXT)
        elif text[0] == c'{' or text[0] == c'[':
            field_set(fields, index, row, start, stop - start, FIELD_JSON)
        elif text[0] == c't':
            field_set(fields, index, row, start, stop - start, FIELD_TRUE)
        elif text[0] == c'f':
            field_set(fields, index, row, start, stop - start, FIELD_FALSE)
        elif text[0] == c'n':
            field_set(fields, index, row, start, stop - start, FIELD_NULL)
        else:
            field_set(fields, index, row, start, stop - start, FIELD_NUMBER)
    return 0


def extract_json(Columns columns, Wanted wanted):
    cdef Fields fields = fields_begin(columns, wanted)
    cdef Rows* table = &columns.table
    cdef const uint8_t* text
    cdef const uint8_t* end
    cdef Py_ssize_t row
    cdef Py_ssize_t unparsed = 0
    cdef Found found
    cdef Depth depth
    memset(&depth, 0, sizeof(Depth))
    memset(&found, 0, sizeof(Found))
    for row in range(table.count):
        if fields.parsed[row]:
            continue
        text = columns.bytes + table.message_start[row]
        end = text + table.message_len[row]
        text = <const uint8_t*>memchr(text, c'{', end - text)
        if text != NULL:
            if found.any:
                memset(&found, 0, sizeof(Found))
            text = object_read(text + 1, end, wanted, &depth, &found)
        if text == NULL or json_space(text, end) != end:
            unparsed += 1
            continue
        fields.parsed[row] = 1
        if found.any:
            found_write(columns, fields, row, &found)
    return unparsed


cdef const uint8_t* attrs_begin(const uint8_t* text, const uint8_t* end) noexcept nogil:
    # Behind the text of a line's time: its quote, and the member "attrs"; from behind its opening brace, or NULL.
    if text >= end or text[0] != c'"':
        return NULL
    text = json_space(text + 1, end)
    if text >= end or text[0] != c',':
        return NULL
    text = json_space(text + 1, end)
    if end - text < 8 or memcmp(text, b'"attrs"', 7) != 0:
        return NULL
    text = json_space(text + 7, end)
    if text >= end or text[0] != c':':
        return NULL
    text = json_space(text + 1, end)
    return text + 1 if text < end and text[0] == c'{' else NULL


def extract_attrs(Columns columns, Wanted wanted):
    cdef Fields fields = fields_begin(columns, wanted)
    cdef Rows* table = &columns.table
    cdef const uint8_t* text
    cdef const uint8_t* end
    cdef Py_ssize_t row, index
    cdef Py_ssize_t without = 0
    cdef Found found
    cdef Depth depth
    memset(&depth, 0xFF, sizeof(Depth))
    memset(&found, 0, sizeof(Found))
    for index in range(wanted.count):
        if wanted.items[index].length > 6 and memcmp(wanted.items[index].text, b"attrs.", 6) == 0:
            depth.passed[index] = 6
    for row in range(table.count):
        text = NULL
        if table.time_len[row]:
            # The columns may have moved: a value that was unescaped grew them.
            end = columns.bytes + columns.bytes_len
            text = attrs_begin(columns.bytes + table.time_start[row] + table.time_len[row], end)
        if text != NULL:
            if found.any:
                memset(&found, 0, sizeof(Found))
            text = object_read(text, end, wanted, &depth, &found)
        if text == NULL:
            without += 1
        elif found.any:
            found_write(columns, fields, row, &found)
    return without
