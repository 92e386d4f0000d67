"""
Rows by the values of the fields that a sink's names are made of.

How many names there can be is bounded: a route knows at most so many combinations of values since it was started, and
one Log may bring in a tenth of them, so that a container that writes a new value on every line takes no name from
others.  Rows with any other combination have OTHER in the place of all values, and are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent._fastsplit import Values, split
from agent.core import counters as metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent._fastparse import Columns
    from agent.transforms.stage import Work

OTHER = "other"
#: What one Log may bring in, as a part of all.
LOG_PART = 10


class Named(NamedTuple):
    """
    Rows with the same values.
    """

    values: tuple[str, ...]
    columns: Columns


class Namer:
    """
    The combinations that a route has met.
    """

    def __init__(self, names: Sequence[str], indices: Sequence[int], *, values_max: int) -> None:
        self._names = ", ".join(names)
        self._values = Values(tuple(indices), values_max)
        self._values_max = values_max
        self._log_max = max(1, values_max // LOG_PART)
        self._texts: dict[int, tuple[str, ...]] = {0: (OTHER,) * len(names)}

    def of(self, work: Work, brought: int, *, fields: bool) -> tuple[list[Named], int]:
        """
        Return the rows by name, with their *fields* or without, and how many combinations the Log has brought in now.
        """
        found = self._values.number(work.columns, max(0, self._log_max - brought))
        if found.beyond:
            work.counters.add(metric.NAME_OTHERS, found.beyond, work.route)
            text = (
                f"{work.resource.path}: {found.beyond} rows have values of {self._names} beyond the {self._values_max} "
                f"of this route ({self._log_max} of one log), or long ones: {OTHER} stands for them in names; take a "
                "field with fewer values, or raise name_values_max"
            )
            work.tell("name_values_full", text, level="warning", route=work.route)
        groups = split(work.columns, found.numbers, fields=fields)
        named = [Named(self._known(number), columns) for number, columns in groups]
        return named, brought + found.fresh

    def _known(self, number: int) -> tuple[str, ...]:
        if number not in self._texts:
            texts = self._values.texts(number)
            self._texts[number] = tuple(text.decode("utf-8", "replace") for text in texts)
        return self._texts[number]
