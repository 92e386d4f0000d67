"""
The transforms of a route, ready to run; and in one Log, with what is open there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent._fastfields import Wanted
from agent.core.transform import Applied
from agent.transforms.parse import ParseStage
from agent.transforms.registry import kind_of
from agent.transforms.stage import Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent._fastparse import Columns
    from agent.core.batch import Resource
    from agent.core.counters import Counters
    from agent.core.cursor import Cursor
    from agent.transforms.stage import Stage


class Stages:
    """
    The transforms of one route.
    """

    def __init__(
        self,
        settings: Sequence[object],
        *,
        route: str,
        counters: Counters,
        sink_fields: Iterable[str] = (),
        sink_uses_level: bool = False,
    ) -> None:
        self.route = route
        self.counters = counters
        self.stages: tuple[Stage, ...] = tuple(kind_of(item).stage(item) for item in settings)
        self.level_used = sink_uses_level or any(stage.uses_level for stage in self.stages)
        names = [*sink_fields]
        for stage in self.stages:
            names += stage.fields_used()
            if self.level_used and isinstance(stage, ParseStage):
                names += stage.level_fields
        names = list(dict.fromkeys(names))
        self.indices = {name: index for index, name in enumerate(names)}
        self.wanted = Wanted(tuple(name.encode() for name in names))

    def begin(self) -> StagesInLog:
        """
        Return the transforms for one Log, with nothing open.
        """
        return StagesInLog(self)


class StagesInLog:
    """
    The transforms of one route in one Log: LogTransforms of core/transform.py.
    """

    __slots__ = ("_route",)

    def __init__(self, route: Stages) -> None:
        self._route = route

    @property
    def open_streams(self) -> int:
        return 0

    @property
    def carry_bytes(self) -> int:
        return 0

    def apply(
        self, columns: Columns, *, resource: Resource, generation: int, now: float, release: bool
    ) -> Applied:
        """
        Send *columns* through the stages.
        """
        route = self._route
        work = Work(
            columns=columns,
            resource=resource,
            route=route.route,
            counters=route.counters,
            wanted=route.wanted,
            indices=route.indices,
            level_used=route.level_used,
            generation=generation,
            now=now,
            release=release,
        )
        for stage in route.stages:
            if not work.columns.rows:
                break
            stage.apply(work)
        return Applied(work.columns, tuple(work.tallies))

    def cursor(self, cursor: Cursor) -> Cursor:
        return cursor

    def due(self, now: float) -> bool:
        del now
        return False
