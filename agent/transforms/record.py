"""
`record`: an object of what was found takes the place of the message, in the shape that its readers know.

It stands behind what looks at messages, and before a sink with `format: message`, which sends it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import orjson
from msgspec import Meta

from agent import _fastcompose
from agent.core.once import Once
from agent.transforms.predicates import RESOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.core.batch import Resource
    from agent.transforms.stage import Work

MEMBERS_MAX = 64
_FIELD = "fields."
_SOURCES = {
    "message": _fastcompose.FROM_MESSAGE,
    "time": _fastcompose.FROM_TIME,
    "stream": _fastcompose.FROM_STREAM,
    "tag": _fastcompose.FROM_TAG,
}
_RESOURCE = (*RESOURCE, "instance_id", "container_id", "pod_ip")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings:
    """
    Replace each message by a JSON object.
    """

    record: Annotated[
        dict[str, str],
        Meta(
            min_length=1,
            max_length=MEMBERS_MAX,
            description="Names of its members, and where each comes from: message, time, stream, tag (P or F), "
            "fields.NAME, or what is known of the container: node, namespace, pod, container, zone, instance_id, … "
            "What a row does not have is left out; a row that has neither message nor field in it has its message "
            "as `log`.",
        ),
    ]

    def __post_init__(self) -> None:
        """
        Refuse what comes from nowhere.
        """
        known = (*_SOURCES, *_RESOURCE)
        for name, source in self.record.items():
            if source not in known and not (source.startswith(_FIELD) and source != _FIELD):
                raise ValueError(
                    f"record: {name}: got {source!r}, expected fields.NAME or one of {', '.join(known)}"
                )


class RecordStage:
    """
    One record of a route.
    """

    uses_level = False

    def __init__(self, settings: RecordSettings) -> None:
        pairs = settings.record.items()
        self._own = [(name, source) for name, source in pairs if source not in _RESOURCE]
        self._of_resource = [(name, source) for name, source in pairs if source in _RESOURCE]
        self._tails: Once[Resource, bytes] = Once(self._tail, size=len)

    def fields_used(self) -> Iterable[str]:
        return [source[len(_FIELD) :] for _, source in self._own if source.startswith(_FIELD)]

    def apply(self, work: Work) -> None:
        """
        Compose the objects.
        """
        members = []
        for name, source in self._own:
            field = work.indices[source[len(_FIELD) :]] if source.startswith(_FIELD) else 0
            kind = _SOURCES.get(source, _fastcompose.FROM_FIELD)
            members.append((orjson.dumps(name) + b":", kind, field))
        _fastcompose.compose(work.columns, tuple(members), self._tails.get(work.resource))

    def _tail(self, resource: Resource) -> bytes:
        known = {name: getattr(resource, source) for name, source in self._of_resource}
        text = orjson.dumps(
            {
                name: value.encode(errors="replace").decode()
                for name, value in known.items()
                if value
            }
        )
        return text[1:-1]
