"""
Open rows of a reader: what they hold, dropping the largest, and reading it again.

A row that is dropped from memory (core/carries.py decides) is still in its file.  Its Log stays at its place, the
frontier, and nothing more is read of it until the row can be ended:

- behind the frontier stands what ends it: an `F` of its stream, or more bytes than a row may have;
- or its generation is finished, or `piece_timeout_s` is over, and the row is released as it is.

Then the bytes from its beginning to the frontier are parsed once more.  That gives no rows, because all other
rows up to the frontier were taken and their streams' places mask them; so nothing is accounted for twice.
Rows are read again one at a time, and one is spared until it is ended.

A row whose beginning lies far behind the frontier (the other stream is busy) would cost more than it is worth:
it is released unfinished, as after `piece_timeout_s`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent._fastparse import FORMAT_DOCKER, Chunk
from agent.core.batch import LossReason
from agent.core.carries import Carries
from agent.core.cursor import STREAM_NAMES, StreamCursor, StreamMode, resume_place
from agent.core.logs import Step
from agent.sources.follow import Reread
from agent.sources.gunzip import GZIP_ATTEMPTS, GzipError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.budget import Share
    from agent.core.generations import Generation
    from agent.sources.files import Files
    from agent.sources.follow import Follow, Parser
    from agent.sources.reads import Reads

#: A row is read again over at most so many times the longest row.
REREAD_ROWS_MAX = 4
#: Bytes that are searched at once for the end of a row.
LOOK_BYTES = 256 << 10


class Pieces:
    """
    The open rows of one reader.
    """

    def __init__(self, files: Files, share: Share, *, reads: Reads) -> None:
        self._files = files
        self._host = files.host
        self._reads = reads
        self._carries: Carries[Follow] = Carries(share)
        #: The one that is being read again, and how far it is spared.
        self.spared: Follow | None = None
        self._spared_until = (0, 0)
        self._waiting: dict[Follow, None] = {}

    def has_work(self, follow: Follow) -> bool:
        """
        Whether the dropped row of *follow* is to be read again now.
        """
        reread, chain = follow.reread, follow.log.chain
        assert reread is not None
        if reread.lost is not None or (reread.number, reread.offset) >= follow.place:
            return True
        there = chain.step(reread.number, reread.offset)
        if there is Step.WAIT:
            return False
        if there is not Step.READ or reread.wanted or self.spared is follow:
            return True
        step = chain.step(*follow.place)
        if step is Step.READ:
            generation = chain.find(follow.number)
            return generation is not None and generation.finished
        return step is not Step.WAIT

    def is_blocked(self, follow: Follow) -> bool:
        """
        Whether *follow* has to wait for the row that is being read again.
        """
        self._waiting.pop(follow, None)
        if follow.reread is None or self.spared is None or self.spared is follow:
            return False
        self._waiting[follow] = None
        return True

    def next_waiting(self) -> list[Follow]:
        """
        Return whose turn it is to read again.
        """
        return list(self._waiting)[:1] if self.spared is None else []

    def unspare(self, current: Follow | None, *queues: Mapping[str, Follow]) -> None:
        """
        Let others read again where the spared one cannot go on: it waits for its file, or its pod.
        """
        follow = self.spared
        if follow is None or follow is current:
            return
        if not any(queue.get(follow.log.key) is follow for queue in queues):
            self.spared = None

    def settle(self, follow: Follow, *, busy: bool) -> list[Follow]:
        """
        Account for a turn of *follow*, which is *busy* if it goes on at once.

        Returns:
            Those whose next turn is another one now.
        """
        self._carries.hold(follow, _carried(follow))
        if self.spared is follow and (not busy or self._is_through(follow)):
            self.spared = None
        changed = self.next_waiting()
        releasing: set[Follow | None] = {self.spared}
        while (largest := self._carries.beyond(spared=releasing)) is not None:
            changed.append(largest)
            if self._is_far(largest) or _held(largest):
                largest.overdue = True
                releasing.add(largest)
            else:
                self._drop(largest)
        return changed

    def forget(self, follow: Follow) -> None:
        """
        Give back what *follow* holds.
        """
        self._carries.hold(follow, 0)
        self._waiting.pop(follow, None)
        if self.spared is follow:
            self.spared = None

    def clear(self) -> None:
        """
        Give back everything.
        """
        self._carries.clear()
        self._waiting.clear()
        self.spared = None

    def _is_through(self, follow: Follow) -> bool:
        if follow.reread is not None:
            return False
        if follow.parser is None or not follow.parser.open_streams:
            return True
        place = resume_place(follow.parser.cursor())
        return (place.generation, place.offset) >= self._spared_until

    def _is_far(self, follow: Follow) -> bool:
        if follow.parser is None:
            return False
        place = resume_place(follow.parser.cursor())
        far = REREAD_ROWS_MAX * follow.parser.chunk_bytes_min
        if place.generation == follow.number:
            return follow.offset - place.offset > far
        began = follow.log.chain.find(place.generation)
        if began is None or follow.log.chain.after(place.generation) is None:
            return True
        return max(0, began.size - place.offset) + follow.offset > far

    def _drop(self, follow: Follow) -> None:
        parser = follow.parser
        if parser is not None:
            follow.cursor = parser.cursor()
            follow.parser = None
        place = resume_place(follow.cursor)
        follow.reread = Reread(place.generation, place.offset, looked=follow.offset)
        follow.stream = None
        self._carries.hold(follow, 0)
        self.look(follow)

    # -- when ---------------------------------------------------------------------------------

    def look(self, follow: Follow) -> None:
        """
        Search what is new behind the frontier for the end of the dropped row.

        What only looks like it costs a second reading, nothing else.
        """
        reread = follow.reread
        generation = follow.log.chain.find(follow.number)
        if reread is None or reread.wanted or generation is None:
            return
        opened = follow.log.opened.get(generation.key)
        if opened is None or opened.compressed:
            reread.wanted = generation.available > follow.offset
            return
        if generation.available - follow.offset > self._files.settings.line_bytes_max:
            reread.wanted = True
            return
        marks = _ends_of(follow)
        overlap = max(map(len, marks)) - 1
        while reread.looked < generation.available and not reread.wanted:
            start = max(follow.offset, reread.looked - overlap)
            fresh = self._host.disk.pread(opened.fd, LOOK_BYTES, start)  # disk
            if start + len(fresh) <= reread.looked:
                return
            reread.looked = start + len(fresh)
            reread.wanted = any(mark in fresh for mark in marks)

    # -- reading again ------------------------------------------------------------------------

    async def read_again(self, follow: Follow) -> None:
        """
        Read one more chunk of the dropped row.  Gives it up where it cannot be read any more.
        """
        reread, chain = follow.reread, follow.log.chain
        assert reread is not None
        if self.is_blocked(follow):
            return
        self.spared, self._spared_until = follow, follow.place
        generation = chain.find(reread.number)
        if (reread.number, reread.offset) >= follow.place:
            follow.parser, follow.reread = reread.parser, None
            follow.stream = None
        elif generation is None or chain.step(reread.number, reread.offset) is Step.LOSE:
            self._give_up(follow, generation, "its file is gone")
        elif reread.number < follow.number and reread.offset >= generation.available:
            following = chain.after(reread.number)
            assert following is not None
            assert reread.parser is not None
            reread.parser.begin(following.number)
            reread.number, reread.offset, follow.stream = following.number, 0, None
        else:
            await self._read(follow, generation)

    async def _read(self, follow: Follow, generation: Generation) -> None:
        try:
            await self._read_chunk(follow, generation)
        except OSError as error:
            self._files.count_error(follow.log.path_of(generation), error)
            follow.delay(self._host.clock.monotonic())
            if isinstance(error, GzipError) and follow.errors >= GZIP_ATTEMPTS:
                follow.errors = 0
                self._give_up(follow, generation, str(error))
        else:
            follow.errors = 0

    async def _read_chunk(self, follow: Follow, generation: Generation) -> None:
        reread, log = follow.reread, follow.log
        assert reread is not None
        opened = self._reads.open(follow, generation)
        if opened is None:
            self._files.look_again(log)
            raise OSError(f"another file is at the place of generation {generation.number}")
        settings = self._files.settings
        parser = reread.parser
        if parser is None:
            format_ = log.format_of(generation, self._host.disk, settings.format)
            parser = follow.new_parser(format_, settings.line_bytes_max)
        here = reread.number == follow.number
        stop = follow.offset if here else generation.available
        # Room for the longest line at once: what was consumed before must be consumed again.
        length = min(max(settings.chunk_bytes, parser.chunk_bytes_min), stop - reread.offset)
        charge = await self._reads.admit(length, carried=parser.carry_bytes)
        try:
            if not log.holds(generation, opened):
                return  # Given up, or cut, while the budget was full.
            chunk = Chunk(length)
            read = await self._reads.fill(follow, opened, chunk, length, reread.offset)
            if opened.compressed:
                if read < length:
                    log.chain.measured(generation, reread.offset + read)
            elif not self._reads.is_same(follow, generation, opened):
                return
            now_ns = self._host.clock.now_ns()
            final = not here and reread.offset + read >= generation.available
            columns = parser.parse(
                chunk, read, offset=reread.offset, read_time_ns=now_ns, final=final
            )
        finally:
            charge.release()
        if columns.rows or not parser.consumed:
            self._give_up(follow, generation, "its bytes are not what they were")
            return
        reread.parser = parser
        reread.offset += parser.consumed

    def _give_up(self, follow: Follow, generation: Generation | None, why: str) -> None:
        """
        Let the next turn record the beginning of the row as lost, and go on at the frontier.
        """
        reread = follow.reread
        assert reread is not None
        cut = generation is None or generation.was_cut
        reread.lost = LossReason.TRUNCATED if cut else LossReason.DELETED
        reread.why = f"the beginning of a row that was dropped from memory: {why}"

    def lost(self, follow: Follow) -> tuple[StreamCursor, LossReason, str]:
        """
        Forget the dropped row; return where it began, and why it is lost.
        """
        reread = follow.reread
        assert reread is not None
        assert reread.lost is not None
        began = resume_place(follow.cursor)
        other = follow.cursor[0]
        at_frontier = (other.generation, other.offset) == follow.place
        here = StreamCursor(*follow.place, other.mode if at_frontier else StreamMode.LINE)
        a, b, c = (max(place, here) for place in follow.cursor)
        follow.cursor = (a, b, c)
        follow.parser = follow.reread = follow.stream = None
        follow.overdue = follow.timed_out = False
        follow.earlier.clear()
        return began, reread.lost, reread.why


def _carried(follow: Follow) -> int:
    parser: Parser | None = follow.parser
    if parser is None and follow.reread is not None:
        parser = follow.reread.parser
    return _held(follow) + (parser.carry_bytes if parser is not None else 0)


def _held(follow: Follow) -> int:
    """
    Return the bytes of rows that a transform holds back; it gives them back when they are released.
    """
    return follow.transforms.carry_bytes if follow.transforms is not None else 0


def _ends_of(follow: Follow) -> tuple[bytes, ...]:
    """
    Return what stands in the last line of a row that is open.
    """
    if follow.log.format == FORMAT_DOCKER:
        return (b'\\n"',)
    return tuple(
        f" {name} F".encode()
        for name, place in zip(STREAM_NAMES, follow.cursor, strict=True)
        if (place.generation, place.offset) < follow.place
    )
