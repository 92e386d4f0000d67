"""
Predicates over rows: each takes the rows out of a mask that do not satisfy it, and looks at no other.

A *field* is the index of a wanted field, or TARGET_MESSAGE.  A value that is absent or null satisfies nothing.
"""

from typing import Final

from agent._fastfields import Mask
from agent._fastparse import Columns

TARGET_MESSAGE: Final = -1

#: Comparisons with a number.
COMPARE_EQ: Final = 0
COMPARE_LT: Final = 1
COMPARE_LE: Final = 2
COMPARE_GT: Final = 3
COMPARE_GE: Final = 4

def narrow_severity(columns: Columns, mask: Mask, low: int, high: int) -> None: ...
def narrow_streams(columns: Columns, mask: Mask, streams: int) -> None: ...
def narrow_exists(columns: Columns, mask: Mask, field: int) -> None: ...
def narrow_text(columns: Columns, mask: Mask, field: int, text: bytes) -> None: ...
def narrow_starts(columns: Columns, mask: Mask, field: int, text: bytes) -> None: ...
def narrow_contains(columns: Columns, mask: Mask, field: int, text: bytes) -> None: ...
def narrow_number(
    columns: Columns, mask: Mask, field: int, comparison: int, number: float
) -> None: ...
