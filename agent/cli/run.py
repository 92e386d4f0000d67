"""
`tailrace run`: follow the configured sources and deliver until a signal.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import uvloop

from agent.config.load import load
from agent.runtime.own_log import OwnLog
from agent.runtime.process import run_agent

if TYPE_CHECKING:
    import argparse


def main(args: argparse.Namespace) -> int:
    """
    Run the daemon.  Exit codes: 0 drained, 75 the state directory is held, 78 configuration.
    """
    config = load(args.config)
    own_log = OwnLog(format=config.log.format, level=config.log.level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run_agent(config, own_log))
