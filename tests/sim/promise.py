"""
A promise that was found broken, and the piece of log that it is about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.pieces import Piece


class BrokenPromise(Exception):  # noqa: N818 - the finding of a run
    """
    The first promise that a run found broken.
    """

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise


def named(piece: Piece) -> str:
    """
    Return what *piece* is and where it was written.
    """
    return (
        f"piece {piece.number} ({piece.content.log.path}, content {piece.content.number}, stream "
        f"{piece.stream}, bytes {piece.start}-{piece.stop}, written at {piece.written_at:.2f})"
    )
