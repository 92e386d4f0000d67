"""
The open files of one Log.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.sources.heads import Opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.core.host import Disk


class Opens(dict[tuple[int, int], Opened]):
    """
    Descriptors by device and inode.

    What is let go while a read is under way, perhaps in another thread, is closed after it: before, the
    number of the descriptor could become another file's.
    """

    __slots__ = ("_unclosed", "reading")

    def __init__(self) -> None:
        super().__init__()
        #: Reads under way.
        self.reading = 0
        self._unclosed: list[int] = []

    def let_go(self, key: tuple[int, int], disk: Disk) -> None:
        """
        Close the file *key*, if it is open.
        """
        opened = self.pop(key, None)
        if opened is not None:
            self._unclosed.append(opened.fd)
            self._close(disk)

    def let_all_go(self, disk: Disk) -> None:
        """
        Close every file.
        """
        for key in list(self):
            self.let_go(key, disk)

    @contextmanager
    def in_use(self, disk: Disk) -> Iterator[None]:
        """
        Close nothing meanwhile.
        """
        self.reading += 1
        try:
            yield
        finally:
            self.reading -= 1
            self._close(disk)

    def _close(self, disk: Disk) -> None:
        while self._unclosed and not self.reading:
            disk.close(self._unclosed.pop())


def is_descriptor_limit(error: OSError) -> bool:
    """
    Whether the process or the system is out of descriptors.
    """
    return error.errno in (errno.EMFILE, errno.ENFILE)
