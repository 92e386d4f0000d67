"""
One session with an API server: TLS, the token of the moment, time-outs.

The certificate and the name of the server are always verified.  Connecting, the head of an answer and the whole
exchange have hard time-outs; the kernel notices a peer that is gone before that (keep-alive, unacknowledged data).
One request at a time, over one connection that is kept between them.  No proxy is used and no redirect followed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from agent import __version__
from agent.core.errors import RetryError
from agent.runtime.http_connect import connect, place_of
from agent.runtime.http_connection import AnswerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.runtime.http_connection import HttpConnection, HttpStream
    from agent.runtime.kubernetes_config import Access

CONNECT_TIMEOUT_S = 10.0
#: A connection is kept for so long without a request; servers and what is before them keep it for a minute or more.
KEPT_S = 15.0
#: Seconds: a peer that does not answer is noticed after IDLE + COUNT × INTERVAL.
KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_COUNT = 3
#: May reach the server twice.  A PUT names the version that it replaces: after one that arrived, the second is a 409.
REPEATABLE = frozenset({"GET", "PUT"})


class Connection:
    """
    A session with one API server.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._tls: ssl.SSLContext | None = None
        self._token = ""
        #: In use, or kept for the next request.
        self._connection: HttpConnection | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """
        Close the connection; the next request opens another, with the certificates as they are then.
        """
        self._tls = None
        connection = self._connection
        self._forget()
        if connection is not None:
            connection.close()
            # A closed transport tells its protocol in the next round of the loop.
            await asyncio.sleep(0)

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
        answered: Callable[[HttpStream], Awaitable[None]],
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
        answered: Callable[[HttpStream], Awaitable[None]],
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
            if self._tls is None:
                self._tls = self._access.tls()
            self._token = self._access.read_token()
            head = _head(method, url, query, self._token, len(body))
            async with asyncio.timeout(deadline_s):
                try:
                    async with asyncio.timeout(timeout_s):
                        response = await self._answer(method, head, body)
                    await answered(response)
                finally:
                    self._keep()
        except ssl.SSLCertVerificationError as error:
            # The authority may have been replaced: its file is read again.
            await self.close()
            raise RetryError(
                f"{url}: certificate not trusted ({error})", code="certificate", slow=True
            ) from error
        except TimeoutError as error:
            raise RetryError(f"{url}: no answer in time", code="timeout") from error
        except (AnswerError, OSError) as error:
            raise RetryError(
                f"{url}: {str(error) or type(error).__name__}", code="connection"
            ) from error

    async def _answer(self, method: str, head: bytes, body: bytes) -> HttpStream:
        if kept := self._kept():
            try:
                return await kept.stream(method, head, body)
            except OSError:
                # It was closed while nobody used it, and that is known only now.
                if method not in REPEATABLE or not kept.silent:
                    raise
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            self._connection = await connect(
                place_of(self._access.url),
                self._tls,
                server_name=self._access.server_name,
                make_socket=_socket,
            )
        return await self._connection.stream(method, head, body)

    def _kept(self) -> HttpConnection | None:
        connection = self._connection
        # One request at a time: the connection of another one that is under way has no expiry.
        assert connection is None or self._expiry is not None
        self._forget()
        if connection is None or connection.transport is None or connection.transport.is_closing():
            return None
        self._connection = connection
        return connection

    def _keep(self) -> None:
        connection = self._connection
        self._forget()
        if connection is None:
            return
        connection.release()
        if connection.reusable:
            self._connection = connection
            self._expiry = asyncio.get_running_loop().call_later(KEPT_S, connection.close)

    def _forget(self) -> None:
        self._connection = None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None


def _head(method: str, url: str, query: dict[str, str], token: str, size: int) -> bytes:
    """
    Return the request's line and headers.
    """
    if not token.isprintable():
        raise RetryError(f"{url}: the token is no line of text", code="token", slow=True)
    target = urlsplit(url).path or "/"
    if query:
        target += f"?{urlencode(query)}"
    lines = [
        f"{method} {target} HTTP/1.1",
        f"host: {place_of(url).header}",
        "accept: application/json",
        "accept-encoding: identity",
        f"user-agent: tailrace/{__version__}",
    ]
    if token:
        lines.append(f"authorization: Bearer {token}")
    if size:
        lines.append("content-type: application/json")
    if size or method != "GET":
        lines.append(f"content-length: {size}")
    return "\r\n".join((*lines, "", "")).encode()


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
