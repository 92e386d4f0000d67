"""
Files and directories of this machine.

A warm read asks the page cache alone (`RWF_NOWAIT`): 256 KiB take 72–101 µs inline, where a hop to the
executor costs 200 µs.  What is not there is read in the executor.  A file system that does not know
the flag (some FUSE and network ones) is read there always.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent._fastparse import Chunk
    from agent.core.host import FileStat

    Listing = list[tuple[str, FileStat]]

#: Descriptors that log files leave to sockets, store, staging and modules that are imported late; at most
#: half of what there are.  A route that cannot open its staging fails; a log file can wait.
FDS_RESERVED = 256
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | getattr(os, "O_NOCTTY", 0)
#: Reading must not write inodes.  Only the owner of a file and root may ask for it.
_NO_ATIME = getattr(os, "O_NOATIME", 0)
_NO_WAIT = getattr(os, "RWF_NOWAIT", 0)
#: Entries that are not there (any more): dangling links, and links that lead in a circle.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class OsDisk:
    """
    Implements `Disk` of core/host.py.
    """

    stat = staticmethod(os.stat)
    fstat = staticmethod(os.fstat)
    pread = staticmethod(os.pread)
    close = staticmethod(os.close)

    def __init__(self) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        unlimited = limit == resource.RLIM_INFINITY
        self._fd_max = sys.maxsize if unlimited else limit - min(FDS_RESERVED, limit // 2)

    @staticmethod
    def list(directory: str) -> Listing:
        """
        Return the names in *directory* with their stat: links followed, dangling ones left out.

        An entry that may not be looked at is left out, too; a directory of which none may is not listed.
        """
        found: Listing = []
        denied = False
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    found.append((entry.name, entry.stat()))
                except OSError as error:
                    if error.errno == errno.EACCES:
                        denied = True
                    elif error.errno not in _NOT_THERE:
                        raise
        if denied and not found:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), directory)
        return found

    @staticmethod
    def resolve(path: str) -> str:
        """
        Return *path* without symbolic links, as far as it exists.
        """
        return os.path.realpath(path)

    @staticmethod
    def link_target(path: str) -> str:
        """
        Return where the symbolic link *path* leads, one step; *path* itself where it is none.
        """
        try:
            return os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return path

    @staticmethod
    def free(path: str | int) -> int:
        """
        Return the bytes that are free on the file system of a path or descriptor.
        """
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def open(self, path: str) -> int:
        """
        Return a read-only descriptor; EMFILE where only those are left that others need.
        """
        try:
            fd = os.open(path, _OPEN_FLAGS | _NO_ATIME)
        except PermissionError:
            fd = os.open(path, _OPEN_FLAGS)
        # The system gives the lowest number that is free: from here on nearly all below are taken.
        if fd >= self._fd_max:
            os.close(fd)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return fd

    @staticmethod
    def read_warm(fd: int, chunk: Chunk, length: int, offset: int) -> int | None:
        """
        Read what the page cache has; None where the disk would have to be waited for.
        """
        if not _NO_WAIT or sys.platform != "linux":
            return None
        try:
            return os.preadv(fd, [memoryview(chunk)[:length]], offset, _NO_WAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                return None
            raise

    @staticmethod
    def read_cold(fd: int, chunk: Chunk, length: int, offset: int) -> int:
        """
        Read and wait for the disk.
        """
        return os.preadv(fd, [memoryview(chunk)[:length]], offset)
