"""
The transforms of a route, ready to run; and in one Log, with what is open there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agent import _fastcolumns
from agent._fastcolumns import typed_column
from agent._fastfields import Wanted, flag_severities, severities
from agent.core import counters as metric
from agent.core.cursor import StreamCursor
from agent.core.transform import Applied, NamedRows, TypedRows
from agent.transforms.multiline import MultilineSettings
from agent.transforms.names import Namer
from agent.transforms.parse import ParseStage
from agent.transforms.registry import kind_of
from agent.transforms.stage import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent._fastjoin import Joiner
    from agent._fastparse import Columns
    from agent.core.batch import Resource
    from agent.core.counters import Counters
    from agent.core.cursor import Cursor
    from agent.transforms.stage import Stage


_TYPES = {
    "string": _fastcolumns.TYPE_STRING,
    "bigint": _fastcolumns.TYPE_BIGINT,
    "double": _fastcolumns.TYPE_DOUBLE,
    "boolean": _fastcolumns.TYPE_BOOLEAN,
    "timestamp": _fastcolumns.TYPE_TIMESTAMP,
}


class SinkColumn(NamedTuple):
    """
    A field that the sink takes as a typed column.
    """

    name: str
    type: str
    field: str


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
        sink_columns: Sequence[SinkColumn] = (),
        sink_uses_level: bool = False,
        sink_flags_level: bool = False,
        name_fields: Sequence[str] = (),
        name_values_max: int = 1,
        tell: Callable[..., None] = lambda *_, **__: None,
    ) -> None:
        self.route = route
        self.counters = counters
        self.tell = tell
        #: It stands first, and is not a stage: it alone has a carry that holds cursors.
        self.multiline = next(
            (item for item in settings if isinstance(item, MultilineSettings)), None
        )
        self.stages: tuple[Stage, ...] = tuple(
            kind_of(item).stage(item) for item in settings if item is not self.multiline
        )
        #: The sink takes levels as a column; or finds them in the flags of rows.
        self.sink_flags_level = sink_flags_level
        sink_takes_level = sink_uses_level or sink_flags_level
        self.level_used = sink_takes_level or any(stage.uses_level for stage in self.stages)
        self.sink_columns = tuple(sink_columns)
        self.sink_uses_level = sink_uses_level
        names = [item.field for item in sink_columns] + list(name_fields)
        for stage in self.stages:
            names += stage.fields_used()
            if self.level_used and isinstance(stage, ParseStage):
                names += stage.level_fields
        names = list(dict.fromkeys(names))
        self.indices = {name: index for index, name in enumerate(names)}
        self.wanted = Wanted(tuple(name.encode() for name in names))
        indices = [self.indices[name] for name in name_fields]
        self.namer = (
            Namer(name_fields, indices, values_max=name_values_max) if name_fields else None
        )

    def begin(self) -> StagesInLog:
        """
        Return the transforms for one Log, with nothing open.
        """
        return StagesInLog(self)


class StagesInLog:
    """
    The transforms of one route in one Log: LogTransforms of core/transform.py.
    """

    __slots__ = ("_brought", "_carry", "_joiner", "_route")

    def __init__(self, route: Stages) -> None:
        self._route = route
        #: Only while a group is open: a quiet Log keeps nothing.
        self._joiner: Joiner | None = None
        self._carry: dict[int, Any] = {}
        #: Combinations of values that this Log has brought in.
        self._brought = 0

    @property
    def open_streams(self) -> int:
        return 0 if self._joiner is None else self._joiner.open_streams

    @property
    def carry_bytes(self) -> int:
        return 0 if self._joiner is None else self._joiner.carry_bytes

    def apply(
        self, columns: Columns, *, resource: Resource, generation: int, now: float, release: bool
    ) -> Applied:
        """
        Send *columns* through the stages.
        """
        route = self._route
        if route.multiline is not None:
            if self._joiner is None and columns.rows:
                self._joiner = route.multiline.joiner(resource.container)
            if self._joiner is not None:
                self._join(columns, self._joiner, generation=generation, now=now, release=release)
        work = Work(
            columns=columns,
            resource=resource,
            route=route.route,
            counters=route.counters,
            wanted=route.wanted,
            indices=route.indices,
            level_used=route.level_used,
            tell=route.tell,
            carry=self._carry,
        )
        for stage in route.stages:
            if not work.columns.rows:
                break
            stage.apply(work)
        tallies = tuple(work.tallies)
        if route.sink_flags_level:
            flag_severities(work.columns)
        if route.namer is None or not work.columns.rows:
            return Applied(work.columns, tallies, self._typed(work.columns))
        found, self._brought = route.namer.of(work, self._brought, fields=route.sink_uses_level)
        named = tuple(NamedRows(*item, self._typed(item.columns)) for item in found)
        return Applied(work.columns, tallies, named=named)

    def _typed(self, columns: Columns) -> TypedRows | None:
        route = self._route
        if not route.sink_uses_level or not columns.rows:
            return None
        buffers = [severities(columns) or bytes(columns.rows)]
        for item in route.sink_columns:
            made = typed_column(columns, route.indices[item.field], _TYPES[item.type])
            buffers += [made.valid, made.values]
            if item.type == "string":
                buffers.append(made.text)
            if made.misfits:
                route.counters.add(metric.MISFIT_VALUES, made.misfits, route.route, item.field)
        names = (("level", "level"), *((item.name, item.type) for item in route.sink_columns))
        return TypedRows(names, tuple(buffers))

    def _join(
        self,
        columns: Columns,
        joiner: Joiner,
        *,
        generation: int,
        now: float,
        release: bool,
    ) -> None:
        found = joiner.join(columns, generation=generation, now=now, release=release)
        route = self._route
        if found.joined:
            route.counters.add(metric.JOINED_ROWS, found.joined, route.route)
        if found.split:
            route.counters.add(metric.SPLIT_GROUPS, found.split, route.route)
        if not joiner.open_streams:
            self._joiner = None

    def cursor(self, cursor: Cursor) -> Cursor:
        """
        Return *cursor* with the places at which open groups begin.
        """
        joiner = self._joiner
        if joiner is None:
            return cursor
        open_streams = joiner.open_streams
        other, out, err = (
            StreamCursor(*joiner.place(stream)) if open_streams >> stream & 1 else place
            for stream, place in enumerate(cursor)
        )
        return (other, out, err)

    def due(self, now: float) -> bool:
        """
        Whether a group is open for as long as it may be.
        """
        joiner, settings = self._joiner, self._route.multiline
        if joiner is None or settings is None:
            return False
        return now - joiner.since >= settings.hold_max_s
