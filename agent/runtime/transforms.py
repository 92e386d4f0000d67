"""
The transforms of a route, from its configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.config.values import RouteConfig
    from agent.core.counters import Counters
    from agent.core.transform import Begin


def begin_transforms(route: RouteConfig, *, counters: Counters) -> Begin | None:
    """
    Return what begins the transforms of *route* in a Log; None for a route without any.
    """
    if not route.transforms:
        return None
    # A configuration without transforms never pays for them.
    from agent.transforms.stages import Stages

    return Stages(route.transforms, route=route.name, counters=counters).begin
