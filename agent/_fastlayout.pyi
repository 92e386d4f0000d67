"""
Lines with their parts in a fixed order, and what the groups of a pattern match, to fields.
"""

from typing import Self, final

from agent._fastfields import Wanted
from agent._fastparse import Columns
from agent._fastregex import Regex

@final
class Layout:
    """
    The parts of a line: each is a field's name ("" for nobody's) and the text that ends it.

    The first part's text begins the line.  A part that ends with "" goes on to the line's end; those behind
    *required* may be missing.  *syslog*: the last part is RFC 5424's structured data and message, and the part
    `priority` has the severity.
    """

    def __new__(
        cls,
        begin: bytes,
        parts: tuple[tuple[bytes, bytes], ...],
        *,
        required: int,
        syslog: bool = ...,
    ) -> Self: ...

def extract_layout(columns: Columns, wanted: Wanted, layout: Layout) -> int: ...
def extract_groups(columns: Columns, wanted: Wanted, regex: Regex, fields: tuple[int, ...]) -> int:
    """
    Fill for every group of *regex* the field whose index is given, -1 for none.

    Return how many rows no kernel has recognised.
    """
