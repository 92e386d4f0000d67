"""
What open rows hold in memory, and which of them goes first.

A row whose `P` pieces have come and whose `F` has not is carried from one chunk to the next.  The carries of
a route may hold CARRY_PART of its guaranteed minimum, so that there is always room for chunks, whatever is
open.  Beyond it the largest carry is dropped: its pieces are still in the file, and the place of its stream
in the cursor says where.  They are read again when their end has come, one row at a time: that row is
spared, and may be larger than all that carries may hold.

No I/O and no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable

    from agent.core.budget import Share

Key = TypeVar("Key", bound="Hashable")

#: The part of a route's minimum that carries may hold, as a divisor.
CARRY_PART = 2


class Carries(Generic[Key]):
    """
    The carries of one run of a route, by whom they belong to.
    """

    __slots__ = ("_held", "_share", "bytes", "bytes_max")

    def __init__(self, share: Share) -> None:
        self._share = share
        self._held: dict[Key, int] = {}
        self.bytes = 0
        self.bytes_max = share.guaranteed // CARRY_PART

    def __contains__(self, key: Key) -> bool:
        """
        Return whether *key* carries anything.
        """
        return key in self._held

    def hold(self, key: Key, held: int) -> None:
        """
        Let *key* hold *held* bytes from now on.  Never fails: the memory is already taken.
        """
        assert held >= 0
        delta = held - self._held.pop(key, 0)
        if held:
            self._held[key] = held
        self.bytes += delta
        self._share.carry(delta)

    def beyond(self, *, spared: Collection[Key | None]) -> Key | None:
        """
        Return whose carry is to be dropped; None where all fit, or only *spared* ones are left.
        """
        if self.bytes <= self.bytes_max:
            return None
        others = (key for key in self._held if key not in spared)
        return max(others, key=self._held.__getitem__, default=None)

    def clear(self) -> None:
        """
        Give everything back.
        """
        for key in list(self._held):
            self.hold(key, 0)
