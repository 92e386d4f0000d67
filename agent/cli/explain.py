"""
`tailrace explain`: what happens to a line, stage by stage.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from agent.cli.trial import PATH, Outcome, container, find_route, places, resource_in, through
from agent.config import load
from agent.core.cursor import STREAM_NAMES
from agent.core.kubelet_path import path_facts
from agent.core.select import Decision, Select
from agent.transforms.predicates import LEVELS
from agent.transforms.registry import name_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from agent.config.values import Config, RouteConfig

_DECISIONS = {
    Decision.YES: "taken, by its path",
    Decision.NO: "not read: the route's select excludes it by its path",
    Decision.NEEDS_METADATA: "by labels or annotations, which are not known here: taken to be read",
}


def main(args: argparse.Namespace) -> int:
    """
    Print what becomes of the lines in each route, or in one.
    """
    config = load(args.config)
    routes = [find_route(config, args.route, args.config)] if args.route else config.routes
    lines = [line.encode("utf-8", "surrogateescape") for line in args.line]
    for route in routes:
        for text in explain(config, route, lines, args.path or PATH):
            sys.stdout.write(text + "\n")
    return 0


def explain(config: Config, route: RouteConfig, lines: Sequence[bytes], path: str) -> Iterator[str]:
    """
    Yield what is said about *lines* of the file *path* in *route*.
    """
    resource = resource_in(config, route, path)
    yield f"route {route.name}, {container(resource)}"
    facts = path_facts(path)._replace(container=resource.container)
    decision = Select(route.select).by_path(facts)
    yield f"  select: {_DECISIONS[decision]}"
    if decision is Decision.NO:
        return
    before = through(config, route, lines, path, count=0)
    yield "  parse of the file:"
    yield from _rows(before)
    for count, settings in enumerate(route.transforms, 1):
        after = through(config, route, lines, path, count=count)
        yield f"  {count}. {name_of(settings)}:"
        yield from _changes(before, after)
        before = after
    yield f"  sink {route.type}: {len(before.rows)} rows"
    for place, rows in places(config, route, lines, path):
        if place:
            yield f"       {place}: {rows} rows"


def _changes(before: Outcome, after: Outcome) -> Iterator[str]:
    known = {
        (metric.name, labels) for metric, series in before.counters.samples() for labels in series
    }
    for metric, series in after.counters.samples():
        for labels, value in series.items():
            if (metric.name, labels) not in known or before.counters.get(metric, *labels) != value:
                what = " ".join((metric.name, *labels[1:]))
                yield f"       {what} +{value:g}"
    if after.rows == before.rows and after.severities == before.severities:
        yield "       (the rows stay as they are)"
    else:
        yield from _rows(after)


def _rows(outcome: Outcome) -> Iterator[str]:
    if not outcome.rows:
        yield "       (no rows)"
    for index, row in enumerate(outcome.rows):
        level = _level(outcome.severities[index]) if outcome.severities else ""
        stream = STREAM_NAMES[row.flags & 3]
        text = row.message.decode("utf-8", "replace").replace("\n", "\n         | ")
        yield f"       {stream}{level} | {text}"


def _level(number: int) -> str:
    return next((f" {name}" for name, (low, high) in LEVELS.items() if low <= number <= high), "")
