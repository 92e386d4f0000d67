"""
Programs of regular expressions over rows: time is linear in the length of the text, whatever the pattern.

`core/regex.py` compiles patterns, and says what they are.
"""

from typing import Final, Self, final

from agent._fastfields import Mask
from agent._fastparse import Columns

OP_BYTE: Final = 0  # x: a set; then the next instruction
OP_SPLIT: Final = 1  # x first, then y
OP_JUMP: Final = 2  # x
OP_SAVE: Final = 3  # x: a slot
OP_ASSERT: Final = 4  # x: a place
OP_MATCH: Final = 5

PLACE_BEGIN: Final = 0
PLACE_END: Final = 1
PLACE_LINE_BEGIN: Final = 2
PLACE_LINE_END: Final = 3
PLACE_WORD: Final = 4
PLACE_NO_WORD: Final = 5

@final
class Regex:
    """
    A compiled pattern.  It keeps what it has learnt of the texts, within a limit, so it belongs to one thread.
    """

    def __new__(
        cls,
        program: tuple[tuple[int, int, int], ...],
        sets: tuple[bytes, ...],
        names: tuple[str, ...],
        literal: bytes,
    ) -> Self: ...
    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups, "" for those without."""
    @property
    def literal(self) -> bytes:
        """A text that every match has in it; looked for first."""
    @property
    def states(self) -> int:
        """How many states are known."""
    def search(self, text: bytes) -> bool:
        """Whether the pattern matches somewhere in *text*."""
    def find(self, text: bytes, start: int = ...) -> tuple[int, ...] | None:
        """Begin and end of the leftmost match from *start* on and of its groups, -1 for those that took no part."""

def narrow_matches(columns: Columns, mask: Mask, field: int, regex: Regex) -> None:
    """Take the rows out of *mask* whose message or field the pattern does not match."""
