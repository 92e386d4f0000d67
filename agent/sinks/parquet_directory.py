"""
Objects as files below a directory (parquet_upload.py).

A file appears under its name when it is whole and durable, and never replaces another.
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

from agent.core.errors import RetryError
from agent.sinks.parquet_staging import make_directories, sync_directory

if TYPE_CHECKING:
    from agent.core.host import Host
    from agent.sinks.parquet_upload import Upload

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
            return await self._host.run_blocking(_put_file, upload.path, target)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise RetryError(
                f"{target}: {error.strerror or error}: free some space or check the permissions of the directory",
                code=errno.errorcode.get(error.errno or 0, "EIO"),
                slow=error.errno in {errno.EACCES, errno.EPERM, errno.EROFS},
            ) from error


def _put_file(path: str, target: str) -> bool:
    """
    Make *path* visible as *target*; returns whether it was not there.
    """
    directory = os.path.dirname(target)
    make_directories(directory)
    try:
        # The sealed file is durable and never changes: where both are on one file system, a second
        # name for it is the whole upload.
        os.link(path, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _LINK_REFUSED:
            raise
        return _copy_file(path, target)
    sync_directory(directory)
    return True


def _copy_file(path: str, target: str) -> bool:
    directory, name = os.path.split(target)
    # Names that begin with a dot are invisible to Athena and to Hive readers.
    temporary = os.path.join(directory, f".{name}.tmp")
    with open(path, "rb") as source, open(temporary, "wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        os.fsync(copy.fileno())
    new = True
    try:
        os.link(temporary, target)
    except FileExistsError:
        new = False
    except OSError as error:
        if error.errno not in _LINK_REFUSED:
            raise
        # No hard links here.  Nobody else writes this name, so looking first is enough.
        new = not os.path.exists(target)
        if new:
            os.rename(temporary, target)
            sync_directory(directory)
            return True
    os.unlink(temporary)
    sync_directory(directory)
    return new
