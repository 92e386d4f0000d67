"""
After the loss of the database: what staging knows goes into the store before anything reads or writes there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.runtime.sinks import sink_identity

if TYPE_CHECKING:
    from agent.config.values import Config
    from agent.core.counters import Counters
    from agent.core.host import Host
    from agent.runtime.store import SqliteStore


async def rebuild_staging(
    config: Config, *, store: SqliteStore, host: Host, counters: Counters
) -> None:
    """
    Read the staging of every route that has one, if the store asks for it.

    Raises:
        RetryError: the disk is full or fails.
        StopError: 78, a route has another sink now.
    """
    if not store.rebuild_wanted:
        return
    routes = [route for route in config.routes if route.sink.type == "parquet"]
    for route in routes:
        # Not loaded into an agent that only follows files to CloudWatch.
        from agent.sinks.parquet_rebuild import rebuild
        from agent.sinks.parquet_recovery import StagingPaths

        state = await store.load_route(route.name, sink_identity(route.sink))
        await rebuild(
            StagingPaths(config.state_dir, route.name),
            state,
            await store.load_generations(),
            host=host,
            store=store,
            counters=counters,
        )
    # What a route left that is not configured now is still to be read when it comes back.
    if not _others(config.state_dir, {route.name for route in routes}):
        await store.rebuilt()


def _others(state_dir: str, routes: set[str]) -> set[str]:  # disk
    found: set[str] = set()
    for name in ("staging", "sealed"):
        directory = os.path.join(state_dir, name)
        if os.path.isdir(directory):
            found |= {
                route
                for route in os.listdir(directory)
                if os.listdir(os.path.join(directory, route))
            }
    return found - routes
