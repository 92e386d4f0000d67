"""
`parse`: fields, level and time out of messages.  The message stays as it is.

Several of them may follow one another: each looks at the rows that none before it has recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from agent import _fastfields
from agent._fastobject import extract_json
from agent.core import counters as metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent._fastfields import Wanted
    from agent._fastparse import Columns
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
#: Format → the kernel: it returns how many rows no kernel has recognised yet.
_KERNELS: dict[str, Callable[[Columns, Wanted], int]] = {"json": extract_json}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseSettings:
    """
    Extract fields, level and time from messages of one format.
    """

    parse: Annotated[
        Literal["json"],
        Meta(description="Format: json is one object, alone or behind a prefix without a brace."),
    ]
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
            description="Field with the event's time: RFC 3339 or alike, or a number since 1970 in s, ms, µs or ns; "
            "empty: the time that the container runtime wrote."
        ),
    ] = ""


class ParseStage:
    """
    One parse of a route.
    """

    def __init__(self, settings: ParseSettings) -> None:
        self._settings = settings
        self._kernel = _KERNELS[settings.parse]

    @property
    def uses_level(self) -> bool:
        return False

    def fields_used(self) -> Iterable[str]:
        if self._settings.time_field:
            yield self._settings.time_field

    @property
    def level_fields(self) -> tuple[str, ...]:
        """
        The fields that are needed where somebody uses levels.
        """
        return self._settings.level_fields

    def apply(self, work: Work) -> None:
        """
        Extract what is wanted.
        """
        settings, columns = self._settings, work.columns
        unparsed = self._kernel(columns, work.wanted)
        if unparsed:
            work.counters.add(metric.UNPARSED_ROWS, unparsed, work.route, settings.parse)
        if work.level_used and settings.level_fields:
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
