"""
`where`: keep the rows that satisfy an expression (expression.py has the language).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from agent._fastfields import Mask, keep
from agent.core import counters as metric
from agent.transforms.expression import parse
from agent.transforms.predicates import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.transforms.stage import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class WhereSettings:
    """
    Keep the rows that satisfy an expression; the others are dropped and counted.
    """

    where: Annotated[
        str,
        Meta(
            min_length=1,
            description="Expression over level, stream, message, fields.NAME, namespace, pod, container, labels.NAME "
            "and other texts of the container.",
            extra={"expected": "an expression, e.g. level >= warn"},
        ),
    ]

    def __post_init__(self) -> None:
        """
        Refuse what is no expression.
        """
        try:
            parse(self.where)
        except ValueError as error:
            raise ValueError(f"where: {error}") from error


class WhereStage:
    """
    One where of a route.
    """

    def __init__(self, settings: WhereSettings) -> None:
        self._predicate = parse(settings.where)
        operands = list(self._predicate.operands())
        self._fields = sorted({item.key for item in operands if item.root == "fields"})
        self._uses_level = any(item.root == "level" for item in operands)

    @property
    def uses_level(self) -> bool:
        return self._uses_level

    def fields_used(self) -> Iterable[str]:
        return self._fields

    def apply(self, work: Work) -> None:
        """
        Drop the rows that do not satisfy the expression.
        """
        mask = Mask(work.columns.rows)
        self._predicate.narrow(Rows(work.columns, work.resource, work.indices), mask)
        if dropped := keep(work.columns, mask):
            work.counters.add(metric.FILTERED_ROWS, dropped, work.route)
