"""
The last stage of a route: what became of rows settles the ledgers.

Sinks report delivered or rejected rows; the ledgers move; losses wait here until the next checkpoint
writes them in the same transaction as the cursors that pass them.  A loss whose lines are to be kept as a
dead letter is not settled before they are: no cursor passes it until then.

No I/O and no clock.  It implements `Resolve` of sinks/protocol.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.budget import SEGMENT_BYTES, Charge
from agent.core.cursor import cursor_at
from agent.core.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from agent.core.batch import Loss, LossReason, Segment
    from agent.core.budget import Share
    from agent.core.counters import Counters
    from agent.core.cursor import Cursor
    from agent.core.transform import Tally


class Resolver:
    """
    The ledgers of one run of a route.
    """

    __slots__ = (
        *("_charge", "_counters", "_moved", "_route", "_unresolved"),
        *("_passed", "checkpoint_wanted", "delivered_bytes", "ledgers"),
        *("letter_reasons", "losses", "unkept"),
    )

    def __init__(
        self,
        route: str,
        cursors: Mapping[str, Cursor],
        counters: Counters,
        share: Share,
        *,
        letter_reasons: AbstractSet[LossReason] = frozenset(),
        checkpoint_wanted: Callable[[], None] = lambda: None,
    ) -> None:
        self._route = route
        self._counters = counters
        self.checkpoint_wanted = checkpoint_wanted
        self.ledgers = {log: Ledger(cursor) for log, cursor in cursors.items()}
        #: Losses that no checkpoint has written yet.
        self.losses: list[Loss] = []
        #: What is counted with the checkpoint that is under way.
        self._passed: list[Tally] = []
        #: Losses for these reasons wait in `unkept` (with the segment and its rows) until their lines are kept.
        self.letter_reasons = letter_reasons
        self.unkept: list[tuple[Segment, int, Loss]] = []
        #: File bytes behind cursors that moved since the last checkpoint: what a crash would repeat.
        self.delivered_bytes = 0
        #: Logs whose ledgers may have moved since `dirty` was asked, in order.
        self._moved: dict[str, None] = {}
        #: Segments that a ledger holds, and what they cost.
        self._unresolved = 0
        self._charge = Charge(share, 0)

    def track(self, segment: Segment) -> None:
        """
        Enter *segment* into its Log's ledger; without rows it is resolved at once.
        """
        ledger = self.ledgers.get(segment.log)
        if ledger is None:
            ledger = self.ledgers[segment.log] = Ledger(
                cursor_at(segment.generation, segment.start)
            )
        self._moved[segment.log] = None
        before, count = ledger.unresolved_bytes, ledger.unresolved
        loss = segment.loss
        waits = loss is not None and loss.reason in self.letter_reasons
        ledger.track(segment, waits=waits)
        self._hold(ledger.unresolved - count)
        if loss is not None and waits:
            self.unkept.append((segment, 0, loss))
        elif loss is not None:
            self._lost(loss)
        self.delivered_bytes += before + segment.stop - segment.start - ledger.unresolved_bytes

    def delivered(self, segment: Segment, rows: int) -> None:
        """
        Settle *rows* rows that the destination has confirmed.
        """
        self._counters.add(metric.DELIVERED_ROWS, rows, self._route)
        self._settle(segment, rows)

    def rejected(self, segment: Segment, rows: int, loss: Loss) -> None:
        """
        Settle *rows* rows that the destination refuses for ever.
        """
        if loss.reason in self.letter_reasons:
            self.unkept.append((segment, rows, loss))
        else:
            self._rejected(segment, rows, loss)

    def kept(self, where: Sequence[str]) -> None:
        """
        Settle the first losses of `unkept`: *where* says of each where its lines are, or why they are nowhere.
        """
        settled, self.unkept = self.unkept[: len(where)], self.unkept[len(where) :]
        for (segment, rows, loss), text in zip(settled, where, strict=True):
            detail = f"{text}; {loss.detail}" if loss.detail else text
            known = replace(loss, detail=detail)
            if segment.loss is loss:
                self._lost(known)
                self._settle(segment, 1)
            else:
                self._rejected(segment, rows, known)

    def dirty(self) -> dict[str, Cursor]:
        """
        Return the cursors that the store does not have yet.
        """
        cursors = {}
        for log in self._moved:
            ledger = self.ledgers.get(log)
            if ledger is not None:
                self._passed += ledger.passed
                ledger.passed = []
                if ledger.dirty:
                    cursors[log] = ledger.committed
        # Until the store has them they are given again.
        self._moved = dict.fromkeys(cursors)
        return cursors

    def written(self, cursors: Mapping[str, Cursor], losses: int) -> None:
        """
        Note that a checkpoint holds *cursors* and the first *losses* losses.
        """
        del self.losses[:losses]
        for tally in self._passed:
            self._counters.tally(tally.metric, tally.amount, *tally.labels)
        self._passed = []
        for log, cursor in cursors.items():
            ledger = self.ledgers.get(log)
            if ledger is None:
                continue
            if ledger.dirty:
                ledger.dirty = ledger.committed != cursor
            else:
                # The place at which the Log was begun: after a power loss it is before what the store had.
                ledger.committed = cursor

    def keep(self, log: str) -> None:
        """
        Let the next checkpoint write the cursor of *log*, although it did not move.
        """
        ledger = self.ledgers.get(log)
        if ledger is not None:
            ledger.dirty = True
            self._moved[log] = None

    def unresolved_bytes(self) -> int:
        """
        Return the file bytes that were read and are not resolved.
        """
        return sum(ledger.unresolved_bytes for ledger in self.ledgers.values())

    def _rejected(self, segment: Segment, rows: int, loss: Loss) -> None:
        self._record(loss)
        self._counters.add(metric.REJECTED_ROWS, rows, self._route, loss.reason)
        self._settle(segment, rows)

    def _lost(self, loss: Loss) -> None:
        self._record(loss)
        self._counters.add(metric.LOST_BYTES, loss.stop - loss.start, self._route, loss.reason)

    def close(self) -> None:
        """
        Give back the memory of what was not resolved.
        """
        self._charge.release()

    def _hold(self, more: int) -> None:
        self._unresolved += more
        self._charge.resize(self._unresolved * SEGMENT_BYTES)

    def _settle(self, segment: Segment, rows: int) -> None:
        # Rows of a part are rows of the segment: it resolves when all its parts have.
        segment = segment.whole or segment
        ledger = self.ledgers[segment.log]
        self._moved[segment.log] = None
        before, count = ledger.unresolved_bytes, ledger.unresolved
        ledger.settle(segment, rows)
        self._hold(ledger.unresolved - count)
        self.delivered_bytes += before - ledger.unresolved_bytes

    def _record(self, loss: Loss) -> None:
        self.losses.append(loss)
        self._counters.add(metric.LOSSES, 1, self._route, loss.reason)
