"""
Rows by the values of fields, of which names are made.  `_reference_split.py` is the specification.
"""

from typing import Final, NamedTuple, Self, final

from agent._fastparse import Columns

#: Bytes of a value that can be in a name; a longer one counts as beyond.
VALUE_BYTES_MAX: Final = 256
#: Fields that names of one route can be made of.
SPLIT_FIELDS_MAX: Final = 8

class Numbered(NamedTuple):
    """
    Which combination of values every row has.
    """

    numbers: bytes  # int32 per row
    fresh: int  # combinations that were not known before
    beyond: int  # rows of number 0

@final
class Values:
    """
    Combinations of the values of the fields *indices*, numbered from 1 as they come; 0 is every one beyond *limit*.
    """

    def __new__(cls, indices: tuple[int, ...], limit: int) -> Self: ...
    def __len__(self) -> int:
        """Combinations that have a number."""
    def number(self, columns: Columns, fresh_max: int) -> Numbered:
        """Give every row its number; at most *fresh_max* combinations get a new one."""
    def texts(self, number: int) -> tuple[bytes, ...]:
        """The values of a combination; empty where a row has none."""

def split(columns: Columns, numbers: bytes, *, fields: bool) -> list[tuple[int, Columns]]:
    """
    Copy the rows of each number into columns of their own, in order, with their *fields* or without.

    The numbers come in the order of their first rows; where there is only one, the columns are returned as they are.
    """
