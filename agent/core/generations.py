"""
One generation of a Log: its identity, and what may still happen to its file.

What it is recognised by is in identity.py; device, inode, name and size are hints.

| state | its file | next |
|---|---|---|
| LIVE | is at the path that the writer opens | grows |
| ROTATED | has another name; its writer may still hold it | grows, or is quiet: SEALED |
| ABSENT | no name leads to it | grows while held, or is quiet: SEALED |
| CUT | was overwritten; only a copy can have the rest | a copy appears: SEALED, or none: LOST |
| SEALED | nobody writes to it any more | is read to its end |
| LOST | nobody can read it any more | a loss record |

No I/O and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from agent.core.checkpoint import GenerationRow
from agent.core.identity import NO_TAIL, TAIL_BYTES_MAX, tail_of

if TYPE_CHECKING:
    from agent.core.identity import Head, Tail
    from agent.core.rotated_names import RotatedName

#: `available` of a compressed file until it was read to its end.
UNMEASURED = 1 << 62


class State(Enum):
    """
    What may still happen to a generation's file.
    """

    LIVE = auto()
    ROTATED = auto()
    ABSENT = auto()
    CUT = auto()
    SEALED = auto()
    LOST = auto()


class Event(Enum):
    """
    What was observed of it.
    """

    SEEN_LIVE = auto()
    SEEN_ROTATED = auto()
    SEEN_COMPRESSED = auto()
    NOT_SEEN = auto()
    OVERWRITTEN = auto()
    QUIET = auto()
    GIVEN_UP = auto()


#: Cells that are not here cannot happen: matching never gives a CUT generation the live file back,
#: and never gives a LOST one anything.
TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.LIVE, Event.SEEN_LIVE): State.LIVE,
    (State.LIVE, Event.SEEN_ROTATED): State.ROTATED,
    (State.LIVE, Event.SEEN_COMPRESSED): State.SEALED,
    (State.LIVE, Event.NOT_SEEN): State.ABSENT,
    (State.LIVE, Event.OVERWRITTEN): State.CUT,
    # kubelet renames back where the runtime could not reopen the file.
    (State.ROTATED, Event.SEEN_LIVE): State.LIVE,
    (State.ROTATED, Event.SEEN_ROTATED): State.ROTATED,
    (State.ROTATED, Event.SEEN_COMPRESSED): State.SEALED,
    (State.ROTATED, Event.NOT_SEEN): State.ABSENT,
    (State.ROTATED, Event.OVERWRITTEN): State.CUT,
    (State.ROTATED, Event.QUIET): State.SEALED,
    (State.ABSENT, Event.SEEN_LIVE): State.LIVE,
    (State.ABSENT, Event.SEEN_ROTATED): State.ROTATED,
    (State.ABSENT, Event.SEEN_COMPRESSED): State.SEALED,
    (State.ABSENT, Event.NOT_SEEN): State.ABSENT,
    (State.ABSENT, Event.OVERWRITTEN): State.CUT,
    (State.ABSENT, Event.QUIET): State.SEALED,
    (State.ABSENT, Event.GIVEN_UP): State.LOST,
    # A copy is made before the file is cut, so it is complete when it counts.
    (State.CUT, Event.SEEN_ROTATED): State.SEALED,
    (State.CUT, Event.SEEN_COMPRESSED): State.SEALED,
    (State.CUT, Event.NOT_SEEN): State.CUT,
    (State.CUT, Event.QUIET): State.LOST,
    (State.SEALED, Event.SEEN_LIVE): State.LIVE,
    (State.SEALED, Event.SEEN_ROTATED): State.SEALED,
    (State.SEALED, Event.SEEN_COMPRESSED): State.SEALED,
    (State.SEALED, Event.NOT_SEEN): State.SEALED,
    (State.SEALED, Event.OVERWRITTEN): State.CUT,
    (State.SEALED, Event.GIVEN_UP): State.LOST,
    (State.LOST, Event.NOT_SEEN): State.LOST,
}


class ImpossibleEventError(AssertionError):
    """
    An observation that the table has no cell for: a bug in the matching, never in the input.
    """


class Sighting(NamedTuple):
    """
    A file of a Log's family, as it was seen in its directory.
    """

    name: str
    parts: RotatedName
    device: int
    inode: int
    size: int  # of a compressed file: what its trailer says
    mtime_ns: int
    head: Head | None
    #: It could not be opened or read: only its inode tells what it is.
    unreadable: bool = False
    #: What it has where tails were looked for.
    tails: tuple[Tail, ...] = ()

    @property
    def key(self) -> tuple[int, int]:
        """
        Device and inode.
        """
        return (self.device, self.inode)

    @property
    def event(self) -> Event:
        """
        What it means for its generation.
        """
        if self.parts.compressed:
            return Event.SEEN_COMPRESSED
        return Event.SEEN_LIVE if self.parts.is_live else Event.SEEN_ROTATED


@dataclass(slots=True, eq=False, kw_only=True)
class Generation:
    """
    One file of a Log's chain.  Times are monotonic seconds.
    """

    number: int
    head: bytes = b""
    head_length: int = 0
    ordinal: int = 0
    file_id: str = ""
    device: int = 0
    inode: int = 0
    name: str = ""
    size: int = 0  # the most that was ever known of it
    available: int = 0  # how much of it can be read
    state: State = State.LIVE
    place: Sighting | None = None
    held: bool = False  # the shell has an open descriptor of (device, inode)
    grown_at: float = 0.0
    waiting_since: float = float("-inf")  # superseded, absent or cut since
    was_cut: bool = False
    touched: bool = False  # a route began to read it, or a checkpoint knows it
    sought: bool = False  # a checkpoint knows it, and no look has found it yet
    unseen: bool = False  # it got its identity after the last look at its directory: not to be read before the next
    stamped: bool = False  # its head is no other file's
    tail: Tail = NO_TAIL
    given_up: str = ""  # the limit for which its descriptor was closed
    measured: bool = False  # a compressed file was read to its end

    @property
    def key(self) -> tuple[int, int]:
        """
        Device and inode of the file that is read.
        """
        return (self.device, self.inode)

    @property
    def readable(self) -> bool:
        """
        Whether there is a file to read it from.
        """
        return self.held or self.place is not None

    @property
    def finished(self) -> bool:
        """
        Whether nobody writes to it any more.
        """
        return self.state in (State.SEALED, State.LOST)

    def apply(self, event: Event) -> None:
        """
        Go to the state that *event* leads to.
        """
        try:
            self.state = TRANSITIONS[self.state, event]
        except KeyError:
            raise ImpossibleEventError(
                f"generation {self.number} ({self.name}): {event.name} in state {self.state.name}"
            ) from None

    def same_head(self, sighting: Sighting) -> bool:
        """
        Whether *sighting* begins like this generation.
        """
        return sighting.head is not None and sighting.head.key == (self.head, self.head_length)

    def note_tail(self, before: bytes | memoryview, offset: int) -> None:
        """
        Remember the bytes that end at *offset*, where its first line does not tell it from others.

        Not before that line is complete: until then nothing is read, and the file may be cut unnoticed.
        """
        tail = self.tail
        if self.head and not self.stamped and (offset, len(before)) > (tail.offset, tail.length):
            self.tail = tail_of(bytes(before[-TAIL_BYTES_MAX:]), offset)

    def row(self, log: str) -> GenerationRow:
        """
        Return the identity for the checkpoint.
        """
        return GenerationRow(
            log=log,
            number=self.number,
            head=self.head,
            head_length=self.head_length,
            ordinal=self.ordinal,
            file_id=self.file_id,
            device=self.device,
            inode=self.inode,
            name=self.name,
            size=self.size,
            tail=self.tail,
        )


def from_row(row: GenerationRow) -> Generation:
    """
    Return the generation that a checkpoint knows, not found yet.
    """
    return Generation(
        number=row.number,
        head=row.head,
        head_length=row.head_length,
        ordinal=row.ordinal,
        file_id=row.file_id,
        device=row.device,
        inode=row.inode,
        name=row.name,
        size=row.size,
        state=State.ABSENT,
        touched=True,
        sought=True,
        tail=row.tail,
        grown_at=float("-inf"),
    )
