"""
What the checkpoint store keeps, as values, and the transaction interface in front of it.

The SQLite store (runtime/store.py) and the model of it (tests) pass one contract (tests/contract/store.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agent.core.identity import NO_TAIL

if TYPE_CHECKING:
    from agent.core.batch import Loss
    from agent.core.cursor import Cursor
    from agent.core.identity import Tail


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """
    The identity of one generation (design: Logs, generations, cursors).
    """

    log: str
    number: int
    head: bytes  # blake2b-128 of the first complete line, at most 1,024 bytes of it; b"" while unknown
    head_length: int
    ordinal: int  # how many earlier generations of the Log had the same head
    file_id: str  # 32 hex digits
    device: int
    inode: int
    name: str  # file name when last seen
    size: int  # bytes when last seen, decompressed ones for a gz
    tail: Tail = NO_TAIL  # where the head may be that of other files, too


@dataclass(frozen=True, slots=True)
class Window:
    """
    A sealed stretch of a route's staging.

    `objects` is the manifest: (key, path of the Parquet file relative to the state directory, bytes, confirmed).
    Empty until the seal child has written it.
    """

    route: str
    number: int
    staging_length: int
    sealed_ns: int
    objects: tuple[tuple[str, str, int, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class SinkRows:
    """
    A staging sink's rows in a checkpoint.
    """

    window: int  # number of the open window
    staging_length: int  # bytes of its staging file that are fsynced


@dataclass(slots=True)
class Transaction:
    """
    Everything that becomes durable together for one route.
    """

    route: str
    at_ns: int
    cursors: dict[str, Cursor] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)  # Logs whose cursors are no longer needed
    generations: list[GenerationRow] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    sink: SinkRows | None = None
    windows: list[Window] = field(default_factory=list)  # inserted or replaced
    windows_gone: list[int] = field(default_factory=list)

    @property
    def moved(self) -> bool:
        """
        Whether the route came further: what its files have become alone is no commit of its own.
        """
        rest = (self.cursors, self.forgotten, self.losses, self.windows, self.windows_gone)
        return not self.generations or self.sink is not None or any(rest)


@dataclass(slots=True)
class RouteState:
    """
    What a route finds when it starts.
    """

    cursors: dict[str, Cursor] = field(default_factory=dict)
    first_start: bool = True  # the route's name has never been committed before
    sink: SinkRows | None = None
    windows: list[Window] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LossRow:
    """
    A loss as the store keeps it.
    """

    route: str
    at_ns: int
    loss: Loss


class Store(Protocol):
    """
    The transaction interface.  Calls of one route are in order; a commit is durable when it returns.
    """

    async def load_generations(self) -> list[GenerationRow]: ...
    async def load_route(self, route: str, sink_identity: str) -> RouteState:
        """
        Return what *route* left, and note that it exists.

        Raises StopError (78) if its cursors were written with another sink identity: the hint names
        `tailrace state reset|rename`.
        """

    async def commit(self, transaction: Transaction) -> None: ...
    async def load_losses(self, route: str | None = None) -> list[LossRow]: ...
