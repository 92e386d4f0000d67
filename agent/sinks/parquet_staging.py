"""
The staging file of an open window, while a route writes it (format: staging.py).

`append` leaves the file as it was where it fails; `sync` is durable when it returns, the file's name
included.  Everything here blocks on a disk.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.core.errors import RetryError
from agent.sinks.staging import encode_file_head

if TYPE_CHECKING:
    from agent.core.host import StateDisk

#: A staging file is copied in pieces of this size.
COPY_BYTES = 1 << 20
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class StagingFile:
    """
    The staging file of an open window, written by one route.

    Methods block; they are called in the executor, one at a time.  After `close`, which waits for the
    call that is under way, a late call writes nothing: the file belongs to the next run then.
    """

    __slots__ = (
        "_closed",
        "_disk",
        "_fd",
        "_lock",
        "_synced_name",
        "created_ns",
        "length",
        "path",
        "window",
    )

    def __init__(
        self, path: str, *, disk: StateDisk, window: int, length: int, created_ns: int
    ) -> None:
        self.path = path
        self.window = window
        self.length = length
        self.created_ns = created_ns
        self._disk = disk
        self._fd = -1
        self._synced_name = length > 0
        self._closed = False
        self._lock = threading.Lock()

    def append(self, encoded: bytes) -> None:
        """
        Write *encoded* frames behind what is there; raises OSError and leaves the file as it was.
        """
        with self._lock:
            if self._closed:
                return
            if self._fd < 0:
                self._fd = self._open()
            if self.length == 0:
                encoded = encode_file_head(self.window, self.created_ns) + encoded
            try:
                write_all(self._disk, self._fd, encoded, self.length)
            except OSError:
                self._disk.truncate(self._fd, self.length)
                raise
            self.length += len(encoded)

    def sync(self) -> bool:
        """
        Make everything appended durable, and the file's name with it.

        Returns:
            Whether the file had been deleted or replaced and was written anew: no name led to what was appended.
        """
        with self._lock:
            if self._closed or self._fd < 0:
                return False
            self._disk.sync(self._fd)
            missing = not self._disk.leads(self.path, self._fd)
            if missing:
                self._write_anew()
            if not self._synced_name:
                self._disk.sync_directory(os.path.dirname(self.path))
                self._synced_name = True
            return missing

    def read(self, start: int, stop: int) -> bytes:
        """
        Return the bytes [start, stop).
        """
        return read_range(self._disk, self.path, start, stop)

    def close(self) -> None:
        """
        Close the file, once the write under way has ended.
        """
        with self._lock:
            self._closed = True
            if self._fd >= 0:
                self._disk.close(self._fd)
                self._fd = -1

    def discard(self) -> None:
        """
        Close and remove the file.
        """
        self.close()
        with suppress(FileNotFoundError):
            self._disk.unlink(self.path)

    def _write_anew(self) -> None:
        """
        Copy the file that only we can still reach to where its name was.
        """
        make_directories(self._disk, os.path.dirname(self.path))
        with suppress(FileNotFoundError):
            self._disk.unlink(self.path)
        fd = self._disk.open(self.path)
        try:
            for start in range(0, self.length, COPY_BYTES):
                piece = self._disk.pread(self._fd, min(COPY_BYTES, self.length - start), start)
                write_all(self._disk, fd, piece, start)
            self._disk.sync(fd)
        except OSError:
            self._disk.close(fd)
            raise
        self._disk.close(self._fd)
        self._fd = fd
        self._synced_name = False

    def _open(self) -> int:
        fd = self._disk.open(self.path)
        self._disk.truncate(fd, self.length)
        return fd


def make_directories(disk: StateDisk, directory: str) -> None:
    """
    Create *directory* and make its new ancestors' names durable.
    """
    missing: list[str] = []
    while not disk.exists(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for path in reversed(missing):
        try:
            disk.make_directory(path)
        except FileExistsError:
            continue
        disk.sync_directory(os.path.dirname(path))


def read_range(disk: StateDisk, path: str, start: int, stop: int | None) -> bytes:
    """
    Return the bytes [start, stop) of the file *path*, to its end where *stop* is None.
    """
    fd = disk.open_read(path)
    try:
        return disk.pread(fd, (disk.size(fd) if stop is None else stop) - start, start)
    finally:
        disk.close(fd)


def write_file(disk: StateDisk, path: str, content: bytes, *, durable: bool) -> None:
    """
    Let *content* be all that is in the file *path*; *durable*: when it returns, though not its name.
    """
    fd = disk.open(path)
    try:
        disk.truncate(fd, 0)
        write_all(disk, fd, content, 0)
        if durable:
            disk.sync(fd)
    finally:
        disk.close(fd)


def write_all(disk: StateDisk, fd: int, encoded: bytes, position: int) -> None:
    """
    Write *encoded* at *position*, however many calls that takes.
    """
    view = memoryview(encoded)
    while view:
        written = disk.pwrite(fd, view, position)
        view = view[written:]
        position += written


def no_space(error: OSError, directory: str) -> RetryError:
    """
    Return what to say of *error*, that *directory* is full; raises any other one.
    """
    if error.errno not in _DISK_FULL:
        raise error
    return RetryError(
        f"{directory}: no space left for staging; free some, or lower staging_bytes_max",
        code="ENOSPC",
    )
