"""
What is written on the simulated node, and what is to become of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.tree import Inode
    from tests.sim.writers import Log


@dataclass(slots=True, eq=False)
class Piece:
    """
    One physical line that was written whole.
    """

    number: int
    content: Content
    stream: int
    start: int
    stop: int
    written_at: float
    final: bool
    #: Nobody has to deliver it: it was gone before anybody could be sure to have seen it.
    excused: bool = False
    #: A loss record may cover it.
    may_be_lost: bool = False
    #: The service refuses it: CloudWatch need not have it.
    refused: bool = False
    #: Its row has begun in an earlier one.
    continues: bool = False
    #: A power loss took a part of its file's first line: to anybody it is another file now.
    torn: bool = False
    #: A power loss took its end: what is left is another line, which the service may take after all.
    cut: bool = False

    def row(self) -> list[Piece]:
        """
        Return this piece and those behind it in its file that continue its row.
        """
        found = [self]
        for piece in self.content.pieces:
            if found[-1].final:
                break
            if piece.start > self.start and piece.stream == self.stream:
                found.append(piece)
        return found


@dataclass(slots=True, eq=False)
class Content:
    """
    What was written from one beginning of a file on.
    """

    log: Log
    number: int
    created_at: float
    inodes: list[Inode] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    size: int = 0
    #: What the agent recognises it by; its file_id is of the agent's making.
    head: tuple[str, bytes, int] | None = None
    #: A power loss took its end.
    shortened: bool = False
    #: Number of the life of the agent that must have it open although it has no name.
    held_by: int | None = None

    @property
    def named(self) -> bool:
        return any(inode.names > 0 for inode in self.inodes)

    def named_by(self, start: int, stop: int) -> list[Piece]:
        """
        Return the pieces that a loss record names: of a row that ends in a later file it has the first byte.
        """
        found = [piece for piece in self.pieces if start <= piece.start < stop]
        return found[0].row() if found and stop == start + 1 else found
