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

    def checkpoint_wanted(self) -> None:
        """The sink has use for a checkpoint now, not only when the route's interval has passed."""


class Sink(Protocol):
    """
    Delivers segments to one destination.  Subclass it to get the defaults of what only staging sinks need.

    Life: `open` → (`accept` | checkpoint)* with `run` beside → stop → `close`.  After an error anywhere in
    the route the whole sink is closed, thrown away and built anew: it holds nothing that is not on disk
    or unconfirmed.  `close` is called before the next one is built, also after an error.

    A checkpoint is `rows = await confirm()`, then at once, without an await between, the ledgers' cursors
    are taken; then one transaction with both, then `committed(rows)`.  Rows that `confirm` returned are
    always committed, even where no cursor moved; where the transaction fails, the next `confirm` returns
    them again.  Checkpoints of a route never overlap.

    Stop: the route accepts nothing any more, and `run` goes on beside until `close`:
    `drain` → checkpoint → `finish` → (checkpoint, where `finish` may have settled more) → `run` is
    cancelled → `close`.
    """

    share: Share

    @property
    def full(self) -> bool:
        """
        Whether the reader must wait because a limit other than memory is reached (staging on disk).

        Segments that were admitted before are still accepted.  The sink says so itself, once a minute.
        """
        return False

    async def open(self) -> None:
        """Recover what the last run left (staging, uploads)."""

    def accept(self, segment: Segment) -> None:
        """
        Take *segment*, which has rows; never blocks.  The segment's charge is the sink's from now on.

        Where the settings have `name_fields`, it may have parts (core/batch.py), each of which is delivered by itself.
        """

    async def run(self) -> None:
        """Deliver until cancelled.  Errors that are retried stay inside."""

    async def confirm(self) -> SinkRows | None:
        """
        Make durable what the next checkpoint will rely on, and report its rows as delivered.

        Returns the sink's own rows for the same transaction as the cursors; None where it has none, or
        where the store has them already.
        """
        return None

    def committed(self, rows: SinkRows) -> None:
        """Learn that the transaction with *rows*, which `confirm` returned, is durable."""

    async def drain(self, timeout_s: float) -> None:
        """
        Bring everything accepted to where `confirm` can confirm it, within *timeout_s*.

        A sink that sends has then sent it; a sink that stages has then staged it.  What is left stays unresolved.
        """

    async def finish(self, timeout_s: float) -> None:
        """
        Deliver what is staged and committed (seal, upload), within *timeout_s*.

        The rest waits on disk for the next start.
        """

    async def close(self) -> None:
        """Let go of files and connections; returns when no write of this sink is under way any more."""
