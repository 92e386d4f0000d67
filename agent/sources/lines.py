"""
The lines of a loss, as they stand in their file: what a dead letter keeps.

A loss of one row is that row's own lines: the first one, and where that is a `P`, the lines of its stream up
to its `F`, which may stand behind the loss's range or in the next generation.  Where a route joins lines, all lines
of the stream that begin in the range are that row's.  A loss of several rows is every
line that begins in its range, and the ends of what is open there.  A loss without rows (bytes that no parser
gets through) is every line that begins in its range.

Only what will never be delivered comes here, so Python may look at lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import orjson

from agent._fastparse import FORMAT_CRI, FORMAT_DOCKER, Chunk
from agent.sources.gunzip import GzipStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.core.batch import Loss
    from agent.core.generations import Generation
    from agent.sources.files import Files
    from agent.sources.followed import FollowedLog

READ_BYTES = 256 << 10
#: Bytes behind the range that are searched for the end of a row, in longest rows.
BEHIND_ROWS_MAX = 16
#: What of a line stands before its content.
LINE_ROOM_BYTES = 1024


class Line(NamedTuple):
    """
    One physical line, newline included.
    """

    generation: int
    start: int
    content: bytes


class Lines:
    """
    Reads lines again for one route.
    """

    def __init__(self, files: Files, *, joined: bool = False) -> None:
        """
        Read for a route whose rows are *joined* of several lines, or not.
        """
        self._files = files
        self._joined = joined
        self._disk = files.host.disk

    async def of(self, loss: Loss) -> bytes:
        """
        Return the lines of *loss*; raises OSError where its file cannot be read any more.
        """
        log = self._files.logs.get(loss.log)
        if log is None:
            raise FileNotFoundError(f"{loss.log} is not followed any more")
        taken: list[bytes] = []
        open_streams: set[bytes] = set()
        only: bytes | None = None
        async for line in self._lines(log, loss):
            inside = line.generation == loss.generation and line.start < loss.stop
            if not inside and (not open_streams or not loss.rows):
                break
            stream, partial = stream_of(log.format, line.content)
            only = stream if only is None and loss.rows == 1 else only
            if only is not None and stream != only:
                continue
            if not inside and stream not in open_streams:
                continue
            taken.append(line.content)
            if partial:
                open_streams.add(stream)
            else:
                open_streams.discard(stream)
                if only is not None and not self._joined:
                    break
        return b"".join(taken)

    async def _lines(self, log: FollowedLog, loss: Loss) -> AsyncIterator[Line]:
        """
        Yield lines from the beginning of *loss*, over generations, as far as a row of it can reach.
        """
        longest = self._files.settings.line_bytes_max + LINE_ROOM_BYTES
        left = loss.stop - loss.start + BEHIND_ROWS_MAX * longest
        number, start = loss.generation, loss.start
        while left > 0:
            generation = log.chain.find(number)
            if generation is None:
                raise FileNotFoundError(f"{loss.log}: generation {number} is not known any more")
            cut = False  # in the middle of a line that was too long
            pending = b""
            while left > 0:
                data = await self._read(log, generation, start + len(pending), READ_BYTES)
                left -= len(data)
                if not data:
                    break
                *whole, pending = (pending + data).split(b"\n")
                for content in whole:
                    if not cut:
                        yield Line(number, start, content[:longest] + b"\n")
                    start, cut = start + len(content) + 1, False
                if len(pending) > longest:
                    if not cut:
                        yield Line(number, start, pending[:longest] + b"\n")
                    start, pending, cut = start + len(pending), b"", True
            if pending and not cut and left > 0:
                yield Line(number, start, pending + b"\n")
            following = log.chain.after(number)
            if following is None or not generation.finished:
                return
            number, start = following.number, 0

    async def _read(
        self, log: FollowedLog, generation: Generation, offset: int, length: int
    ) -> bytes:
        opened = log.descriptor(generation, self._disk)  # disk
        if opened is None:
            raise FileNotFoundError(f"another file is at the place of {log.path_of(generation)}")
        log.format_of(generation, self._disk, self._files.settings.format)
        if not opened.compressed:
            if generation.head and not log.fits(opened.fd, generation, self._disk):
                raise FileNotFoundError(f"{log.path_of(generation)} was overwritten")
            return self._disk.pread(opened.fd, length, offset)
        chunk = Chunk(length)
        with log.opened.in_use(self._disk):
            read = await self._files.host.run_reading(
                GzipStream().read, self._disk, opened.fd, chunk, length, offset
            )
        return bytes(memoryview(chunk)[:read])


def stream_of(format_: int | None, line: bytes) -> tuple[bytes, bool]:
    """
    Return the stream of *line*, and whether its row goes on in another line.
    """
    if format_ == FORMAT_CRI:
        parts = line.split(b" ", 3)
        if len(parts) == 4 and parts[1] in (b"stdout", b"stderr"):
            return parts[1], parts[2].startswith(b"P")
    elif format_ == FORMAT_DOCKER:
        try:
            record = orjson.loads(line)
            return str(record["stream"]).encode(), not record["log"].endswith("\n")
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # Not a line of the format: a row of its own.
    return b"", False
