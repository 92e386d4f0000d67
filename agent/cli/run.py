"""
`tailrace run`: follow the configured sources and deliver until a signal; `tailrace puller`: only what is fetched.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import uvloop

from agent.config.load import load
from agent.core.errors import StopError
from agent.runtime.own_log import OwnLog
from agent.runtime.process import run_agent

if TYPE_CHECKING:
    import argparse

    from agent.config.values import Config

FETCHED = "eks_control_plane"


def main(args: argparse.Namespace) -> int:
    """
    Run the daemon.  Exit codes: 0 drained, 75 the state directory is held, 78 configuration.
    """
    return _run(load(args.config))


def puller(args: argparse.Namespace) -> int:
    """
    Run the sources that are fetched and the routes that read them; nothing of the node is looked at.
    """
    config = load(args.config)
    sources = tuple(source for source in config.sources if source.type == FETCHED)
    names = {source.name for source in sources}
    routes = tuple(route for route in config.routes if route.source in names)
    if not routes:
        raise StopError(
            f"{args.config}: no route reads a source of type {FETCHED}: tailrace puller runs nothing else; "
            "config/examples/eks-control-plane.yaml has three",
            exit_code=os.EX_CONFIG,
        )
    nothing = replace(config.kubernetes, enabled=False)
    return _run(replace(config, sources=sources, routes=routes, kubernetes=nothing))


def _run(config: Config) -> int:
    own_log = OwnLog(format=config.log.format, level=config.log.level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run_agent(config, own_log))
