"""
The fixed text of records, and what a message is.  `_fastrecord.pxd` is the contract, `_reference_encode.py` the
specification.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memcmp, strlen

from agent._fastjson cimport json_space, json_string_end, json_value_end
from agent._fastparse cimport FLAG_PARTIAL, FLAG_READ_TIME, FLAG_SEVERITY_MASK, FLAG_SEVERITY_SHIFT, FLAG_STREAM_MASK

cdef extern from "string.h" nogil:
    void* memmem(const void* text, size_t length, const void* needle, size_t needle_len)

cdef enum:
    STREAM_STDOUT = 1
    STREAM_STDERR = 2
    METRICS_KEY_BYTES = 19  # with its quotes
    SEVERITIES = 24  # of OpenTelemetry


cdef Literal literal(const char* text) noexcept nogil:
    cdef Literal made
    cdef Py_ssize_t index
    made.text = text
    made.length = <Py_ssize_t>strlen(text)
    made.decoded = made.length
    for index in range(made.length):
        if text[index] == c'\\':
            made.decoded -= 1
    return made


NOTHING = literal(b"")
MARK = literal(b" [truncated]")
TEXT_BEGIN = literal(b'\\"')
TEXT_END = literal(b'\\"')
RECORD_END = literal(b"}")

RECORD_TIME = literal(b'{\\"time\\":\\"')
RECORD_PROCESSED = literal(b',\\"log_processed\\":')
# By stream (stderr or not) and tag (P or not).
cdef Literal[2][2] RECORD_STREAM
RECORD_STREAM[0][0] = literal(b'\\",\\"stream\\":\\"stdout\\",\\"_p\\":\\"F\\",\\"log\\":\\"')
RECORD_STREAM[0][1] = literal(b'\\",\\"stream\\":\\"stdout\\",\\"_p\\":\\"P\\",\\"log\\":\\"')
RECORD_STREAM[1][0] = literal(b'\\",\\"stream\\":\\"stderr\\",\\"_p\\":\\"F\\",\\"log\\":\\"')
RECORD_STREAM[1][1] = literal(b'\\",\\"stream\\":\\"stderr\\",\\"_p\\":\\"P\\",\\"log\\":\\"')

# By severity number; 0 is not known.  The text stands in a list that lives as long as the module.
cdef list OTEL_SEVERITIES = [b'\\",\\"body\\":'] + [
    b'\\",\\"severityNumber\\":%d,\\"severityText\\":\\"%b%b\\",\\"body\\":'
    % (name * 4 + step + 1, (b"TRACE", b"DEBUG", b"INFO", b"WARN", b"ERROR", b"FATAL")[name], b"%d" % (step + 1) if step else b"")
    for name in range(6)
    for step in range(4)
]
cdef Literal[25] OTEL_BODY
for _number, _text in enumerate(OTEL_SEVERITIES):
    OTEL_BODY[_number] = literal(_text)
cdef Literal[2] OTEL_TIME
OTEL_TIME[0] = literal(b'{\\"timeUnixNano\\":\\"')
OTEL_TIME[1] = literal(b'{\\"observedTimeUnixNano\\":\\"')
# By stream (neither, stdout, stderr) and tag.
cdef Literal[3][2] OTEL_ATTRIBUTES
OTEL_ATTRIBUTES[0][0] = NOTHING
OTEL_ATTRIBUTES[0][1] = literal(b',\\"attributes\\":{\\"logtag\\":\\"P\\"}')
OTEL_ATTRIBUTES[1][0] = literal(b',\\"attributes\\":{\\"log.iostream\\":\\"stdout\\"}')
OTEL_ATTRIBUTES[1][1] = literal(
    b',\\"attributes\\":{\\"log.iostream\\":\\"stdout\\",\\"logtag\\":\\"P\\"}'
)
OTEL_ATTRIBUTES[2][0] = literal(b',\\"attributes\\":{\\"log.iostream\\":\\"stderr\\"}')
OTEL_ATTRIBUTES[2][1] = literal(
    b',\\"attributes\\":{\\"log.iostream\\":\\"stderr\\",\\"logtag\\":\\"P\\"}'
)


cdef const Literal* record_stream(int flags) noexcept nogil:
    return &RECORD_STREAM[(flags & FLAG_STREAM_MASK) == STREAM_STDERR][(flags & FLAG_PARTIAL) != 0]


cdef const Literal* otel_time(int flags) noexcept nogil:
    return &OTEL_TIME[(flags & FLAG_READ_TIME) != 0]


cdef const Literal* otel_body(int flags) noexcept nogil:
    cdef int severity = (flags & FLAG_SEVERITY_MASK) >> FLAG_SEVERITY_SHIFT
    return &OTEL_BODY[severity if severity <= SEVERITIES else 0]


cdef const Literal* otel_attributes(int flags) noexcept nogil:
    cdef int stream = flags & FLAG_STREAM_MASK
    return &OTEL_ATTRIBUTES[stream if stream <= STREAM_STDERR else 0][(flags & FLAG_PARTIAL) != 0]


cdef Py_ssize_t object_start(const uint8_t* text, Py_ssize_t length, Py_ssize_t* stop) noexcept nogil:
    cdef const uint8_t* end = text + length
    cdef const uint8_t* begin = json_space(text, end)
    cdef const uint8_t* after
    if begin >= end or begin[0] != c'{':
        return -1
    after = json_value_end(begin, end)
    if after == NULL or json_space(after, end) != end or json_space(begin + 1, end)[0] == c'}':
        return -1
    stop[0] = after - text
    return begin - text


cdef const uint8_t* member(
    const uint8_t* text, const uint8_t* end, const char* key, Py_ssize_t key_len,
) noexcept nogil:
    # Where the value of the last member `key` (with its quotes) of the valid object at `text` begins; or NULL.
    cdef const uint8_t* found = NULL
    cdef const uint8_t* name
    cdef const uint8_t* after
    cdef const uint8_t* escape
    text = json_space(text + 1, end)
    while text[0] == c'"':
        name = text
        after = json_string_end(name + 1, end, &escape)
        text = json_space(json_space(after, end) + 1, end)
        if after - name == key_len and memcmp(name, key, key_len) == 0:
            found = text
        text = json_space(json_value_end(text, end), end)
        if text[0] != c',':
            break
        text = json_space(text + 1, end)
    return found


cdef bint metric_is(const uint8_t* text, Py_ssize_t length) noexcept nogil:
    cdef const uint8_t* end = text + length
    cdef const uint8_t* value
    cdef Py_ssize_t stop = 0
    cdef Py_ssize_t start
    # Nearly every line ends here: what follows is for lines that speak of metrics.
    if memmem(text, length, b'"CloudWatchMetrics"', METRICS_KEY_BYTES) == NULL:
        return False
    start = object_start(text, length, &stop)
    if start < 0:
        return False
    value = member(text + start, end, b'"_aws"', 6)
    if value == NULL or value[0] != c'{':
        return False
    value = member(value, end, b'"CloudWatchMetrics"', METRICS_KEY_BYTES)
    return value != NULL and value[0] == c'['
