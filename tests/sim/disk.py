"""
The disk of a simulated node, as one process has it: descriptors that are gone with the process.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from tests.sim.tree import DIRECTORY, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sim.tree import Inode, Tree

    Listing = list[tuple[str, Status]]
    Names = list[tuple[str, bool]]


class Descriptors:
    """
    The open files of one process; all are gone with it.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._files: dict[int, Inode] = {}
        self._next = 3

    def open(self, inode: Inode) -> int:
        if inode.is_directory:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        fd = self._next
        self._next += 1
        self._files[fd] = inode
        inode.held += 1
        return fd

    def __getitem__(self, fd: int) -> Inode:
        if fd not in self._files:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._files[fd]

    def close(self, fd: int) -> None:
        inode = self[fd]
        del self._files[fd]
        inode.held = max(0, inode.held - 1)
        self._tree.freed(inode)

    def close_all(self) -> None:
        for fd in list(self._files):
            self.close(fd)

    def __len__(self) -> int:
        return len(self._files)


class SimDisk:
    """
    Implements `Disk` of core/host.py for one process.
    """

    def __init__(self, tree: Tree, *, cold: Callable[[], bool]) -> None:
        self._tree = tree
        self.descriptors = Descriptors(tree)
        #: Whether the page cache has nothing of the next read.
        self._cold = cold

    def list(self, directory: str) -> Listing:
        inode = self._tree.find(directory)
        if not inode.is_directory:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory)
        device = self._tree.device
        return [(name, Status(child, device)) for name, child in inode.entries.items()]

    def stat(self, path: str) -> Status:
        return Status(self._tree.find(path), self._tree.device)

    def resolve(self, path: str) -> str:
        return path

    def link_target(self, path: str) -> str:
        return path

    def free(self, path: str | int) -> int:
        return 1 << 40

    def open(self, path: str) -> int:
        return self.descriptors.open(self._tree.find(path))

    def fstat(self, fd: int) -> Status:
        return Status(self.descriptors[fd], self._tree.device)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return bytes(self.descriptors[fd].data[offset : offset + length])

    def read_warm(self, fd: int, chunk: Any, length: int, offset: int) -> int | None:
        return None if self._cold() else self.read_cold(fd, chunk, length, offset)

    def read_cold(self, fd: int, chunk: Any, length: int, offset: int) -> int:
        data = self.pread(fd, length, offset)
        memoryview(chunk)[: len(data)] = data
        return len(data)

    def close(self, fd: int) -> None:
        self.descriptors.close(fd)


class SimStateDisk:
    """
    Implements `StateDisk` of core/host.py for one process.
    """

    def __init__(self, tree: Tree, *, fault: Callable[[str, str], None]) -> None:
        self._tree = tree
        self.descriptors = Descriptors(tree)
        #: Called before everything that changes the disk: (operation, path); raises OSError or ends the process.
        self._fault = fault

    def open(self, path: str) -> int:
        if not self._tree.exists(path):
            self._fault("open", path)
            self._tree.make(path)
        return self.descriptors.open(self._tree.find(path))

    def open_read(self, path: str) -> int:
        return self.descriptors.open(self._tree.find(path))

    def size(self, fd: int) -> int:
        return len(self.descriptors[fd].data)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return bytes(self.descriptors[fd].data[offset : offset + length])

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        inode = self.descriptors[fd]
        self._fault("pwrite", "")
        self._tree.write(inode, data, offset)
        return len(data)

    def truncate(self, fd: int, length: int) -> None:
        self._tree.truncate(self.descriptors[fd], length)

    def sync(self, fd: int) -> None:
        self._fault("sync", "")
        self._tree.sync(self.descriptors[fd])

    def close(self, fd: int) -> None:
        self.descriptors.close(fd)

    def leads(self, path: str, fd: int) -> bool:
        return self._tree.exists(path) and self._tree.find(path) is self.descriptors[fd]

    def exists(self, path: str) -> bool:
        return self._tree.exists(path)

    def list(self, directory: str) -> Names:
        entries = self._tree.find(directory).entries
        return [(name, child.is_directory) for name, child in entries.items()]

    def make_directory(self, path: str) -> None:
        self._fault("mkdir", path)
        self._tree.make(path, DIRECTORY)

    def sync_directory(self, path: str) -> None:
        self._fault("sync_directory", path)
        inode = self._tree.find(path)
        inode.durable = dict(inode.entries)

    def link(self, path: str, target: str) -> None:
        self._fault("link", target)
        self._tree.link(path, target)

    def rename(self, path: str, target: str) -> None:
        self._fault("rename", target)
        self._tree.rename(path, target)

    def unlink(self, path: str) -> None:
        self._fault("unlink", path)
        self._tree.unlink(path)

    def remove_tree(self, path: str) -> None:
        if self._tree.exists(path):
            self._fault("remove_tree", path)
            self._tree.remove_tree(path)
