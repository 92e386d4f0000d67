"""
Other agents, measured beside Tailrace: `--peer NAME=PATH`.

A peer is a class that writes its configuration for a path of bench/paths.py and says how its program is started.
Write one (bench/fluent_bit.py is the example), add it to `PEERS`, and every table and plot has it.
"""

from __future__ import annotations

import argparse
import os
import shutil
from typing import TYPE_CHECKING, Protocol

from bench.fluent_bit import FluentBit

if TYPE_CHECKING:
    from bench.paths import Endpoints


class Peer(Protocol):
    """
    One program that does the same work.
    """

    name: str

    def reads(
        self, path: str, endpoints: Endpoints, *, directory: str, containers: str
    ) -> list[str]:
        """
        Return the command that reads the files in *containers* from their heads and exits at their ends.

        Args:
            directory: for its configuration and whatever it writes.
            containers: a directory as /var/log/containers is.
        """

    def follows(
        self, path: str, endpoints: Endpoints, *, directory: str, containers: str
    ) -> list[str]:
        """
        Return the command that follows the files in *containers* until SIGTERM, sending every 5 s.
        """

    def settings(self) -> str:
        """
        Say in a line what a reader of the figures must know: compression, flush interval.
        """


PEERS: dict[str, type[FluentBit]] = {"fluent-bit": FluentBit}


def peer_of(text: str) -> Peer:
    """
    Return the peer that NAME=PATH names; for argparse.
    """
    name, equals, path = text.partition("=")
    known = ", ".join(sorted(PEERS))
    if not equals or not path:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected NAME=PATH with one of {known}, e.g. fluent-bit=/opt/fluent-bit/bin/fluent-bit"
        )
    if name not in PEERS:
        raise argparse.ArgumentTypeError(
            f"got {name!r}, expected one of {known}; bench/peers.py says how one is added"
        )
    program = shutil.which(path)
    if program is None:
        raise argparse.ArgumentTypeError(f"{path}: no such program, or it is not executable")
    return PEERS[name](os.path.abspath(program))


def add_peers(parser: argparse.ArgumentParser) -> None:
    """
    Add `--peer` to a command.
    """
    parser.add_argument(
        "--peer",
        dest="peers",
        action="append",
        default=[],
        type=peer_of,
        metavar="NAME=PATH",
        help=f"measure this program alternately ({', '.join(sorted(PEERS))}); may be repeated",
    )
