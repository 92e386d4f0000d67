"""
JSON text as bytes.  `_reference.py` says what is valid and what is written; see `_fastjson.pxd`.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from "_simd.h" nogil:
    ctypedef struct simd_escape_entry:
        uint8_t text[8]
        uint8_t length
        uint8_t decoded

    ctypedef struct simd_escape_state:
        const uint8_t* source
        uint8_t* target
        int64_t decoded

    ctypedef void (*simd_copy_function)(
        simd_escape_state* state, const uint8_t* end, const simd_escape_entry* table,
    ) noexcept nogil

    simd_copy_function simd_copy_choose(int level)
    const uint8_t* simd_string_stop(const uint8_t* source, const uint8_t* end)
    int simd_utf8_step(const uint8_t* text, const uint8_t* end)


cdef const uint8_t* json_space(const uint8_t* text, const uint8_t* end) noexcept nogil:
    while text < end and (text[0] == c' ' or text[0] == c'\t' or text[0] == c'\n' or text[0] == c'\r'):
        text += 1
    return text


cdef inline int hex_digit(uint8_t byte) noexcept nogil:
    if c'0' <= byte <= c'9':
        return byte - c'0'
    byte |= 0x20
    if c'a' <= byte <= c'f':
        return byte - c'a' + 10
    return -1


cdef inline int hex_unit(const uint8_t* text) noexcept nogil:
    # Four hexadecimal digits, or -1.
    cdef int first = hex_digit(text[0])
    cdef int second = hex_digit(text[1])
    cdef int third = hex_digit(text[2])
    cdef int fourth = hex_digit(text[3])
    if (first | second | third | fourth) < 0:
        return -1
    return (first << 12) | (second << 8) | (third << 4) | fourth


cdef const uint8_t* json_string_end(
    const uint8_t* text, const uint8_t* end, const uint8_t** first_escape,
) noexcept nogil:
    cdef uint8_t byte
    first_escape[0] = NULL
    while True:
        text = simd_string_stop(text, end)
        if text >= end:
            return NULL
        byte = text[0]
        if byte == c'"':
            if first_escape[0] == NULL:
                first_escape[0] = text
            return text + 1
        if byte != c'\\' or text + 1 >= end:
            return NULL
        if first_escape[0] == NULL:
            first_escape[0] = text
        byte = text[1]
        text += 2
        if byte == c'u':
            if end - text < 4 or hex_unit(text) < 0:
                return NULL
            text += 4
        elif not (
            byte == c'n' or byte == c'"' or byte == c'\\' or byte == c't' or byte == c'r'
            or byte == c'/' or byte == c'b' or byte == c'f'
        ):
            return NULL


cdef inline const uint8_t* digits_end(const uint8_t* text, const uint8_t* end) noexcept nogil:
    # Past one or more digits, or NULL.
    if text >= end or not (c'0' <= text[0] <= c'9'):
        return NULL
    while text < end and c'0' <= text[0] <= c'9':
        text += 1
    return text


cdef const uint8_t* scalar_end(const uint8_t* text, const uint8_t* end) noexcept nogil:
    # A number, true, false or null.
    cdef Py_ssize_t length = end - text
    if text[0] == c't':
        return text + 4 if length >= 4 and memcmp(text, b"true", 4) == 0 else NULL
    if text[0] == c'f':
        return text + 5 if length >= 5 and memcmp(text, b"false", 5) == 0 else NULL
    if text[0] == c'n':
        return text + 4 if length >= 4 and memcmp(text, b"null", 4) == 0 else NULL
    if text[0] == c'-':
        text += 1
    if text < end and text[0] == c'0':
        text += 1
    else:
        text = digits_end(text, end)
    if text != NULL and text < end and text[0] == c'.':
        text = digits_end(text + 1, end)
    if text != NULL and text < end and (text[0] == c'e' or text[0] == c'E'):
        text += 1
        if text < end and (text[0] == c'+' or text[0] == c'-'):
            text += 1
        text = digits_end(text, end)
    return text


cdef const uint8_t* key_end(const uint8_t* text, const uint8_t* end) noexcept nogil:
    # Past a member's name and its colon.
    cdef const uint8_t* first_escape
    text = json_space(text, end)
    if text >= end or text[0] != c'"':
        return NULL
    text = json_string_end(text + 1, end, &first_escape)
    if text == NULL:
        return NULL
    text = json_space(text, end)
    return text + 1 if text < end and text[0] == c':' else NULL


cdef const uint8_t* json_value_end(const uint8_t* text, const uint8_t* end) noexcept nogil:
    # A stack of open brackets instead of recursion: bounded, and no C stack at a log line's mercy.
    cdef uint8_t brackets[JSON_DEPTH_MAX]
    cdef int depth = 0
    cdef uint8_t byte
    cdef const uint8_t* first_escape
    while True:
        text = json_space(text, end)
        if text >= end:
            return NULL
        byte = text[0]
        if byte == c'{' or byte == c'[':
            if depth == JSON_DEPTH_MAX:
                return NULL
            text = json_space(text + 1, end)
            if text >= end:
                return NULL
            if text[0] == byte + 2:  # '}' is '{' + 2, and ']' is '[' + 2.
                text += 1
            else:
                brackets[depth] = byte
                depth += 1
                if byte == c'{':
                    text = key_end(text, end)
                    if text == NULL:
                        return NULL
                continue
        elif byte == c'"':
            text = json_string_end(text + 1, end, &first_escape)
        else:
            text = scalar_end(text, end)
        if text == NULL:
            return NULL
        # Behind a value: close brackets, or go to the next member.
        while True:
            if depth == 0:
                return text
            text = json_space(text, end)
            if text >= end:
                return NULL
            byte = text[0]
            text += 1
            if byte == c',':
                break
            if byte != brackets[depth - 1] + 2:
                return NULL
            depth -= 1
        if brackets[depth - 1] == c'{':
            text = key_end(text, end)
            if text == NULL:
                return NULL


cdef inline Py_ssize_t utf8_write(uint8_t* target, uint32_t point) noexcept nogil:
    if point < 0x80:
        target[0] = <uint8_t>point
        return 1
    if point < 0x800:
        target[0] = <uint8_t>(0xC0 | (point >> 6))
        target[1] = <uint8_t>(0x80 | (point & 0x3F))
        return 2
    if point < 0x10000:
        target[0] = <uint8_t>(0xE0 | (point >> 12))
        target[1] = <uint8_t>(0x80 | ((point >> 6) & 0x3F))
        target[2] = <uint8_t>(0x80 | (point & 0x3F))
        return 3
    target[0] = <uint8_t>(0xF0 | (point >> 18))
    target[1] = <uint8_t>(0x80 | ((point >> 12) & 0x3F))
    target[2] = <uint8_t>(0x80 | ((point >> 6) & 0x3F))
    target[3] = <uint8_t>(0x80 | (point & 0x3F))
    return 4


cdef Py_ssize_t json_unescape(
    uint8_t* target, const uint8_t* text, const uint8_t* end,
) noexcept nogil:
    cdef uint8_t* start = target
    cdef const uint8_t* stop
    cdef uint32_t point
    cdef int low
    cdef uint8_t byte
    while text < end:
        stop = simd_string_stop(text, end)
        memcpy(target, text, stop - text)
        target += stop - text
        text = stop
        if text >= end:
            break
        byte = text[1]
        text += 2
        if byte == c'u':
            point = <uint32_t>hex_unit(text)
            text += 4
            if 0xD800 <= point < 0xE000:
                low = -1
                if point < 0xDC00 and end - text >= 6 and text[0] == c'\\' and text[1] == c'u':
                    low = hex_unit(text + 2)
                if 0xDC00 <= low < 0xE000:
                    point = 0x10000 + ((point - 0xD800) << 10) + <uint32_t>(low - 0xDC00)
                    text += 6
                else:
                    point = 0xFFFD
            target += utf8_write(target, point)
            continue
        if byte == c'n':
            byte = c'\n'
        elif byte == c't':
            byte = c'\t'
        elif byte == c'r':
            byte = c'\r'
        elif byte == c'b':
            byte = 8
        elif byte == c'f':
            byte = 12
        target[0] = byte
        target += 1
    return target - start


cdef simd_escape_entry tables[3][256]
cdef simd_copy_function copy = NULL


cdef uint8_t* escape_write(
    uint8_t* target, const uint8_t* text, Py_ssize_t length, Escape escape, int64_t* decoded,
) noexcept nogil:
    cdef simd_escape_state state
    state.source = text
    state.target = target
    state.decoded = decoded[0]
    copy(&state, text + length, NULL if escape == ESCAPE_NONE else tables[<int>escape])
    decoded[0] = state.decoded
    return state.target


cdef Py_ssize_t escape_measure(
    const uint8_t* text, Py_ssize_t length, Escape escape, int64_t decoded_max, int64_t* written,
) noexcept nogil:
    cdef const uint8_t* source = text
    cdef const uint8_t* end = text + length
    cdef const simd_escape_entry* entry
    cdef int64_t decoded = 0
    cdef int64_t size = 0
    cdef int step
    while source < end:
        if source[0] < 0x80:
            entry = &tables[<int>escape][source[0]]
            if decoded + entry.decoded > decoded_max:
                break
            decoded += entry.decoded
            size += entry.length
            source += 1
            continue
        step = simd_utf8_step(source, end)
        if decoded + (step if step > 0 else 3) > decoded_max:
            break
        decoded += step if step > 0 else 3
        size += step if step > 0 else 3
        source += step if step > 0 else -step
    written[0] = size
    return source - text


cdef void table_entry(Escape escape, int byte, const char* text, int decoded) noexcept nogil:
    cdef simd_escape_entry* entry = &tables[<int>escape][byte]
    cdef uint8_t length = 0
    memset(entry.text, 0, 8)
    while text[length] != 0:
        entry.text[length] = text[length]
        length += 1
    entry.length = length
    entry.decoded = <uint8_t>decoded


cdef void table_byte(Escape escape, int byte) noexcept nogil:
    cdef simd_escape_entry* entry = &tables[<int>escape][byte]
    memset(entry.text, 0, 8)
    entry.text[0] = <uint8_t>byte
    entry.length = 1
    entry.decoded = 1


cdef void tables_fill() noexcept nogil:
    cdef int byte, digit
    cdef char text[8]
    for byte in range(256):
        table_byte(ESCAPE_NONE, byte)
        table_byte(ESCAPE_ONCE, byte)
        table_byte(ESCAPE_TWICE, byte)
    memcpy(text, b"\\\\u00..", 8)
    for byte in range(0x20):
        # "\\u00XX" twice, and the same without its first backslash once.
        digit = byte & 15
        text[5] = <char>(c'0' + (byte >> 4))
        text[6] = <char>(c'0' + digit if digit < 10 else c'a' + digit - 10)
        text[7] = 0
        table_entry(ESCAPE_ONCE, byte, text + 1, 1)
        table_entry(ESCAPE_TWICE, byte, text, 6)
    table_entry(ESCAPE_ONCE, c'\n', b"\\n", 1)
    table_entry(ESCAPE_ONCE, c'\r', b"\\r", 1)
    table_entry(ESCAPE_ONCE, c'\t', b"\\t", 1)
    table_entry(ESCAPE_ONCE, 8, b"\\b", 1)
    table_entry(ESCAPE_ONCE, 12, b"\\f", 1)
    table_entry(ESCAPE_ONCE, c'"', b"\\\"", 1)
    table_entry(ESCAPE_ONCE, c'\\', b"\\\\", 1)
    table_entry(ESCAPE_TWICE, c'\n', b"\\\\n", 2)
    table_entry(ESCAPE_TWICE, c'\r', b"\\\\r", 2)
    table_entry(ESCAPE_TWICE, c'\t', b"\\\\t", 2)
    table_entry(ESCAPE_TWICE, 8, b"\\\\b", 2)
    table_entry(ESCAPE_TWICE, 12, b"\\\\f", 2)
    table_entry(ESCAPE_TWICE, c'"', b"\\\\\\\"", 2)
    table_entry(ESCAPE_TWICE, c'\\', b"\\\\\\\\", 2)


tables_fill()
copy = simd_copy_choose(1)


def _simd_level(level: int) -> None:
    """
    Choose the instructions: 0 the architecture's baseline, 1 the best of this processor.  For tests.
    """
    global copy
    copy = simd_copy_choose(level)
