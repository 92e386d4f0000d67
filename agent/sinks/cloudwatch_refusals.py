"""
What the service refused: from events back to the rows and bytes that they stood for.

It walks over single events, which nothing does for those that the service takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from isal import igzip

from agent.core.batch import Loss, LossReason
from agent.core.budget import Charge
from agent.sinks.cloudwatch_payloads import GZIP_LEVEL, OFFSET_BYTES, PART_BYTES, Payload

if TYPE_CHECKING:
    from agent.core.budget import Share
    from agent.sinks.cloudwatch_payloads import Part


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
