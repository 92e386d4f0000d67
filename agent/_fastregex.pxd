# Programs of regular expressions: whether a text matches, and where.
#
# Whether: a deterministic automaton whose states are made as texts ask for them, at most
# REGEX_STATES_MAX of them, then anew.  Where: the threads of a nondeterministic one in their order, with
# what each has captured.  Neither ever goes back in the text.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t

cpdef enum:
    OP_BYTE = 0
    OP_SPLIT = 1
    OP_JUMP = 2
    OP_SAVE = 3
    OP_ASSERT = 4
    OP_MATCH = 5

cpdef enum:
    PLACE_BEGIN = 0
    PLACE_END = 1
    PLACE_LINE_BEGIN = 2
    PLACE_LINE_END = 3
    PLACE_WORD = 4
    PLACE_NO_WORD = 5

cdef enum:
    # 1,000 states of a pattern with 30 classes of bytes are 120 KB.
    REGEX_STATES_MAX = 1_000
    REGEX_SLOTS_MAX = 66  # of 32 groups and the whole match

cdef struct Instruction:
    int32_t op
    int32_t x
    int32_t y

# A set of instructions in the order in which they were added.
cdef struct Threads:
    uint16_t* pcs
    uint32_t* marks  # per instruction: the generation in which it was added
    uint32_t generation
    int count

cdef class Regex:
    cdef readonly tuple names
    cdef readonly bytes literal
    cdef Instruction* program
    cdef int length
    cdef uint8_t* sets  # 32 bytes each
    cdef int slots
    cdef bint uses_words, uses_lines, uses_begin
    cdef uint8_t classes[256]
    cdef uint8_t samples[257]  # per class: a byte of it
    cdef uint8_t first[256]  # whether a match can begin with the byte
    cdef bint can_be_empty
    cdef int class_count  # the end of the text is one more class behind them
    # The automaton.  State 0 never matches, 1 has matched.
    cdef int32_t* table
    cdef int state_count
    cdef int32_t starts[8]
    cdef int32_t* state_pcs  # per state: where its instructions begin in the arena
    cdef int32_t* state_lens
    cdef uint8_t* state_flags
    cdef uint16_t* arena
    cdef Py_ssize_t arena_len, arena_capacity
    cdef int32_t* buckets
    cdef Threads now, after
    cdef uint16_t* stack
    # The captures of the threads.
    cdef int32_t* captures
    cdef int32_t* captures_after

    cdef bint matches(self, const uint8_t* text, Py_ssize_t length, Py_ssize_t start) except -1 nogil
    # Fill `slots` with the leftmost match from `start` on; False where there is none.
    cdef bint where(
        self, const uint8_t* text, Py_ssize_t length, Py_ssize_t start, int32_t* slots,
    ) except -1 nogil
    cdef void states_forget(self) noexcept nogil
    cdef int32_t state_find(self, Threads* threads, int flags) except -2 nogil
    cdef int32_t state_start(self, int flags) except -2 nogil
    cdef int32_t state_step(self, int32_t state, int byte_class) except -2 nogil
    cdef bint follow(self, int pc, int flags, int byte, Threads* after) noexcept nogil
    cdef void thread_add(
        self, Threads* threads, int32_t* captures, int pc, int32_t position, int flags, int byte,
        int32_t* slots,
    ) noexcept nogil
    cdef bint place_holds(self, int place, int flags, int byte) noexcept nogil
    cdef int seen(self, const uint8_t* text, Py_ssize_t position) noexcept nogil
    cdef int relevant(self, int flags) noexcept nogil
    cdef int memory_take(self) except -1
    cdef int classes_make(self, Py_ssize_t set_count) except -1
    cdef int first_make(self) except -1
    cdef int captures_take(self) except -1 nogil
