"""
What a checkpoint has written, and what it has yet to write.
"""

from __future__ import annotations

from agent.core.budget import Budget
from agent.core.counters import Counters
from agent.core.cursor import cursor_at
from agent.core.resolve import Resolver


def test_a_log_that_was_begun_before_its_cursor_is_not_moved_past_it() -> None:
    """
    After a power loss a file is shorter than what was stored: the place at which it is begun is stored instead.

    The ledger must follow, or the next checkpoint would write the old place, past bytes that are yet to come.
    """
    share = Budget(1 << 20, ("r",)).shares["r"]
    resolver = Resolver("r", {"l": cursor_at(5, 1000)}, Counters(), share)
    assert resolver.dirty() == {}
    resolver.written({"l": cursor_at(5, 800)}, 0)
    ledger = resolver.ledgers["l"]
    assert not ledger.dirty
    assert ledger.committed == cursor_at(5, 800)
    assert resolver.dirty() == {}
    resolver.close()
