"""
Fewer rows: a part of them, or so many a second.
"""

from typing import Final, NamedTuple

from agent._fastfields import Mask
from agent._fastparse import Columns

#: Flag of a row that stands for rows that were dropped; its message says how many.
FLAG_SUMMARY: Final = 0x100

class Bucket(NamedTuple):
    """
    What a limit keeps of a Log: tokens, and the time of the newest row, in ns.
    """

    tokens: float
    time_ns: int

def narrow_sample(columns: Columns, mask: Mask, field: int, ratio: float) -> None:
    """
    Keep about *ratio* of the rows, by a hash of the field's text: all rows of a text or none.

    Without a field (-1), and of rows that do not have it, by a hash of time and offset.
    """

def narrow_limit(
    columns: Columns, mask: Mask, bucket: Bucket, lines_per_s: float, burst: float
) -> Bucket:
    """
    Keep the rows for which the bucket has a token; it fills with the time of the rows.
    """

def keep_with_summary(columns: Columns, mask: Mask, before: bytes, behind: bytes) -> int:
    """
    Take out the rows that are not in the mask; a row of each stream says how many there were.

    It has the place of the first and the time of the last of them; its message is *before*, the number, *behind*.
    Return how many rows were taken out.
    """

def histogram(
    columns: Columns, mask: Mask, field: int, bounds: tuple[float, ...]
) -> tuple[list[int], float]:
    """
    Count the numbers in a field by the first bound that is not below them, and those above all; and add them up.
    """
