"""
What a frame of staging knows besides its rows: where the route stands once they are staged.

The checkpoint store is where cursors live.  Should it be lost, staging is the only place that knows which lines are
in it, so that they are neither lost nor staged a second time (parquet_rebuild.py).  Each frame carries, for every
Log of which it holds rows, one place, an array `[log, generations, streams]`:

| field | what |
|---|---|
| log | the key of the Log; one that is not UTF-8 is `hex:` and its bytes |
| generations | the Log's chain, oldest first: arrays of the fields of StagedGeneration, the head in hex |
| streams | the cursor behind the frame's last row of that Log: three arrays `[generation, offset, mode]` |

Frames of versions that did not write them have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from agent.core.checkpoint import GenerationRow
from agent.core.cursor import Cursor  # noqa: TC001 - msgspec reads the annotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.batch import Segment

_HEX = "hex:"


class StagedGeneration(msgspec.Struct, array_like=True, frozen=True):
    """
    One generation of a Log's chain.
    """

    number: int
    head: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$")]
    head_length: int
    ordinal: int
    file_id: str
    device: int
    inode: int
    name: str
    size: int


class StagedPlace(msgspec.Struct, array_like=True, frozen=True):
    """
    Where the route stands in one Log.
    """

    log: Annotated[str, msgspec.Meta(pattern="^(hex:([0-9a-f]{2})*|/.*)$")]
    generations: tuple[StagedGeneration, ...]
    streams: Cursor

    @property
    def key(self) -> str:
        """
        The key of the Log.
        """
        if self.log.startswith(_HEX):
            return bytes.fromhex(self.log[len(_HEX) :]).decode("utf-8", "surrogateescape")
        return self.log

    @property
    def rows(self) -> list[GenerationRow]:
        """
        The chain as the checkpoint store keeps it.
        """
        return [
            GenerationRow(
                log=self.key,
                number=item.number,
                head=bytes.fromhex(item.head),
                head_length=item.head_length,
                ordinal=item.ordinal,
                file_id=item.file_id,
                device=item.device,
                inode=item.inode,
                name=item.name,
                size=item.size,
            )
            for item in self.generations
        ]


def places_of(segments: Sequence[Segment]) -> tuple[StagedPlace, ...]:
    """
    Return the places behind *segments*, one for each Log.
    """
    last = {segment.log: segment for segment in segments}
    return tuple(
        StagedPlace(
            log=_text(segment.log),
            generations=tuple(
                StagedGeneration(
                    number=item.number,
                    head=item.head.hex(),
                    head_length=item.head_length,
                    ordinal=item.ordinal,
                    file_id=item.file_id,
                    device=item.device,
                    inode=item.inode,
                    name=item.name.encode("utf-8", "replace").decode(),
                    size=item.size,
                )
                for item in segment.generations
                # Without a head nothing of it was read.
                if item.head
            ),
            streams=segment.cursor_after,
        )
        for segment in last.values()
        if segment.generations
    )


def _text(log: str) -> str:
    try:
        log.encode()
    except UnicodeEncodeError:
        return _HEX + log.encode("utf-8", "surrogateescape").hex()
    return log
