"""
Where objects go: one Protocol, two destinations.

`put` makes a local file visible under a key, as a whole and only if nothing is there yet.  A key is a
function of its window (parquet_manifest.py), so what is there already is this file, uploaded before a
crash or before an answer was lost.  Every failure is a RetryError: the rows are safe on disk and wait.

| destination | how it is whole | how it is conditional |
|---|---|---|
| `s3://bucket/prefix` (parquet_s3.py) | by S3 | `If-None-Match: *` |
| `file:///directory` (parquet_directory.py) | a hidden temporary file, fsync | a hard link, which never replaces |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent.core.retry import Backoff, Failure
from agent.sinks.parquet_directory import DirectoryStore
from agent.sinks.parquet_s3 import S3Options, S3Store

if TYPE_CHECKING:
    from agent.core.counters import Counters
    from agent.core.errors import RetryError
    from agent.core.host import AwsClient, Host
    from agent.sinks.parquet_settings import ParquetSettings


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
    # An error that waits holds the frames that it passed, and they the part of 8 MiB that was not taken.
    error.__traceback__ = error.__cause__ = error.__context__ = None
    await host.clock.sleep(delay_s)


def open_object_store(
    settings: ParquetSettings,
    *,
    client: AwsClient | None,
    host: Host,
    counters: Counters,
    route: str,
) -> ObjectStore:
    """
    Return the destination that *settings* name; nothing is looked at yet.
    """
    where = settings.destination
    if where.directory:
        return DirectoryStore(where.directory, host=host)
    assert client is not None, "an s3:// url needs a client"
    options = S3Options(
        bucket=where.bucket,
        prefix=where.prefix,
        storage_class=settings.storage_class,
        sse=settings.sse,
        kms_key_id=settings.kms_key_id,
        multipart_bytes_min=settings.multipart_bytes_min,
        part_bytes=settings.part_bytes,
    )
    return S3Store(options, client=client, host=host, counters=counters, route=route)
