"""
Where one route stands in one Log: its place, its parser, and what it has to treat specially.

The place (`number`, `offset`) is the frontier: everything before it is in segments.  The cursor is
where the streams would resume; with open pieces it lies before the frontier.  A quiet Log without
open pieces drops its parser: then the cursor *is* the place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent import _fastparse
from agent.core.cursor import Cursor, StreamCursor, StreamMode, cursor_at, resume_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent import _reference
    from agent.core.batch import LossReason
    from agent.core.generations import Generation
    from agent.core.host import Host
    from agent.core.pod_facts import Metadata
    from agent.core.transform import LogTransforms
    from agent.sources.followed import FollowedLog
    from agent.sources.gunzip import GzipStream

    Parser = _fastparse.Parser | _reference.Parser


#: Waits between attempts to read a file that fails, in seconds.
RETRY_S_MIN = 0.5
RETRY_S_MAX = 30.0


def slow_parser() -> type[_reference.Parser]:
    """
    Return the parser in plain Python, which reads what the fast one fails at.
    """
    # Imported where it is needed: an agent that meets no poison never pays for it.
    from agent import _reference  # noqa: PLC0415

    return _reference.Parser


@dataclass(frozen=True, slots=True)
class Skip:
    """
    Bytes that are not to be read, because no parser or sink gets through them.
    """

    number: int
    start: int
    stop: int
    reason: LossReason


@dataclass(slots=True, eq=False)
class Reread:
    """
    An open row that was dropped from memory, and how far it has been read again.
    """

    number: int
    offset: int
    looked: int  # No end of it stands before this offset of the frontier's generation.
    wanted: bool = False
    parser: Parser | None = None
    lost: LossReason | None = None
    why: str = ""


@dataclass(slots=True, eq=False, kw_only=True)
class Follow:
    """
    One route in one Log.
    """

    log: FollowedLog
    cursor: Cursor
    number: int
    offset: int
    #: Not committed yet although it is not the Log's beginning: the route must write it first.
    first_cursor: Cursor | None = None
    #: Stand at the last line start before this size, before anything else.
    align_size: int | None = None
    parser: Parser | None = None
    transforms: LogTransforms | None = None
    #: All bytes before it are looked at, and hold no line that is not in a segment.
    looked_size: int = -1
    chunk_bytes: int = 0  # 0: the source's
    stream: GzipStream | None = None
    #: file_ids of earlier generations that open pieces may have begun in.
    earlier: dict[int, str] = field(default_factory=dict)
    skips: list[Skip] = field(default_factory=list)
    reference: tuple[int, int] | None = None  # slow parser until this place
    progress_at: float = 0.0
    errors: int = 0
    retry_at: float = 0.0
    ended: bool = False
    gathers: bool = False  # what is unread can wait for more (gather.py)
    #: An open row that is not in memory (pieces.py): nothing is read before it is back.
    reread: Reread | None = None
    #: Open rows are to be released: at once, or as soon as nothing is unread.
    overdue: bool = False
    timed_out: bool = False
    # Of the select stage (gate.py).
    dropped: int = 0  # bit mask (1 << stream) of the streams that are not wanted
    decided_on: Metadata | None = None
    gated_since: float | None = None
    missing: bool = False  # the pod was not known in time

    @property
    def place(self) -> tuple[int, int]:
        """
        The frontier.
        """
        return (self.number, self.offset)

    @property
    def is_releasing(self) -> bool:
        """
        Whether open rows are in memory and to be released.
        """
        return (self.overdue or self.timed_out) and self.reread is None

    @property
    def is_special(self) -> bool:
        """
        Whether something else comes before the next read.
        """
        return self.align_size is not None or self.is_releasing or self.reread is not None

    @property
    def open_streams(self) -> int:
        """
        Bit mask (1 << stream) of the streams with open pieces, or rows that a transform holds back.
        """
        held = 0 if self.transforms is None else self.transforms.open_streams
        return held if self.parser is None else held | self.parser.open_streams

    def held_too_long(self, now: float) -> bool:
        """
        Whether a transform holds rows back for as long as it may.
        """
        return self.transforms is not None and self.transforms.due(now)

    def parser_for(self, format_: int, line_bytes_max: int) -> Parser:
        """
        Return the parser, made from the cursor if there is none.
        """
        if self.parser is None:
            parser = self.new_parser(format_, line_bytes_max)
            if self.number > resume_place(self.cursor).generation:
                parser.begin(self.number)
            self.parser = parser
        return self.parser

    def new_parser(self, format_: int, line_bytes_max: int) -> Parser:
        """
        Return a parser that stands where reading resumes.
        """
        make = _fastparse.Parser if self.reference is None else slow_parser()
        parser: Parser = make(format=format_, line_bytes_max=line_bytes_max)
        parser.restore(self.cursor)
        return parser

    def delay(self, now: float) -> None:
        """
        Note an error: the next attempt is made later, and later each time.
        """
        self.errors += 1
        wait_s = min(RETRY_S_MAX, RETRY_S_MIN * 2 ** min(self.errors - 1, 10))
        self.retry_at = now + wait_s

    def rest(self) -> None:
        """
        Drop the parser where the cursor alone can bring it back.
        """
        if self.parser is not None and not self.open_streams:
            self.cursor = self.parser.cursor()
            self.parser = None
            self.earlier.clear()

    def current_cursor(self) -> Cursor:
        """
        Return where each stream would resume now.
        """
        cursor = self.cursor if self.parser is None else self.parser.cursor()
        return cursor if self.transforms is None else self.transforms.cursor(cursor)

    def advance(self, generation: Generation, passed: Generation | None) -> None:
        """
        Go to the beginning of the later *generation*; open pieces stay open.
        """
        if self.parser is not None:
            self.parser.begin(generation.number)
            if self.open_streams and passed is not None:
                self.earlier[passed.number] = passed.file_id
        self.number, self.offset = generation.number, 0
        self.looked_size = -1
        self.stream = None
        self.errors = 0
        self.ended = False

    def jump(self, stop: int, *, mode: StreamMode = StreamMode.LINE) -> Cursor:
        """
        Go to *stop* without reading; places that lie behind it already stay.
        """
        assert not self.open_streams
        target = StreamCursor(self.number, stop, mode)
        a, b, c = (max(place, target) for place in self.current_cursor())
        self.cursor = (a, b, c)
        self.parser = None
        self.offset = stop
        self.looked_size = -1
        return self.cursor

    def next_skip(self) -> Skip | None:
        """
        Return the first skip that is not behind the place.
        """
        here = [
            skip for skip in self.skips if skip.number == self.number and skip.stop > self.offset
        ]
        return min(here, key=lambda skip: skip.start, default=None)

    def passed_reference(self) -> None:
        """
        Go back to the fast parser once the place that needed the slow one is behind.
        """
        if self.reference is not None and self.place >= self.reference and not self.open_streams:
            self.rest()
            self.reference = None


class Detours:
    """
    What is not to be read as usual, also of Logs that their route has yet to meet.
    """

    def __init__(self, follows: Mapping[str, Follow]) -> None:
        self._follows = follows
        self._skips: dict[str, list[Skip]] = {}
        self._reference: dict[str, tuple[int, int]] = {}

    def skip(self, log: str, generation: int, start: int, stop: int, reason: LossReason) -> None:
        """
        Record [start, stop) of *generation* as lost instead of reading it.
        """
        follow = self._follows.get(log)
        skips = self._skips.setdefault(log, []) if follow is None else follow.skips
        skips.append(Skip(generation, start, stop, reason))

    def use_reference_parser(self, log: str, generation: int, start: int, stop: int) -> None:
        """
        Read *log* through the slow parser until [start, stop) of *generation* is behind.
        """
        assert start <= stop
        follow = self._follows.get(log)
        if follow is None:
            self._reference[log] = max(self._reference.get(log, (0, 0)), (generation, stop))
            return
        assert follow.parser is None, "asked before the first segment"
        follow.reference = max(follow.reference or (0, 0), (generation, stop))

    def hand_over(self, follow: Follow) -> None:
        """
        Give *follow*, which begins, what was noted of its Log.
        """
        follow.skips = self._skips.pop(follow.log.key, [])
        follow.reference = self._reference.pop(follow.log.key, None)


def begin(
    log: FollowedLog, cursor: Cursor | None, *, at_end: bool, after: int | None, now: float
) -> Follow:
    """
    Return the Follow of a Log that a route meets.

    *cursor*: what it has committed; *at_end*: without one, begin at the last line start of what is
    there; *after*: the route had forgotten the Log when it had this generation.

    A route has a cursor in every Log that it has followed for a commit interval.  So files that are gone
    by now were never its own where it has none: others read them, or it has forgotten the Log.
    """
    chain = log.chain
    if cursor is not None:
        return _resume(log, cursor, now)
    passed = -1 if after is None else after
    first = next(
        (item for item in chain.generations if item.number > passed and not item.sought), None
    )
    last = chain.generations[-1] if chain.generations else None
    if at_end and last is not None:
        follow = Follow(
            log=log, cursor=cursor_at(last.number, 0), number=last.number, offset=0, progress_at=now
        )
        follow.align_size = last.size
        return follow
    number = chain.next_number if first is None else first.number
    return Follow(log=log, cursor=cursor_at(number, 0), number=number, offset=0, progress_at=now)


def is_older(log: FollowedLog, host: Host, limit_s: float) -> bool:
    """
    Whether `ignore_older_s` leaves out what is in *log* now.
    """
    newest_ns = max((sighting.mtime_ns for sighting in log.sightings), default=0)
    age_s = (host.clock.now_ns() - newest_ns) / 1e9
    if not limit_s or age_s <= limit_s:
        return False
    host.tell(
        "file_ignored_older",
        f"{log.key}: not modified for {age_s:.0f} s: only what comes is read",
    )
    return True


def _resume(log: FollowedLog, cursor: Cursor, now: float) -> Follow:
    place = resume_place(cursor)
    generation = log.chain.find(place.generation)
    number, offset = place.generation, place.offset
    known = generation is not None or log.chain.after(number) is not None
    is_next = (number, offset) == (log.chain.next_number, 0)
    if log.chain.generations and not known and not is_next:
        # Its identity is not known any more: repeat rather than skip.
        number, offset = log.chain.generations[0].number, 0
        cursor = cursor_at(number, 0)
    elif generation is not None and offset > generation.size:
        # Only a reboot makes a file shorter than what was synced of a cursor (design: Logs).
        offset = generation.size
        clamped = StreamCursor(number, offset)
        a, b, c = (min(item, clamped) if item.generation == number else item for item in cursor)
        cursor = (a, b, c)
    return Follow(log=log, cursor=cursor, number=number, offset=offset, progress_at=now)
