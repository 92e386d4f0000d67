"""
Extracted fields to typed column buffers, as Arrow lays them out: little-endian, a bitmap of what is not null.
"""

from typing import Final, NamedTuple

from agent._fastparse import Columns

TYPE_STRING: Final = 0
TYPE_BIGINT: Final = 1
TYPE_DOUBLE: Final = 2
TYPE_BOOLEAN: Final = 3
TYPE_TIMESTAMP: Final = 4

class Typed(NamedTuple):
    """
    One column.
    """

    valid: bytes  # a bit per row
    values: (
        bytes  # int64, double, a bit per row, int64 of milliseconds; of strings their int32 offsets
    )
    text: bytes  # of strings: their bytes, valid UTF-8
    misfits: int  # values that are there and are not of the type: they are null

def typed_column(columns: Columns, field: int, type: int) -> Typed:
    """
    Return the values of a field as *type*.

    A string is what was extracted, objects and arrays as written; a bigint has digits alone and fits 64 bits; a
    timestamp is what `take_times` takes.
    """
