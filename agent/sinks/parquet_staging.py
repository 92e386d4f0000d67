"""
The staging file of an open window, while a route writes it (format: staging.py).

`append` leaves the file as it was where it fails; `sync` is durable when it returns, the file's name
included.  Everything here blocks on a disk.
"""

from __future__ import annotations

import os
import threading

from agent.sinks.staging import encode_file_head


class StagingFile:
    """
    The staging file of an open window, written by one route.

    Methods block; they are called in the executor, one at a time.  After `close`, which waits for the
    call that is under way, a late call writes nothing: the file belongs to the next run then.
    """

    __slots__ = (
        "_closed",
        "_fd",
        "_lock",
        "_synced_name",
        "created_ns",
        "length",
        "path",
        "window",
    )

    def __init__(self, path: str, *, window: int, length: int, created_ns: int) -> None:
        self.path = path
        self.window = window
        self.length = length
        self.created_ns = created_ns
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
                _write_all(self._fd, encoded, self.length)
            except OSError:
                os.ftruncate(self._fd, self.length)
                raise
            self.length += len(encoded)

    def sync(self) -> None:
        """
        Make everything appended durable, and the file's name with it.
        """
        with self._lock:
            if self._closed or self._fd < 0:
                return
            os.fdatasync(self._fd)
            if not self._synced_name:
                sync_directory(os.path.dirname(self.path))
                self._synced_name = True

    def read(self, start: int, stop: int) -> bytes:
        """
        Return the bytes [start, stop).
        """
        with open(self.path, "rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def close(self) -> None:
        """
        Close the file, once the write under way has ended.
        """
        with self._lock:
            self._closed = True
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _open(self) -> int:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        os.ftruncate(fd, self.length)
        return fd


def sync_directory(path: str) -> None:
    """
    Make the names in the directory *path* durable.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directories(directory: str) -> None:
    """
    Create *directory* and make its new ancestors' names durable.
    """
    missing: list[str] = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for path in reversed(missing):
        try:
            os.mkdir(path)
        except FileExistsError:
            continue
        sync_directory(os.path.dirname(path))


def _write_all(fd: int, encoded: bytes, position: int) -> None:
    view = memoryview(encoded)
    while view:
        written = os.pwrite(fd, view, position)
        view = view[written:]
        position += written
