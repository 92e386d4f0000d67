"""
One session with an API server: TLS, the token of the moment, time-outs.

The certificate and the name of the server are always verified.  Connecting, the head of an answer and the whole
exchange have hard time-outs; the kernel notices a peer that is gone before that (keep-alive, unacknowledged data).
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from agent import __version__
from agent.core.errors import RetryError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from agent.runtime.kubernetes_config import Access

CONNECT_TIMEOUT_S = 10.0
#: Bytes of a stream that wait in memory, per watch; aiohttp stops reading at twice this.
READ_BYTES = 64 * 1024
#: Seconds: a peer that does not answer is noticed after IDLE + COUNT × INTERVAL.
KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_COUNT = 3


class Connection:
    """
    A session with one API server.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._token = ""

    async def close(self) -> None:
        """
        Close the connection; the next request opens another, with the certificates as they are then.
        """
        session, self._session = self._session, None
        self._tls = None
        if session is not None:
            await session.close()

    @property
    def token_changed(self) -> bool:
        """
        Whether the token is another one than that of the last request.
        """
        try:
            return self._access.read_token() != self._token
        except RetryError:
            return False

    async def get(
        self,
        path: str,
        query: dict[str, str],
        answered: Callable[[aiohttp.ClientResponse], Awaitable[None]],
        *,
        deadline_s: float,
        timeout_s: float,
    ) -> None:  # network op
        """
        Send GET and hand the answer to *answered* within *deadline_s*; its head must come within *timeout_s*.

        Raises RetryError.
        """
        await self.send("GET", path, query, answered, deadline_s=deadline_s, timeout_s=timeout_s)

    async def send(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        answered: Callable[[aiohttp.ClientResponse], Awaitable[None]],
        *,
        body: bytes = b"",
        deadline_s: float,
        timeout_s: float,
    ) -> None:  # network op
        """
        Send one request, with *body* as JSON where there is one; as `get`.
        """
        url = self._access.url + path
        try:
            session = self._open()
            self._token = self._access.read_token()
            headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
            if body:
                headers["content-type"] = "application/json"
            async with asyncio.timeout(deadline_s):
                async with asyncio.timeout(timeout_s):
                    response = await session.request(
                        method,
                        URL(url, encoded=True).with_query(query),
                        headers=headers,
                        data=body or None,
                        allow_redirects=False,
                        ssl=self._tls or True,
                        server_hostname=self._access.server_name or None,
                    )
                async with response:
                    await answered(response)
        except aiohttp.ClientConnectorCertificateError as error:
            # The authority may have been replaced: its file is read again.
            await self.close()
            raise RetryError(
                f"{url}: certificate not trusted ({error.certificate_error})",
                code="certificate",
                slow=True,
            ) from error
        except TimeoutError as error:
            raise RetryError(f"{url}: no answer in time", code="timeout") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RetryError(
                f"{url}: {str(error) or type(error).__name__}", code="connection"
            ) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._tls = self._access.tls()
            connector = aiohttp.TCPConnector(limit=1, socket_factory=_socket)
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_BYTES,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                headers={
                    "accept": "application/json",
                    "accept-encoding": "identity",
                    "user-agent": f"tailrace/{__version__}",
                },
            )
        return self._session


async def read_body(response: aiohttp.ClientResponse, bytes_max: int) -> bytes | None:
    """
    Return the body; None where it is longer than *bytes_max*.
    """
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > bytes_max:
            response.close()
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT),
        (
            socket.IPPROTO_TCP,
            socket.TCP_USER_TIMEOUT,
            1000 * (KEEPALIVE_IDLE_S + KEEPALIVE_COUNT * KEEPALIVE_INTERVAL_S),
        ),
    ):
        made.setsockopt(level, option, value)
    return made
