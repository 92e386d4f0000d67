"""
Objects as files below a directory (parquet_upload.py).

A file appears under its name when it is whole and durable, and never replaces another.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from agent.core.errors import RetryError
from agent.sinks.parquet_staging import make_directories, write_all

if TYPE_CHECKING:
    from agent.core.host import Host, StateDisk
    from agent.sinks.parquet_upload import Upload

COPY_BYTES = 1 << 20
#: Answers to link(2) of file systems that cannot do it, or of another file system.
_LINK_REFUSED = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class DirectoryStore:
    """
    Objects as files below a directory.
    """

    def __init__(self, directory: str, *, host: Host) -> None:
        self._directory = directory
        self._host = host

    async def put(self, upload: Upload) -> bool:
        """
        Copy or link the file to its place.
        """
        target = os.path.join(self._directory, upload.key)
        try:
            return await self._host.run_blocking(
                _put_file, self._host.state_disk, upload.path, target
            )
        except FileNotFoundError:
            raise
        except OSError as error:
            raise RetryError(
                f"{target}: {error.strerror or error}: free some space or check the permissions of the directory",
                code=errno.errorcode.get(error.errno or 0, "EIO"),
                slow=error.errno in {errno.EACCES, errno.EPERM, errno.EROFS},
            ) from error


def _put_file(disk: StateDisk, path: str, target: str) -> bool:
    """
    Make *path* visible as *target*; returns whether it was not there.
    """
    directory = os.path.dirname(target)
    make_directories(disk, directory)
    try:
        # The sealed file is durable and never changes: where both are on one file system, a second
        # name for it is the whole upload.
        disk.link(path, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _LINK_REFUSED:
            raise
        return _copy_file(disk, path, target)
    disk.sync_directory(directory)
    return True


def _copy_file(disk: StateDisk, path: str, target: str) -> bool:
    directory, name = os.path.split(target)
    # Names that begin with a dot are invisible to Athena and to Hive readers.
    temporary = os.path.join(directory, f".{name}.tmp")
    _copy(disk, path, temporary)
    new = True
    try:
        disk.link(temporary, target)
    except FileExistsError:
        new = False
    except OSError as error:
        if error.errno not in _LINK_REFUSED:
            raise
        # No hard links here.  Nobody else writes this name, so looking first is enough.
        new = not disk.exists(target)
        if new:
            disk.rename(temporary, target)
            disk.sync_directory(directory)
            return True
    disk.unlink(temporary)
    disk.sync_directory(directory)
    return new


def _copy(disk: StateDisk, path: str, target: str) -> None:
    source = disk.open_read(path)
    try:
        copy = disk.open(target)
        try:
            disk.truncate(copy, 0)
            position = 0
            while piece := disk.pread(source, COPY_BYTES, position):
                write_all(disk, copy, piece, position)
                position += len(piece)
            disk.sync(copy)
        finally:
            disk.close(copy)
    finally:
        disk.close(source)
