"""
A value made once for an object: for a Resource, the names and the text that follow from it.

Texts may go with the object: the values of fields, of which a name is made, too.

Objects are told apart by identity, not by value: to compare labels would cost more than to look them up, and whoever
hands out equal objects only pays twice.  No object is held (what is known of a pod can be annotations of many KiB), and
the values of one that is gone go with the next question.

Bounded by number and by bytes, too; what was made of the oldest object goes first, and is made again when asked for.
"""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import dataclass, field
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

    #: Says when the object is gone.
    lifetime: weakref.ref[Any]
    values: dict[tuple[str, ...], Value] = field(default_factory=dict)


class Once(Generic[Key, Value]):
    """
    Values by object.
    """

    __slots__ = (
        "_bytes",
        "_bytes_max",
        "_entries_max",
        "_gone",
        "_known",
        "_len",
        "_make",
        "_size",
    )

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
        #: Identities of objects that are gone: the last reference may be one of another thread.
        self._gone: deque[int] = deque()
        self._len = 0
        self._bytes = 0

    def __len__(self) -> int:
        self._forget()
        return self._len

    def get(self, key: Key, texts: tuple[str, ...] = ()) -> Value:
        """
        Return the value of *key* with *texts*.
        """
        # First of all: an identity may be that of another object by now.
        self._forget()
        identity, note = id(key), self._gone.append
        known = self._known.get(identity)
        if known is not None and texts in known.values:
            return known.values[texts]
        value = self._make(key, *texts)
        if known is None:
            known = _Known(weakref.ref(key, lambda _: note(identity)))
            self._known[identity] = known
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

    def _forget(self) -> None:
        while self._gone:
            # Not known: it had to make room.
            known = self._known.pop(self._gone.popleft(), None)
            for value in known.values.values() if known is not None else ():
                self._count_out(value)

    def _count_out(self, value: Value) -> None:
        self._len -= 1
        self._bytes -= self._size(value)
