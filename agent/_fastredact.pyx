"""
Secrets and personal data, replaced.  `_reference_redact.py` is the specification.

One pass looks for bytes with which a secret can begin, or which it has inside (`@`, `:`); what is not one costs a
lookup a byte.  Rows without a hit are not touched; others are written anew behind the data.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcmp, memcpy, memset

cimport cython

from agent._fastfields cimport FIELD_TEXT, FIELD_TRUE, Fields
from agent._fastparse cimport FLAG_STREAM_MASK, Columns, Rows
from agent._fastregex cimport REGEX_SLOTS_MAX, Regex

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t haystack_len, const void* needle, size_t needle_len)

cdef enum:
    EMAIL = 0
    IPV4 = 1
    IPV6 = 2
    CARD = 3
    AWS_KEY = 4
    AWS_SECRET = 5
    JWT = 6
    BEARER = 7
    PRIVATE_KEY = 8
    KINDS = 9
    PATTERNS_MAX = 32
    # Classes of bytes.
    IS_WORD = 1
    IS_DIGIT = 2
    IS_HEX = 4
    IS_LOCAL = 8  # of an address before the @
    IS_DOMAIN = 16
    IS_TOKEN = 32  # of base64, both alphabets, and of bearer tokens
    IS_TRIGGER = 64
    KEY_LINE_MAX = 128

REDACT_KINDS = {
    "email": 1 << EMAIL,
    "ipv4": 1 << IPV4,
    "ipv6": 1 << IPV6,
    "credit_card": 1 << CARD,
    "aws_access_key": 1 << AWS_KEY,
    "aws_secret_key": 1 << AWS_SECRET,
    "jwt": 1 << JWT,
    "bearer": 1 << BEARER,
    "private_key": 1 << PRIVATE_KEY,
}

cdef uint8_t classes[256]


cdef void classes_fill() noexcept nogil:
    cdef int byte
    for byte in range(128):
        if c'0' <= byte <= c'9':
            classes[byte] = IS_WORD | IS_DIGIT | IS_HEX | IS_LOCAL | IS_DOMAIN | IS_TOKEN | IS_TRIGGER
        elif c'a' <= (byte | 0x20) <= c'z':
            classes[byte] = IS_WORD | IS_LOCAL | IS_DOMAIN | IS_TOKEN
            if (byte | 0x20) <= c'f':
                classes[byte] |= IS_HEX
    classes[c'_'] = IS_WORD | IS_LOCAL | IS_TOKEN
    classes[c'.'] = IS_LOCAL | IS_DOMAIN | IS_TOKEN
    classes[c'-'] = IS_LOCAL | IS_DOMAIN | IS_TOKEN | IS_TRIGGER
    classes[c'+'] = IS_LOCAL | IS_TOKEN
    classes[c'%'] = IS_LOCAL
    classes[c'/'] = IS_TOKEN
    classes[c'~'] = IS_TOKEN
    classes[c'@'] = classes[c':'] = IS_TRIGGER
    classes[c'A'] |= IS_TRIGGER
    classes[c'e'] |= IS_TRIGGER
    classes[c'B'] |= IS_TRIGGER
    classes[c'b'] |= IS_TRIGGER
    classes[c'S'] |= IS_TRIGGER
    classes[c's'] |= IS_TRIGGER


classes_fill()

cdef struct Hit:
    Py_ssize_t start
    Py_ssize_t stop
    int kind


cdef inline bint is_a(uint8_t byte, int wanted) noexcept nogil:
    return classes[byte] & wanted


cdef inline Py_ssize_t run(const uint8_t* text, Py_ssize_t position, Py_ssize_t length, int wanted) noexcept nogil:
    while position < length and is_a(text[position], wanted):
        position += 1
    return position


cdef bint words_at(
    const uint8_t* text, Py_ssize_t position, Py_ssize_t length, const char* word, Py_ssize_t size,
) noexcept nogil:
    # Lower-case letters, in any case.
    cdef Py_ssize_t index
    if length - position < size:
        return False
    for index in range(size):
        if (text[position + index] | 0x20) != <uint8_t>word[index]:
            return False
    return True


cdef bint email_at(const uint8_t* text, Py_ssize_t at, Py_ssize_t length, Py_ssize_t last, Hit* hit) noexcept nogil:
    cdef Py_ssize_t start = at
    cdef Py_ssize_t stop = run(text, at + 1, length, IS_DOMAIN)
    cdef Py_ssize_t dot
    while start > last and is_a(text[start - 1], IS_LOCAL):
        start -= 1
    while stop > at + 1 and (text[stop - 1] == c'.' or text[stop - 1] == c'-'):
        stop -= 1
    dot = stop
    while dot > at + 1 and classes[text[dot - 1]] & IS_WORD and not is_a(text[dot - 1], IS_DIGIT):
        dot -= 1
    if start == at or stop - dot < 2 or dot - at < 3 or text[dot - 1] != c'.':
        return False
    hit.start, hit.stop, hit.kind = start, stop, EMAIL
    return True


cdef bint ipv4_at(const uint8_t* text, Py_ssize_t start, Py_ssize_t length, Hit* hit) noexcept nogil:
    cdef Py_ssize_t position = start
    cdef Py_ssize_t begin
    cdef int part, value
    for part in range(4):
        if part:
            if position >= length or text[position] != c'.':
                return False
            position += 1
        begin = position
        value = 0
        while position < length and position - begin < 4 and is_a(text[position], IS_DIGIT):
            value = value * 10 + text[position] - c'0'
            position += 1
        if position == begin or value > 255 or position - begin > 3:
            return False
    if position < length and is_a(text[position], IS_WORD):
        return False
    if position + 1 < length and text[position] == c'.' and is_a(text[position + 1], IS_DIGIT):
        return False
    hit.start, hit.stop, hit.kind = start, position, IPV4
    return True


cdef bint card_at(const uint8_t* text, Py_ssize_t start, Py_ssize_t length, Hit* hit) noexcept nogil:
    # 13 to 19 digits, single spaces or dashes between them, with Luhn's check digit.
    cdef uint8_t digits[20]
    cdef Py_ssize_t position = start
    cdef int count = 0
    cdef int total = 0
    cdef int index, digit
    if not c'2' <= text[start] <= c'6':
        return False
    while position < length:
        if is_a(text[position], IS_DIGIT):
            if count == 19:
                return False
            digits[count] = text[position] - c'0'
            count += 1
        elif not (
            (text[position] == c' ' or text[position] == c'-') and position + 1 < length
            and is_a(text[position + 1], IS_DIGIT)
        ):
            break
        position += 1
    if count < 13 or (position < length and is_a(text[position], IS_WORD)):
        return False
    for index in range(count):
        digit = digits[count - 1 - index]
        if index & 1:
            digit *= 2
            if digit > 9:
                digit -= 9
        total += digit
    if total % 10:
        return False
    hit.start, hit.stop, hit.kind = start, position, CARD
    return True


cdef bint ipv6_at(const uint8_t* text, Py_ssize_t colon, Py_ssize_t length, Py_ssize_t last, Hit* hit) noexcept nogil:
    # From its first colon: eight groups of up to four hexadecimal digits, or fewer and one `::`.
    cdef Py_ssize_t start = colon
    cdef Py_ssize_t position
    cdef int groups = 0
    cdef int size = 0
    cdef bint gap = False
    cdef bint digit = False
    while start > last and colon - start < 5 and is_a(text[start - 1], IS_HEX):
        start -= 1
    if start > last and (is_a(text[start - 1], IS_WORD) or text[start - 1] == c':'):
        return False
    position = start
    while position < length:
        if is_a(text[position], IS_HEX):
            digit |= is_a(text[position], IS_DIGIT)
            size += 1
            if size > 4:
                return False
        elif text[position] == c':':
            groups += size > 0
            if position + 1 < length and text[position + 1] == c':':
                if gap:
                    return False
                gap = True
                position += 1
            elif size == 0 or position + 1 == length or not is_a(text[position + 1], IS_HEX):
                break  # Not of the address.
            size = 0
        else:
            break
        position += 1
    groups += size > 0 and (position == length or text[position] != c':')
    if position < length and is_a(text[position], IS_WORD):
        return False
    if groups > 8 or (groups < 8 and not (gap and digit)) or (groups == 8 and gap):
        return False
    hit.start, hit.stop, hit.kind = start, position, IPV6
    return True


cdef bint aws_key_at(const uint8_t* text, Py_ssize_t start, Py_ssize_t length, Hit* hit) noexcept nogil:
    cdef Py_ssize_t index
    if length - start < 20 or (memcmp(text + start, b"AKIA", 4) and memcmp(text + start, b"ASIA", 4)):
        return False
    for index in range(start + 4, start + 20):
        if not (c'A' <= text[index] <= c'Z' or is_a(text[index], IS_DIGIT)):
            return False
    if start + 20 < length and is_a(text[start + 20], IS_WORD):
        return False
    hit.start, hit.stop, hit.kind = start, start + 20, AWS_KEY
    return True


cdef inline bint is_between(uint8_t byte) noexcept nogil:
    return byte == c' ' or byte == c'"' or byte == c"'" or byte == c':' or byte == c'=' or byte == c'\\'


cdef bint aws_secret_at(const uint8_t* text, Py_ssize_t start, Py_ssize_t length, Hit* hit) noexcept nogil:
    # secret_access_key and the like, up to eight signs, and 40 characters of base64.
    cdef Py_ssize_t position = start
    cdef Py_ssize_t begin
    if not words_at(text, position, length, b"secret", 6):
        return False
    position += 6
    position += position < length and (text[position] == c'_' or text[position] == c' ')
    if not words_at(text, position, length, b"access", 6):
        return False
    position += 6
    position += position < length and (text[position] == c'_' or text[position] == c' ')
    if not words_at(text, position, length, b"key", 3):
        return False
    position += 3
    begin = position
    while position < length and position - begin < 8 and is_between(text[position]):
        position += 1
    begin = position
    while position < length and (
        (is_a(text[position], IS_WORD) and text[position] != c'_') or text[position] == c'/' or text[position] == c'+'
    ):
        position += 1
    if position - begin != 40:
        return False
    hit.start, hit.stop, hit.kind = begin, position, AWS_SECRET
    return True


cdef inline Py_ssize_t url_run(const uint8_t* text, Py_ssize_t position, Py_ssize_t length) noexcept nogil:
    while position < length and (is_a(text[position], IS_WORD) or text[position] == c'-'):
        position += 1
    return position


cdef bint jwt_at(const uint8_t* text, Py_ssize_t start, Py_ssize_t length, Hit* hit) noexcept nogil:
    cdef Py_ssize_t position
    if length - start < 9 or memcmp(text + start, b"eyJ", 3):
        return False
    position = url_run(text, start, length)
    if length - position < 4 or memcmp(text + position, b".eyJ", 4):
        return False
    position = url_run(text, position + 1, length)
    if position >= length or text[position] != c'.':
        return False
    hit.start, hit.stop, hit.kind = start, url_run(text, position + 1, length), JWT
    return True


cdef bint bearer_at(const uint8_t* text, Py_ssize_t start, Py_ssize_t length, Hit* hit) noexcept nogil:
    cdef Py_ssize_t begin = start + 7
    cdef Py_ssize_t position
    if not words_at(text, start, length, b"bearer", 6) or begin >= length or text[start + 6] != c' ':
        return False
    position = run(text, begin, length, IS_TOKEN)
    if position - begin < 8:
        return False
    while position < length and text[position] == c'=':
        position += 1
    hit.start, hit.stop, hit.kind = begin, position, BEARER
    return True


cdef bint private_key_at(const uint8_t* text, Py_ssize_t start, Py_ssize_t length, Hit* hit) noexcept nogil:
    # From BEGIN … PRIVATE KEY to the end of END, or of the text.
    cdef const uint8_t* stop
    cdef Py_ssize_t position = start + 11
    if length - start < 27 or memcmp(text + start, b"-----BEGIN ", 11):
        return False
    while position < length and (c'A' <= text[position] <= c'Z' or text[position] == c' '):
        position += 1
    if memcmp(text + position - 11, b"PRIVATE KEY", 11) or length - position < 5:
        return False
    if memcmp(text + position, b"-----", 5):
        return False
    hit.start, hit.stop, hit.kind = start, length, PRIVATE_KEY
    stop = <const uint8_t*>memmem(text + position, length - position, b"PRIVATE KEY-----", 16)
    if stop != NULL:
        hit.stop = stop + 16 - text
    return True


cdef bint hit_at(
    int kinds, const uint8_t* text, Py_ssize_t position, Py_ssize_t length, Py_ssize_t last, Hit* hit,
) noexcept nogil:
    # Whether something begins at the byte, or has it inside; it may begin at `last` at the earliest.
    cdef uint8_t byte = text[position]
    cdef bint word = position > last and is_a(text[position - 1], IS_WORD)
    if byte == c'@':
        return kinds >> EMAIL & 1 and email_at(text, position, length, last, hit)
    if byte == c':':
        return kinds >> IPV6 & 1 and ipv6_at(text, position, length, last, hit)
    if byte == c'-':
        return kinds >> PRIVATE_KEY & 1 and private_key_at(text, position, length, hit)
    if byte == c's' or byte == c'S':
        return kinds >> AWS_SECRET & 1 and aws_secret_at(text, position, length, hit)
    if word:
        return False
    if is_a(byte, IS_DIGIT):
        if position > last and text[position - 1] == c'.':
            return False
        if kinds >> IPV4 & 1 and ipv4_at(text, position, length, hit):
            return True
        return kinds >> CARD & 1 and card_at(text, position, length, hit)
    if byte == c'A':
        return kinds >> AWS_KEY & 1 and aws_key_at(text, position, length, hit)
    if byte == c'e':
        return kinds >> JWT & 1 and jwt_at(text, position, length, hit)
    return kinds >> BEARER & 1 and bearer_at(text, position, length, hit)


@cython.final
cdef class Redactor:
    """
    What a route replaces.
    """

    cdef int kinds
    cdef tuple replacements
    cdef tuple patterns
    cdef Hit* hits
    cdef Py_ssize_t hit_count
    cdef Py_ssize_t hit_capacity
    cdef int64_t totals[KINDS + PATTERNS_MAX]

    def __cinit__(self, int kinds, *, tuple replacements, tuple patterns = ()):
        if len(replacements) != KINDS or len(patterns) > PATTERNS_MAX:
            raise ValueError(f"{KINDS} replacements and at most {PATTERNS_MAX} patterns")
        self.kinds = kinds
        self.replacements = replacements
        self.patterns = patterns

    def __dealloc__(self):
        PyMem_RawFree(self.hits)

    @property
    def counts(self):
        cdef int index
        return tuple([self.totals[index] for index in range(KINDS + len(self.patterns))])

    def redact(self, Columns columns, int open_keys):
        cdef Rows* table = &columns.table
        cdef Fields fields = columns.fields
        cdef Py_ssize_t row, place, index, start, length
        cdef Py_ssize_t cells = 0
        memset(self.totals, 0, sizeof(self.totals))
        if fields is not None:
            for index in range(fields.wanted.count):
                for row in range(fields.rows):
                    place = index * fields.stride + row
                    if fields.kind[place] <= FIELD_TRUE:  # nothing, or true and false
                        continue
                    start, length = fields.start[place], fields.length[place]
                    if self.text_redact(columns, &start, &length):
                        fields.start[place] = <int32_t>start
                        fields.length[place] = <int32_t>length
                        fields.kind[place] = FIELD_TEXT
            # What is in a message and in a field was counted twice.
            memset(self.totals, 0, sizeof(self.totals))
        for row in range(table.count):
            start, length = table.message_start[row], table.message_len[row]
            if open_keys:
                open_keys = self.key_line(columns, row, open_keys)
                if table.message_start[row] != start:
                    continue
            if self.text_redact(columns, &start, &length):
                columns.message_bytes += length - table.message_len[row]
                if self.key_is_open(columns, table.message_start[row], table.message_len[row]):
                    open_keys |= 1 << (table.flags[row] & FLAG_STREAM_MASK)
                table.message_start[row] = <int32_t>start
                table.message_len[row] = <int32_t>length
        return open_keys

    cdef bint key_is_open(self, Columns columns, Py_ssize_t start, Py_ssize_t length):
        # Whether the text has the beginning of a private key that does not end in it.
        cdef const uint8_t* text = columns.bytes + start
        cdef const uint8_t* begin
        if not self.kinds >> PRIVATE_KEY & 1 or not self.totals[PRIVATE_KEY]:
            return False
        begin = <const uint8_t*>memmem(text, length, b"PRIVATE KEY-----", 16)
        if begin == NULL:
            return False
        return memmem(begin + 16, text + length - begin - 16, b"PRIVATE KEY-----", 16) == NULL

    cdef int key_line(self, Columns columns, Py_ssize_t row, int open_keys) except -1:
        # A row of a stream within a private key: replaced as a whole while it looks like one of a key.
        cdef Rows* table = &columns.table
        cdef int stream = table.flags[row] & FLAG_STREAM_MASK
        cdef const uint8_t* text = columns.bytes + table.message_start[row]
        cdef Py_ssize_t length = table.message_len[row]
        cdef Py_ssize_t position = 0
        cdef bytes replacement = self.replacements[PRIVATE_KEY]
        cdef Py_ssize_t target
        cdef bint end
        if not open_keys >> stream & 1:
            return open_keys
        end = length >= 16 and memmem(text, length, b"PRIVATE KEY-----", 16) != NULL
        while position < length and (is_a(text[position], IS_TOKEN) or text[position] == c'='):
            position += 1
        if end or position < length or length > KEY_LINE_MAX:
            open_keys &= ~(1 << stream)
        if (position < length and not end) or length > KEY_LINE_MAX:
            return open_keys
        target = columns.bytes_reserve(PyBytes_GET_SIZE(replacement))
        memcpy(columns.bytes + target, PyBytes_AS_STRING(replacement), PyBytes_GET_SIZE(replacement))
        columns.bytes_len = target + PyBytes_GET_SIZE(replacement)
        columns.message_bytes += PyBytes_GET_SIZE(replacement) - length
        table.message_start[row] = <int32_t>target
        table.message_len[row] = <int32_t>PyBytes_GET_SIZE(replacement)
        self.totals[PRIVATE_KEY] += 1
        return open_keys

    cdef bint text_redact(self, Columns columns, Py_ssize_t* start, Py_ssize_t* length) except -1:
        # Replace in a text of the data; True, and where it is now, if there was anything.
        cdef bint changed = False
        cdef Py_ssize_t index
        cdef Regex regex
        if self.kinds:
            self.scan(columns.bytes + start[0], length[0])
            if self.hit_count:
                self.write(columns, start, length, None)
                changed = True
        for index in range(len(self.patterns)):
            regex = self.patterns[index][0]
            if self.pattern_scan(regex, columns.bytes + start[0], length[0], KINDS + <int>index):
                self.write(columns, start, length, self.patterns[index][1])
                changed = True
        return changed

    cdef int hit_add(self, const Hit* hit) except -1 nogil:
        cdef Py_ssize_t capacity
        cdef Hit* larger
        if self.hit_count == self.hit_capacity:
            capacity = self.hit_capacity * 2 + 16
            larger = <Hit*>PyMem_RawRealloc(self.hits, capacity * sizeof(Hit))
            if larger == NULL:
                with gil:
                    raise MemoryError
            self.hits = larger
            self.hit_capacity = capacity
        self.hits[self.hit_count] = hit[0]
        self.hit_count += 1
        self.totals[hit.kind] += 1
        return 0

    cdef int scan(self, const uint8_t* text, Py_ssize_t length) except -1 nogil:
        cdef Py_ssize_t position = 0
        cdef Py_ssize_t last = 0
        cdef Hit hit
        self.hit_count = 0
        while position < length:
            if not classes[text[position]] & IS_TRIGGER:
                position += 1
                continue
            if hit_at(self.kinds, text, position, length, last, &hit):
                self.hit_add(&hit)
                position = last = hit.stop
            elif is_a(text[position], IS_DIGIT):
                # Within a number nothing else begins.
                position = run(text, position, length, IS_DIGIT)
            else:
                position += 1
        return 0

    cdef bint pattern_scan(
        self, Regex regex, const uint8_t* text, Py_ssize_t length, int kind,
    ) except -1:
        cdef Py_ssize_t needle_len = PyBytes_GET_SIZE(regex.literal)
        cdef Py_ssize_t position = 0
        cdef int32_t slots[REGEX_SLOTS_MAX]
        cdef Hit hit
        self.hit_count = 0
        if needle_len and memmem(text, length, PyBytes_AS_STRING(regex.literal), needle_len) == NULL:
            return False
        while position <= length and regex.matches(text, length, position):
            if not regex.where(text, length, position, slots):
                break
            hit.start, hit.stop, hit.kind = slots[0], slots[1], kind
            if hit.stop > hit.start:
                self.hit_add(&hit)
            position = hit.stop + (hit.stop == hit.start)
        return self.hit_count > 0

    cdef int write(
        self, Columns columns, Py_ssize_t* start, Py_ssize_t* length, bytes replacement,
    ) except -1:
        # The text with what was hit replaced, behind the data.
        cdef Py_ssize_t needed = length[0]
        cdef Py_ssize_t index, target, begin, size
        cdef Py_ssize_t position = 0
        cdef bytes other
        for index in range(self.hit_count):
            needed += PyBytes_GET_SIZE(
                self.replacements[self.hits[index].kind] if replacement is None else replacement
            )
        begin = target = columns.bytes_reserve(needed)
        for index in range(self.hit_count):
            other = self.replacements[self.hits[index].kind] if replacement is None else replacement
            size = self.hits[index].start - position
            memcpy(columns.bytes + target, columns.bytes + start[0] + position, size)
            target += size
            memcpy(columns.bytes + target, PyBytes_AS_STRING(other), PyBytes_GET_SIZE(other))
            target += PyBytes_GET_SIZE(other)
            position = self.hits[index].stop
        size = length[0] - position
        memcpy(columns.bytes + target, columns.bytes + start[0] + position, size)
        columns.bytes_len = target + size
        start[0] = begin
        length[0] = columns.bytes_len - begin
        return 0
