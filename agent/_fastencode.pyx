"""
Columns to wire bytes.  `_reference.py` is the specification, `_fastencode.pyi`
the contract.

`Body.rows_write` is the loop.  An event is written speculatively behind what is there, and taken back
where it would pass a limit: what a message comes to is known only once it is escaped.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint16_t
from libc.string cimport memcpy

from typing import NamedTuple

cimport cython

from agent._fastjson cimport (
    ESCAPE_ONCE, ESCAPE_TWICE, ESCAPED_BYTES_MAX, SIMD_PADDING, escape_measure, escape_write,
)
from agent._fastline cimport integer_write, time_write
from agent._fastparse cimport FLAG_TRUNCATED, Columns, Rows
from agent._fastrecord cimport (
    MARK, NOTHING, RECORD_END, RECORD_PROCESSED, RECORD_TIME, TEXT_BEGIN, TEXT_END, Literal,
    literal_write, metric_is, object_start, otel_attributes, otel_body, otel_time, record_stream,
)
from agent._fastsort cimport Ref, refs_sort

cpdef enum:
    MESSAGE_BARE = 0
    MESSAGE_CONTAINER_INSIGHTS = 1
    MESSAGE_OTEL = 2

cdef enum:
    NS_PER_MS = 1_000_000
    # CloudWatch counts 26 bytes an event on top of its message (facts: batch bytes).
    EVENT_OVERHEAD_BYTES = 26
    # A record without its log and its resource is about 100 bytes; the mark and a word must fit too.
    EVENT_BYTES_MIN = 256
    # Above this, the room for a message is measured first instead of assuming the worst.
    MEASURE_BYTES = 16_384
    # `{"timestamp":…,"message":"` and `"}`, and the fixed text of a record.
    FRAME_BYTES = 384
    BODY_END_BYTES = 2


class Encoded(NamedTuple):
    """
    What one `encode` call wrote.
    """

    stop: int
    stop_byte: int
    events: int
    event_bytes: int
    time_first_ms: int
    time_last_ms: int
    split: int
    truncated: int
    part_rows: list
    event_parts: bytes
    event_offsets: bytes


# One part of a call: the columns' pointers, and its resource.
cdef struct Part:
    const uint8_t* bytes
    Rows* table
    const uint8_t* resource
    Py_ssize_t resource_len
    Py_ssize_t resource_of  # The part that owns the escaped form: equal resources share it.
    uint8_t* escaped
    Py_ssize_t escaped_len
    int64_t rows_written


cdef struct Limits:
    int64_t events
    int64_t event_bytes
    int64_t batch_bytes
    int64_t span_ms
    int64_t valid_from_ms
    int64_t valid_until_ms


# What a call has written so far.
cdef struct Sum:
    int64_t events
    int64_t event_bytes
    int64_t time_first_ms
    int64_t time_last_ms
    int64_t split
    int64_t truncated
    Py_ssize_t stop
    Py_ssize_t stop_byte


@cython.final
cdef class Order:
    """
    Rows of several Columns in sending order: by time in milliseconds, stable.
    """

    cdef Py_ssize_t count
    cdef Ref* refs  # NULL: as they come

    def __dealloc__(self):
        PyMem_RawFree(self.refs)

    def __len__(self):
        return self.count

    @property
    def in_sequence(self):
        return self.refs == NULL


cdef bint parts_sorted(const Part* parts, Py_ssize_t parts_len) noexcept nogil:
    cdef int64_t last = INT64_MIN
    cdef int64_t time_ms
    cdef Py_ssize_t part, row
    for part in range(parts_len):
        for row in range(parts[part].table.count):
            time_ms = parts[part].table.time_ns[row] // NS_PER_MS
            if time_ms < last:
                return False
            last = time_ms
    return True


cdef void refs_fill(Ref* refs, const Part* parts, Py_ssize_t parts_len) noexcept nogil:
    cdef Py_ssize_t part, row
    for part in range(parts_len):
        for row in range(parts[part].table.count):
            refs.time_ms = parts[part].table.time_ns[row] // NS_PER_MS
            refs.part = <int32_t>part
            refs.row = <int32_t>row
            refs += 1


cdef Part* parts_new(list columns_of, list resources) except NULL:
    # The lists keep the memory alive that the parts point to.
    cdef Py_ssize_t count = len(columns_of)
    cdef Part* parts = <Part*>PyMem_RawCalloc(count + 1, sizeof(Part))
    cdef Py_ssize_t index
    cdef Columns columns
    cdef bytes resource
    if parts == NULL:
        raise MemoryError
    try:
        for index in range(count):
            columns = columns_of[index]
            parts[index].bytes = columns.bytes
            parts[index].table = &columns.table
            parts[index].resource_of = index
            if resources is None:
                continue
            resource = resources[index]
            parts[index].resource = <const uint8_t*>PyBytes_AS_STRING(resource)
            parts[index].resource_len = len(resource)
            if index and resource is resources[index - 1]:
                parts[index].resource_of = parts[index - 1].resource_of
    except BaseException:
        PyMem_RawFree(parts)
        raise
    return parts


cdef void parts_free(Part* parts, Py_ssize_t count) noexcept:
    cdef Py_ssize_t index
    for index in range(count):
        PyMem_RawFree(parts[index].escaped)
    PyMem_RawFree(parts)


def order_rows(parts) -> Order:
    cdef list columns_of = list(parts)
    cdef Py_ssize_t parts_len = len(columns_of)
    cdef Part* views = parts_new(columns_of, None)
    cdef Order order = Order.__new__(Order)
    cdef Ref* refs = NULL
    cdef Ref* spare = NULL
    cdef Py_ssize_t* starts = NULL
    cdef Py_ssize_t part
    try:
        for part in range(parts_len):
            order.count += views[part].table.count
        if parts_sorted(views, parts_len):
            return order
        refs = <Ref*>PyMem_RawMalloc(order.count * sizeof(Ref))
        spare = <Ref*>PyMem_RawMalloc(order.count * sizeof(Ref))
        starts = <Py_ssize_t*>PyMem_RawMalloc((order.count + 1) * sizeof(Py_ssize_t))
        if refs == NULL or spare == NULL or starts == NULL:
            raise MemoryError
        refs_fill(refs, views, parts_len)
        order.refs = refs_sort(refs, spare, starts, order.count)
        if order.refs == refs:
            refs = NULL
        else:
            spare = NULL
        return order
    finally:
        PyMem_RawFree(refs)
        PyMem_RawFree(spare)
        PyMem_RawFree(starts)
        parts_free(views, parts_len)


@cython.final
cdef class Body:
    """
    One PutLogEvents body in a buffer that is reused; readable through the buffer protocol.
    """

    cdef uint8_t* bytes
    cdef Py_ssize_t length
    cdef Py_ssize_t capacity
    cdef int exports
    cdef int32_t* event_parts
    cdef int64_t* event_offsets
    cdef Py_ssize_t events_capacity
    # Of the running call.
    cdef Part* parts
    cdef Limits limits
    cdef Sum sum

    def __cinit__(self, Py_ssize_t capacity = 1_310_720):
        if capacity < 0:
            raise ValueError(f"body of {capacity} bytes")
        self.bytes = <uint8_t*>PyMem_RawMalloc(capacity + SIMD_PADDING)
        if self.bytes == NULL:
            raise MemoryError
        self.capacity = capacity

    def __dealloc__(self):
        PyMem_RawFree(self.bytes)
        PyMem_RawFree(self.event_parts)
        PyMem_RawFree(self.event_offsets)

    def __len__(self):
        return self.length

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.bytes, self.length, True, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1

    def encode(
        self, bytes head, parts, resources, Order order, Py_ssize_t start, *,
        Py_ssize_t start_byte = 0,
        int format,
        bint metrics_bare = False,
        int64_t events_max = 10_000,
        int64_t event_bytes_max = 1_048_550,
        int64_t batch_bytes_max = 1_048_576,
        int64_t span_ms_max = 86_400_000,
        int64_t valid_from_ms,
        int64_t valid_until_ms,
    ) -> Encoded:
        cdef list columns_of = list(parts)
        cdef list resource_of = list(resources)
        cdef Py_ssize_t parts_len = len(columns_of)
        cdef Py_ssize_t part
        cdef int64_t rows = 0
        if self.exports:
            raise BufferError("the body is still exported: it is being sent")
        if not MESSAGE_BARE <= format <= MESSAGE_OTEL:
            raise ValueError(f"format {format}: expected MESSAGE_BARE, _CONTAINER_INSIGHTS or _OTEL")
        if len(resource_of) != parts_len:
            raise ValueError(f"{len(resource_of)} resources for {parts_len} parts")
        if not 0 <= start < order.count:
            raise ValueError(f"start {start}: the order has {order.count} rows")
        if events_max < 1 or event_bytes_max < EVENT_BYTES_MIN:
            raise ValueError(f"limits: at least 1 event, {EVENT_BYTES_MIN} bytes an event")
        if event_bytes_max + EVENT_OVERHEAD_BYTES > batch_bytes_max:
            raise ValueError(f"event_bytes_max {event_bytes_max}: does not fit into a batch")
        self.parts = parts_new(columns_of, resource_of)
        try:
            for part in range(parts_len):
                rows += self.parts[part].table.count
            if rows != order.count:
                raise ValueError(f"an order of {order.count} rows, parts of {rows}")
            self.limits = Limits(
                events_max, event_bytes_max, batch_bytes_max, span_ms_max,
                valid_from_ms, valid_until_ms,
            )
            self.sum = Sum(0, 0, 0, 0, 0, 0, start, start_byte)
            self.length = 0
            self.reserve(len(head))
            memcpy(self.bytes, PyBytes_AS_STRING(head), len(head))
            self.length = len(head)
            self.rows_write(order.refs, order.count, format, metrics_bare)
            self.reserve(BODY_END_BYTES)
            memcpy(self.bytes + self.length, b"]}", BODY_END_BYTES)
            self.length += BODY_END_BYTES
            return Encoded(
                self.sum.stop, self.sum.stop_byte, self.sum.events, self.sum.event_bytes,
                self.sum.time_first_ms, self.sum.time_last_ms, self.sum.split, self.sum.truncated,
                [self.parts[part].rows_written for part in range(parts_len)],
                PyBytes_FromStringAndSize(<char*>self.event_parts, self.sum.events * 4),
                PyBytes_FromStringAndSize(<char*>self.event_offsets, self.sum.events * 8),
            )
        finally:
            parts_free(self.parts, parts_len)
            self.parts = NULL

    cdef int reserve(self, Py_ssize_t size) except -1 nogil:
        # Make room for `size` more bytes; pointers into the body end here.
        cdef Py_ssize_t needed = self.length + size
        cdef uint8_t* memory
        if needed > self.capacity:
            needed += needed // 4
            memory = <uint8_t*>PyMem_RawRealloc(self.bytes, needed + SIMD_PADDING)
            if memory == NULL:
                with gil:
                    raise MemoryError
            self.bytes = memory
            self.capacity = needed
        return 0

    cdef int events_reserve(self) except -1 nogil:
        cdef Py_ssize_t capacity = self.events_capacity * 2 + 64
        cdef int32_t* parts
        cdef int64_t* offsets
        if self.sum.events < self.events_capacity:
            return 0
        parts = <int32_t*>PyMem_RawRealloc(self.event_parts, capacity * 4)
        if parts != NULL:
            self.event_parts = parts
        offsets = <int64_t*>PyMem_RawRealloc(self.event_offsets, capacity * 8)
        if offsets != NULL:
            self.event_offsets = offsets
        if parts == NULL or offsets == NULL:
            with gil:
                raise MemoryError
        self.events_capacity = capacity
        return 0

    cdef int rows_write(
        self, const Ref* refs, Py_ssize_t count, int format, bint metrics_bare,
    ) except -1 nogil:
        cdef Sum* sum_ = &self.sum
        cdef Py_ssize_t part = 0
        cdef Py_ssize_t row = sum_.stop
        cdef int64_t time_ms
        cdef int age = 0
        cdef bint done
        if refs == NULL:
            while row >= self.parts[part].table.count:
                row -= self.parts[part].table.count
                part += 1
        while sum_.stop < count:
            if refs != NULL:
                part, row, time_ms = refs[sum_.stop].part, refs[sum_.stop].row, refs[sum_.stop].time_ms
            else:
                while row == self.parts[part].table.count:
                    row = 0
                    part += 1
                time_ms = self.parts[part].table.time_ns[row] // NS_PER_MS
            if sum_.events == 0:
                sum_.time_first_ms = time_ms
                age = self.age(time_ms)
            elif (
                sum_.events >= self.limits.events
                or time_ms - sum_.time_first_ms >= self.limits.span_ms
                or self.age(time_ms) != age
            ):
                break
            if format == MESSAGE_BARE or (metrics_bare and self.metric_fits(part, row)):
                done = self.bare_write(part, row, time_ms)
            elif format == MESSAGE_OTEL:
                done = self.otel_write(part, row, time_ms)
            else:
                done = self.record_write(part, row, time_ms)
            if not done:
                break
            self.parts[part].rows_written += 1
            sum_.stop += 1
            sum_.stop_byte = 0
            row += 1
        return 0

    cdef inline int age(self, int64_t time_ms) noexcept nogil:
        if time_ms < self.limits.valid_from_ms:
            return -1
        return 1 if time_ms > self.limits.valid_until_ms else 0

    cdef inline uint8_t* event_begin(self, int64_t time_ms) noexcept nogil:
        cdef uint8_t* target = self.bytes + self.length
        if self.sum.events:
            target[0] = c','
            target += 1
        memcpy(target, b'{"timestamp":', 13)
        target = integer_write(target + 13, time_ms)
        memcpy(target, b',"message":"', 12)
        return target + 12

    cdef inline int event_end(
        self, uint8_t* target, int64_t decoded, Py_ssize_t part, Py_ssize_t row,
    ) except -1 nogil:
        # Take the event in, and return True; or leave it where nothing counts it.
        decoded += EVENT_OVERHEAD_BYTES
        if self.sum.event_bytes + decoded > self.limits.batch_bytes:
            return False
        target[0] = c'"'
        target[1] = c'}'
        self.length = target + 2 - self.bytes
        self.events_reserve()
        self.event_parts[self.sum.events] = <int32_t>part
        self.event_offsets[self.sum.events] = self.parts[part].table.offset[row]
        self.sum.time_last_ms = self.parts[part].table.time_ns[row] // NS_PER_MS
        self.sum.events += 1
        self.sum.event_bytes += decoded
        return True

    cdef int bare_write(self, Py_ssize_t part, Py_ssize_t row, int64_t time_ms) except -1 nogil:
        # The line: one event, or several where it is too long for one.
        cdef const Rows* table = self.parts[part].table
        cdef const uint8_t* text = self.parts[part].bytes + table.message_start[row]
        cdef Py_ssize_t length = table.message_len[row]
        cdef Py_ssize_t position = self.sum.stop_byte
        cdef Py_ssize_t kept
        cdef bint marked = (table.flags[row] & FLAG_TRUNCATED) != 0
        cdef bint done = False
        cdef int64_t decoded, written
        cdef uint8_t* target
        if position and (position < 0 or position > length or (position == length and not marked)):
            with gil:
                raise ValueError(f"start_byte {position}: the message has {length} bytes")
        while not done:
            if self.sum.events >= self.limits.events:
                return False
            kept = length - position
            written = kept * ESCAPED_BYTES_MAX
            # Three bytes are the most that one byte stands for: U+FFFD.
            if kept * 3 > self.limits.event_bytes or kept > MEASURE_BYTES:
                kept = escape_measure(
                    text + position, kept, ESCAPE_ONCE, self.limits.event_bytes, &written
                )
            self.reserve(FRAME_BYTES + written)
            target = self.event_begin(time_ms)
            decoded = 0
            target = escape_write(target, text + position, kept, ESCAPE_ONCE, &decoded)
            done = position + kept == length
            if done and marked:
                if decoded + MARK.decoded <= self.limits.event_bytes:
                    target = literal_write(target, &MARK)
                    decoded += MARK.decoded
                else:
                    done = False  # The mark is an event of its own.
            if decoded == 0:
                target[0] = c' '  # A message has at least one character.
                target += 1
                decoded = 1
            if not self.event_end(target, decoded, part, row):
                return False
            position += kept
            self.sum.split += done and self.sum.stop_byte > 0
            self.sum.stop_byte = position
        return True

    cdef int resource_escape(self, Part* part) except -1 nogil:
        # Once per part and call.  A copy comes first: a bytes object has no padding behind it.
        cdef uint8_t* padded
        cdef int64_t decoded = 0
        if part.escaped != NULL:
            return 0
        padded = <uint8_t*>PyMem_RawMalloc(part.resource_len + SIMD_PADDING)
        part.escaped = <uint8_t*>PyMem_RawMalloc(
            part.resource_len * ESCAPED_BYTES_MAX + SIMD_PADDING
        )
        if padded == NULL or part.escaped == NULL:
            PyMem_RawFree(padded)
            with gil:
                raise MemoryError
        memcpy(padded, part.resource, part.resource_len)
        part.escaped_len = escape_write(
            part.escaped, padded, part.resource_len, ESCAPE_ONCE, &decoded
        ) - part.escaped
        PyMem_RawFree(padded)
        return 0

    cdef int record_write(self, Py_ssize_t part, Py_ssize_t row, int64_t time_ms) except -1 nogil:
        # Fluent Bit's record.
        cdef const Rows* table = self.parts[part].table
        cdef Part* owner = &self.parts[self.parts[part].resource_of]
        cdef const uint8_t* text = self.parts[part].bytes + table.message_start[row]
        cdef Py_ssize_t length = table.message_len[row]
        cdef int flags = table.flags[row]
        cdef bint marked = (flags & FLAG_TRUNCATED) != 0
        cdef int64_t written = length * ESCAPED_BYTES_MAX
        cdef int64_t decoded, before, fixed
        cdef Py_ssize_t object_begin = -1
        cdef Py_ssize_t object_stop = 0
        cdef uint8_t* target
        cdef uint8_t* mark
        self.resource_escape(owner)
        fixed = TEXT_END.decoded + owner.resource_len + RECORD_END.decoded
        if length > MEASURE_BYTES:
            escape_measure(text, length, ESCAPE_TWICE, INT64_MAX, &written)
        # An object is written once more, escaped once: never more than twice.
        self.reserve(FRAME_BYTES + owner.escaped_len + written * 2)
        target = self.event_begin(time_ms)
        decoded = 0
        target = self.record_head(target, part, row, record_stream(flags), &decoded)
        before = decoded
        mark = target
        target = escape_write(target, text, length, ESCAPE_TWICE, &decoded)
        if marked:
            target = literal_write(target, &MARK)
            decoded += MARK.decoded
        if decoded + fixed > self.limits.event_bytes:
            target = self.record_cut(mark, text, length, before, &NOTHING, owner, &decoded)
            if not self.event_end(target, decoded, part, row):
                return False
            self.sum.truncated += 1
            return True
        target = literal_write(target, &TEXT_END)
        if not marked:
            object_begin = object_start(text, length, &object_stop)
        if object_begin >= 0:
            mark = target
            before = decoded
            target = literal_write(target, &RECORD_PROCESSED)
            decoded += RECORD_PROCESSED.decoded
            target = escape_write(
                target, text + object_begin, object_stop - object_begin, ESCAPE_ONCE, &decoded
            )
            if decoded + fixed > self.limits.event_bytes:
                target = mark
                decoded = before
        memcpy(target, owner.escaped, owner.escaped_len)
        target = literal_write(target + owner.escaped_len, &RECORD_END)
        return self.event_end(target, decoded + fixed, part, row)

    cdef inline uint8_t* record_head(
        self, uint8_t* target, Py_ssize_t part, Py_ssize_t row, const Literal* stream,
        int64_t* decoded,
    ) noexcept nogil:
        # From the opening brace to the opening quote of the log.
        cdef const Rows* table = self.parts[part].table
        cdef Py_ssize_t time_len = table.time_len[row]
        cdef uint8_t* time
        target = time = literal_write(target, &RECORD_TIME)
        if time_len:
            memcpy(target, self.parts[part].bytes + table.time_start[row], time_len)
            target += time_len
        else:
            target = time_write(target, table.time_ns[row])
        decoded[0] += RECORD_TIME.decoded + (target - time) + stream.decoded
        return literal_write(target, stream)

    cdef uint8_t* record_cut(
        self, uint8_t* target, const uint8_t* text, Py_ssize_t length, int64_t head,
        const Literal* attributes, const Part* owner, int64_t* decoded,
    ) noexcept nogil:
        # The text that is too long, cut to what fits with its mark; the rest of the record behind it.
        cdef Py_ssize_t resource_len = owner.resource_len
        cdef Py_ssize_t escaped_len = owner.escaped_len
        cdef int64_t fixed = (
            head + MARK.decoded + TEXT_END.decoded + attributes.decoded + RECORD_END.decoded
        )
        cdef int64_t written
        cdef Py_ssize_t kept
        if fixed + resource_len > self.limits.event_bytes:
            resource_len = escaped_len = 0  # Labels that fill an event leave the log its place.
        fixed += resource_len
        kept = escape_measure(
            text, length, ESCAPE_TWICE, self.limits.event_bytes - fixed, &written
        )
        decoded[0] = fixed
        target = escape_write(target, text, kept, ESCAPE_TWICE, decoded)
        target = literal_write(target, &MARK)
        target = literal_write(target, &TEXT_END)
        target = literal_write(target, attributes)
        memcpy(target, owner.escaped, escaped_len)
        return literal_write(target + escaped_len, &RECORD_END)

    cdef int otel_write(self, Py_ssize_t part, Py_ssize_t row, int64_t time_ms) except -1 nogil:
        # A record of OpenTelemetry.
        cdef const Rows* table = self.parts[part].table
        cdef Part* owner = &self.parts[self.parts[part].resource_of]
        cdef const uint8_t* text = self.parts[part].bytes + table.message_start[row]
        cdef Py_ssize_t length = table.message_len[row]
        cdef int flags = table.flags[row]
        cdef const Literal* attributes = otel_attributes(flags)
        cdef const Literal* body = otel_body(flags)
        cdef int64_t written = length * ESCAPED_BYTES_MAX
        cdef int64_t decoded, before, fixed
        cdef Py_ssize_t object_begin = -1
        cdef Py_ssize_t object_stop = 0
        cdef uint8_t* target
        cdef uint8_t* mark
        self.resource_escape(owner)
        fixed = attributes.decoded + owner.resource_len + RECORD_END.decoded
        if length > MEASURE_BYTES:
            escape_measure(text, length, ESCAPE_TWICE, INT64_MAX, &written)
        self.reserve(FRAME_BYTES + owner.escaped_len + written)
        target = self.event_begin(time_ms)
        mark = target = literal_write(target, otel_time(flags))
        target = integer_write(target, table.time_ns[row])
        decoded = otel_time(flags).decoded + (target - mark) + body.decoded
        mark = target = literal_write(target, body)
        before = decoded
        if not flags & FLAG_TRUNCATED:
            object_begin = object_start(text, length, &object_stop)
        if object_begin >= 0:
            target = escape_write(
                target, text + object_begin, object_stop - object_begin, ESCAPE_ONCE, &decoded
            )
        if object_begin < 0 or decoded + fixed > self.limits.event_bytes:
            target = mark = literal_write(mark, &TEXT_BEGIN)
            decoded = before = before + TEXT_BEGIN.decoded
            target = escape_write(target, text, length, ESCAPE_TWICE, &decoded)
            if flags & FLAG_TRUNCATED:
                target = literal_write(target, &MARK)
                decoded += MARK.decoded
            if decoded + TEXT_END.decoded + fixed > self.limits.event_bytes:
                target = self.record_cut(mark, text, length, before, attributes, owner, &decoded)
                if not self.event_end(target, decoded, part, row):
                    return False
                self.sum.truncated += 1
                return True
            target = literal_write(target, &TEXT_END)
            decoded += TEXT_END.decoded
        target = literal_write(target, attributes)
        memcpy(target, owner.escaped, owner.escaped_len)
        target = literal_write(target + owner.escaped_len, &RECORD_END)
        return self.event_end(target, decoded + fixed, part, row)

    cdef inline bint metric_fits(self, Py_ssize_t part, Py_ssize_t row) noexcept nogil:
        # Whether the message is a line of the embedded metric format that one event can hold.
        cdef const Rows* table = self.parts[part].table
        cdef const uint8_t* text = self.parts[part].bytes + table.message_start[row]
        cdef Py_ssize_t length = table.message_len[row]
        cdef int64_t written
        if length == 0 or (text[0] != c'{' and text[0] > c' ') or table.flags[row] & FLAG_TRUNCATED:
            return False
        if not metric_is(text, length):
            return False
        return escape_measure(
            text, length, ESCAPE_ONCE, self.limits.event_bytes, &written
        ) == length
