"""
`limit`: at most so many lines a second of a container.

Time is that of the rows, not of the clock: a backlog is not cut because it is read fast.  The bucket is full at the
start of the agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from agent._fastfields import Mask
from agent._fastrate import Bucket, keep_with_summary, narrow_limit
from agent.core import counters as metric

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.transforms.stage import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """
    Keep at most so many lines a second of each container; one row says how many were dropped.
    """

    limit: Annotated[Literal["container"], Meta(description="What has a limit of its own.")]
    lines_per_s_max: Annotated[
        float, Meta(gt=0, le=1e9, description="Lines a second that are kept for ever.")
    ]
    burst_lines: Annotated[
        int,
        Meta(ge=1, le=10**9, description="Lines that are kept at once after a quiet time."),
    ] = 1_000


class LimitStage:
    """
    One limit of a route.
    """

    uses_level = False

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = settings
        self._behind = (
            f" lines dropped by limit: more than {settings.lines_per_s_max:g} a second".encode()
        )

    def fields_used(self) -> Iterable[str]:
        return ()

    def apply(self, work: Work) -> None:
        """
        Drop the rows beyond the limit, and let a row say how many they were.
        """
        settings, columns = self._settings, work.columns
        bucket = work.carry.get(id(self)) or Bucket(float(settings.burst_lines), 0)
        mask = Mask(columns.rows)
        work.carry[id(self)] = narrow_limit(
            columns, mask, bucket, settings.lines_per_s_max, float(settings.burst_lines)
        )
        if mask.count() == columns.rows:
            return
        dropped = keep_with_summary(columns, mask, b"tailrace: ", self._behind)
        work.counters.add(metric.LIMITED_ROWS, dropped, work.route)
