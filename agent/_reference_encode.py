r"""
The encoders in plain Python: the specification of `_fastencode`, byte for byte.

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

A body is the given head, the events `{"timestamp":<ms>,"message":"…"}` behind commas, and `]}`.  It ends
before the event that would pass a limit: events_max; batch_bytes_max of messages and 26 bytes an
event; span_ms_max, which the last is always less than behind the first; another side of valid_from_ms or
valid_until_ms than the first event's.  Only the parts of a bare row can be in more than one body.
"""

from __future__ import annotations

import datetime as dt
import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from agent._fastencode import MESSAGE_BARE, Encoded, Staged
from agent._fastparse import FLAG_PARTIAL, FLAG_STREAM_MASK, FLAG_TRUNCATED, Columns
from agent._reference_lines import json_end, json_space
from agent.core.cursor import STREAM_STDERR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EVENT_OVERHEAD_BYTES = 26
MARK = " [truncated]"

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
    time = row.time.decode()
    if not time:
        second, fraction = divmod(row.time_ns, 10**9)
        time = f"{(_EPOCH + dt.timedelta(seconds=second)).isoformat()}.{fraction:09}Z"
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


def messages_of(
    row: Row, resource: str, start_byte: int, format: int, event_bytes_max: int
) -> tuple[list[tuple[str, int]], bool]:
    """
    Return what a row becomes: messages with their bytes of the row, and whether its text was cut.
    """
    if format == MESSAGE_BARE:
        return list(bare_parts(row, start_byte, event_bytes_max)), False
    message, cut = record(row, resource, event_bytes_max)
    return [(message, 0)], cut


class Event(NamedTuple):
    """
    One event of a body.
    """

    time_ms: int
    message: str
    part: int
    offset: int


class Said(NamedTuple):
    """
    What is said of a body and cannot be seen in its events.
    """

    stop: int
    stop_byte: int
    split: int
    truncated: int
    part_rows: list[int]


Order = list[tuple[int, int]]


def order_rows(parts: Sequence[Columns]) -> Order:
    """
    Return (part, row) of all rows by time in milliseconds, stable.
    """
    keys = [(index, row) for index, part in enumerate(parts) for row in range(part.rows)]
    times = [[row.time_ms for row in rows_of(part)] for part in parts]
    return sorted(keys, key=lambda key: times[key[0]][key[1]])


class Body:
    """
    The same as `_fastencode.Body`, with an Order of this module.
    """

    def __init__(self) -> None:
        self._text = b""

    def __len__(self) -> int:
        return len(self._text)

    def __bytes__(self) -> bytes:
        return self._text

    def encode(
        self,
        head: bytes,
        parts: Sequence[Columns],
        resources: Sequence[bytes],
        order: Order,
        start: int,
        *,
        start_byte: int = 0,
        format: int,
        events_max: int = 10_000,
        event_bytes_max: int = 1_048_550,
        batch_bytes_max: int = 1_048_576,
        span_ms_max: int = 86_400_000,
        valid_from_ms: int,
        valid_until_ms: int,
    ) -> Encoded:
        rows = [list(rows_of(part)) for part in parts]
        limits = (format, event_bytes_max)
        events: list[Event] = []
        size = split = truncated = 0
        part_rows = [0] * len(parts)
        stop, stop_byte = start, start_byte

        def side(time_ms: int) -> tuple[bool, bool]:
            return time_ms < valid_from_ms, time_ms > valid_until_ms

        def fits(time_ms: int) -> bool:
            first = events[0].time_ms
            return side(time_ms) == side(first) and time_ms - first < span_ms_max

        for part, index in order[start:]:
            row = rows[part][index]
            if events and not fits(row.time_ms):
                break
            several = stop_byte > 0
            messages, cut = messages_of(row, resources[part].decode(), stop_byte, *limits)
            for number, (message, length) in enumerate(messages):
                bytes_more = len(message.encode()) + EVENT_OVERHEAD_BYTES
                if len(events) == events_max or size + bytes_more > batch_bytes_max:
                    return self._end(
                        head, events, Said(stop, stop_byte, split, truncated, part_rows)
                    )
                events.append(Event(row.time_ms, message, part, row.offset))
                size += bytes_more
                stop_byte += length
                several = several or number > 0
            split += several
            truncated += cut
            part_rows[part] += 1
            stop, stop_byte = stop + 1, 0
        return self._end(head, events, Said(stop, stop_byte, split, truncated, part_rows))

    def _end(self, head: bytes, events: Sequence[Event], said: Said) -> Encoded:
        """
        Write the events between *head* and the end.
        """
        texts = [
            f'{{"timestamp":{event.time_ms},"message":"{escape(event.message)}"}}'
            for event in events
        ]
        self._text = head + ",".join(texts).encode() + b"]}"
        sizes = (len(event.message.encode()) + EVENT_OVERHEAD_BYTES for event in events)
        return Encoded(
            stop=said.stop,
            stop_byte=said.stop_byte,
            events=len(events),
            event_bytes=sum(sizes),
            time_first_ms=events[0].time_ms,
            time_last_ms=events[-1].time_ms,
            split=said.split,
            truncated=said.truncated,
            part_rows=said.part_rows,
            event_parts=struct.pack(f"<{len(events)}i", *(event.part for event in events)),
            event_offsets=struct.pack(f"<{len(events)}q", *(event.offset for event in events)),
        )


def staging_buffers(columns: Columns) -> Staged:
    """
    Return what `_fastencode.staging_buffers` returns.
    """
    rows = list(rows_of(columns))
    messages = [decode(row.message).encode() for row in rows]
    ends = [sum(map(len, messages[: index + 1])) for index in range(len(rows))]
    return Staged(
        rows=len(rows),
        time_ns=struct.pack(f"<{len(rows)}q", *(row.time_ns for row in rows)),
        offset=struct.pack(f"<{len(rows)}q", *(row.offset for row in rows)),
        flags=struct.pack(f"<{len(rows)}H", *(row.flags for row in rows)),
        message_ends=struct.pack(f"<{len(rows)}i", *ends),
        messages=b"".join(messages),
    )
