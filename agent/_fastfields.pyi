"""
Extracted fields and masks of rows.  `_reference_fields.py` is the specification; this is the same, fast.

Fields live beside the columns that they were extracted from, as spans of their data.  Everything here is
called before anybody else holds the columns: what is handed on never changes.
"""

from typing import Final, Self, final

from agent._fastparse import Columns

#: Kinds of a field's value.
FIELD_ABSENT: Final = 0
FIELD_NULL: Final = 1
FIELD_FALSE: Final = 2
FIELD_TRUE: Final = 3
FIELD_NUMBER: Final = 4
FIELD_TEXT: Final = 5
FIELD_JSON: Final = 6

#: What a level written as a number means.
SCALE_PINO: Final = 0  # 10 trace, 20 debug, … 60 fatal
SCALE_PYTHON: Final = 1  # 10 debug, … 50 critical
SCALE_SYSLOG: Final = 2  # 0 emergency, … 7 debug
SCALE_OTEL: Final = 3  # 1 to 24

@final
class Wanted:
    """
    The names of the fields that somebody uses, at most 64.
    """

    def __new__(cls, names: tuple[bytes, ...]) -> Self: ...
    @property
    def names(self) -> tuple[bytes, ...]: ...
    def __len__(self) -> int: ...

@final
class Fields:
    """
    Values of the wanted fields, per row; made by the kernels.
    """

    def __new__(cls, wanted: Wanted, rows: int) -> Self: ...
    @property
    def wanted(self) -> Wanted: ...

@final
class Mask:
    """
    A set of rows; all of them at first.
    """

    def __new__(cls, rows: int) -> Self: ...
    @property
    def rows(self) -> int: ...
    def copy(self) -> Mask: ...
    def clear(self) -> None: ...
    def subtract(self, other: Mask) -> None: ...
    def add(self, other: Mask) -> None: ...
    def count(self) -> int: ...
    def __bytes__(self) -> bytes: ...

def keep(columns: Columns, mask: Mask) -> int: ...
def field(columns: Columns, index: int) -> list[tuple[int, bytes]]: ...
def severities(columns: Columns) -> bytes: ...
def parsed(columns: Columns) -> bytes: ...
def severity_of(text: bytes, scale: int = ...) -> int: ...
def take_levels(columns: Columns, indices: tuple[int, ...], scale: int) -> int: ...
def take_times(columns: Columns, index: int, unread: bool = ...) -> int: ...
def take_spans(columns: Columns, start: int, stop: int, target: int) -> None: ...
