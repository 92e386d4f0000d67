"""
Descriptors that are let go while they are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from agent.sources.heads import Opened
from agent.sources.opens import Opens

if TYPE_CHECKING:
    from agent.core.host import Disk


class Closes:
    """
    Remembers what was closed.
    """

    def __init__(self) -> None:
        self.closed: list[int] = []

    def close(self, fd: int) -> None:
        self.closed.append(fd)


def test_what_is_read_is_closed_afterwards() -> None:
    """
    Its number could be another file's before.
    """
    closes = Closes()
    disk = cast("Disk", closes)
    opens = Opens()
    opens[1, 1], opens[1, 2] = Opened(7, True), Opened(8, False)
    with opens.in_use(disk):
        with opens.in_use(disk):
            opens.let_go((1, 1), disk)
        assert closes.closed == []
        assert (1, 1) not in opens
    assert closes.closed == [7]
    opens.let_all_go(disk)
    assert closes.closed == [7, 8]
