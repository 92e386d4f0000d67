"""
Rows by the values of fields, in plain Python: the specification of `_fastsplit`.

The *combination* of a row is, for each field that names are made of, the text of its value: numbers, true and false
as they are written; nothing (`b""`) where it is absent, null, an object or an array.  A combination in which a value
is longer than VALUE_BYTES_MAX has the number 0.

Others are numbered from 1 as they come, until there are `limit` of them, or `fresh_max` new ones in this call; after
that a new one has the number 0, and those that are known keep theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent._fastfields import FIELD_JSON, FIELD_NULL
from agent._fastsplit import VALUE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent._reference_fields import Value


def number(
    rows: Sequence[Sequence[Value]],
    known: dict[tuple[bytes, ...], int],
    *,
    limit: int,
    fresh_max: int,
) -> list[int]:
    """
    Return the number of each of *rows*, the values of its fields, and enter new combinations into *known*.
    """
    numbers = []
    before = len(known)
    for values in rows:
        combination = tuple(_text(value) for value in values)
        found = known.get(combination, 0)
        short = all(len(text) <= VALUE_BYTES_MAX for text in combination)
        if not found and short and len(known) < limit and len(known) - before < fresh_max:
            found = known[combination] = len(known) + 1
        numbers.append(found)
    return numbers


def _text(value: Value) -> bytes:
    kind, text = value
    return b"" if kind <= FIELD_NULL or kind == FIELD_JSON else text
