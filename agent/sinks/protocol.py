"""
What a sink is.  To write one: copy `blackhole.py`, pass `tests/contract/sink.py`.

A sink never waits for memory: the reader did, and `accept` takes what was admitted.  It reports what
became of rows to the resolve stage and never looks back at the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agent.core.batch import Loss, Segment
    from agent.core.budget import Share
    from agent.core.checkpoint import SinkRows


class Resolve(Protocol):
    """
    The last stage: settles rows in the route's ledgers.
    """

    def delivered(self, segment: Segment, rows: int) -> None:
        """*rows* rows of *segment* are confirmed by the destination."""

    def rejected(self, segment: Segment, rows: int, loss: Loss) -> None:
        """The destination refuses *rows* rows for ever: record the loss, then they count as resolved."""


class Sink(Protocol):
    """
    Delivers segments to one destination.

    Life: `open` → (`accept` | `confirm`)* with `run` beside → `drain` → `close`.  After an exception out
    of `run` the whole sink is thrown away and built anew: it holds nothing that is not on disk or unconfirmed.
    """

    share: Share

    async def open(self) -> None:
        """Recover what the last run left (staging, uploads)."""

    def accept(self, segment: Segment) -> None:
        """Take *segment*, which has rows; never blocks.  The segment's charge is the sink's from now on."""

    async def run(self) -> None:
        """Deliver until cancelled.  Errors that are retried stay inside."""

    async def confirm(self) -> SinkRows | None:
        """
        Make durable what the next checkpoint will rely on, and report its rows as delivered.

        Returns the sink's own rows for the same transaction as the cursors; None where it has none.
        """

    async def drain(self, timeout_s: float) -> None:
        """Deliver everything accepted, within *timeout_s*; what is left stays unresolved."""

    async def close(self) -> None: ...
