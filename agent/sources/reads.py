"""
Bytes of a generation into a chunk: admit, open, read.

Whoever asks verifies afterwards that the file still is the generation's (`is_same`): if its head and tail are,
everything that was read is, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.sources.gunzip import GzipStream
from agent.sources.opens import is_descriptor_limit

if TYPE_CHECKING:
    from agent._fastparse import Chunk
    from agent.core.budget import Charge, Share
    from agent.core.generations import Generation
    from agent.sources.files import Files
    from agent.sources.follow import Follow
    from agent.sources.heads import Opened

#: Memory of a chunk at its peak, in chunks: its bytes, joined or unescaped messages behind them, and
#: 31 bytes of columns a row.
EXPANSION = 3
#: How often a reader looks again whether the budget has room.
ADMIT_POLL_S = 0.02


class Reads:
    """
    Reads for one reader.
    """

    def __init__(self, files: Files, share: Share) -> None:
        self._files = files
        self._host = files.host
        self._share = share

    async def admit(self, length: int, *, carried: int = 0) -> Charge:
        """
        Wait for room for a chunk of *length* bytes, which may end rows of which *carried* bytes are open.
        """
        wanted = length * EXPANSION + carried
        charge = self._share.take(wanted)
        while charge is None:
            await self._host.clock.sleep(ADMIT_POLL_S)
            charge = self._share.take(wanted)
        return charge

    def open(self, follow: Follow, generation: Generation) -> Opened | None:
        """
        Return an open descriptor of *generation*; None where another file is at its place.
        """
        log, disk = follow.log, self._host.disk
        descriptors = self._files.descriptors
        if generation.key not in log.opened and not descriptors.room:
            descriptors.make_room()
        try:
            opened = log.descriptor(generation, disk)
        except OSError as error:
            if not is_descriptor_limit(error) or not descriptors.make_room():
                raise
            opened = log.descriptor(generation, disk)
        if opened is not None and not generation.head:
            log.identify(generation, disk, whole=generation.finished)
            if generation.unseen:
                self._files.look_again(log)
        return opened

    async def fill(
        self, follow: Follow, opened: Opened, chunk: Chunk, length: int, offset: int
    ) -> int:
        """
        Read chunk[:length] at *offset*; fewer only where the file ends.
        """
        with follow.log.opened.in_use(self._host.disk):
            return await self._fill(follow, opened, chunk, length, offset)

    async def _fill(
        self, follow: Follow, opened: Opened, chunk: Chunk, length: int, offset: int
    ) -> int:
        disk = self._host.disk
        if opened.compressed:
            # Whatever ends this read early leaves a stream that stands nobody knows where.
            stream, follow.stream = follow.stream or GzipStream(), None
            read = await self._host.run_reading(stream.read, disk, opened.fd, chunk, length, offset)
            follow.stream = stream
            return read
        warm = disk.read_warm(opened.fd, chunk, length, offset)
        if warm is not None:
            return warm
        return await self._host.run_reading(disk.read_cold, opened.fd, chunk, length, offset)

    def is_same(self, follow: Follow, generation: Generation, opened: Opened) -> bool:
        """
        Whether the plain file *opened* still is that of *generation*; tells the source if not.
        """
        if follow.log.fits(opened.fd, generation, self._host.disk):
            return True
        self._files.overwritten(follow.log, generation)
        return False
