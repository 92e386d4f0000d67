"""
From a Resource to its log stream and its rendered JSON, once for a Resource object.

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
#: Of an entry without its JSON and its names.
ENTRY_BYTES = 512


class Rendered(NamedTuple):
    """
    What a sink needs to know of a resource.
    """

    names: tuple[str, str]  # group and stream
    json: bytes

    @property
    def size(self) -> int:
        """
        About the bytes of memory.
        """
        return ENTRY_BYTES + len(self.json) + sum(map(len, self.names))


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
        self._absent = absent
        self._known: Once[Resource, Rendered] = Once(self._made, size=lambda item: item.size)

    def rendered(self, resource: Resource) -> Rendered:
        """
        Return group, stream and JSON of *resource*.
        """
        return self._known.get(resource)

    def _made(self, resource: Resource) -> Rendered:
        for setting, template in (("group", self._group), ("stream", self._stream)):
            for variable in template.fallbacks(resource):
                self._absent(setting, variable, resource)
        names = (
            legal_group(self._group.render(resource)),
            legal_stream(self._stream.render(resource)),
        )
        encoded = self._render(resource, self._options) if self._render is not None else b""
        return Rendered(names, encoded)
