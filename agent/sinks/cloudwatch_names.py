"""
From a Resource to its log stream and its rendered JSON, once for a Resource object.

A Resource never changes; what becomes known later about a container, or is edited, comes as another object, with
the next segment.  So the object decides, not the path: one Log can go to several streams in its life.
Objects are told apart by identity: to compare labels would cost more than to look them up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.core.render import RenderOptions, container_insights_resource, otel_resource
from agent.core.templates import Template, legal_group, legal_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.core.batch import Resource
    from agent.sinks.cloudwatch_settings import CloudWatchSettings

    #: (setting, variable, resource): a variable of the template reads `unknown`.
    Absent = Callable[[str, str, Resource], None]

#: Rendered resources kept: containers that a node writes for, several times over; and their bytes, as labels
#: and annotations can be 6 KiB each time.
NAMES_MAX = 4096
NAMES_BYTES_MAX = 8 << 20
#: Of an entry without its JSON and its names.
ENTRY_BYTES = 512

RENDERERS = {"container_insights": container_insights_resource, "otel": otel_resource}


class Rendered(NamedTuple):
    """
    What a sink needs to know of a resource.
    """

    resource: Resource  # held: its identity is the key
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
    Renders resources as the settings say, and remembers them within limits.
    """

    def __init__(self, settings: CloudWatchSettings, *, absent: Absent) -> None:
        self._templates = {"group": Template(settings.group), "stream": Template(settings.stream)}
        self._render = RENDERERS.get(settings.format)
        self._options = RenderOptions(
            labels=settings.labels,
            annotations=settings.annotations,
            owner_references=settings.owner_references,
            namespace_labels=settings.namespace_labels,
        )
        self._absent = absent
        self._rendered: dict[int, Rendered] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rendered)

    def rendered(self, resource: Resource) -> Rendered:
        """
        Return group, stream and JSON of *resource*.
        """
        known = self._rendered.get(id(resource))
        if known is None:
            known = self._rendered[id(resource)] = self._made(resource)
            self._bytes += known.size
            while len(self._rendered) > NAMES_MAX or (
                self._bytes > NAMES_BYTES_MAX and len(self._rendered) > 1
            ):
                oldest = next(iter(self._rendered))
                self._bytes -= self._rendered.pop(oldest).size
        return known

    def _made(self, resource: Resource) -> Rendered:
        for setting, template in self._templates.items():
            for variable in template.fallbacks(resource):
                self._absent(setting, variable, resource)
        names = (
            legal_group(self._templates["group"].render(resource)),
            legal_stream(self._templates["stream"].render(resource)),
        )
        encoded = self._render(resource, self._options) if self._render is not None else b""
        return Rendered(resource, names, encoded)
