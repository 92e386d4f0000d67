r"""
What a row becomes, in plain Python: the specification of the messages of `_fastencode`, byte for byte.

A **message** is what CloudWatch shows of an event.  All text in it is valid UTF-8: each maximal ill-formed
part of a row becomes one U+FFFD, and sizes count after that.  In JSON strings `"`, `\` and bytes below
0x20 are escaped (`\n \r \t \b \f`, else `\u00xx`), and nothing else.

MESSAGE_BARE:

| row | messages |
|---|---|
| empty | one space: a message has at least one character |
| fits into event_bytes_max | the text |
| does not | parts of at most event_bytes_max, cut between characters, each as long as possible |
| FLAG_TRUNCATED | the same, and ` [truncated]` behind it, alone where it does not fit |

MESSAGE_CONTAINER_INSIGHTS: Fluent Bit's record `{"time","stream","_p","log"[,"log_processed"]<resource>}`:

| key | value |
|---|---|
| `time` | as the runtime wrote it; for rows without one, time_ns as RFC 3339 with nine digits and `Z` |
| `stream` | `stderr` for stream 2, else `stdout`: Container Insights knows no third |
| `_p` | `P` with FLAG_PARTIAL, else `F` |
| `log` | the text; with FLAG_TRUNCATED, or where it was cut here, ` [truncated]` behind it |
| `log_processed` | the text, as written, if it is one JSON object: strictly valid, not empty, not FLAG_TRUNCATED |
| resource | as given: `,"kubernetes":{…}` or nothing |

A record that is longer than event_bytes_max goes without `log_processed`; if it still is, `log` is cut between
characters; if even an empty `log` is too much, it goes without the resource.

MESSAGE_OTEL: a record of the OpenTelemetry log data model,
`{"timeUnixNano"[,"severityNumber","severityText"],"body"[,"attributes"]<resource>}`:

| key | value |
|---|---|
| `timeUnixNano` | time_ns in a string, as JSON's numbers lose digits: when it happened |
| `observedTimeUnixNano` | instead of it, with FLAG_READ_TIME: nobody knows when it happened, this is when it was read |
| `severityNumber`, `severityText` | 1 to 24 and its name (`INFO`, `INFO2`, …), where the flags have one |
| `body` | the object, as written, if the text is one (as for `log_processed`); else a string: as `log` |
| `attributes` | `log.iostream` of stdout and stderr; `logtag`: `P` with FLAG_PARTIAL; left out if empty |
| resource | as given: `,"resource":{"attributes":{…}}` or nothing |

Trace and scope are left out.  A record that is longer than
event_bytes_max has its body as a string; if it still is, that is cut between characters; if even an empty one is
too much, it goes without the resource.

With metrics_bare a row of any format becomes the messages of MESSAGE_BARE if its text, not FLAG_TRUNCATED, is one
JSON object whose root has an object `_aws` with an array `CloudWatchMetrics`, and fits into event_bytes_max.  Names
written with escapes are not recognised; of a key that is there twice the last counts.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, NamedTuple

from agent._fastencode import MESSAGE_BARE, MESSAGE_OTEL
from agent._fastparse import (
    FLAG_PARTIAL,
    FLAG_READ_TIME,
    FLAG_SEVERITY_MASK,
    FLAG_SEVERITY_SHIFT,
    FLAG_STREAM_MASK,
    FLAG_TRUNCATED,
    Columns,
)
from agent._reference_lines import json_end, json_space
from agent.core.cursor import STREAM_STDERR, STREAM_STDOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = " [truncated]"
SEVERITIES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")

_ESCAPE_PATTERN = re.compile(r'["\\\x00-\x1f]')
_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
}
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, and written with a Z of our own.


class Row(NamedTuple):
    """
    One row of columns.
    """

    time_ns: int
    offset: int
    time: bytes
    message: bytes
    flags: int

    @property
    def time_ms(self) -> int:
        return self.time_ns // 1_000_000


def rows_of(columns: Columns) -> Iterator[Row]:
    """
    Yield the rows of *columns*.
    """
    data = columns.data
    names = ("time_ns", "offset", "time_start", "time_len", "message_start", "message_len", "flags")
    for time_ns, offset, time, time_len, message, message_len, flags in zip(
        *(columns.column(name) for name in names), strict=True
    ):
        time_text = bytes(data[time : time + time_len])
        yield Row(time_ns, offset, time_text, bytes(data[message : message + message_len]), flags)


def time_of(row: Row) -> str:
    """
    Return the time of *row* as the runtime wrote it, else as RFC 3339 with nine digits.
    """
    if row.time:
        return row.time.decode()
    second, fraction = divmod(row.time_ns, 10**9)
    return f"{(_EPOCH + dt.timedelta(seconds=second)).isoformat()}.{fraction:09}Z"


def escape(text: str) -> str:
    """
    Return *text* as the inside of a JSON string.
    """
    return _ESCAPE_PATTERN.sub(
        lambda match: _ESCAPES.get(match[0], f"\\u{ord(match[0]):04x}"), text
    )


def decode(message: bytes) -> str:
    """
    Return the text of a row.
    """
    return message.decode(errors="replace")


def characters(message: bytes) -> Iterator[tuple[str, int]]:
    """
    Yield each character of the text of *message*, and how many bytes of *message* it stands for.
    """
    position = 0
    while position < len(message):
        window = message[position : position + 4]
        try:
            character = window.decode()[0]
        except UnicodeDecodeError as error:
            if error.start == 0:
                yield "\ufffd", error.end
                position += error.end
                continue
            character = window[: error.start].decode()[0]
        yield character, len(character.encode())
        position += len(character.encode())


def fit(message: bytes, size_max: int, *, escaped: bool) -> int:
    """
    Return how many bytes of *message* stand for at most *size_max* bytes of text.
    """
    size = kept = 0
    for character, length in characters(message):
        size += len((escape(character) if escaped else character).encode())
        if size > size_max:
            break
        kept += length
    return kept


def parsed_object(message: bytes) -> str | None:
    """
    Return the JSON object that *message* is, as written, or None.
    """
    text = message.decode("latin-1")
    start = json_space(text, 0)
    end = json_end(text, start) if text[start : start + 1] == "{" else None
    if end is None or json_space(text, end) != len(text):
        return None
    return None if text[json_space(text, start + 1)] == "}" else decode(message[start:end])


def record(row: Row, resource: str, event_bytes_max: int) -> tuple[str, bool]:
    """
    Return the record of a row, and whether its text was cut to fit.
    """
    time = time_of(row)
    stream = "stderr" if row.flags & FLAG_STREAM_MASK == STREAM_STDERR else "stdout"
    tag = "P" if row.flags & FLAG_PARTIAL else "F"
    head = f'{{"time":"{time}","stream":"{stream}","_p":"{tag}","log":"'
    log = escape(decode(row.message)) + (MARK if row.flags & FLAG_TRUNCATED else "")
    plain = f'{head}{log}"{resource}}}'
    if len(plain.encode()) <= event_bytes_max:
        processed = None if row.flags & FLAG_TRUNCATED else parsed_object(row.message)
        merged = f'{head}{log}","log_processed":{processed}{resource}}}'
        fits = processed is not None and len(merged.encode()) <= event_bytes_max
        return (merged if fits else plain), False
    if len(f'{head}{MARK}"{resource}}}'.encode()) > event_bytes_max:
        resource = ""
    room = event_bytes_max - len(f'{head}{MARK}"{resource}}}'.encode())
    kept = fit(row.message, room, escaped=True)
    return f'{head}{escape(decode(row.message[:kept]))}{MARK}"{resource}}}', True


def bare_parts(row: Row, start_byte: int, event_bytes_max: int) -> Iterator[tuple[str, int]]:
    """
    Yield the messages of a row from *start_byte* of it, and how many of its bytes are in each.
    """
    rest = row.message[start_byte:]
    mark = MARK if row.flags & FLAG_TRUNCATED else ""
    while True:
        kept = fit(rest, event_bytes_max, escaped=False)
        text, rest = decode(rest[:kept]), rest[kept:]
        if not rest and len(text.encode()) + len(mark) <= event_bytes_max:
            yield text + mark or " ", kept
            return
        yield text, kept
        if not rest:
            yield mark, 0
            return


def severity_of(number: int) -> str:
    """
    Return the members for a severity *number*, each with a comma behind it; none where it is not known.
    """
    if not 1 <= number <= len(SEVERITIES) * 4:
        return ""
    name, step = divmod(number - 1, 4)
    text = SEVERITIES[name] + (str(step + 1) if step else "")
    return f'"severityNumber":{number},"severityText":"{text}",'


def otel_record(row: Row, resource: str, event_bytes_max: int) -> tuple[str, bool]:
    """
    Return the record of a row in OpenTelemetry's data model, and whether its text was cut to fit.
    """
    key = "observedTimeUnixNano" if row.flags & FLAG_READ_TIME else "timeUnixNano"
    severity = severity_of((row.flags & FLAG_SEVERITY_MASK) >> FLAG_SEVERITY_SHIFT)
    head = f'{{"{key}":"{row.time_ns}",{severity}"body":'
    stream = {STREAM_STDOUT: "stdout", STREAM_STDERR: "stderr"}.get(row.flags & FLAG_STREAM_MASK)
    attributes = [f'"log.iostream":"{stream}"'] if stream else []
    attributes += ['"logtag":"P"'] if row.flags & FLAG_PARTIAL else []
    tail = f',"attributes":{{{",".join(attributes)}}}' if attributes else ""
    truncated = row.flags & FLAG_TRUNCATED
    text = escape(decode(row.message)) + (MARK if truncated else "")
    parsed = None if truncated else parsed_object(row.message)
    for body in (parsed, f'"{text}"'):
        whole = f"{head}{body}{tail}{resource}}}"
        if body is not None and len(whole.encode()) <= event_bytes_max:
            return whole, False
    if len(f'{head}"{MARK}"{tail}{resource}}}'.encode()) > event_bytes_max:
        resource = ""
    room = event_bytes_max - len(f'{head}"{MARK}"{tail}{resource}}}'.encode())
    kept = fit(row.message, room, escaped=True)
    return f'{head}"{escape(decode(row.message[:kept]))}{MARK}"{tail}{resource}}}', True


def members(text: str) -> dict[str, str]:
    """
    Return the members of the valid JSON object *text* as written: keys without their quotes, and values.
    """
    found = {}
    position = json_space(text, 1)
    while text[position] == '"':
        key_end = json_end(text, position)
        assert key_end is not None
        value = json_space(text, json_space(text, key_end) + 1)
        value_end = json_end(text, value)
        assert value_end is not None
        found[text[position + 1 : key_end - 1]] = text[value:value_end]
        position = json_space(text, value_end)
        if text[position] != ",":
            break
        position = json_space(text, position + 1)
    return found


def is_metric(row: Row, event_bytes_max: int) -> bool:
    """
    Return whether CloudWatch would make metrics of the text of a row.
    """
    parsed = None if row.flags & FLAG_TRUNCATED else parsed_object(row.message)
    if parsed is None or len(decode(row.message).encode()) > event_bytes_max:
        return False
    root = members(parsed).get("_aws", "")
    return root.startswith("{") and members(root).get("CloudWatchMetrics", "").startswith("[")


def messages_of(
    row: Row,
    resource: str,
    start_byte: int,
    format: int,
    event_bytes_max: int,
    *,
    metrics_bare: bool,
) -> tuple[list[tuple[str, int]], bool]:
    """
    Return what a row becomes: messages with their bytes of the row, and whether its text was cut.
    """
    if format == MESSAGE_BARE or (metrics_bare and is_metric(row, event_bytes_max)):
        return list(bare_parts(row, start_byte, event_bytes_max)), False
    make = otel_record if format == MESSAGE_OTEL else record
    message, cut = make(row, resource, event_bytes_max)
    return [(message, 0)], cut
