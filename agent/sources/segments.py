"""
Makes segments: of rows, of released pieces, of losses.  Counts what is in them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent._fastparse import Columns
from agent.core import counters as metric
from agent.core.batch import Loss, LossReason, Segment
from agent.core.budget import SEGMENT_BYTES, Charge

if TYPE_CHECKING:
    from agent.core.budget import Share
    from agent.core.counters import Counters
    from agent.core.cursor import Cursor, StreamCursor, StreamMode
    from agent.core.generations import Generation
    from agent.core.host import Clock
    from agent.core.transform import NamedRows, Tally, TypedRows
    from agent.sources.follow import Follow, Parser


class Segments:
    """
    The segments of one reader.
    """

    def __init__(self, route: str, *, clock: Clock, counters: Counters, share: Share) -> None:
        self._route = route
        self._clock = clock
        self._counters = counters
        self._share = share

    def parsed(
        self,
        follow: Follow,
        generation: Generation,
        start: int,
        columns: Columns,
        charge: Charge,
        read_ns: int,
        *,
        release: bool = False,
    ) -> Segment:
        """
        Return the segment from *start* to the place of *follow*, which is behind it already.
        """
        if follow.dropped:
            dropped = columns.drop_streams(follow.dropped)
            self._counters.add(metric.FILTERED_ROWS, dropped, self._route)
        tallies: tuple[Tally, ...] = ()
        typed: TypedRows | None = None
        named: tuple[NamedRows, ...] = ()
        if follow.transforms is not None:
            columns, tallies, typed, named = follow.transforms.apply(
                columns,
                resource=follow.log.resource,
                generation=generation.number,
                now=self._clock.monotonic(),
                release=release,
            )
        rows = columns.rows
        values: tuple[str, ...] = ()
        if len(named) == 1:
            values, columns, typed = named[0]
        whole = rows and len(named) < 2
        charge.resize(_bytes_of(columns, typed) if whole else 0)
        segment = Segment(
            log=follow.log.key,
            generation=generation.number,
            file_id=generation.file_id,
            start=start,
            stop=follow.offset,
            resource=follow.log.resource,
            columns=columns if whole else None,
            cursor_after=follow.current_cursor(),
            read_ns=read_ns,
            charge=charge,
            earlier_file_ids=dict(follow.earlier) if follow.earlier else {},
            generations=tuple(follow.log.chain.generations),
            rows=rows,
            tallies=tallies,
            typed=typed,
            values=values,
        )
        if len(named) > 1:
            offsets = bytes(columns.column("offset"))
            segment.parts = tuple(self._part(segment, item, offsets) for item in named)
        return segment

    def _part(self, segment: Segment, rows: NamedRows, offsets: bytes) -> Segment:
        return replace(
            segment,
            columns=rows.columns,
            charge=self._share_anyway(SEGMENT_BYTES + _bytes_of(rows.columns, rows.typed)),
            rows=rows.columns.rows,
            tallies=(),
            typed=rows.typed,
            values=rows.values,
            whole=segment,
            offsets=offsets,
        )

    def count(self, parser: Parser, consumed: int) -> None:
        """
        Add what the parser's last call saw.
        """
        counters, route, counts = self._counters, self._route, parser.counts
        if consumed:
            counters.add(metric.READ_BYTES, consumed, route)
            counters.add(metric.READ_LINES, counts.lines, route)
        if counts.rows:
            counters.add(metric.READ_ROWS, counts.rows, route)
        for kind in ("invalid", "truncated", "unterminated", "empty"):
            if odd := getattr(counts, kind):
                counters.add(metric.ROWS_ODD, odd, route, kind)
        if counts.discarded_bytes:
            counters.add(metric.DISCARDED_BYTES, counts.discarded_bytes, route)

    def release(self, follow: Follow, *, pieces: bool = True) -> Segment:
        """
        Emit what is open: its end does not come.  Without *pieces* only what the transforms hold back.
        """
        parser = follow.parser
        generation = follow.log.chain.find(follow.number)
        assert generation is not None
        read_ns = self._clock.now_ns()
        if parser is not None and pieces:
            columns = parser.release(parser.open_streams, read_time_ns=read_ns)
            self.count(parser, 0)
        else:
            columns = Columns.build(b"", [])
        # The pieces are in memory already: their charge may exceed the share.
        charge = self._share_anyway(columns.nbytes)
        segment = self.parsed(
            follow, generation, follow.offset, columns, charge, read_ns, release=True
        )
        if not follow.open_streams:
            follow.earlier.clear()
        return segment

    def _share_anyway(self, held: int) -> Charge:
        charge = Charge(self._share, 0)
        charge.resize(held)
        return charge

    def lost(
        self,
        follow: Follow,
        generation: Generation,
        stop: int,
        reason: LossReason,
        mode: StreamMode,
        detail: str,
    ) -> Segment:
        """
        Record the bytes from the place to *stop* as lost and go on behind them.
        """
        start = follow.offset
        cursor = follow.jump(stop, mode=mode)
        loss = Loss(
            follow.log.key,
            generation.file_id,
            generation.number,
            start,
            stop,
            reason,
            detail=detail,
        )
        return self._empty(follow, generation, start, cursor, loss)

    def unfinished(
        self, follow: Follow, began: StreamCursor, reason: LossReason, detail: str
    ) -> Segment:
        """
        Record that a row which began at *began* cannot be read again; the place stays.
        """
        chain = follow.log.chain
        here = chain.find(follow.number)
        assert here is not None
        generation = chain.find(began.generation) or here
        stop = follow.offset if generation is here else max(began.offset + 1, generation.size)
        loss = Loss(
            follow.log.key,
            generation.file_id,
            began.generation,
            began.offset,
            stop,
            reason,
            detail=detail,
        )
        return self._empty(follow, here, follow.offset, follow.current_cursor(), loss)

    def late(self, follow: Follow, generation: Generation, size: int) -> Segment:
        """
        Record what was written to a generation after it had been passed.
        """
        here = follow.log.chain.find(follow.number) or generation
        loss = Loss(
            follow.log.key,
            generation.file_id,
            generation.number,
            generation.size,
            size,
            LossReason.DELETED,
            detail="written after the file was renamed and finished",
        )
        return self._empty(follow, here, follow.offset, follow.current_cursor(), loss)

    def _empty(
        self, follow: Follow, generation: Generation, start: int, cursor: Cursor, loss: Loss
    ) -> Segment:
        return Segment(
            log=follow.log.key,
            generation=follow.number,
            file_id=generation.file_id,
            start=start,
            stop=follow.offset,
            resource=follow.log.resource,
            columns=None,
            cursor_after=cursor,
            read_ns=self._clock.now_ns(),
            charge=self._share_anyway(0),
            loss=loss,
        )


def _bytes_of(columns: Columns, typed: TypedRows | None) -> int:
    return columns.nbytes if typed is None else columns.nbytes + typed.nbytes
