"""
Lines through a route without an agent: what `tailrace explain` and `tailrace test` share.

Lines may be as they are in a file (CRI, docker json-file) or bare.  Nothing is read, nothing is sent.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from agent._fastfields import severities
from agent._fastparse import Chunk, Columns, Parser, detect
from agent._reference_records import Row, rows_of
from agent.core.counters import Counters
from agent.core.errors import StopError, shown
from agent.sources.resources import Resources
from agent.transforms.stages import SinkColumn, Stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.config.values import Config, RouteConfig
    from agent.core.batch import Resource

#: Stands for a container of which nobody gave a path.
PATH = "/var/log/pods/default_app_11111111-2222-3333-4444-555555555555/app/0.log"
LINE_BYTES_MAX = 1 << 20
#: 2027-01-15: when lines that have no time of their own were read.
READ_NS = 1_800_000_000_000_000_000


class Outcome(NamedTuple):
    """
    What lines have become.
    """

    rows: list[Row]
    severities: bytes
    counters: Counters


def find_route(config: Config, name: str, path: str) -> RouteConfig:
    """
    Return the route *name*; raises StopError (78) where there is none.
    """
    for route in config.routes:
        if route.name == name:
            return route
    names = ", ".join(route.name for route in config.routes)
    text = f"{path}: routes: no route is called {shown(name)}; there are {names}"
    raise StopError(text, exit_code=os.EX_CONFIG)


def parsed(lines: Sequence[bytes]) -> Columns:
    """
    Return the rows of *lines*, as a reader sees them.
    """
    text = b"".join(line + b"\n" for line in lines)
    # A bare line in a container's file would be an invalid one there: here it is meant.
    found = detect(lines[0], kubelet=False)
    parser = Parser(format=found, line_bytes_max=LINE_BYTES_MAX)
    chunk = Chunk(len(text))
    with memoryview(chunk) as view:
        view[:] = text
    return parser.parse(chunk, len(text), offset=0, read_time_ns=READ_NS, final=True)


def through(
    config: Config, route: RouteConfig, lines: Sequence[bytes], path: str, *, count: int
) -> Outcome:
    """
    Send *lines* through the first *count* transforms of *route*.
    """
    counters = Counters()
    columns = [
        SinkColumn(item.name, item.type, item.field or item.name)
        for item in getattr(route.sink, "promoted", ())
    ]
    stages = Stages(
        route.transforms[:count],
        route=route.name,
        counters=counters,
        sink_columns=columns,
        sink_uses_level=True,
    )
    rows = parsed(lines)
    if route.transforms[:count]:
        resource = resource_in(config, route, path)
        applied = stages.begin().apply(rows, resource=resource, generation=0, now=0.0, release=True)
        rows = applied.columns
    return Outcome(list(rows_of(rows)), severities(rows), counters)


def resource_in(config: Config, route: RouteConfig, path: str) -> Resource:
    """
    Return the Resource of the file *path* in the source of *route*.
    """
    source = next(item for item in config.sources if item.name == route.source)
    resources = Resources(
        cluster=config.cluster,
        node=config.node,
        components=getattr(source.settings, "components_by_path", None),
    )
    return resources.of(path, path)


def container(facts: Resource) -> str:
    """
    Return whose file it is.
    """
    names = (facts.namespace, facts.pod, facts.container)
    return "/".join(names) if any(names) else "no container"
