"""
A value made once for an object: for a Resource, the names and the text that follow from it.

Texts may go with the object: the values of fields, of which a name is made, too.

Objects are told apart by identity, not by value: to compare labels would cost more than to look them up, and whoever
hands out equal objects only pays twice.  An object is held as long as its value, so its identity is its own.

Bounded by number and by bytes; what was made first goes first, and is made again when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Key = TypeVar("Key")
Value = TypeVar("Value")

#: Containers that a node writes for, several times over.
ENTRIES_MAX = 4096
#: Of all values: labels and annotations can be 6 KiB each time.
BYTES_MAX = 8 << 20


class Once(Generic[Key, Value]):
    """
    Values by object.
    """

    __slots__ = ("_bytes", "_bytes_max", "_entries", "_entries_max", "_make", "_size")

    def __init__(
        self,
        make: Callable[..., Value],
        *,
        size: Callable[[Value], int],
        entries_max: int = ENTRIES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        """
        Make values with *make*, of an object and its texts, each of about *size* bytes.
        """
        self._make = make
        self._size = size
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._entries: dict[tuple[int, tuple[str, ...]], tuple[Key, Value]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, texts: tuple[str, ...] = ()) -> Value:
        """
        Return the value of *key* with *texts*.
        """
        known = self._entries.get((id(key), texts))
        if known is not None:
            return known[1]
        value = self._make(key, *texts)
        self._entries[id(key), texts] = (key, value)
        self._bytes += self._size(value)
        while len(self._entries) > 1 and (
            len(self._entries) > self._entries_max or self._bytes > self._bytes_max
        ):
            _, oldest = self._entries.pop(next(iter(self._entries)))
            self._bytes -= self._size(oldest)
        return value
