"""
The transforms of a route, from its configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config.values import RouteConfig
    from agent.core.counters import Counters
    from agent.core.transform import Begin


def begin_transforms(
    route: RouteConfig, *, counters: Counters, tell: Callable[..., None]
) -> Begin | None:
    """
    Return what begins the transforms of *route* in a Log; None for a route without any.
    """
    if not route.transforms:
        return None
    # A configuration without transforms never pays for them.
    from agent.transforms.stages import SinkColumn, Stages

    columns = [
        SinkColumn(item.name, item.type, item.field or item.name)
        for item in getattr(route.sink, "promoted", ())
    ]
    return Stages(
        route.transforms,
        route=route.name,
        counters=counters,
        sink_columns=columns,
        sink_uses_level=route.type == "parquet",
        sink_flags_level=getattr(route.sink, "flags_level", False),
        name_fields=getattr(route.sink, "name_fields", ()),
        name_values_max=getattr(route.sink, "name_values_max", 1),
        tell=tell,
    ).begin
