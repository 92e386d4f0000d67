"""
Where objects go: one Protocol, two destinations.

`put` makes a local file visible under a key, as a whole and only if nothing is there yet.  A key is a
function of its window (parquet_manifest.py), so what is there already is this file, uploaded before a
crash or before an answer was lost.  Every failure is a RetryError: the rows are safe on disk and wait.

| destination | how it is whole | how it is conditional |
|---|---|---|
| `s3://bucket/prefix` (parquet_s3.py) | by S3 | `If-None-Match: *` |
| `file:///directory` | a hidden temporary file, fsync | a hard link, which never replaces |
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent.core.errors import RetryError
from agent.core.retry import Backoff, Failure
from agent.sinks.parquet_staging import sync_directory

if TYPE_CHECKING:
    from agent.core.host import Host

#: Answers to link(2) of file systems that cannot do it, or of another file system.
_LINK_REFUSED = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Upload(NamedTuple):
    """
    One object to be.
    """

    key: str  # below the destination's prefix
    path: str  # of the local file
    size: int
    #: Whether an earlier attempt may have left an unfinished multipart upload behind.
    resumed: bool


class ObjectStore(Protocol):
    """
    A destination of whole objects.
    """

    async def put(self, upload: Upload) -> bool:  # network op
        """
        Make the file visible under its key; returns False where the key was there already.

        Raises RetryError, and FileNotFoundError where the local file has vanished.
        """


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


def failure_class(error: RetryError) -> Failure:
    """
    Return the schedule on which *error* is retried.
    """
    if error.slow:
        return Failure.SLOW
    return Failure.THROTTLED if error.throttled else Failure.OUTAGE


async def wait_after(error: RetryError, backoff: Backoff, *, host: Host) -> None:
    """
    Wait for as long as *error* and what went before it ask for.
    """
    delay_s = backoff.failed(
        failure_class(error), host.clock.random(), retry_after_s=error.retry_after_s
    )
    assert delay_s is not None, "uploads are retried for ever"
    await host.clock.sleep(delay_s)


def _put_file(path: str, target: str) -> bool:
    """
    Make *path* visible as *target*; returns whether it was not there.
    """
    directory = os.path.dirname(target)
    _make_directories(directory)
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


def _make_directories(directory: str) -> None:
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
