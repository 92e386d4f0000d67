"""
`tailrace validate`: check a configuration and print what was understood.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from agent.cli.table import printable, table
from agent.config import load
from agent.config.convert import bytes_text

if TYPE_CHECKING:
    import argparse

    from agent.config import Config


def main(args: argparse.Namespace) -> int:
    """
    Print what the configuration means.  Exit codes: 0 valid, 78 with one line per problem.
    """
    config = load(args.config)
    sys.stdout.write(report(args.config, config))
    return 0


def report(path: str, config: Config) -> str:
    """
    Return what was understood.
    """
    routes = [(route.name, route.source, _destination(route.sink)) for route in config.routes]
    sources = [
        (source.name, source.type, _reads(source.settings, config.cluster))
        for source in config.sources
    ]
    budget = bytes_text(config.memory_budget_bytes)
    admin = (
        f"admin endpoint on {config.admin.listen}" if config.admin.listen else "no admin endpoint"
    )
    parts = [
        f"{path}: valid\n\n",
        table(("route", "source", "sink"), routes),
        "\n",
        table(("source", "type", "reads"), sources),
        "\n",
        f"cluster {config.cluster or '(not set)'}, node {config.node}\n",
        f"state in {os.path.abspath(config.state_dir)}, memory budget {budget}\n",
        f"{admin}\n",
    ]
    unread = {source.name for source in config.sources} - {route.source for route in config.routes}
    parts += [f"warning: no route reads source {name}\n" for name in sorted(unread)]
    if not config.admin.listen.startswith(("127.", "localhost:", "[::1]:")) and config.admin.listen:
        parts.append(
            "warning: the admin endpoint is reachable from other hosts; it has no access control\n"
        )
    return "".join(parts)


def _destination(sink: Any) -> str:
    # What a person looks for first, of the sinks that there are.
    told = [
        str(value)
        for key in ("region", "group", "stream", "url")
        if (value := getattr(sink, key, ""))
    ]
    return printable(" ".join([sink.type, *told]))


def _reads(settings: Any, cluster: str) -> str:
    if hasattr(settings, "queries"):
        groups = (f"{query.group} {query.region}".rstrip() for query in settings.queries(cluster))
        return printable(", ".join(dict.fromkeys(groups)))
    journal = [*getattr(settings, "units", ()), *getattr(settings, "matches", ())]
    return printable(" ".join(getattr(settings, "paths", journal)))
