"""
Rows of one stream that are one event, joined: stack traces, and groups by patterns.

An open group is held back: its text, its place and its time are the carry between two segments.
"""

from typing import Final, NamedTuple, Self, final

from agent._fastparse import Columns
from agent._fastregex import Regex

LANGUAGES: Final[dict[str, int]]

class Joined(NamedTuple):
    """
    What one `join` did.
    """

    joined: int  # rows that became part of another one
    split: int  # groups that were ended at a limit

@final
class Joiner:
    """
    The open groups of one Log in one route.
    """

    def __new__(
        cls,
        *,
        languages: int,
        lines_max: int,
        bytes_max: int,
        hold_max_s: float,
        start: Regex | None = ...,
        goes_on: Regex | None = ...,
        end: Regex | None = ...,
    ) -> Self:
        """
        Join by *languages* (LANGUAGES), or, where they are 0, by patterns.

        A line that matches *start* begins a group; others go on with one, where there is *goes_on* only if they match
        it; behind a line that matches *end* a group begins.
        """
    def join(self, columns: Columns, *, generation: int, now: float, release: bool) -> Joined:
        """
        Join rows of *columns*, which were read from *generation*, in place; hold back the last group of each stream.

        A group that is open since *hold_max_s* is ended; with *release*, all are.
        """
    @property
    def open_streams(self) -> int:
        """Bit mask (1 << stream) of the streams with an open group."""
    @property
    def carry_bytes(self) -> int:
        """Memory held by open groups."""
    @property
    def since(self) -> float:
        """When the oldest open group was begun; infinity where none is."""
    def place(self, stream: int) -> tuple[int, int]:
        """Generation and offset at which the open group of *stream* begins."""
