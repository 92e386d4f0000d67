# Which lines belong to the stack trace of the lines before them.
#
# A leaf: no Python, no memory.  `_reference_join.py` has the rules.

from libc.stdint cimport uint8_t

cpdef enum:
    LANGUAGE_JAVA = 1
    LANGUAGE_PYTHON = 2
    LANGUAGE_GO = 4
    LANGUAGE_RUBY = 8
    LANGUAGE_DOTNET = 16
    LANGUAGE_NODE = 32
    LANGUAGE_ANY = 63

cdef enum:
    # Added to a state: the line belongs to the group.
    TRACE_JOINS = 0x100

# The state of the group that text[:length] belongs to, with TRACE_JOINS if it is the open one, whose state
# is `state`; -1 where none is open.
cdef int trace_step(int languages, int state, const uint8_t* text, Py_ssize_t length) noexcept nogil
