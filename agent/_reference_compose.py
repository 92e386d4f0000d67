"""
What a message becomes that is replaced by an object, in plain Python: the specification of `_fastcompose`.

| source | value |
|---|---|
| field | JSON (objects, arrays, true, false) as it is; text and numbers as text; absent and null: no member |
| message | the text |
| time | as the runtime wrote it, else RFC 3339 with nine digits and `Z` |
| stream | `stdout` or `stderr`; for a line of neither: no member |
| tag | `P` for a part of a line, else `F` |

An object has its members in the order in which they are named, then the tail.  Where neither the message nor one of the
fields is among them, `"log":` and the message stand before the tail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent._fastcompose import FROM_FIELD, FROM_MESSAGE, FROM_STREAM, FROM_TAG
from agent._fastfields import FIELD_FALSE, FIELD_JSON, FIELD_NULL, FIELD_TRUE
from agent._fastparse import FLAG_PARTIAL, FLAG_STREAM_MASK
from agent._reference_records import decode, escape, time_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent._reference_fields import Value
    from agent._reference_records import Row

_STREAMS = {1: "stdout", 2: "stderr"}


def compose(
    row: Row, fields: Sequence[Value], members: Sequence[tuple[bytes, int, int]], tail: bytes
) -> str:
    """
    Return the object that takes the place of the message of *row*.
    """
    parts = []
    own = False
    for name, source, field in members:
        value = _value(row, fields, source, field)
        if value is not None:
            parts.append(decode(name) + value)
            own = own or source in (FROM_FIELD, FROM_MESSAGE)
    if not own:
        parts.append(f'"log":{_quoted(row.message)}')
    return "{" + ",".join([*parts, *([decode(tail)] if tail else [])]) + "}"


def _value(row: Row, fields: Sequence[Value], source: int, field: int) -> str | None:
    if source == FROM_FIELD:
        kind, text = fields[field]
        if kind <= FIELD_NULL:
            return None
        words = {FIELD_TRUE: "true", FIELD_FALSE: "false", FIELD_JSON: decode(text)}
        return words.get(kind, _quoted(text))
    if source == FROM_MESSAGE:
        return _quoted(row.message)
    if source == FROM_STREAM:
        stream = _STREAMS.get(row.flags & FLAG_STREAM_MASK)
        return stream and f'"{stream}"'
    if source == FROM_TAG:
        return '"P"' if row.flags & FLAG_PARTIAL else '"F"'
    return f'"{time_of(row)}"'


def _quoted(text: bytes) -> str:
    return f'"{escape(decode(text))}"'
