"""
Sources that read no files: their spools, what fills them, and what is deleted behind the routes.

A producer is a module with two functions, imported where a source of its type is configured: `check(source, config)`
raises StopError for what cannot work; `produce(source, spool, world)` runs until it is cancelled.  After an error it
is started again; it opens its spool first, which tells it how far it was.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from agent.runtime.spool import Spool, passed_by_all
from agent.sources.settings import FilesSettings
from agent.sources.spooled import spool_directory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.config.values import Config, SourceConfig
    from agent.core.batch import Loss
    from agent.core.counters import Counters
    from agent.core.host import Host
    from agent.runtime.sinks import AwsOnce
    from agent.sources.files import Files

    Produce = Callable[[SourceConfig, Spool, "World"], Awaitable[None]]

#: Where the function `produce` of a type of source is.
PRODUCERS: dict[str, str] = {
    "eks_control_plane": "agent.runtime.eks",
    "journal": "agent.runtime.journal",
}
#: A batch waits this long for its deletion: about as long as between two checkpoints.
PRUNE_INTERVAL_S = 1.0


@dataclass(slots=True)
class Pace:
    """
    How fast something is asked for.
    """

    rate: float
    next_at: float = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """
    What a producer may use.
    """

    config: Config
    host: Host
    counters: Counters
    aws: AwsOnce
    files: Mapping[str, Files]
    #: Makes a loss durable, of every route that reads the source of this name.
    record_loss: Callable[[str, Loss], Awaitable[None]]
    #: Of the FilterLogEvents of all sources, by Region: the account has one quota.
    paces: dict[str, Pace] = field(default_factory=dict)


def producers_of(world: World) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
    """
    Return (what, run) for everything that fills the spools of the configured sources, or empties them.

    Without a route nobody would ever read what is fetched, so nothing is.  Raises StopError (78) for a source that
    cannot work.
    """
    config = world.config
    read = {route.source for route in config.routes}
    found: list[tuple[str, Callable[[], Awaitable[None]]]] = []
    for source in config.sources:
        if isinstance(source.settings, FilesSettings) or source.name not in read:
            continue
        spool = Spool(
            spool_directory(config.state_dir, source.name),
            source=source.name,
            bytes_max=source.settings.spool_bytes_max,
            host=world.host,
            counters=world.counters,
        )
        module = importlib.import_module(PRODUCERS[source.type])
        module.check(source, config)
        produce: Produce = module.produce
        files = world.files[source.name]
        found.append((f"source {source.name}", partial(produce, source, spool, world)))
        found.append((f"spool {source.name}", partial(_prune, spool, files, world)))
    return found


async def _prune(spool: Spool, files: Files, world: World) -> None:
    while True:
        await world.host.clock.sleep(PRUNE_INTERVAL_S)
        await spool.prune(passed_by_all(files, spool))
