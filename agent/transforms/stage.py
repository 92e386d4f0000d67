"""
What a transform is, and how to write one.

1. a kernel over columns in a module `_fastNAME.pyx` of its own (in setup.py's MODULES), with its `.pyi`,
   and its meaning in `_reference_NAME.py`;
2. a module here with a frozen Settings class, whose first field is called like the transform, and a
   class that keeps the protocol Stage;
3. one line in `registry.py`.

Nothing else has to be touched: configuration, schema, reference and wiring come from the registry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agent._fastfields import Wanted
    from agent._fastparse import Columns
    from agent.core.batch import Resource
    from agent.core.counters import Counters
    from agent.core.transform import Tally


@dataclass(slots=True, kw_only=True)
class Work:
    """
    The rows of a segment on their way through the stages.
    """

    columns: Columns
    resource: Resource
    route: str
    counters: Counters
    #: The fields that some stage or the sink uses, and the place of each.
    wanted: Wanted
    indices: Mapping[str, int]
    level_used: bool
    #: Says something of the node's own log, at most once a minute.
    tell: Callable[..., None]
    #: What stages keep of a Log between two segments, by their id.
    carry: dict[int, Any]
    tallies: list[Tally] = field(default_factory=list)


class Stage(Protocol):
    """
    One transform of a route; it keeps nothing between calls.
    """

    @property
    def uses_level(self) -> bool:
        """
        Whether it looks at levels.
        """

    def fields_used(self) -> Iterable[str]:
        """
        Return the names of the fields that it looks at: only fields that somebody uses are extracted.
        """

    def apply(self, work: Work) -> None:
        """
        Change `work.columns`, before anybody else holds them.
        """
