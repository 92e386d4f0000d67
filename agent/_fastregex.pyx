"""
Programs of regular expressions.  Python's `re` is the tests' oracle, `_fastregex.pyi` the contract.

An automaton's state is a set of instructions that wait for a byte, before their assertions are looked at, and what
was seen before it (`FLAG_…`): so an assertion is decided when the byte behind it is known.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

cimport cython

from agent._fastfields cimport FIELD_ABSENT, FIELD_NULL, Fields, Mask
from agent._fastparse cimport Columns

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_len, const void* needle, size_t needle_len)

cdef enum:
    # What is before the next byte.
    SEEN_BEGIN = 1
    SEEN_WORD = 2
    SEEN_LINE = 4  # a newline, or the beginning
    SEEN_ALL = 8
    STATE_NEVER = 0
    STATE_MATCHED = 1
    STATE_UNKNOWN = -1
    BYTE_END = 256
    BUCKETS = 4_096
    ARENA_MAX = 4 * 1024 * 1024


cdef inline bint is_inside(int byte) noexcept nogil:
    """
    Whether *byte* continues a character: before it there is no place.
    """
    return 0x80 <= byte <= 0xBF


cdef inline bint is_word(int byte) noexcept nogil:
    return byte < 256 and (
        c'a' <= (byte | 0x20) <= c'z' or c'0' <= byte <= c'9' or byte == c'_'
    ) and byte < 128


cdef inline bint set_has(const uint8_t* sets, int index, int byte) noexcept nogil:
    return byte < 256 and sets[index * 32 + (byte >> 3)] >> (byte & 7) & 1


@cython.final
cdef class Regex:
    """
    A compiled pattern.
    """

    def __cinit__(self, tuple program, tuple sets, tuple names, bytes literal):
        cdef Py_ssize_t index
        self.names = names
        self.literal = literal
        self.length = len(program)
        self.slots = 2 * (len(names) + 1)
        if self.length == 0 or self.length > 10_000 or self.slots > REGEX_SLOTS_MAX:
            raise ValueError("a program of at most 10000 instructions and 32 groups")
        self.program = <Instruction*>PyMem_RawCalloc(self.length, sizeof(Instruction))
        self.sets = <uint8_t*>PyMem_RawCalloc(len(sets) + 1, 32)
        self.memory_take()
        for index, (op, x, y) in enumerate(program):
            if not (0 <= x < 1 << 15 and 0 <= y < 1 << 15):
                raise ValueError(f"instruction {index}: {op} {x} {y}")
            self.program[index] = Instruction(op, x, y)
            self.uses_words |= op == OP_ASSERT and x >= PLACE_WORD
            self.uses_lines |= op == OP_ASSERT and PLACE_LINE_BEGIN <= x < PLACE_WORD
            self.uses_begin |= op == OP_ASSERT and x == PLACE_BEGIN
        for index, bits in enumerate(sets):
            memcpy(self.sets + index * 32, PyBytes_AS_STRING(bits), 32)
        self.classes_make(len(sets))
        self.states_forget()
        self.first_make()

    cdef int memory_take(self) except -1:
        cdef Py_ssize_t size = self.length
        self.now.pcs = <uint16_t*>PyMem_RawCalloc(size, 2)
        self.after.pcs = <uint16_t*>PyMem_RawCalloc(size, 2)
        self.now.marks = <uint32_t*>PyMem_RawCalloc(size, 4)
        self.after.marks = <uint32_t*>PyMem_RawCalloc(size, 4)
        self.stack = <uint16_t*>PyMem_RawCalloc(size * 2 + 2, 8)
        self.buckets = <int32_t*>PyMem_RawMalloc(BUCKETS * 4)
        self.state_pcs = <int32_t*>PyMem_RawCalloc(REGEX_STATES_MAX, 4)
        self.state_lens = <int32_t*>PyMem_RawCalloc(REGEX_STATES_MAX, 4)
        self.state_flags = <uint8_t*>PyMem_RawCalloc(REGEX_STATES_MAX, 1)
        if (
            self.program == NULL or self.sets == NULL or self.now.pcs == NULL or self.after.pcs == NULL
            or self.now.marks == NULL or self.after.marks == NULL or self.stack == NULL
            or self.buckets == NULL or self.state_pcs == NULL or self.state_lens == NULL
            or self.state_flags == NULL
        ):
            raise MemoryError
        return 0

    def __dealloc__(self):
        PyMem_RawFree(self.program)
        PyMem_RawFree(self.sets)
        PyMem_RawFree(self.now.pcs)
        PyMem_RawFree(self.after.pcs)
        PyMem_RawFree(self.now.marks)
        PyMem_RawFree(self.after.marks)
        PyMem_RawFree(self.stack)
        PyMem_RawFree(self.buckets)
        PyMem_RawFree(self.state_pcs)
        PyMem_RawFree(self.state_lens)
        PyMem_RawFree(self.state_flags)
        PyMem_RawFree(self.table)
        PyMem_RawFree(self.arena)
        PyMem_RawFree(self.captures)
        PyMem_RawFree(self.captures_after)

    cdef int classes_make(self, Py_ssize_t set_count) except -1:
        # Bytes that no instruction tells apart share a column of the table.
        cdef dict known = {}
        cdef int byte
        for byte in range(256):
            signature = [bool(set_has(self.sets, index, byte)) for index in range(set_count)]
            signature += [is_word(byte) and self.uses_words, byte == c'\n' and self.uses_lines]
            signature += [is_inside(byte) and self.uses_words]
            self.classes[byte] = known.setdefault(tuple(signature), len(known))
            self.samples[self.classes[byte]] = <uint8_t>byte
        self.class_count = len(known)
        self.table = <int32_t*>PyMem_RawMalloc(REGEX_STATES_MAX * (self.class_count + 1) * 4)
        if self.table == NULL:
            raise MemoryError
        return 0

    cdef int first_make(self) except -1:
        # With which bytes a match can begin, whatever is before it.
        cdef int byte, flags
        for byte in range(257):
            for flags in range(SEEN_ALL):
                threads_clear(&self.after)
                threads_clear(&self.now)
                if self.follow(0, flags, byte, &self.after):
                    self.can_be_empty = True
                if self.after.count and byte < 256:
                    self.first[byte] = True
        return 0

    @property
    def states(self):
        return self.state_count

    def search(self, bytes text):
        return self.matches(
            <const uint8_t*>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), 0
        )

    def find(self, bytes text, Py_ssize_t start = 0):
        cdef int32_t slots[REGEX_SLOTS_MAX]
        cdef int index
        if not 0 <= start <= len(text):
            raise ValueError(f"start {start}: the text has {len(text)} bytes")
        if not self.where(
            <const uint8_t*>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), start, slots
        ):
            return None
        return tuple([slots[index] for index in range(self.slots)])

    # -- whether ----------------------------------------------------------------------------------

    cdef bint matches(
        self, const uint8_t* text, Py_ssize_t length, Py_ssize_t start,
    ) except -1 nogil:
        cdef const uint8_t* cursor = text + start
        cdef const uint8_t* end = text + length
        cdef Py_ssize_t width = self.class_count + 1
        cdef int32_t state, following
        if not self.can_be_empty:
            while cursor < end and not self.first[cursor[0]]:
                cursor += 1
            if cursor == end:
                return False
        state = self.state_start(self.seen(text, cursor - text))
        while cursor < end:
            following = self.table[state * width + self.classes[cursor[0]]]
            if following <= STATE_MATCHED:
                if following == STATE_UNKNOWN:
                    following = self.state_step(state, self.classes[cursor[0]])
                if following == STATE_MATCHED:
                    return True
                if following == STATE_NEVER:
                    return False
            state = following
            cursor += 1
        following = self.table[state * width + self.class_count]
        if following == STATE_UNKNOWN:
            following = self.state_step(state, self.class_count)
        return following == STATE_MATCHED

    cdef inline int seen(self, const uint8_t* text, Py_ssize_t position) noexcept nogil:
        if position == 0:
            return SEEN_BEGIN | SEEN_LINE
        return (SEEN_WORD if is_word(text[position - 1]) else 0) | (
            SEEN_LINE if text[position - 1] == c'\n' else 0
        )

    cdef inline int relevant(self, int flags) noexcept nogil:
        # Of what was seen, what this program asks for.
        return flags & (
            (SEEN_BEGIN if self.uses_begin else 0) | (SEEN_WORD if self.uses_words else 0)
            | (SEEN_LINE if self.uses_lines else 0)
        )

    cdef void states_forget(self) noexcept nogil:
        memset(self.buckets, 0xFF, BUCKETS * 4)
        memset(self.starts, 0xFF, sizeof(self.starts))
        self.state_count = 2
        self.arena_len = 0

    cdef int32_t state_start(self, int flags) except -2 nogil:
        flags = self.relevant(flags)
        if self.starts[flags] < 0:
            threads_clear(&self.after)
            thread_mark(&self.after, 0)
            self.starts[flags] = self.state_find(&self.after, flags)
        return self.starts[flags]

    cdef int32_t state_find(self, Threads* threads, int flags) except -2 nogil:
        # The state of these instructions; made if it is not known.
        cdef uint32_t hashed = 40_389 + <uint32_t>flags
        cdef Py_ssize_t width = self.class_count + 1
        cdef Py_ssize_t size = threads.count
        cdef int32_t state
        cdef int index
        cdef uint16_t* larger
        for index in range(threads.count):
            hashed = (hashed ^ threads.pcs[index]) * 16_777_619
        hashed &= BUCKETS - 1
        while True:
            state = self.buckets[hashed]
            if state < 0:
                break
            if (
                self.state_lens[state] == size and self.state_flags[state] == flags
                and memcmp(self.arena + self.state_pcs[state], threads.pcs, size * 2) == 0
            ):
                return state
            hashed = (hashed + 1) & (BUCKETS - 1)
        if self.state_count == REGEX_STATES_MAX or self.arena_len + size > ARENA_MAX // 2:
            # What was learnt is forgotten; the caller goes on from the state that is made now.
            self.states_forget()
            return self.state_find(threads, flags)
        if self.arena_len + size > self.arena_capacity:
            larger = <uint16_t*>PyMem_RawRealloc(self.arena, (self.arena_len + size) * 2 * 2)
            if larger == NULL:
                with gil:
                    raise MemoryError
            self.arena = larger
            self.arena_capacity = (self.arena_len + size) * 2
        state = self.state_count
        self.state_count += 1
        self.buckets[hashed] = state
        self.state_pcs[state] = <int32_t>self.arena_len
        self.state_lens[state] = <int32_t>size
        self.state_flags[state] = <uint8_t>flags
        memcpy(self.arena + self.arena_len, threads.pcs, size * 2)
        self.arena_len += size
        memset(self.table + state * width, 0xFF, width * 4)
        return state

    cdef int32_t state_step(self, int32_t state, int byte_class) except -2 nogil:
        # What follows `state` at a byte of the class, or at the end.
        cdef int byte = <int>BYTE_END if byte_class == self.class_count else <int>self.samples[byte_class]
        cdef int flags = self.state_flags[state]
        cdef Py_ssize_t place = state * (self.class_count + 1) + byte_class
        cdef int known = self.state_count
        cdef int32_t found
        cdef int index
        threads_clear(&self.after)
        threads_clear(&self.now)
        for index in range(self.state_lens[state]):
            if self.follow(self.arena[self.state_pcs[state] + index], flags, byte, &self.after):
                self.table[place] = STATE_MATCHED
                return STATE_MATCHED
        if byte == BYTE_END:
            self.table[place] = STATE_NEVER
            return STATE_NEVER
        # A match may begin behind the byte as well.
        thread_mark(&self.after, 0)
        flags = self.relevant(
            (SEEN_WORD if is_word(byte) else 0) | (SEEN_LINE if byte == c'\n' else 0)
        )
        found = self.state_find(&self.after, flags)
        if self.state_count >= known:
            self.table[place] = found  # Otherwise all was forgotten, and `state` with it.
        return found

    cdef inline bint place_holds(self, int place, int flags, int byte) noexcept nogil:
        if place == PLACE_BEGIN:
            return flags & SEEN_BEGIN
        if place == PLACE_END:
            return byte == BYTE_END
        if place == PLACE_LINE_BEGIN:
            return flags & SEEN_LINE
        if place == PLACE_LINE_END:
            return byte == BYTE_END or byte == c'\n'
        if place == PLACE_NO_WORD and is_inside(byte):
            return False
        return (((flags & SEEN_WORD) != 0) != is_word(byte)) == (place == PLACE_WORD)

    cdef bint follow(self, int pc, int flags, int byte, Threads* after) noexcept nogil:
        # Where the instruction, and those that follow without a byte, come to at `byte`; True at a match.
        # `now` remembers what was looked at since it was cleared.
        cdef uint16_t* stack = self.stack
        cdef int height = 1
        cdef const Instruction* instruction
        stack[0] = <uint16_t>pc
        while height:
            height -= 1
            pc = stack[height]
            if self.now.marks[pc] == self.now.generation:
                continue
            self.now.marks[pc] = self.now.generation
            instruction = &self.program[pc]
            if instruction.op == OP_BYTE:
                if set_has(self.sets, instruction.x, byte):
                    thread_mark(after, pc + 1)
            elif instruction.op == OP_SPLIT:
                stack[height] = <uint16_t>instruction.y
                stack[height + 1] = <uint16_t>instruction.x
                height += 2
            elif instruction.op == OP_JUMP:
                stack[height] = <uint16_t>instruction.x
                height += 1
            elif instruction.op == OP_MATCH:
                return True
            elif instruction.op == OP_SAVE or self.place_holds(instruction.x, flags, byte):
                stack[height] = <uint16_t>(pc + 1)
                height += 1
        return False

    # -- where ------------------------------------------------------------------------------------

    cdef int captures_take(self) except -1 nogil:
        if self.captures == NULL:
            self.captures = <int32_t*>PyMem_RawCalloc(self.length * self.slots, 4)
        if self.captures_after == NULL:
            self.captures_after = <int32_t*>PyMem_RawCalloc(self.length * self.slots, 4)
        if self.captures == NULL or self.captures_after == NULL:
            with gil:
                raise MemoryError
        return 0

    cdef bint where(
        self, const uint8_t* text, Py_ssize_t length, Py_ssize_t start, int32_t* slots,
    ) except -1 nogil:
        cdef Py_ssize_t position = start
        cdef Threads swapped
        cdef int32_t* captures
        cdef int32_t fresh[REGEX_SLOTS_MAX]
        cdef bint found = False
        cdef int byte, index, pc, flags
        self.captures_take()
        threads_clear(&self.now)
        while True:
            if self.now.count == 0:
                if found:
                    break
                if not self.can_be_empty:
                    while position < length and not self.first[text[position]]:
                        position += 1
                    if position == length:
                        break
            byte = <int>text[position] if position < length else <int>BYTE_END
            flags = self.seen(text, position)
            if not found:
                memset(fresh, 0xFF, self.slots * 4)
                self.thread_add(&self.now, self.captures, 0, <int32_t>position, flags, byte, fresh)
            threads_clear(&self.after)
            for index in range(self.now.count):
                pc = self.now.pcs[index]
                captures = self.captures + pc * self.slots
                if self.program[pc].op == OP_MATCH:
                    memcpy(slots, captures, self.slots * 4)
                    found = True
                    break  # Threads behind it have a lower rank.
                if self.program[pc].op == OP_BYTE and set_has(self.sets, self.program[pc].x, byte):
                    flags = self.seen(text, position + 1)
                    self.thread_add(
                        &self.after, self.captures_after, pc + 1, <int32_t>(position + 1), flags,
                        <int>text[position + 1] if position + 1 < length else <int>BYTE_END, captures,
                    )
            swapped = self.now
            self.now = self.after
            self.after = swapped
            captures = self.captures
            self.captures = self.captures_after
            self.captures_after = captures
            if position == length:
                break
            position += 1
        return found

    cdef void thread_add(
        self, Threads* threads, int32_t* captures, int pc, int32_t position, int flags, int byte,
        int32_t* slots,
    ) noexcept nogil:
        # The instruction, and those that follow without a byte, in the order of their rank.  The stack holds
        # what is still to be followed (kind 0), and slots that get back what they held (kind 1).
        cdef uint16_t* stack = self.stack
        cdef int height = 4
        cdef int kind, slot
        cdef const Instruction* instruction
        stack[0] = <uint16_t>pc
        stack[1] = 0
        while height:
            height -= 4
            pc = stack[height]
            kind = stack[height + 1]
            if kind:
                slots[pc] = <int32_t>(stack[height + 2] | <uint32_t>stack[height + 3] << 16)
                continue
            if threads.marks[pc] == threads.generation:
                continue
            thread_mark(threads, pc)
            instruction = &self.program[pc]
            if instruction.op == OP_SPLIT:
                stack[height] = <uint16_t>instruction.y
                stack[height + 1] = 0
                stack[height + 4] = <uint16_t>instruction.x
                stack[height + 5] = 0
                height += 8
            elif instruction.op == OP_JUMP:
                stack[height] = <uint16_t>instruction.x
                stack[height + 1] = 0
                height += 4
            elif instruction.op == OP_SAVE:
                slot = instruction.x
                stack[height] = <uint16_t>slot
                stack[height + 1] = 1
                stack[height + 2] = <uint16_t>(<uint32_t>slots[slot] & 0xFFFF)
                stack[height + 3] = <uint16_t>(<uint32_t>slots[slot] >> 16)
                slots[slot] = position
                stack[height + 4] = <uint16_t>(pc + 1)
                stack[height + 5] = 0
                height += 8
            elif instruction.op == OP_ASSERT:
                if self.place_holds(instruction.x, flags, byte):
                    stack[height] = <uint16_t>(pc + 1)
                    stack[height + 1] = 0
                    height += 4
            else:
                memcpy(captures + pc * self.slots, slots, self.slots * 4)


cdef inline void threads_clear(Threads* threads) noexcept nogil:
    threads.count = 0
    threads.generation += 1


cdef inline void thread_mark(Threads* threads, int pc) noexcept nogil:
    if threads.marks[pc] != threads.generation:
        threads.marks[pc] = threads.generation
        threads.pcs[threads.count] = <uint16_t>pc
        threads.count += 1


def narrow_matches(Columns columns, Mask mask, Py_ssize_t field, Regex regex):
    cdef Fields fields = columns.fields
    cdef const uint8_t* needle = <const uint8_t*>PyBytes_AS_STRING(regex.literal)
    cdef Py_ssize_t needle_len = PyBytes_GET_SIZE(regex.literal)
    cdef const uint8_t* text
    cdef Py_ssize_t row, length, place
    if mask.rows != columns.table.count:
        raise ValueError(f"a mask of {mask.rows} rows for {columns.table.count}")
    if field >= 0 and (fields is None or field >= fields.wanted.count):
        raise ValueError(f"field {field} was not extracted")
    for row in range(mask.rows):
        if not mask.bits[row]:
            continue
        text = columns.bytes + columns.table.message_start[row]
        length = columns.table.message_len[row]
        if field >= 0:
            place = field * fields.stride + row
            if fields.kind[place] == FIELD_ABSENT or fields.kind[place] == FIELD_NULL:
                mask.bits[row] = 0
                continue
            text = columns.bytes + fields.start[place]
            length = fields.length[place]
        mask.bits[row] = (
            needle_len == 0 or memmem(text, length, needle, needle_len) != NULL
        ) and regex.matches(text, length, 0)
