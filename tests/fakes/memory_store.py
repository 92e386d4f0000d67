"""
The transactions of the checkpoint store that a staging sink uses, in memory.

It survives a simulated crash by being kept.  `state` is what the next run of the route finds.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from agent.core.checkpoint import RouteState

if TYPE_CHECKING:
    from agent.core.batch import Loss
    from agent.core.checkpoint import Transaction


class MemoryStore:
    """
    Implements the part of `Store` of core/checkpoint.py that one route needs.
    """

    def __init__(self) -> None:
        self._state = RouteState(first_start=False)
        self.losses: list[Loss] = []
        self.commits = 0
        #: Raised by the next commits instead of committing.
        self.errors: list[Exception] = []

    @property
    def state(self) -> RouteState:
        """
        What was committed, as a copy.
        """
        return deepcopy(self._state)

    async def commit(self, transaction: Transaction) -> None:
        """
        Apply *transaction* as a whole.
        """
        if self.errors:
            raise self.errors.pop(0)
        state = self._state
        state.cursors |= transaction.cursors
        if transaction.sink is not None:
            state.sink = transaction.sink
        windows = {window.number: window for window in state.windows}
        windows |= {window.number: window for window in transaction.windows}
        for number in transaction.windows_gone:
            del windows[number]
        state.windows = [windows[number] for number in sorted(windows)]
        self.losses += transaction.losses
        self.commits += 1
