"""
Segments to request bodies, and back: which rows of which segment an event stood for.

A payload keeps its compressed body and, per event, the part (an index into the segments that were
encoded together) and the file offset of its row: 12 bytes an event.  The segments' columns, ten times as much,
are dropped as soon as all their rows are encoded.

Nothing here walks over single events: cloudwatch_refusals.py does, for those that the service refused.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from isal import igzip, isal_zlib

from agent._fastencode import (
    MESSAGE_BARE,
    MESSAGE_CONTAINER_INSIGHTS,
    MESSAGE_OTEL,
    Body,
    order_rows,
)
from agent.core.budget import Charge
from agent.core.errors import PoisonError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent._fastencode import Encoded
    from agent._fastparse import Columns
    from agent.core.batch import Segment
    from agent.core.budget import Share

#: ISA-L level 1: 0.84 ms for a body of 0.9 MB, a tenth of its size (design: Python costs).
GZIP_LEVEL = 1
#: zlib's way to say "with a gzip header".
GZIP_WBITS = 31
FORMATS = {
    "container_insights": MESSAGE_CONTAINER_INSIGHTS,
    "otel": MESSAGE_OTEL,
    "message": MESSAGE_BARE,
}
#: What a row of a format is counted for beside its message: by CloudWatch, and by what Fluent Bit's record adds, about.
ROW_BYTES = {"container_insights": 26 + 110, "otel": 26 + 110, "message": 26}
MS_PER_DAY = 86_400_000
#: What PutLogEvents takes, in ms before and after now (facts: hard limits).
PAST_MAX_MS = 14 * MS_PER_DAY
FUTURE_MAX_MS = 2 * 3_600_000
#: What one PutLogEvents takes (facts: hard limits), and what of it is worth a request before its time.
BATCH_BYTES_MAX = 1_048_576
BATCH_EVENTS_MAX = 10_000
WORTH_SENDING = 0.95
PART_BYTES = 4
OFFSET_BYTES = 8
#: flags of a row that began in an earlier generation (agent._fastparse.FLAG_EARLIER).
FLAG_EARLIER = 0x40


class Part(NamedTuple):
    """
    One segment among those that were encoded together.
    """

    segment: Segment
    #: Offsets of the rows that began in an earlier generation: (offset, generation).
    earlier: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True, eq=False)
class Payload:
    """
    One request body and the rows in it.

    The body is kept compressed, also where it is sent plain: an endpoint that refuses gzip must not cost memory.
    """

    body: bytes
    #: How it is sent.
    gzipped: bool
    events: int
    event_bytes: int
    parts: list[Part]
    part_rows: list[int]
    #: Per part: where the row behind the last one in here begins, in the file.
    part_stops: list[int]
    event_parts: bytes
    event_offsets: bytes
    charge: Charge

    def plain(self) -> bytes:
        """
        Return the body as JSON.
        """
        return bytes(isal_zlib.decompress(self.body, GZIP_WBITS))

    def wire(self) -> bytes:
        """
        Return the body as it is sent.
        """
        return self.body if self.gzipped else self.plain()

    @property
    def size(self) -> int:
        """
        Bytes of memory held.
        """
        return len(self.body) + len(self.event_parts) + len(self.event_offsets)


class Encoder:
    """
    Encodes with one reused buffer.
    """

    def __init__(
        self, *, format: str, metrics_bare: bool = False, gzip: bool = True, share: Share
    ) -> None:
        self._format = FORMATS[format]
        self._metrics_bare = metrics_bare
        self._share = share
        self._body = Body()
        #: False once the endpoint has refused gzip.
        self.gzip = gzip

    def encode(
        self,
        head: bytes,
        segments: Sequence[Segment],
        resources: Sequence[bytes],
        *,
        now_ms: int,
        rest_waits: bool = False,
    ) -> Iterator[Payload]:
        """
        Yield the payloads for the rows of *segments* that are not encoded yet, in sending order.

        With *rest_waits*, which says that there are more rows than fill a payload, what would not fill the last one is
        left as it is: rows at the end of the sequence, or the last segment where rows of several are mixed.
        Raises PoisonError that names the segment which no payload can be made of.
        """
        columns = [segment.columns for segment in segments]
        held = [part for part in columns if part is not None]
        assert len(held) == len(segments), "a segment without columns has been encoded before"
        start = segments[0].encoded
        try:
            for payload in self._encode(
                head, segments, held, resources, now_ms, start=start, rest_waits=rest_waits
            ):
                for part, rows in zip(payload.parts, payload.part_rows, strict=True):
                    part.segment.encoded += rows
                yield payload
        except Exception as error:
            culprit = self._culprit(head, segments, held, resources, now_ms)
            raise PoisonError(
                f"{culprit.log}: cannot encode bytes {culprit.start}-{culprit.stop}: {error!r}",
                log=culprit.log,
                generation=culprit.generation,
                start=culprit.start,
                stop=culprit.stop,
            ) from error

    def _encode(
        self,
        head: bytes,
        segments: Sequence[Segment],
        columns: list[Columns],
        resources: Sequence[bytes],
        now_ms: int,
        *,
        start: int = 0,
        rest_waits: bool = False,
    ) -> Iterator[Payload]:
        """
        Yield the payloads for all rows but the first *start*, which are of the first segment.
        """
        order = order_rows(columns)
        if len(segments) > 1 and not order.in_sequence and (start or rest_waits):
            # What is left of the first was in sequence with what is on its way: it goes before anything else.
            cut = 1 if start else len(segments) - 1
            yield from self._encode(
                head, segments[:cut], columns[:cut], resources[:cut], now_ms, start=start
            )
            if start:
                yield from self._encode(
                    *(head, segments[1:], columns[1:], resources[1:], now_ms),
                    rest_waits=rest_waits,
                )
            return
        assert order.in_sequence or not start, "rows were left behind others that came in between"
        rest_waits = rest_waits and order.in_sequence
        parts = [
            Part(segment, _earlier_of(segment, held))
            for segment, held in zip(segments, columns, strict=True)
        ]
        start_byte, stop = 0, len(order)
        encoded: Encoded | None = None
        while start < stop:
            little = encoded is not None and _is_little(stop - start, encoded)
            if rest_waits and little and not start_byte:
                return
            encoded = self._body.encode(
                head,
                columns,
                resources,
                order,
                start,
                start_byte=start_byte,
                format=self._format,
                metrics_bare=self._metrics_bare,
                events_max=BATCH_EVENTS_MAX,
                batch_bytes_max=BATCH_BYTES_MAX,
                valid_from_ms=now_ms - PAST_MAX_MS,
                valid_until_ms=now_ms + FUTURE_MAX_MS,
            )
            place = (encoded.stop, encoded.stop_byte)
            assert place > (start, start_byte), "the encoder made no progress"
            start, start_byte = place
            yield self._payload(encoded, parts, columns)

    def _payload(self, encoded: Encoded, parts: list[Part], columns: list[Columns]) -> Payload:
        with memoryview(self._body) as view:
            body = igzip.compress(view, GZIP_LEVEL)
        payload = Payload(
            body=body,
            gzipped=self.gzip,
            events=encoded.events,
            event_bytes=encoded.event_bytes,
            parts=parts,
            part_rows=list(encoded.part_rows),
            part_stops=_stops_of(encoded, parts, columns),
            event_parts=encoded.event_parts,
            event_offsets=encoded.event_offsets,
            charge=Charge(self._share, 0),
        )
        payload.charge.resize(payload.size)
        return payload

    def _culprit(
        self,
        head: bytes,
        segments: Sequence[Segment],
        columns: list[Columns],
        resources: Sequence[bytes],
        now_ms: int,
    ) -> Segment:
        for segment, held, resource in zip(segments, columns, resources, strict=True):
            try:
                for payload in self._encode(head, [segment], [held], [resource], now_ms):
                    payload.charge.release()
            except Exception:  # The question is only whether this segment raises, not what.
                return segment
        # None does on its own: the first stands for all, and the next run meets the rest.
        return segments[0]


def _is_little(rows: int, like: Encoded) -> bool:
    """
    Return whether *rows* more, as long as those of *like*, would leave a request unfilled.
    """
    row_bytes = like.event_bytes / max(1, like.events)
    return rows < BATCH_EVENTS_MAX and rows * row_bytes < BATCH_BYTES_MAX * WORTH_SENDING


def _stops_of(encoded: Encoded, parts: list[Part], columns: list[Columns]) -> list[int]:
    stops = []
    offsets = memoryview(encoded.event_offsets).cast("q")
    for index, (part, held) in enumerate(zip(parts, columns, strict=True)):
        place = _last_event_of(encoded.event_parts, index)
        if place < 0:
            stops.append(part.segment.stop)
            continue
        column = held.column("offset")
        # Rows are in the order of the file, but for the few that began in an earlier generation.
        following = bisect.bisect_right(column, offsets[place])
        stops.append(column[following] if following < len(column) else part.segment.stop)
    return [max(stop, part.segment.start) for stop, part in zip(stops, parts, strict=True)]


def _last_event_of(event_parts: bytes, part: int) -> int:
    wanted = part.to_bytes(PART_BYTES, "little")
    place = event_parts.rfind(wanted)
    # A match that begins inside an item is not one.
    while place % PART_BYTES and place > 0:
        place = event_parts.rfind(wanted, 0, place + PART_BYTES - 1)
    return place // PART_BYTES if place >= 0 else -1


def _earlier_of(segment: Segment, columns: Columns) -> tuple[tuple[int, int], ...]:
    if not segment.earlier_file_ids:
        return ()
    flags, offsets = columns.column("flags"), columns.column("offset")
    # Happens once per rotation, to at most one row of each stream.
    return tuple(
        (offsets[index], columns.earlier_generation(flag & 0x03))
        for index, flag in enumerate(flags)
        if flag & FLAG_EARLIER
    )
