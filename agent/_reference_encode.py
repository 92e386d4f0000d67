"""
The encoders in plain Python: the specification of `_fastencode`, byte for byte.

`_reference_records` says what a row becomes.

A body is the given head, the events `{"timestamp":<ms>,"message":"…"}` behind commas, and `]}`.  It ends
before the event that would pass a limit: events_max; batch_bytes_max of messages and 26 bytes an
event; span_ms_max, which the last is always less than behind the first; another side of valid_from_ms or
valid_until_ms than the first event's.  Only the parts of a bare row can be in more than one body.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from agent._fastencode import Encoded
from agent._faststage import Staged
from agent._reference_records import decode, escape, messages_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent._fastparse import Columns

EVENT_OVERHEAD_BYTES = 26


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
        metrics_bare: bool = False,
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
            messages, cut = messages_of(
                row, resources[part].decode(), stop_byte, *limits, metrics_bare=metrics_bare
            )
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
    Return what `_faststage.staging_buffers` returns.
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
