"""
The disk of a simulated node: it forgets what nobody synced, and its inodes are used again.

One tree holds the logs and the state directory.  A process that is killed loses its descriptors alone.
After a power loss

- of a file that was written since its last sync a random prefix of the writes is there, the last of them
  cut at random (a torn write), in the state directory as zeros sometimes (blocks that were allocated and
  not written);
- of names made, moved or removed since the directory was synced a random part is as it was before, in
  the state directory; the tree of the logs is that of a journal, whose names survive;
- the device has another number.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

DIRECTORY = stat.S_IFDIR | 0o755
FILE = stat.S_IFREG | 0o644


@dataclass(slots=True, eq=False)
class Inode:
    """
    A file or a directory.
    """

    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    #: Content as of the last sync; what a power loss leaves at least.
    synced: bytes = b""
    mtime_ns: int = 0
    names: int = 0
    #: Of a directory: what is in it, and what of that is durable.
    entries: dict[str, Inode] = field(default_factory=dict)
    durable: dict[str, Inode] = field(default_factory=dict)
    held: int = 0  # descriptors of the agent

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Status:
    """
    What stat returns.
    """

    __slots__ = ("st_blocks", "st_dev", "st_ino", "st_mode", "st_mtime_ns", "st_nlink", "st_size")

    def __init__(self, inode: Inode, device: int) -> None:
        self.st_dev = device
        self.st_ino = inode.number
        self.st_size = len(inode.data)
        self.st_blocks = -(-self.st_size // 512)
        self.st_mtime_ns = inode.mtime_ns
        self.st_nlink = inode.names
        self.st_mode = inode.mode


class Tree:
    """
    The file system.
    """

    def __init__(self, *, now_ns: Callable[[], int], random: Random) -> None:
        self._now_ns = now_ns
        self._random = random
        self._numbers = 100
        self._free: list[int] = []
        self.device = 2049
        self.root = Inode(2, DIRECTORY, names=1)
        #: Told of every change of a directory: (directory, name).
        self.on_change: Callable[[str, str], None] = lambda _directory, _name: None
        #: Told of every write to a file.
        self.on_write: Callable[[Inode], None] = lambda _inode: None

    # -- names --------------------------------------------------------------------------------

    def find(self, path: str) -> Inode:
        """
        Return the inode at *path*.
        """
        inode = self.root
        for part in path.split("/"):
            if part:
                if not inode.is_directory:
                    raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                following = inode.entries.get(part)
                if following is None:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
                inode = following
        return inode

    def exists(self, path: str) -> bool:
        try:
            self.find(path)
        except OSError:
            return False
        return True

    def _home(self, path: str) -> tuple[Inode, str, str]:
        directory, name = posixpath.split(path)
        return self.find(directory), directory, name

    def _changed(self, home: Inode, directory: str, name: str) -> None:
        home.mtime_ns = self._now_ns()
        self.on_change(directory, name)

    def make(self, path: str, mode: int = FILE, *, reuse: bool = False) -> Inode:
        """
        Create a file or a directory; *reuse*: with the number of a file that is gone, if there is one.
        """
        home, directory, name = self._home(path)
        if name in home.entries:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if reuse and self._free:
            number = self._free.pop()
        else:
            self._numbers += 1
            number = self._numbers
        inode = Inode(number, mode, mtime_ns=self._now_ns(), names=1)
        home.entries[name] = inode
        self._changed(home, directory, name)
        return inode

    def make_directories(self, path: str) -> None:
        """
        Create *path* and what is missing above it, durably.
        """
        above = ""
        for part in path.strip("/").split("/"):
            home = self.find(above or "/")
            above = f"{above}/{part}"
            if part not in home.entries:
                self.make(above, DIRECTORY)
                home.durable[part] = home.entries[part]

    def link(self, path: str, target: str) -> None:
        inode = self.find(path)
        home, directory, name = self._home(target)
        if name in home.entries:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        home.entries[name] = inode
        inode.names += 1
        self._changed(home, directory, name)

    def rename(self, path: str, target: str) -> None:
        home, directory, name = self._home(path)
        inode = self.find(path)
        new_home, new_directory, new_name = self._home(target)
        replaced = new_home.entries.get(new_name)
        del home.entries[name]
        new_home.entries[new_name] = inode
        if replaced is not None and replaced is not inode:
            self._drop(replaced)
        self._changed(home, directory, name)
        self._changed(new_home, new_directory, new_name)

    def unlink(self, path: str) -> None:
        inode = self.find(path)
        home, directory, name = self._home(path)
        del home.entries[name]
        self._drop(inode)
        self._changed(home, directory, name)

    def remove_tree(self, path: str) -> None:
        inode = self.find(path)
        for name, child in list(inode.entries.items()):
            below = posixpath.join(path, name)
            if child.is_directory:
                self.remove_tree(below)
            else:
                self.unlink(below)
        self.unlink(path)

    def _drop(self, inode: Inode) -> None:
        inode.names -= 1
        self.freed(inode)

    def freed(self, inode: Inode) -> None:
        """
        Let the number of *inode* be used again, if nothing holds it.
        """
        if inode.names == 0 and not inode.held and not inode.is_directory:
            self._free.append(inode.number)

    # -- content ------------------------------------------------------------------------------

    def write(self, inode: Inode, data: bytes | memoryview, offset: int) -> None:
        if offset > len(inode.data):
            inode.data.extend(bytes(offset - len(inode.data)))
        inode.data[offset : offset + len(data)] = data
        inode.mtime_ns = self._now_ns()
        self.on_write(inode)

    def truncate(self, inode: Inode, length: int) -> None:
        if length < len(inode.data):
            del inode.data[length:]
        else:
            inode.data.extend(bytes(length - len(inode.data)))
        inode.mtime_ns = self._now_ns()
        self.on_write(inode)

    @staticmethod
    def sync(inode: Inode) -> None:
        if inode.synced != inode.data:
            inode.synced = bytes(inode.data)

    # -- power --------------------------------------------------------------------------------

    def lose_power(self, *, journaled: str) -> None:
        """
        Forget; names below *journaled* survive.
        """
        self.device += 1
        self._forget_names(self.root, "", journaled)
        seen: set[int] = set()
        self._forget_content(self.root, "", journaled, seen)

    def _forget_names(self, inode: Inode, path: str, journaled: str) -> None:
        if not path.startswith(journaled):
            for name in sorted(inode.entries.keys() | inode.durable.keys()):
                before, now = inode.durable.get(name), inode.entries.get(name)
                if before is now or path == "":
                    continue
                if self._random.random() < 0.5:
                    if before is None:
                        del inode.entries[name]
                    else:
                        inode.entries[name] = before
        for name, child in list(inode.entries.items()):
            if child.is_directory:
                self._forget_names(child, f"{path}/{name}", journaled)
        inode.durable = dict(inode.entries)

    def _forget_content(self, inode: Inode, path: str, journaled: str, seen: set[int]) -> None:
        # Not by number: a name that comes back may lead to an inode whose number another has by now.
        if id(inode) in seen:
            return
        seen.add(id(inode))
        inode.held = 0
        for name, child in sorted(inode.entries.items()):
            self._forget_content(child, f"{path}/{name}", journaled, seen)
        if inode.is_directory or inode.data == inode.synced:
            return
        data, synced = bytes(inode.data), inode.synced
        common = _common(data, synced)
        if common == len(synced):
            kept = self._random.randint(common, len(data))
            torn = bytearray(data[:kept])
            zeros = not path.startswith(journaled) and self._random.random() < 0.3
            if kept > common and zeros:
                start = self._random.randint(common, kept)
                torn[start:] = bytes(kept - start)
            inode.data = torn
        elif self._random.random() < 0.5:
            inode.data = bytearray(synced)
        inode.synced = bytes(inode.data)


def _common(data: bytes, synced: bytes) -> int:
    """
    Return how many bytes both begin with.
    """
    if data.startswith(synced):
        return len(synced)
    pairs = enumerate(zip(data, synced, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(data), len(synced)))
