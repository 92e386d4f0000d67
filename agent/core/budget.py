"""
Bytes in flight, process-wide.

A reader takes the peak of a chunk before it reads; whoever holds the memory afterwards resizes the
charge to what is really held and releases it in the end.  Every route keeps a guaranteed minimum,
so that a dead sink that holds its whole share can never starve another route.

Nothing can deadlock: what a route holds belongs to its sink, which gives it back as it delivers, or is
carried by its reader (core/carries.py).  A route whose sink holds nothing always gets its next chunk, whatever
is carried; so the budget is passed by one chunk at most, and by the open row that it may complete.

No I/O and no clock.  Waiting is the runtime's: `take` answers at once.
"""

from __future__ import annotations

#: What an unresolved segment holds besides its columns, in Python objects of ledger, batcher and sink: 1,235
#: bytes measured for a segment of one line.
SEGMENT_BYTES = 1280


class Charge:
    """
    A claim on the budget; belongs to whoever holds the memory.
    """

    __slots__ = ("_share", "held")

    def __init__(self, share: Share, held: int) -> None:
        self._share = share
        self.held = held

    def resize(self, held: int) -> None:
        """
        Hold *held* bytes from now on.  Growing never fails: the memory is already taken.
        """
        assert held >= 0
        self._share.move(held - self.held)
        self.held = held

    def release(self) -> None:
        """
        Give everything back; may be called again.
        """
        self.resize(0)


class Share:
    """
    One route's part of the budget.
    """

    __slots__ = ("_budget", "carried", "guaranteed", "held", "name", "short")

    def __init__(self, budget: Budget, name: str, guaranteed: int) -> None:
        self._budget = budget
        self.name = name
        self.guaranteed = guaranteed
        self.held = 0
        #: The part of it that the reader carries: no sink will ever give it back.
        self.carried = 0
        #: Whether the last chunk that was asked for found no room.
        self.short = False

    def take(self, wanted: int) -> Charge | None:
        """
        Return a charge of *wanted* bytes, or None where there is no room.

        A route whose sink holds nothing always gets its chunk: a chunk larger than its minimum (a very
        long line), or one that ends a row that is carried, must not wait for ever.
        """
        budget = self._budget
        fits_minimum = self.held + wanted <= self.guaranteed
        fits_common = (
            budget.common_held + max(0, self.held + wanted - self.guaranteed) - self._excess
            <= budget.common_size
        )
        self.short = self.held > self.carried and not fits_minimum and not fits_common
        if self.short:
            return None
        self.move(wanted)
        return Charge(self, wanted)

    def carry(self, delta: int) -> None:
        """
        Change what the reader carries by *delta* bytes.
        """
        self.carried += delta
        assert self.carried >= 0, f"route {self.name} gave back more than it carried"
        self.move(delta)

    @property
    def _excess(self) -> int:
        return max(0, self.held - self.guaranteed)

    def move(self, delta: int) -> None:
        """
        Change what the route holds by *delta* bytes.
        """
        before = self._excess
        self.held += delta
        assert self.held >= 0, f"route {self.name} gave back more than it took"
        self._budget.common_held += self._excess - before
        if delta < 0:
            self._budget.freed += 1


class Budget:
    """
    The process-wide limit: minimums of the routes, and a common part for what they need beyond.
    """

    __slots__ = ("common_held", "common_size", "freed", "shares", "size")

    def __init__(self, size: int, routes: tuple[str, ...]) -> None:
        assert routes
        self.size = size
        #: Half of the budget is guaranteed, in equal parts; the rest goes to who needs it.
        guaranteed = size // (2 * len(routes))
        self.shares = {name: Share(self, name, guaranteed) for name in routes}
        self.common_size = size - guaranteed * len(routes)
        self.common_held = 0
        #: Counts what was given back, so that a waiting reader knows when to try again.
        self.freed = 0

    @property
    def held(self) -> int:
        """
        Bytes held by all routes.
        """
        return sum(share.held for share in self.shares.values())
