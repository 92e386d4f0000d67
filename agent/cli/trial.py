"""
Lines through a route without an agent: what `tailrace explain` and `tailrace test` share.

Lines may be as they are in a file (CRI, docker json-file) or bare.  Nothing is read, nothing is sent.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from agent._fastfields import severities
from agent._fastparse import Chunk, Columns, Parser, detect
from agent._reference_records import Row, rows_of
from agent.core.counters import Counters
from agent.core.errors import StopError, shown
from agent.sinks.cloudwatch_names import Names
from agent.sinks.parquet_prefixes import Prefixes
from agent.sources.resources import Resources
from agent.transforms.stages import SinkColumn, Stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.config.values import Config, RouteConfig
    from agent.core.batch import Resource
    from agent.core.transform import Applied

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
    rows = parsed(lines)
    if route.transforms[:count]:
        rows = _applied(config, route, rows, path, count=count, counters=counters).columns
    return Outcome(list(rows_of(rows)), severities(rows), counters)


def places(
    config: Config, route: RouteConfig, lines: Sequence[bytes], path: str
) -> list[tuple[str, int]]:
    """
    Return where the sink of *route* puts *lines*, and how many rows go there.
    """
    count = len(route.transforms)
    applied = _applied(config, route, parsed(lines), path, count=count, counters=Counters())
    rows = [(item.values, item.columns.rows) for item in applied.named]
    resource = resource_in(config, route, path)
    return [
        (place_of(route.sink, resource, values), number)
        for values, number in rows or [((), applied.columns.rows)]
        if number
    ]


def place_of(sink: Any, resource: Resource, values: tuple[str, ...]) -> str:
    """
    Return what *sink* calls the place of rows of *resource* with *values* of the fields in names.
    """
    if sink.type == "cloudwatch":
        group, stream = Names(sink, absent=lambda *_: None).of(resource, values)
        return f"group {group} stream {stream}"
    if sink.type == "parquet" and sink.prefix:
        return f"prefix {Prefixes(sink).prefix_of(resource, values)}"
    return ""


def _applied(
    config: Config,
    route: RouteConfig,
    rows: Columns,
    path: str,
    *,
    count: int,
    counters: Counters,
) -> Applied:
    """
    Return what the first *count* transforms of *route* make of *rows*.
    """
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
        name_fields=getattr(route.sink, "name_fields", ()),
        name_values_max=getattr(route.sink, "name_values_max", 1),
    )
    resource = resource_in(config, route, path)
    return stages.begin().apply(rows, resource=resource, generation=0, now=0.0, release=True)


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
