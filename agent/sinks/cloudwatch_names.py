"""
From a Resource, and values of fields, to a log stream; from a Resource to its rendered JSON: once for the object.

A Resource never changes; what becomes known later about a container, or is edited, comes as another object, with
the next segment.  So the object decides, not the path: one Log can go to several streams in its life.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.core.once import Once
from agent.core.render import RenderOptions, container_insights_resource, otel_resource
from agent.core.templates import Template, legal_group, legal_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.core.batch import Resource
    from agent.sinks.cloudwatch_settings import CloudWatchSettings

    #: (setting, variable, resource): a variable of the template reads `unknown`.
    Absent = Callable[[str, str, Resource], None]

RENDERERS = {"container_insights": container_insights_resource, "otel": otel_resource}
#: Of an entry without its text.
ENTRY_BYTES = 256


class Destined(NamedTuple):
    """
    Where rows go.
    """

    group: str
    stream: str

    @property
    def size(self) -> int:
        """
        About the bytes of memory.
        """
        return ENTRY_BYTES + len(self.group) + len(self.stream)


class Names:
    """
    Renders resources as the settings say.
    """

    def __init__(self, settings: CloudWatchSettings, *, absent: Absent) -> None:
        self._group = Template(settings.group)
        self._stream = Template(settings.stream)
        self._render = RENDERERS.get(settings.format)
        self._options = RenderOptions(
            labels=settings.labels,
            annotations=settings.annotations,
            owner_references=settings.owner_references,
            namespace_labels=settings.namespace_labels,
        )
        self._fields = settings.name_fields
        self._absent = absent
        self._names: Once[Resource, Destined] = Once(self._destined, size=lambda item: item.size)
        self._texts: Once[Resource, bytes] = Once(
            self._rendered, size=lambda text: ENTRY_BYTES + len(text)
        )

    def of(self, resource: Resource, values: tuple[str, ...] = ()) -> Destined:
        """
        Return group and stream of rows of *resource* with *values* of the fields in the templates.
        """
        return self._names.get(resource, values)

    def json(self, resource: Resource) -> bytes:
        """
        Return what is behind the fields of every record of *resource*.
        """
        return self._texts.get(resource)

    def _destined(self, resource: Resource, *values: str) -> Destined:
        # A summary row, and a route without a parse that found anything, has none of them.
        fields = dict(zip(self._fields, values, strict=False))
        for setting, template in (("group", self._group), ("stream", self._stream)):
            for variable in template.fallbacks(resource, fields):
                self._absent(setting, variable, resource)
        return Destined(
            legal_group(self._group.render(resource, fields)),
            legal_stream(self._stream.render(resource, fields)),
        )

    def _rendered(self, resource: Resource) -> bytes:
        return self._render(resource, self._options) if self._render is not None else b""
