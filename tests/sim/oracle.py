"""
What must hold, whatever happens: the promises P1 to P8.

Pieces are numbered, so what arrived is a set of numbers: a piece that came twice cannot hide one that is
missing.  A broken promise ends the run.

| promise | checked |
|---|---|
| P1 no cursor beyond confirmed bytes | at every commit, piece by piece: delivered, or in synced bytes of staging |
| P2 delivered or recorded, and no record without a cause | at the end, and at every loss record |
| P3 CloudWatch duplicates are bounded; none after a stop | at every request: only what was in flight or not committed |
| P4 S3 rows exactly once, objects never replaced | at every object, and at the end |
| P5 order within a stream and within a row group | at every request and object |
| P6 the budget | at every commit; nothing is held after a stop |
| P7 a route in trouble costs the others nothing | every few seconds: lag of routes without a fault |
| P8 everything catches up | after the faults have ended |
| P0 nothing fails that was not made to fail | at every own log line |
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from agent.core.batch import LossReason
from tests.sim.promise import BrokenPromise, named

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.core.batch import Loss
    from agent.core.checkpoint import Transaction
    from tests.sim.node import Node
    from tests.sim.pieces import Content, Piece
    from tests.sim.seal import Row

NUMBER = re.compile(rb"<(\d+)>")
#: Below it nobody can be sure that the agent has seen a file, or what was written to it (P2).
SEEN_S = 1.0
#: A route without a fault is at most so far behind; a rotated file waits for its writer for up to 5 s,
#: a truncated one for its copy, an open piece for its end.
LAG_MAX_S = 30.0
REJECTED = {LossReason.TOO_OLD, LossReason.TOO_NEW, LossReason.EXPIRED, LossReason.REFUSED}
CLOUDWATCH, PARQUET, BLACKHOLE = "cw", "s3", "bh"


class Oracle:
    """
    What was written, what arrived, what was committed.
    """

    def __init__(self, world: Node, routes: Iterable[str]) -> None:
        self.world = world
        self.routes = tuple(routes)
        self.pieces: dict[int, Piece] = {}
        self.contents: dict[tuple[str, bytes, int], Content] = {}
        #: Of every file_id that was ever committed.
        self.by_file_id: dict[str, Content] = {}
        self.delivered: dict[str, set[int]] = {route: set() for route in self.routes}
        self.lost: dict[str, set[int]] = {route: set() for route in self.routes}
        #: Not accounted for yet, in the order in which they were written.
        self.pending: dict[str, dict[int, Piece]] = {route: {} for route in self.routes}
        #: Behind a committed cursor.
        self.covered: dict[str, set[int]] = {route: set() for route in self.routes}
        #: The sender knows that they arrived, and since when.
        self.confirmed: dict[int, float] = {}
        #: May come to CloudWatch again: the sender cannot know, or has forgotten, that they arrived.
        self.repeatable: set[int] = set()
        self.rows: set[tuple[str, int]] = set()
        self.archived: set[int] = set()
        self.repeated = 0
        self._pointers: dict[tuple[str, int, int], int] = {}
        self._order: dict[tuple[str, str, int], tuple[int, tuple[int, int]]] = {}
        self._clock_moved = False

    def fail(self, promise: str, text: str) -> None:
        """
        End the run.
        """
        self.world.broke(BrokenPromise(promise, text))

    # -- what is written ----------------------------------------------------------------------

    def written(self, piece: Piece) -> None:
        """
        Expect a piece.
        """
        content = piece.content
        self.pieces[piece.number] = piece
        assert content.head is not None
        self.contents[content.head] = content
        if not content.named:
            piece.excused = content.held_by != self._life
            piece.may_be_lost = piece.excused
        for pending in self.pending.values():
            pending[piece.number] = piece

    @property
    def _life(self) -> int | None:
        host = self.world.host
        return host.number if host is not None and host.alive else None

    def _up_since(self, moment: float) -> float:
        """
        Return for how long the agent has been up, and the moment past.
        """
        host = self.world.host
        if host is None or not host.alive or self.world.stopping:
            return -1.0
        return self.world.loop.now - max(moment, host.started_at)

    def unlinked(self, content: Content) -> None:
        """
        Take note that no name leads to *content* any more.
        """
        if self._up_since(content.created_at) >= SEEN_S:
            content.held_by = self._life
        else:
            self._let_go(content)

    def overwritten(self, content: Content) -> None:
        """
        Take note that *content* is nowhere any more.
        """
        if self._up_since(content.created_at) < SEEN_S:
            self._let_go(content)
            return
        for piece in content.pieces:
            piece.may_be_lost = True
            if self._up_since(piece.written_at) < SEEN_S:
                piece.excused = True

    def _let_go(self, content: Content) -> None:
        size = self.world.known_size(content)
        for piece in content.pieces:
            piece.may_be_lost = True
            # What the store knows to have been there is recorded, what nobody knows cannot be.
            if piece.stop > size:
                piece.excused = True

    def life_ended(self, *, crashed: bool) -> None:
        """
        Take note of the end of a life: descriptors are closed, memory is gone.
        """
        for content in self.contents.values():
            if not content.named:
                content.held_by = None
                self._let_go(content)
        self.confirmed.clear()
        if CLOUDWATCH in self.delivered and (crashed or not self.world.calm):
            self.repeatable |= self.delivered[CLOUDWATCH] - self.covered[CLOUDWATCH]

    def clock_moved(self) -> None:
        """
        Take note of an NTP step: CloudWatch wants events by their time.
        """
        self._clock_moved = True

    # -- what arrives -------------------------------------------------------------------------

    def cloudwatch_took(
        self, stream: str, messages: list[str], *, certain: bool, late: bool
    ) -> None:
        """
        Check a request that took effect.

        *certain*: nothing but a crash keeps its answer from the sender; *late*: the sender does not wait any more.
        """
        delivered, repeatable = self.delivered[CLOUDWATCH], self.repeatable
        for message in messages:
            pieces = self._pieces_of(message.encode())
            self._check_row(pieces)
            fresh = [piece for piece in pieces if piece.number not in delivered]
            if fresh and fresh[0] is pieces[0] and not late:
                self._check_order(stream, pieces[0])
            for piece in pieces:
                number = piece.number
                if number in delivered:
                    self.repeated += 1
                    if certain and number not in repeatable and not self._is_anew(piece):
                        self.fail("P3", f"{named(piece)} came to CloudWatch again for no reason")
                else:
                    delivered.add(number)
                    self.pending[CLOUDWATCH].pop(number, None)
                if not certain:
                    repeatable.add(number)

    def cloudwatch_refuses(self, messages: Iterable[str]) -> None:
        """
        Take note of the pieces in events that are refused.
        """
        for piece in self._pieces_of("".join(messages).encode()):
            piece.refused = True

    def cloudwatch_answered(self, plain: bytes, *, arrived: bool) -> None:
        """
        Take note of whether the sender has the answer to a request that took effect.
        """
        now = self.world.loop.now
        for found in NUMBER.findall(plain):
            number = int(found)
            if arrived:
                self.confirmed.setdefault(number, now)
                self.repeatable.discard(number)
            else:
                self.repeatable.add(number)

    def blackhole_took(self, messages: Iterable[bytes]) -> None:
        """
        Take note of rows that were resolved.
        """
        for message in messages:
            for piece in self._pieces_of(message):
                self.delivered[BLACKHOLE].add(piece.number)
                self.pending[BLACKHOLE].pop(piece.number, None)

    def staged(self, messages: Iterable[bytes]) -> None:
        """
        Take note of rows in synced bytes of staging.
        """
        for message in messages:
            for piece in self._pieces_of(message):
                self.delivered[PARQUET].add(piece.number)
                self.pending[PARQUET].pop(piece.number, None)

    def object_written(self, key: str, rows: list[Row], *, again: bool) -> None:
        """
        Check an object that became visible.
        """
        if again:
            self.fail("P4", f"the object {key} was replaced")
        last: dict[tuple[str, int], tuple[int, int]] = {}
        for row in rows:
            if (row.file_id, row.offset) in self.rows:
                self.fail(
                    "P4", f"row {row.file_id[:8]}…/{row.offset} is in S3 twice: {row.message!r}"
                )
            self.rows.add((row.file_id, row.offset))
            pieces = self._pieces_of(row.message)
            self._check_row(pieces)
            for piece in pieces:
                if piece.number in self.archived and not self._is_anew(piece):
                    self.fail("P4", f"{named(piece)} is in S3 twice")
                self.archived.add(piece.number)
                place = (piece.content.number, piece.start)
                before = (piece.content.log.path, piece.stream)
                if place < last.get(before, (-1, -1)) and not self._is_anew(piece):
                    self.fail("P5", f"{named(piece)} stands behind a later one in {key}")
                last[before] = place

    def _is_anew(self, piece: Piece) -> bool:
        """
        Whether nobody can know that the piece's file is the one that it was before a power loss.
        """
        # What was written after the boot is told by the wall clock.
        return piece.torn or (piece.content.shortened and self._clock_moved)

    def _pieces_of(self, message: bytes) -> list[Piece]:
        found = [self.pieces.get(int(number)) for number in NUMBER.findall(message)]
        return [piece for piece in found if piece is not None]

    def _check_row(self, pieces: list[Piece]) -> None:
        for before, after in pairwise(pieces):
            same = (before.content.log, before.stream) == (after.content.log, after.stream)
            if not same or before.final:
                self.fail("P5", f"{named(before)} and {named(after)} became one row")

    def _check_order(self, where: str, piece: Piece) -> None:
        """
        Check a piece against what came to the stream before: neither its time nor its place may be earlier.

        A request is in the order of time, and a line that is late in its file is later than the first ones of
        the next file.
        """
        # A row whose beginning was lost with its file begins later, and may have another stream for that.
        if self._clock_moved or piece.cut or piece.continues:
            return
        key = (where, piece.content.log.path, piece.stream)
        place = (piece.content.number, piece.start)
        number, before = self._order.get(key, (-1, (-1, -1)))
        if piece.number < number and place < before:
            self.fail("P5", f"{named(piece)} came behind a later one to stream {where}")
        self._order[key] = (max(number, piece.number), max(before, place))

    # -- what is committed --------------------------------------------------------------------

    def committed(self, transaction: Transaction) -> None:
        """
        Check a transaction that is durable.
        """
        route = transaction.route
        for row in transaction.generations:
            content = self.contents.get((row.log, row.head, row.head_length))
            if content is not None:
                self.by_file_id[row.file_id] = content
        for loss in transaction.losses:
            self._lost(route, loss)
        for log, cursor in transaction.cursors.items():
            numbers = self.world.generation_numbers(log)
            for content, number in numbers:
                for stream, place in enumerate(cursor):
                    if number > place.generation:
                        continue
                    limit = place.offset if number == place.generation else 1 << 62
                    self._cover(route, content, stream, limit)

    def _cover(self, route: str, content: Content, stream: int, limit: int) -> None:
        key = (route, id(content), stream)
        index = self._pointers.get(key, 0)
        pieces = content.pieces
        while index < len(pieces) and pieces[index].start < limit:
            piece = pieces[index]
            index += 1
            if piece.stream != stream:
                continue
            self.covered[route].add(piece.number)
            known = piece.number in self.delivered[route] or piece.number in self.lost[route]
            if not known and not piece.excused:
                self.fail("P1", f"the cursor of {route} passed {named(piece)}, which nobody has")
        self._pointers[key] = index

    def _lost(self, route: str, loss: Loss) -> None:
        if loss.reason is LossReason.DAMAGED:
            self.fail("P4", f"staged rows are damaged: {loss}")
        content = self.by_file_id.get(loss.file_id)
        for piece in content.named_by(loss.start, loss.stop) if content else ():
            # With the clock set back for hours the service takes nothing that was written before.
            refused = piece.refused or self._clock_moved
            if piece.number in self.lost[route] or (loss.reason in REJECTED and not refused):
                continue  # Rows that were refused share a record; what lies between them was taken.
            rejected = route == CLOUDWATCH and loss.reason in REJECTED
            known = piece.number in self.delivered[route]
            if not (rejected or piece.may_be_lost or known or self._is_anew(piece)):
                self.fail("P2", f"{named(piece)} is recorded as lost without a cause: {loss}")
            self.lost[route].add(piece.number)
            self.pending[route].pop(piece.number, None)

    # -- what is looked at now and then -------------------------------------------------------

    def behind(self, route: str, older_than: float) -> Piece | None:
        """
        Return a piece that *route* should have by now, of those written before *older_than*.
        """
        pending = self.pending[route]
        for number, piece in list(pending.items()):
            if piece.excused:
                del pending[number]
            elif piece.written_at < older_than:
                return piece
            else:
                return None
        return None

    def check_lag(self, route: str) -> None:
        """
        Check that a route without a fault keeps up.
        """
        now = self.world.loop.now
        if self._up_since(0.0) < LAG_MAX_S:
            return
        piece = self.behind(route, now - LAG_MAX_S)
        if piece is not None:
            self.fail("P7", f"{route} has no fault and is behind: {named(piece)}")

    def check_crash(self) -> None:
        """
        Check what a crash now repeats: of a Log that was quiet and confirmed for a while, nothing.
        """
        if CLOUDWATCH not in self.routes:
            return
        before = self.world.loop.now - self.world.commit_slack_s
        late: set[str] = set()
        candidates: list[Piece] = []
        for piece in self.pieces.values():
            if piece.excused or piece.number in self.covered[CLOUDWATCH]:
                continue
            confirmed = self.confirmed.get(piece.number)
            if confirmed is None or confirmed > before or not piece.final or piece.refused:
                late.add(piece.content.log.path)
            else:
                candidates.append(piece)
        for piece in candidates:
            if piece.content.log.path not in late:
                self.fail("P3", f"{named(piece)} was confirmed long ago and is not committed")

    def check_end(self) -> None:
        """
        Check that nothing is missing.
        """
        for route in self.routes:
            for piece in self.pending[route].values():
                if not piece.excused:
                    self.fail("P2", f"{route} never got {named(piece)}")
        if PARQUET in self.routes:
            for piece in self.pieces.values():
                if piece.number in self.archived or piece.number in self.lost[PARQUET]:
                    continue
                if not piece.excused:
                    self.fail("P4", f"{named(piece)} is not in S3")
