"""
Ports of loopback for processes that cannot be told to take any.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000


def unused_port() -> int:
    """
    Return a TCP port that nobody listens at, and that no outgoing connection is given.
    """
    # A port from the range of outgoing connections can be one's before its listener comes.
    first = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    while True:
        port = random.SystemRandom().randrange(min(_LOWEST, first - 1000), first)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
