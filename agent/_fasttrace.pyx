"""
Which lines belong to the stack trace of the lines before them.  `_reference_join.py` has the rules.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_len, const void* needle, size_t needle_len)

cdef enum:
    # Groups of no language.
    PLAIN = 0
    RECORD = 1
    # Languages, in the high bits of a state.
    JAVA = 0x10
    PYTHON = 0x20
    GO = 0x30
    RUBY = 0x40
    DOTNET = 0x50
    NODE = 0x60
    LANGUAGE_BITS = 0x70
    # What a trace has come to, in the low bits.
    HEAD = 1
    FRAMES = 2
    DONE = 3
    BLANK = 4
    CHAIN = 5
    SOURCE = 6


cdef inline bint starts(const uint8_t* text, Py_ssize_t length, const char* word, Py_ssize_t size) noexcept nogil:
    return length >= size and memcmp(text, word, size) == 0


cdef inline bint has(const uint8_t* text, Py_ssize_t length, const char* word, Py_ssize_t size) noexcept nogil:
    return memmem(text, length, word, size) != NULL


cdef inline bint is_digit(uint8_t byte) noexcept nogil:
    return c'0' <= byte <= c'9'


cdef inline bint is_word(uint8_t byte) noexcept nogil:
    return c'a' <= (byte | 0x20) <= c'z' or is_digit(byte) or byte == c'_' or byte == c'$'


cdef inline Py_ssize_t indent_of(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t indent = 0
    while indent < length and (text[indent] == c' ' or text[indent] == c'\t'):
        indent += 1
    return indent


cdef bint level_begins(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    # One of the words, in any case, and nothing that would make it another one.
    cdef const char* words = b"trace debug info warn warning error fatal critical severe notice "
    cdef Py_ssize_t position
    while words[0] != 0:
        position = 0
        while position < length and words[position] != c' ' and (text[position] | 0x20) == <uint8_t>words[position]:
            position += 1
        if words[position] == c' ' and (position == length or not is_word(text[position])):
            return True
        while words[0] != c' ':
            words += 1
        words += 1
    return False


cdef bint is_record(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    # A line as loggers begin one: a date, a bracket, a level, `E1122 `, `E, [`.
    cdef uint8_t first
    if length == 0:
        return False
    first = text[0]
    if is_digit(first) or first == c'[':
        return True
    if length >= 5 and (first == c'I' or first == c'W' or first == c'E' or first == c'F'):
        if is_digit(text[1]) and is_digit(text[2]) and is_digit(text[3]) and is_digit(text[4]):
            return True
    if length >= 4 and c'A' <= first <= c'Z' and memcmp(text + 1, b", [", 3) == 0:
        return True
    return level_begins(text, length)


cdef bint error_named(const uint8_t* text, Py_ssize_t length, bint dotted) noexcept nogil:
    # `java.lang.IllegalStateException: …`, with at least one dot; else `TypeError: …`, without any.
    cdef Py_ssize_t stop = 0
    cdef bint dots = False
    if length == 0 or is_digit(text[0]) or text[0] == c'.':
        return False
    while stop < length and (is_word(text[stop]) or text[stop] == c'.'):
        dots |= text[stop] == c'.'
        stop += 1
    if dots != dotted:
        return False
    if stop < length and text[stop] != c':' and not (not dotted and starts(text + stop, length - stop, b" [", 2)):
        return False
    if stop >= 5 and memcmp(text + stop - 5, b"Error", 5) == 0:
        return True
    return stop >= 9 and (
        memcmp(text + stop - 9, b"Exception", 9) == 0 or memcmp(text + stop - 9, b"Throwable", 9) == 0
    )


cdef bint java_head(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    cdef const uint8_t* quote
    if starts(text, length, b'Exception in thread "', 21):
        quote = <const uint8_t*>memchr(text + 21, c'"', length - 21)
        return quote != NULL
    return error_named(text, length, True)


cdef bint frame_at(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t indent = indent_of(text, length)
    return indent > 0 and starts(text + indent, length - indent, b"at ", 3)


cdef bint cause(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    return starts(text, length, b"Caused by: ", 11) or starts(text, length, b"Suppressed: ", 12)


cdef bint ruby_frame(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    # `app/models/cart.rb:12:in 'total'`, or `from …` of it; a head has `: message` behind the quote.
    cdef Py_ssize_t indent = indent_of(text, length)
    cdef const uint8_t* place = <const uint8_t*>memmem(text, length, b".rb:", 4)
    if indent > 0 and starts(text + indent, length - indent, b"from ", 5):
        return True
    if place == NULL or length == 0 or text[length - 1] != c"'":
        return False
    place += 4
    return place < text + length and is_digit(place[0]) and has(place, text + length - place, b":in ", 4)


cdef bint ruby_head(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    cdef const uint8_t* place = <const uint8_t*>memmem(text, length, b".rb:", 4)
    if place == NULL or indent_of(text, length) or text[length - 1] != c')':
        return False
    place += 4
    return place < text + length and is_digit(place[0]) and has(place, text + length - place, b":in ", 4)


cdef bint go_head(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    return (
        starts(text, length, b"panic: ", 7) or starts(text, length, b"fatal error: ", 13)
        or starts(text, length, b"SIGQUIT: ", 9) or go_goroutine(text, length)
    )


cdef bint go_goroutine(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    return (
        length > 11 and memcmp(text, b"goroutine ", 10) == 0 and is_digit(text[10])
        and has(text, length, b" [", 2) and text[length - 1] == c':'
    )


cdef bint dotnet_record(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    # `fail: Shop.Cart[0]`, of the console logger: what follows is indented.
    return (
        length > 6 and text[4] == c':' and text[5] == c' ' and text[length - 1] == c']'
        and (
            memcmp(text, b"trce", 4) == 0 or memcmp(text, b"dbug", 4) == 0 or memcmp(text, b"info", 4) == 0
            or memcmp(text, b"warn", 4) == 0 or memcmp(text, b"fail", 4) == 0 or memcmp(text, b"crit", 4) == 0
        )
    )


cdef bint node_source(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    # `/app/index.js:3`, before the line of the source that threw.
    cdef Py_ssize_t stop = length
    while stop > 0 and is_digit(text[stop - 1]):
        stop -= 1
    if stop == length or stop < 4 or text[stop - 1] != c':' or memchr(text, c' ', length) != NULL:
        return False
    return memcmp(text + stop - 3, b"js:", 3) == 0 or memcmp(text + stop - 3, b"ts:", 3) == 0


cdef int java_next(int state, const uint8_t* text, Py_ssize_t length, bint indented, bint blank) noexcept nogil:
    if indented:
        return JAVA | FRAMES if frame_at(text, length) else state
    return JAVA | HEAD if cause(text, length) else 0


cdef int python_next(int state, const uint8_t* text, Py_ssize_t length, bint indented, bint blank) noexcept nogil:
    cdef int part = state & 0x0F
    if part == FRAMES:
        if indented:
            return state
        return 0 if blank else PYTHON | DONE
    if part == DONE:
        return PYTHON | BLANK if blank else 0
    if part == BLANK:
        if starts(text, length, b"During handling of the above exception, ", 40):
            return PYTHON | CHAIN
        return PYTHON | CHAIN if starts(text, length, b"The above exception was the direct ", 35) else 0
    if blank:  # CHAIN
        return state
    return PYTHON | FRAMES if starts(text, length, b"Traceback (most recent call last)", 33) else 0


cdef int go_next(int state, const uint8_t* text, Py_ssize_t length, bint indented, bint blank) noexcept nogil:
    cdef int part = state & 0x0F
    if blank:
        return GO | BLANK
    if go_goroutine(text, length):
        return GO | FRAMES
    if indented or starts(text, length, b"created by ", 11) or starts(text, length, b"exit status ", 12):
        return GO | FRAMES if part == FRAMES else state
    if part == FRAMES:
        # A function and its arguments; registers of a fatal signal.
        if text[length - 1] == c')' or starts(text, length, b"...additional frames ", 21):
            return state
    if part == HEAD and (starts(text, length, b"[signal ", 8) or starts(text, length, b"panic: ", 7)):
        return state
    if part == BLANK and starts(text, length, b"runtime stack:", 14):
        return GO | FRAMES
    return 0


cdef int ruby_next(int state, const uint8_t* text, Py_ssize_t length, bint indented, bint blank) noexcept nogil:
    return RUBY | FRAMES if ruby_frame(text, length) or ruby_head(text, length) else 0


cdef int dotnet_next(int state, const uint8_t* text, Py_ssize_t length, bint indented, bint blank) noexcept nogil:
    return DOTNET | FRAMES if indented else 0


cdef int node_next(int state, const uint8_t* text, Py_ssize_t length, bint indented, bint blank) noexcept nogil:
    cdef int part = state & 0x0F
    if indented:
        return state if part == SOURCE else NODE | FRAMES
    if blank:
        return NODE | BLANK if part == SOURCE or part == FRAMES else 0
    if part == BLANK:
        if starts(text, length, b"Node.js v", 9):
            return NODE | DONE
        return NODE | HEAD if error_named(text, length, False) else 0
    if part == FRAMES and text[0] == c'}':
        return state
    return 0


cdef int language_next(int state, const uint8_t* text, Py_ssize_t length) noexcept nogil:
    # The state behind a line that goes on with the trace, or 0.
    cdef Py_ssize_t indent = indent_of(text, length)
    cdef bint blank = indent == length
    cdef bint indented = indent > 0 and not blank
    cdef int language = state & LANGUAGE_BITS
    if language == JAVA:
        return java_next(state, text, length, indented, blank)
    if language == PYTHON:
        return python_next(state, text, length, indented, blank)
    if language == GO:
        return go_next(state, text, length, indented, blank)
    if language == RUBY:
        return ruby_next(state, text, length, indented, blank)
    if language == DOTNET:
        return dotnet_next(state, text, length, indented, blank)
    return node_next(state, text, length, indented, blank)


cdef int trace_begins(int languages, const uint8_t* text, Py_ssize_t length, bint record) noexcept nogil:
    # The state behind a line with which a trace begins, or goes on behind any other line; 0 for other
    # lines.  With TRACE_JOINS it belongs to what is before it: frames do to anything, the name of an
    # error to a record.
    cdef int joins = TRACE_JOINS if record else 0
    if languages & LANGUAGE_JAVA:
        if frame_at(text, length):
            return TRACE_JOINS | JAVA | FRAMES
        if cause(text, length):
            return TRACE_JOINS | JAVA | HEAD
        if java_head(text, length):
            return joins | JAVA | HEAD
    if languages & LANGUAGE_PYTHON and starts(text, length, b"Traceback (most recent call last)", 33):
        return joins | PYTHON | FRAMES
    if languages & LANGUAGE_GO and go_head(text, length):
        return GO | FRAMES if text[0] == c'g' else GO | HEAD
    if languages & LANGUAGE_RUBY:
        if ruby_frame(text, length):
            return TRACE_JOINS | RUBY | FRAMES
        if ruby_head(text, length):
            return RUBY | HEAD
    if languages & LANGUAGE_DOTNET:
        if frame_at(text, length):
            return TRACE_JOINS | DOTNET | FRAMES
        if dotnet_record(text, length) or starts(text, length, b"Unhandled exception. ", 21):
            return DOTNET | HEAD
        if error_named(text, length, True):
            return joins | DOTNET | HEAD
    if languages & LANGUAGE_NODE:
        if frame_at(text, length):
            return TRACE_JOINS | NODE | FRAMES
        if node_source(text, length):
            return NODE | SOURCE
        if error_named(text, length, False) or starts(text, length, b"Uncaught ", 9):
            return joins | NODE | HEAD
    return 0


cdef int trace_step(int languages, int state, const uint8_t* text, Py_ssize_t length) noexcept nogil:
    cdef int found
    if state > RECORD:
        found = language_next(state, text, length)
        if found:
            return TRACE_JOINS | found
    # Most lines begin with none of these, and nothing else can begin or go on with a trace.
    found = trace_begins(languages, text, length, state == RECORD)
    if found:
        # Frames without anything before them are a group of their own.
        return found if state >= 0 else found & ~TRACE_JOINS
    return RECORD if is_record(text, length) else PLAIN
