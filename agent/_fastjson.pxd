# JSON text as bytes: strict reading, and writing of strings, once or twice escaped.
#
# All are leaves: no Python, no errors, no memory of their own.  Every `text` can be read for
# SIMD_PADDING bytes past its end (see _simd.h).

from libc.stdint cimport int64_t, uint8_t

cdef extern from "_simd.h" nogil:
    enum:
        SIMD_PADDING

cdef enum:
    # Nested objects and arrays.  encoding/json takes 10,000 and simdjson 1,024; a log line that
    # nests deeper than this is kept as text.
    JSON_DEPTH_MAX = 100
    # What escaping makes of one byte at most: \\u00XX.
    ESCAPED_BYTES_MAX = 7

# How a message becomes part of a body.
cdef enum Escape:
    ESCAPE_NONE = 0  # valid UTF-8, nothing else
    ESCAPE_ONCE = 1  # the inside of a JSON string
    ESCAPE_TWICE = 2  # the inside of a JSON string that is text in a JSON string

# Past the white space at `text`.
cdef const uint8_t* json_space(const uint8_t* text, const uint8_t* end) noexcept nogil

# Past the closing quote of the string whose first byte is at `text`; NULL where it is not one.
# `first_escape`: its first backslash, or the closing quote.
cdef const uint8_t* json_string_end(
    const uint8_t* text, const uint8_t* end, const uint8_t** first_escape,
) noexcept nogil

# Past the complete, strictly valid value at `text` (behind white space); NULL where there is none.
cdef const uint8_t* json_value_end(const uint8_t* text, const uint8_t* end) noexcept nogil

# Write what the inside of a valid string stands for; return its length, never more than the text's.
# A lone surrogate becomes U+FFFD; bytes that are not UTF-8 pass.
cdef Py_ssize_t json_unescape(
    uint8_t* target, const uint8_t* text, const uint8_t* end,
) noexcept nogil

# Write text[:length]; the end of what was written.  `target` needs room for `length *
# ESCAPED_BYTES_MAX + SIMD_PADDING`, or for what `escape_measure` says and the padding.
# `decoded` grows by the bytes that the outermost JSON string stands for.
cdef uint8_t* escape_write(
    uint8_t* target, const uint8_t* text, Py_ssize_t length, Escape escape, int64_t* decoded,
) noexcept nogil

# The longest prefix of text[:length], cut between characters, that stands for at most `decoded_max`
# decoded bytes.  `written`: what escape_write would write for it.
cdef Py_ssize_t escape_measure(
    const uint8_t* text, Py_ssize_t length, Escape escape, int64_t decoded_max, int64_t* written,
) noexcept nogil
