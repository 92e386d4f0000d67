"""
Which bytes of a Log may be forgotten.

A route tracks every segment in reading order.  Sinks settle rows in any order.  `committed` is the
cursor behind the longest prefix of resolved segments, so a crash may repeat lines but never skips
one: open pieces of a stream keep that stream's place in the cursor (see core/cursor.py).

No I/O and no clock: the checkpoint store reads `committed` and writes it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.core.batch import Segment
    from agent.core.cursor import Cursor
    from agent.core.transform import Tally


class Ledger:
    """
    The unresolved segments of one Log in one route.
    """

    __slots__ = ("_bytes", "_frontier", "_pending", "_sequence", "committed", "dirty", "passed")

    def __init__(self, cursor: Cursor) -> None:
        self.committed = cursor
        #: Whether `committed` moved since the store last wrote it.
        self.dirty = False
        #: What was counted in resolved segments, until the store knows that they are passed.
        self.passed: list[Tally] = []
        self._pending: deque[Segment] = deque()
        self._frontier: tuple[int, int] | None = None
        self._sequence = 0
        self._bytes = 0

    def track(self, segment: Segment, *, waits: bool = False) -> None:
        """
        Claim the segment's bytes; one that *waits* has one row more to settle.
        """
        # Segments tile the chain.  A gap here would be a line that nobody acks, and the cursor
        # behind it would skip it.
        place = (segment.generation, segment.start)
        if self._frontier is not None:
            generation, offset = self._frontier
            assert place == self._frontier or (
                segment.generation > generation and segment.start == 0
            ), f"{segment.log}: segment at {place} does not continue {(generation, offset)}"
        assert segment.stop >= segment.start
        self._frontier = (segment.generation, segment.stop)
        segment.sequence = self._sequence
        segment.rows_open = segment.rows + waits
        self._sequence += 1
        self._pending.append(segment)
        self._bytes += segment.stop - segment.start
        self._advance()

    def settle(self, segment: Segment, rows: int) -> bool:
        """
        Account for *rows* more rows of *segment*.

        Returns:
            Whether `committed` moved.
        """
        assert 0 <= rows <= segment.rows_open, f"{rows} of {segment.rows_open} rows settled"
        segment.rows_open -= rows
        return self._advance()

    @property
    def idle(self) -> bool:
        """
        Whether nothing is unresolved.
        """
        return not self._pending

    @property
    def unresolved(self) -> int:
        """
        Segments without an outcome, or behind one.
        """
        return len(self._pending)

    @property
    def unresolved_bytes(self) -> int:
        """
        Bytes of the file behind `committed` that were read.
        """
        return self._bytes

    def _advance(self) -> bool:
        moved = False
        while self._pending and not self._pending[0].rows_open:
            segment = self._pending.popleft()
            self._bytes -= segment.stop - segment.start
            self.passed += segment.tallies
            if segment.cursor_after != self.committed:
                self.committed = segment.cursor_after
                moved = True
        self.dirty |= moved
        return moved
