"""
`parse`: fields, level and time out of messages.  The message stays as it is.

Several of them may follow one another: each looks at the rows that none before it has recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from agent import _fastfields
from agent.core import counters as metric
from agent.core import regex
from agent.transforms.formats import kernel_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.transforms.stage import Work

#: What loggers call a level, the most usual first.
LEVEL_FIELDS = ("level", "severity", "lvl", "log.level", "levelname", "severity_text")
LEVEL_FIELDS_MAX = 8
_SCALES = {
    "pino": _fastfields.SCALE_PINO,
    "python": _fastfields.SCALE_PYTHON,
    "syslog": _fastfields.SCALE_SYSLOG,
    "otel": _fastfields.SCALE_OTEL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseSettings:
    """
    Extract fields, level and time from messages of one format.
    """

    parse: Annotated[
        Literal[
            "json", "logfmt", "klog", "regex", "nginx", "envoy", "syslog", "component", "attrs"
        ],
        Meta(
            description="Format: json is one object, alone or behind a prefix without a brace; klog and envoy are "
            "their text and their JSON; nginx is the combined access log; syslog is RFC 5424; component "
            "is what the container, a component of the node or of its control plane, writes; attrs is what a source "
            "such as eks_control_plane knows beside the message, as attrs.NAME; the next parse sees the row, too."
        ),
    ]
    pattern: Annotated[
        str, Meta(description="Of regex: its named groups, (?P<name>…), are the fields.")
    ] = ""
    level_fields: Annotated[
        tuple[str, ...],
        Meta(
            max_length=LEVEL_FIELDS_MAX,
            description="Fields that hold the level; the first that means one counts.",
        ),
    ] = LEVEL_FIELDS
    level_numbers: Annotated[
        Literal["pino", "python", "syslog", "otel"],
        Meta(
            description="What a level means that is a number: pino 10 trace to 60 fatal; python 10 debug to 50 "
            "critical; syslog 0 emergency to 7 debug; otel 1 to 24."
        ),
    ] = "pino"
    time_field: Annotated[
        str,
        Meta(
            description="Field with the event's time: RFC 3339 or alike, of klog or of an access log, or a number "
            "since 1970 in s, ms, µs or ns; empty: the time that the container runtime wrote."
        ),
    ] = ""

    def __post_init__(self) -> None:
        """
        Refuse a pattern that is none, and one that nobody looks at.
        """
        if bool(self.pattern) != (self.parse == "regex"):
            raise ValueError("pattern: is for regex, and regex needs one")
        if self.pattern:
            try:
                names = regex.compile_pattern(self.pattern).names
            except ValueError as error:
                raise ValueError(f"pattern: {error}") from error
            if not any(names):
                raise ValueError("pattern: has no named group, expected (?P<name>…)")


class ParseStage:
    """
    One parse of a route.
    """

    def __init__(self, settings: ParseSettings) -> None:
        self._settings = settings
        self._kernel = kernel_for(settings.parse, settings.pattern)

    @property
    def uses_level(self) -> bool:
        return False

    def fields_used(self) -> Iterable[str]:
        yield from self._kernel.fields
        if self._settings.time_field:
            yield self._settings.time_field

    @property
    def level_fields(self) -> tuple[str, ...]:
        """
        The fields that are needed where somebody uses levels.
        """
        if self._kernel.level_fields is not None:
            return self._kernel.level_fields
        return self._settings.level_fields

    def apply(self, work: Work) -> None:
        """
        Extract what is wanted.
        """
        settings, columns = self._settings, work.columns
        unparsed = self._kernel.extract(work)
        if unparsed:
            work.counters.add(metric.UNPARSED_ROWS, unparsed, work.route, settings.parse)
        if work.level_used and self._kernel.level_fields is None and settings.level_fields:
            indices = tuple(work.indices[name] for name in settings.level_fields)
            scale = _SCALES[settings.level_numbers]
            self._misfits(work, "level", _fastfields.take_levels(columns, indices, scale))
        if settings.time_field:
            index = work.indices[settings.time_field]
            self._misfits(work, settings.time_field, _fastfields.take_times(columns, index))

    @staticmethod
    def _misfits(work: Work, name: str, count: int) -> None:
        if count:
            work.counters.add(metric.MISFIT_VALUES, count, work.route, name)
