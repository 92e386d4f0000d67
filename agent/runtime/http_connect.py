"""
New connections to where a URL leads: any of the host's addresses, TLS with the server's name checked.

Nothing here has a time-out: callers have.
"""

from __future__ import annotations

import asyncio
import socket
from copy import copy
from functools import lru_cache
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from agent.runtime.http_connection import HttpConnection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

#: Between the attempts at a host's addresses (RFC 8305).
NEXT_ADDRESS_S = 0.25
PORTS = {"http": 80, "https": 443}


class Place(NamedTuple):
    """
    Whom to connect to.
    """

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """
        As it is written in CONNECT and in URLs.
        """
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def header(self) -> str:
        """
        As it is written in `host`: without the port that goes without saying.
        """
        return self.authority.removesuffix(f":{PORTS.get(self.scheme)}")


def place_of(url: str) -> Place:
    """
    Return whom *url* names.  Raises ValueError for a port that is none.
    """
    scheme, _, rest = url.partition("://")
    return _place_of(f"{scheme}://{rest.partition('/')[0]}")


@lru_cache(maxsize=256)
def _place_of(base: str) -> Place:
    parts = urlsplit(base)
    return Place(parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 443))


async def connect(
    place: Place,
    context: ssl.SSLContext | None,
    *,
    server_name: str = "",
    make_socket: Callable[[Any], socket.socket] | None = None,
) -> HttpConnection:  # network op
    """
    Return a new connection; with *context* over TLS, to a server whose certificate is for *server_name*.

    Raises OSError.
    """
    loop = asyncio.get_running_loop()
    try:
        addresses = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{place.host[:80]!r} is no name of a host") from error
    try:
        plain = await start_connection(
            addresses, happy_eyeballs_delay=NEXT_ADDRESS_S, socket_factory=make_socket
        )
    except (OSError, RuntimeError) as error:
        # The library keeps errors in its frames, which errors keep: what waits here, body and all, must not join them.
        clear_frames(error.__traceback__)
        raise (copy(error) if isinstance(error, OSError) else OSError(str(error))) from None
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    name = server_name or place.host.rstrip(".")  # RFC 6066: without the dot
    try:
        _, connection = await loop.create_connection(
            HttpConnection,
            sock=plain,
            ssl=context,
            server_hostname=name if context is not None else None,
        )
    except BaseException:
        plain.close()
        raise
    return connection
