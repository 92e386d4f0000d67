"""
Which class serves which sink type; each is imported only where the configuration names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config import Config, RouteConfig
    from agent.core.budget import Share
    from agent.core.checkpoint import RouteState, Store
    from agent.core.counters import Counters
    from agent.core.host import Host, Tasks
    from agent.runtime.aws import Aws
    from agent.sinks.protocol import Resolve, Sink

    MakeSink = Callable[[RouteState, Resolve, Tasks], Sink]


def sink_identity(settings: object) -> str:
    """
    Return what makes two sinks the same destination: a cursor is worth nothing at another one.
    """
    kind = settings.type  # type: ignore[attr-defined]
    if kind == "cloudwatch":
        return f"cloudwatch:{settings.region}:{settings.endpoint_url}:{settings.group}"  # type: ignore[attr-defined]
    if kind == "parquet":
        return f"parquet:{settings.url}"  # type: ignore[attr-defined]
    return str(kind)
