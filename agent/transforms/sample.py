"""
`sample`: a part of the rows, or of the traces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from agent._fastfields import Mask, keep
from agent._fastrate import narrow_sample
from agent.core import counters as metric
from agent.transforms.expression import parse
from agent.transforms.predicates import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.transforms.stage import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """
    Keep a part of the rows; which ones depends on them alone, so a row that is read again has the same fate.
    """

    sample: Annotated[float, Meta(ge=0, le=1, description="Part that is kept, e.g. 0.1.")]
    by: Annotated[
        str,
        Meta(
            description="Field whose rows are kept all or not at all, e.g. trace_id; empty: row by row."
        ),
    ] = ""
    only: Annotated[
        str,
        Meta(description="Expression: other rows are kept all, e.g. level <= info."),
    ] = ""

    def __post_init__(self) -> None:
        """
        Refuse what is no expression.
        """
        try:
            parse(self.only or "true")
        except ValueError as error:
            raise ValueError(f"only: {error}") from error


class SampleStage:
    """
    One sample of a route.
    """

    def __init__(self, settings: SampleSettings) -> None:
        self._settings = settings
        self._only = parse(settings.only or "true")
        self._operands = list(self._only.operands())

    @property
    def uses_level(self) -> bool:
        return any(item.root == "level" for item in self._operands)

    def fields_used(self) -> Iterable[str]:
        names = {item.key for item in self._operands if item.root == "fields"}
        return sorted(names | ({self._settings.by} - {""}))

    def apply(self, work: Work) -> None:
        """
        Drop the rows that are not of the sample.
        """
        settings, columns = self._settings, work.columns
        chosen = Mask(columns.rows)
        self._only.narrow(Rows(columns, work.resource, work.indices), chosen)
        kept = Mask(columns.rows)
        kept.subtract(chosen)
        field = work.indices[settings.by] if settings.by else -1
        narrow_sample(columns, chosen, field, settings.sample)
        kept.add(chosen)
        if dropped := keep(columns, kept):
            work.counters.add(metric.FILTERED_ROWS, dropped, work.route)
