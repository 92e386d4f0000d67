"""
Segments to request bodies, and back: which rows of which segment an event stood for.

A payload keeps its compressed body and, per event, the part (an index into the segments that were
encoded together) and the file offset of its row: 12 bytes an event.  The segments' columns, ten times as much,
are dropped as soon as all their rows are encoded.

Whatever walks over single events here (`losses_of`, `halves_of`) runs only for events that the service
refused, never for those that it takes.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import orjson
from isal import igzip, isal_zlib

from agent._fastencode import Body, order_rows
from agent.core.batch import Loss, LossReason
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
MS_PER_DAY = 86_400_000
#: What PutLogEvents takes, in ms before and after now (facts: hard limits).
PAST_MAX_MS = 14 * MS_PER_DAY
FUTURE_MAX_MS = 2 * 3_600_000
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

    def __init__(self, *, format: int, metrics_bare: bool = False, share: Share) -> None:
        self._format = format
        self._metrics_bare = metrics_bare
        self._share = share
        self._body = Body()
        #: False once the endpoint has refused gzip.
        self.gzip = True

    def encode(
        self, head: bytes, segments: Sequence[Segment], resources: Sequence[bytes], *, now_ms: int
    ) -> Iterator[Payload]:
        """
        Yield the payloads for all rows of *segments*, in sending order.

        Raises PoisonError that names the segment which no payload can be made of.
        """
        columns = [segment.columns for segment in segments]
        held = [part for part in columns if part is not None]
        assert len(held) == len(segments), "a segment without columns has been encoded before"
        try:
            yield from self._encode(head, segments, held, resources, now_ms)
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
    ) -> Iterator[Payload]:
        parts = [
            Part(segment, _earlier_of(segment, held))
            for segment, held in zip(segments, columns, strict=True)
        ]
        order = order_rows(columns)
        start, start_byte, stop = 0, 0, len(order)
        while start < stop:
            encoded = self._body.encode(
                head,
                columns,
                resources,
                order,
                start,
                start_byte=start_byte,
                format=self._format,
                metrics_bare=self._metrics_bare,
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


def losses_of(
    payload: Payload, start: int, stop: int, reason: LossReason, detail: str = ""
) -> list[tuple[int, list[Loss]]]:
    """
    Return (index of the part, losses) for the events [start, stop) of *payload*.

    Rows that follow one another in the file share a loss.
    """
    event_parts = memoryview(payload.event_parts).cast("i")
    event_offsets = memoryview(payload.event_offsets).cast("q")
    lost: dict[int, set[int]] = {}
    for index in range(start, stop):
        lost.setdefault(event_parts[index], set()).add(event_offsets[index])
    results = []
    for part_index, offsets in lost.items():
        segment = payload.parts[part_index].segment
        if segment.whole is None:
            present = {
                offset
                for owner, offset in zip(event_parts, event_offsets, strict=True)
                if owner == part_index
            }
            last = payload.part_stops[part_index]
        else:
            # Between its rows are those of other parts.
            present = set(memoryview(segment.offsets).cast("q"))
            last = segment.stop
        losses = _runs(payload.parts[part_index], offsets, present, last, reason, detail)
        results.append((part_index, losses))
    return results


def halves_of(payload: Payload, share: Share) -> list[Payload]:
    """
    Return two payloads with the rows of *payload*, or none where it holds a single row.

    Releases the memory of *payload* where it was divided.
    """
    parts, offsets = (
        memoryview(payload.event_parts).cast("i"),
        memoryview(payload.event_offsets).cast("q"),
    )
    firsts = [
        index
        for index in range(payload.events)
        if index == 0 or parts[index] != parts[index - 1] or offsets[index] != offsets[index - 1]
    ]
    if len(firsts) < 2:
        return []
    middle = firsts[len(firsts) // 2]
    request = orjson.loads(payload.plain())
    events = request["logEvents"]
    assert len(events) == payload.events
    rows_left = list(payload.part_rows)
    halves = []
    for start, stop in ((0, middle), (middle, payload.events)):
        rows = [0] * len(payload.parts)
        for first in firsts:
            if start <= first < stop and rows_left[parts[first]]:
                rows[parts[first]] += 1
                rows_left[parts[first]] -= 1
        if stop == payload.events:
            # Rows without an event of their own (empty ones) go with the rest.
            rows = [known + left for known, left in zip(rows, rows_left, strict=True)]
        body = orjson.dumps({**request, "logEvents": events[start:stop]})
        half = Payload(
            body=igzip.compress(body, GZIP_LEVEL),
            gzipped=payload.gzipped,
            events=stop - start,
            event_bytes=payload.event_bytes * (stop - start) // payload.events,
            parts=payload.parts,
            part_rows=rows,
            part_stops=_stops_within(payload, start, stop),
            event_parts=payload.event_parts[start * PART_BYTES : stop * PART_BYTES],
            event_offsets=payload.event_offsets[start * OFFSET_BYTES : stop * OFFSET_BYTES],
            charge=Charge(share, 0),
        )
        half.charge.resize(half.size)
        halves.append(half)
    payload.charge.release()
    return halves


def _stops_within(payload: Payload, start: int, stop: int) -> list[int]:
    """
    Return, per part, where the row behind the last one of the events [start, stop) begins.
    """
    places = list(
        zip(
            memoryview(payload.event_parts).cast("i"),
            memoryview(payload.event_offsets).cast("q"),
            strict=True,
        )
    )
    last: dict[int, int] = {}
    for part, offset in places[start:stop]:
        last[part] = max(offset, last.get(part, offset))
    stops = list(payload.part_stops)
    for part, offset in places:
        if part in last and last[part] < offset < stops[part]:
            stops[part] = offset
    return stops


def _runs(
    part: Part, lost: set[int], present: set[int], stop: int, reason: LossReason, detail: str
) -> list[Loss]:
    segment = part.segment
    earlier = dict(part.earlier)
    losses: list[Loss] = []
    here = sorted(present - earlier.keys())
    head = here[0] if here else stop
    for offset in sorted(lost & earlier.keys()):
        # The row began in the generation before; its end lies in this segment, before what begins here.
        generation = earlier[offset]
        file_id = segment.earlier_file_ids.get(generation, "")
        losses.append(Loss(segment.log, file_id, generation, offset, offset + 1, reason, 1, detail))
        if segment.start < head:
            place = (segment.log, segment.file_id, segment.generation, segment.start, head)
            losses.append(Loss(*place, reason, 0, detail))
    run_start = run_rows = 0
    # The end of the last row is known from the columns; rows out of order must not turn it round.
    for offset in [*here, max(stop, here[-1] + 1) if here else stop]:
        if offset in lost and offset not in earlier and (not here or offset <= here[-1]):
            run_start = run_start if run_rows else offset
            run_rows += 1
        elif run_rows:
            place = (segment.log, segment.file_id, segment.generation, run_start, offset)
            losses.append(Loss(*place, reason, run_rows, detail))
            run_rows = 0
    return losses


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
