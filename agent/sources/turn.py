"""
One turn of a reader in one Log: at most one chunk, at most one segment.

    admit → read → verify → parse → segment

The head is verified *after* the read: if it still is the generation's, everything that was read is, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent._fastparse import Chunk
from agent.core.batch import LossReason, Segment
from agent.core.cursor import StreamMode, cursor_at
from agent.core.errors import PoisonError
from agent.core.generations import UNMEASURED, State
from agent.core.logs import Step
from agent.sources.gunzip import GZIP_ATTEMPTS, GzipError
from agent.sources.heads import last_line_start
from agent.sources.pieces import Pieces
from agent.sources.reads import Reads
from agent.sources.segments import Segments

if TYPE_CHECKING:
    from agent.core.budget import Charge, Share
    from agent.core.generations import Generation
    from agent.sources.files import Files
    from agent.sources.follow import Follow, Parser, Skip
    from agent.sources.heads import Opened
    from agent.sources.reader import Reader


@dataclass(slots=True, kw_only=True)
class Reading:
    """
    Bytes that were read and belong to the generation.
    """

    chunk: Chunk
    length: int
    charge: Charge
    limited: bool  # by a skip that follows


class Turn:
    """
    Does the work of a Reader.
    """

    def __init__(self, reader: Reader, files: Files, share: Share) -> None:
        self._reader = reader
        self._files = files
        self._host = files.host
        self.reads = Reads(files, share)
        self.segments = Segments(
            reader.route, clock=files.host.clock, counters=files.counters, share=share
        )
        self.pieces = Pieces(files, share, reads=self.reads)

    async def take(self, follow: Follow) -> Segment | None:
        """
        Do what there is to do at the place of *follow*.
        """
        if follow.align_size is not None:
            await self._align(follow)
            return None
        if follow.reread is not None:
            return await self._read_again(follow)
        now = self._host.clock.monotonic()
        chain = follow.log.chain
        step = chain.step(*follow.place)
        generation = chain.find(follow.number)
        if follow.overdue and follow.open_streams:
            return self._release(follow)
        if step is Step.READ:
            assert generation is not None
            if follow.looked_size < generation.available or generation.finished:
                segment = await self._read(follow, generation)
                if segment is not None:
                    return segment
        if follow.open_streams and (segment := self._release_late(follow, step, now)) is not None:
            return segment
        follow.timed_out = False
        if step is Step.LOSE:
            assert generation is not None
            return self._lose(follow, generation)
        if step is Step.ADVANCE:
            self._advance(follow, generation)
        elif step is Step.END:
            follow.ended = True
        return None

    def _release_late(self, follow: Follow, step: Step, now: float) -> Segment | None:
        """
        Release what is open where its end does not come, or where it has waited for long enough.
        """
        over = step in (Step.LOSE, Step.END) or follow.timed_out
        if over or now - follow.progress_at >= self._files.settings.piece_timeout_s:
            return self._release(follow)
        if follow.held_too_long(now):
            return self.segments.release(follow, pieces=False)
        return None

    def _release(self, follow: Follow) -> Segment:
        follow.overdue = follow.timed_out = False
        return self.segments.release(follow)

    async def _read_again(self, follow: Follow) -> Segment | None:
        reread = follow.reread
        assert reread is not None
        if reread.lost is None:
            await self.pieces.read_again(follow)
        if reread.lost is None:
            return None
        began, reason, why = self.pieces.lost(follow)
        return self.segments.unfinished(follow, began, reason, why)

    # -- read ---------------------------------------------------------------------------------

    async def _read(self, follow: Follow, generation: Generation) -> Segment | None:
        skip = follow.next_skip()
        if skip is not None and skip.start <= follow.offset:
            return self._skip(follow, generation, skip)
        try:
            opened = self.reads.open(follow, generation)
            if opened is None:
                self._files.look_again(follow.log)
                follow.delay(self._host.clock.monotonic())
                return None
            if not self._refresh(follow, generation, opened):
                return None
            generation.touched = True
            parser = follow.parser_for(
                follow.log.format_of(generation, self._host.disk, self._files.settings.format),
                self._files.settings.line_bytes_max,
            )
            if self._still_partial(follow, generation, opened, parser):
                return None
            reading = await self._fill(follow, generation, opened, parser, skip)
        except GzipError as error:
            return self._damaged(follow, generation, error)
        except OSError as error:
            self._files.count_error(follow.log.path_of(generation), error)
            follow.delay(self._host.clock.monotonic())
            return None
        follow.errors = 0
        return None if reading is None else self._parse(follow, generation, parser, reading, skip)

    def _refresh(self, follow: Follow, generation: Generation, opened: Opened) -> bool:
        """
        Bring the size up to date; False where nothing can be read of the file now.
        """
        if opened.compressed:
            if not generation.head:  # Compressed nothing.
                follow.log.chain.measured(generation, 0)
            return bool(generation.head)
        self._grew(follow, generation)
        return generation.state is not State.CUT and bool(generation.head) and not generation.unseen

    def _grew(self, follow: Follow, generation: Generation) -> bool:
        """
        Whether the file grew, or was cut.
        """
        log, clock = follow.log, self._host.clock
        if not log.refresh(generation, self._host.disk, now=clock.monotonic()):
            return False
        if generation.state is State.CUT or generation.unseen:
            self._files.look_again(log)
        else:
            log.mark(clock.now_ns())
        # The tick sees nothing new any more: the other routes would wait for the next growth.
        self._files.notify(log)
        return True

    def _still_partial(
        self, follow: Follow, generation: Generation, opened: Opened, parser: Parser
    ) -> bool:
        """
        Whether the partial line behind the place only grew: then its new bytes are all that is looked at.
        """
        looked = follow.looked_size
        if generation.finished or looked <= follow.offset or opened.compressed:
            return False
        if generation.available - follow.offset >= parser.chunk_bytes_min:
            return False
        fresh = self._host.disk.pread(opened.fd, generation.available - looked, looked)
        if b"\n" in fresh:
            return False
        follow.looked_size = looked + len(fresh)
        return True

    async def _fill(
        self,
        follow: Follow,
        generation: Generation,
        opened: Opened,
        parser: Parser,
        skip: Skip | None,
    ) -> Reading | None:
        limit = generation.available if skip is None else min(generation.available, skip.start)
        wanted = follow.chunk_bytes or self._files.settings.chunk_bytes
        # A partial line that is known to be longer than a chunk: room for all of it at once.
        if follow.looked_size - follow.offset >= wanted:
            wanted = parser.chunk_bytes_min
        length = min(wanted, limit - follow.offset)
        charge = await self.reads.admit(length, carried=parser.carry_bytes)
        kept = False
        try:
            if not follow.log.holds(generation, opened):
                return None  # Given up, or cut, while the budget was full.
            chunk = Chunk(length)
            read = await self.reads.fill(follow, opened, chunk, length, follow.offset)
            if opened.compressed:
                generation.note_tail(memoryview(chunk)[:read], follow.offset + read)
                if read < length:
                    follow.log.chain.measured(generation, follow.offset + read)
            elif not self.reads.is_same(follow, generation, opened):
                return None
            if read == 0:
                return None
            kept = True
            return Reading(
                chunk=chunk,
                length=read,
                charge=charge,
                limited=skip is not None and follow.offset + read == skip.start,
            )
        finally:
            if not kept:
                charge.release()

    # -- parse --------------------------------------------------------------------------------

    def _parse(
        self,
        follow: Follow,
        generation: Generation,
        parser: Parser,
        reading: Reading,
        skip: Skip | None,
    ) -> Segment | None:
        start, length = follow.offset, reading.length
        final = generation.finished and start + length >= generation.available
        read_ns = self._host.clock.now_ns()
        capacity = reading.chunk.capacity
        try:
            columns = parser.parse(
                reading.chunk, length, offset=start, read_time_ns=read_ns, final=final
            )
        except Exception as error:
            reading.charge.release()
            stop = self._line_stop(follow, generation, start, length)
            raise PoisonError(
                f"{follow.log.key}: generation {generation.number}, bytes {start}-{stop}: "
                f"the parser raised {type(error).__name__}: {error}",
                log=follow.log.key,
                generation=generation.number,
                start=start,
                stop=stop,
            ) from error
        consumed = parser.consumed
        if consumed < length:
            follow.looked_size = start + length if start + length >= generation.available else -1
        if not consumed:
            reading.charge.release()
            if reading.limited and skip is not None:
                return self._skip(follow, generation, skip)
            follow.looked_size = start + length
            if start + length < generation.available or length == capacity:
                follow.chunk_bytes = max(capacity, parser.chunk_bytes_min)
            return None
        follow.chunk_bytes = 0
        follow.offset = start + consumed
        follow.progress_at = self._host.clock.monotonic()
        self.segments.count(parser, consumed)
        segment = self.segments.parsed(follow, generation, start, columns, reading.charge, read_ns)
        if not follow.open_streams:
            follow.earlier.clear()
        follow.passed_reference()
        return segment

    # -- what is not read ---------------------------------------------------------------------

    def _lose(self, follow: Follow, generation: Generation) -> Segment:
        reason = LossReason.TRUNCATED if generation.was_cut else LossReason.DELETED
        if generation.given_up:
            reason = LossReason.HELD_TOO_LONG
        stop, detail = generation.size, generation.given_up
        return self.segments.lost(follow, generation, stop, reason, StreamMode.LINE, detail)

    def _skip(self, follow: Follow, generation: Generation, skip: Skip) -> Segment:
        if follow.open_streams:
            return self._release(follow)
        follow.skips.remove(skip)
        stop = min(skip.stop, generation.size)
        mode = StreamMode.LINE
        opened = follow.log.opened.get(generation.key)
        if opened is not None and not opened.compressed:
            before = self._host.disk.pread(opened.fd, 1, stop - 1)
            mode = StreamMode.LINE if before == b"\n" else StreamMode.LINE_REST
        return self.segments.lost(follow, generation, stop, skip.reason, mode, "isolated")

    def _damaged(self, follow: Follow, generation: Generation, error: GzipError) -> Segment | None:
        self._files.count_error(follow.log.path_of(generation), error)
        follow.delay(self._host.clock.monotonic())
        if follow.errors < GZIP_ATTEMPTS:
            return None
        follow.errors = 0
        size = generation.size if generation.size < UNMEASURED else follow.offset
        follow.log.chain.measured(generation, follow.offset)
        if follow.open_streams:
            return self._release(follow)
        stop = max(follow.offset, size)
        return self.segments.lost(
            follow, generation, stop, LossReason.DELETED, StreamMode.LINE, str(error)
        )

    # -- places -------------------------------------------------------------------------------

    def _advance(self, follow: Follow, generation: Generation | None) -> None:
        chain = follow.log.chain
        if generation is not None and generation.key in follow.log.opened:
            opened = follow.log.opened[generation.key]
            if not opened.compressed:
                size = self._host.disk.fstat(opened.fd).st_size
                # Its writer came back: these bytes still come before the next generation's.
                if size > generation.available and self._grew(follow, generation):
                    return
        following = chain.after(follow.number)
        assert following is not None
        follow.advance(following, generation)

    async def _align(self, follow: Follow) -> None:
        """
        Stand at the last line start before `align_size`.
        """
        size = follow.align_size
        assert size is not None
        generation = follow.log.chain.find(follow.number)
        offset = 0
        if generation is not None and size:
            try:
                opened = self.reads.open(follow, generation)
                if opened is not None and opened.compressed:
                    offset = generation.size
                elif opened is not None:
                    offset = await self._host.run_reading(
                        last_line_start, self._host.disk, opened.fd, size
                    )
            except OSError as error:
                self._files.count_error(follow.log.path_of(generation), error)
                follow.delay(self._host.clock.monotonic())
                return
        if generation is not None:
            generation.touched = True
        follow.align_size = None
        follow.offset = offset
        follow.cursor = follow.first_cursor = cursor_at(follow.number, offset)
        self._reader.begun(follow)

    def _line_stop(self, follow: Follow, generation: Generation, start: int, length: int) -> int:
        """
        Return the end of the last whole line in [start, start + length), else its end.
        """
        opened = follow.log.opened.get(generation.key)
        newline = -1
        if opened is not None and not opened.compressed:
            newline = self._host.disk.pread(opened.fd, length, start).rfind(b"\n")
        return start + (newline + 1 if newline >= 0 else length)
