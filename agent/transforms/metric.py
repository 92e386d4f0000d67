"""
`metric`: numbers out of lines, on the metrics endpoint.

They are counted once a checkpoint has passed the lines, so lines that are read or sent again do not count twice.
The counters begin at zero with the process, as all do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from agent._fastfields import Mask
from agent._fastrate import histogram
from agent.core.counters import Metric
from agent.core.transform import Tally
from agent.transforms.expression import parse
from agent.transforms.predicates import LEVELS, Level, Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.transforms.stage import Work

#: Labels that a metric may have: few values each, or as many as there are containers on the node; those of pods that
#: are gone go, see `Counters.tally`.
LABELS = ("cluster", "node", "namespace", "pod", "container", "owner_kind", "owner_name", "level")
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSettings:
    """
    Count lines, or make a histogram of a field.
    """

    metric: Annotated[
        str,
        Meta(
            pattern=r"^(?!tailrace_|process_)[a-zA-Z_][a-zA-Z0-9_]{0,99}$",
            description="Its name; a counter has _total behind it. Routes may share one, if it is the same in all.",
            extra={
                "expected": "a name of letters, digits and _ that does not begin with tailrace_ or process_"
            },
        ),
    ]
    when: Annotated[str, Meta(description="Expression: the lines that count; empty: all.")] = ""
    histogram_of: Annotated[
        str, Meta(description="Field whose numbers make a histogram; empty: lines are counted.")
    ] = ""
    buckets: Annotated[
        tuple[float, ...],
        Meta(min_length=1, max_length=40, description="Upper bounds of the histogram, ascending."),
    ] = BUCKETS
    labels: Annotated[
        tuple[str, ...], Meta(description=f"Labels besides route: some of {', '.join(LABELS)}.")
    ] = ("namespace",)
    help: Annotated[str, Meta(description="What it says of itself.")] = "Made of log lines."

    def __post_init__(self) -> None:
        """
        Refuse what is no expression, label or order.
        """
        try:
            parse(self.when or "true")
        except ValueError as error:
            raise ValueError(f"when: {error}") from error
        for label in self.labels:
            if label not in LABELS:
                raise ValueError(f'labels: got "{label}", expected some of {", ".join(LABELS)}')
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels: got {', '.join(self.labels)}, expected each once")
        if list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError("buckets: are not in ascending order")

    @property
    def shape(self) -> tuple[object, ...]:
        """
        What has to be the same wherever the metric is made.
        """
        buckets = self.buckets if self.histogram_of else ()
        return (bool(self.histogram_of), self.labels, buckets, self.help)


class MetricStage:
    """
    One metric of a route.
    """

    def __init__(self, settings: MetricSettings) -> None:
        self._settings = settings
        self._when = parse(settings.when or "true")
        self._operands = list(self._when.operands())
        labels = ("route", *settings.labels)
        if settings.histogram_of:
            self._metric = Metric(settings.metric, "histogram", settings.help, (*labels, "le"))
        else:
            self._metric = Metric(settings.metric, "counter", settings.help, labels)

    @property
    def uses_level(self) -> bool:
        return "level" in self._settings.labels or any(
            item.root == "level" for item in self._operands
        )

    def fields_used(self) -> Iterable[str]:
        names = {item.key for item in self._operands if item.root == "fields"}
        return sorted(names | ({self._settings.histogram_of} - {""}))

    def apply(self, work: Work) -> None:
        """
        Note what is to be counted.
        """
        rows = Rows(work.columns, work.resource, work.indices)
        mask = Mask(work.columns.rows)
        self._when.narrow(rows, mask)
        for level, part in self._by_level(rows, mask):
            labels = (
                work.route,
                *(
                    level if name == "level" else str(getattr(work.resource, name))
                    for name in self._settings.labels
                ),
            )
            work.tallies += self._tallies(work, part, labels)

    def _by_level(self, rows: Rows, mask: Mask) -> Iterator[tuple[str, Mask]]:
        if "level" not in self._settings.labels:
            yield "", mask
            return
        for name, (low, high) in LEVELS.items():
            part = mask.copy()
            Level(low, high).narrow(rows, part)
            mask.subtract(part)
            yield name, part
        yield "", mask

    def _tallies(self, work: Work, mask: Mask, labels: tuple[str, ...]) -> Iterator[Tally]:
        settings = self._settings
        if not settings.histogram_of:
            if count := mask.count():
                yield Tally(self._metric, count, labels)
            return
        field = work.indices[settings.histogram_of]
        counts, total = histogram(work.columns, mask, field, settings.buckets)
        if not any(counts):
            return
        bounds = (*(f"{bound:g}" for bound in settings.buckets), "+Inf")
        for bound, count in zip(bounds, counts, strict=True):
            yield Tally(self._metric, count, (*labels, bound))
        yield Tally(self._metric, total, (*labels, "sum"))
