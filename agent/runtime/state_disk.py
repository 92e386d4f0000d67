"""
The state directory of this machine: what sinks write, and what the seal child does.
"""

from __future__ import annotations

import os
import shutil


class OsStateDisk:
    """
    Implements `StateDisk` of core/host.py.
    """

    open_read = staticmethod(lambda path: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    truncate = staticmethod(os.ftruncate)
    # Content and length, without the times: half of the price of fsync where nothing else changed.
    sync = staticmethod(os.fdatasync)
    close = staticmethod(os.close)
    exists = staticmethod(os.path.exists)
    make_directory = staticmethod(os.mkdir)
    link = staticmethod(os.link)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)

    @staticmethod
    def open(path: str) -> int:
        """
        Return a descriptor to read and to write.
        """
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    @staticmethod
    def size(fd: int) -> int:
        """
        Return the length of an open file.
        """
        return os.fstat(fd).st_size

    @staticmethod
    def leads(path: str, fd: int) -> bool:
        """
        Return whether *path* is the name of the file that is open as *fd*.
        """
        try:
            return os.path.samestat(os.stat(path), os.fstat(fd))
        except (FileNotFoundError, NotADirectoryError):
            return False

    @staticmethod
    def list(directory: str) -> list[tuple[str, bool]]:
        """
        Return the names in *directory*, and whether each is a directory itself.
        """
        with os.scandir(directory) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]

    @staticmethod
    def sync_directory(path: str) -> None:
        """
        Make the names in the directory *path* durable.
        """
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    @staticmethod
    def remove_tree(path: str) -> None:
        """
        Remove the directory *path*, which the thread of a run that was cut may be removing, too.
        """
        shutil.rmtree(path, onerror=_unless_gone)


def _unless_gone(
    _function: object, _path: str, failure: tuple[type, BaseException, object]
) -> None:
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]
