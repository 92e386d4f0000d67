"""
A value made once for an object: for a Resource, the names and the text that follow from it.

Texts may go with the object: the values of fields, of which a name is made, too.

Objects are told apart by identity, not by value: to compare labels would cost more than to look them up, and whoever
hands out equal objects only pays twice.  A value goes with its object: what is known of a pod, annotations of many KiB
among it, is not held by what was made of it.

Bounded by number and by bytes, too; what was made of the oldest object goes first, and is made again when asked for.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Key = TypeVar("Key")
Value = TypeVar("Value")

#: Containers that a node writes for, several times over.
ENTRIES_MAX = 4096
#: Of all values: labels and annotations can be 6 KiB each time.
BYTES_MAX = 8 << 20


@dataclass(slots=True, eq=False)
class _Known(Generic[Value]):
    """
    What was made of one object, by texts.
    """

    #: Forgets all of it with the object.
    lifetime: weakref.ref[Any]
    values: dict[tuple[str, ...], Value] = field(default_factory=dict)


class Once(Generic[Key, Value]):
    """
    Values by object.
    """

    __slots__ = ("_bytes", "_bytes_max", "_entries_max", "_known", "_len", "_make", "_size")

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
        self._known: dict[int, _Known[Value]] = {}
        self._len = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._len

    def get(self, key: Key, texts: tuple[str, ...] = ()) -> Value:
        """
        Return the value of *key* with *texts*.
        """
        known = self._known.get(id(key))
        if known is not None and texts in known.values:
            return known.values[texts]
        value = self._make(key, *texts)
        if known is None:
            lifetime = weakref.ref(key, partial(self._forget, id(key)))
            known = self._known[id(key)] = _Known(lifetime)
        known.values[texts] = value
        self._len += 1
        self._bytes += self._size(value)
        while self._len > 1 and (self._len > self._entries_max or self._bytes > self._bytes_max):
            self._drop_oldest()
        return value

    def _drop_oldest(self) -> None:
        identity, known = next(iter(self._known.items()))
        self._count_out(known.values.pop(next(iter(known.values))))
        if not known.values:
            del self._known[identity]

    def _forget(self, identity: int, _: object) -> None:
        for value in self._known.pop(identity).values.values():
            self._count_out(value)

    def _count_out(self, value: Value) -> None:
        self._len -= 1
        self._bytes -= self._size(value)
