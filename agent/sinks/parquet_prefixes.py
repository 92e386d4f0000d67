"""
Where below a Parquet route's url the objects of a container are: its `prefix` template, once for a Resource object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.counters import Counters
from agent.core.once import Once
from agent.core.templates import UNKNOWN, Template, hashed, legal_key
from agent.sinks.parquet_manifest import MANIFEST_NAME, SPEC_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.core.batch import Resource, Segment
    from agent.sinks.parquet_settings import ParquetSettings

#: An entry with a prefix of the usual length.
ENTRY_BYTES = 256


class Prefixes:
    """
    The prefixes of one route.
    """

    def __init__(
        self,
        settings: ParquetSettings,
        *,
        route: str = "",
        counters: Counters | None = None,
        tell: Callable[..., None] = lambda *_, **__: None,
    ) -> None:
        self._template = Template(settings.prefix)
        self._fields = settings.name_fields
        self._route = route
        self._counters = counters or Counters()
        self._tell = tell
        self._told: set[str] = set()
        self._known: Once[Resource, str] = Once(self._made, size=lambda _: ENTRY_BYTES)

    def of(self, segments: Iterable[Segment]) -> list[str]:
        """
        Return for each segment the prefix of its rows; empty where none is configured.
        """
        return [self.prefix_of(segment.resource, segment.values) for segment in segments]

    def prefix_of(self, resource: Resource, values: tuple[str, ...]) -> str:
        """
        Return the prefix of rows of *resource* with *values* of the fields in the template.
        """
        return self._known.get(resource, values)

    def _made(self, resource: Resource, *values: str) -> str:
        if not self._template.text:
            return ""
        fields = dict(zip(self._fields, values, strict=False))
        for variable in self._template.fallbacks(resource, fields):
            self._counters.add(metric.NAME_FALLBACKS, 1, self._route, variable)
            self._say(variable, resource)
        made = legal_key(self._template.render(resource, fields))
        first, slash, rest = made.partition("/")
        if first.startswith((SPEC_NAME, MANIFEST_NAME)):
            # Files of ours, in the directory that the window's objects are written to.
            first = hashed(first)
        return f"{first}{slash}{rest}"

    def _say(self, variable: str, resource: Resource) -> None:
        if variable in self._told:
            return
        self._told.add(variable)
        text = (
            f"prefix: {{{variable}}} is not known of {resource.path} and reads {UNKNOWN}; "
            f"write {{{variable}|…}} for another word"
        )
        fields = {"variable": variable, "path": resource.path}
        self._tell("name_fallback", text, level="warning", route=self._route, **fields)
