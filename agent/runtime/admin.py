"""
The admin endpoint: a minimal HTTP/1.1 server on loopback.

| path | answer |
|---|---|
| `/healthz` | 200 as long as the event loop turns; does not depend on a cloud being up |
| `/readyz` | 200 when every route is up, else 503 |
| `/metrics` | Prometheus text format |

GET and HEAD, one request a connection, no bodies.  Whatever a client sends or does not send, it costs at most
8 KiB and 5 seconds, and at most 32 clients are served at a time; the agent never ends because of one.  A
port that is taken is said and tried again: logs are delivered meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from agent.core.counters import Counters
    from agent.runtime.own_log import Tell

#: As nginx's large_client_header_buffers; a scraper sends a few hundred bytes.
HEAD_BYTES_MAX = 8192
#: From the first byte to the last one of the answer; Prometheus gives up after 10 s.
EXCHANGE_S = 5.0
CONNECTIONS_MAX = 32
#: How often a port that is taken is tried again.
BIND_RETRY_S = 10.0
_TEXT = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """
    What goes back to a client.
    """

    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT


class Admin:
    """
    The endpoint: `async with Admin(…):`; an empty *listen* turns it off.
    """

    def __init__(
        self,
        listen: str,
        *,
        counters: Counters,
        ready: Callable[[], bool],
        refresh: Callable[[], None],
        tell: Tell,
    ) -> None:
        self._listen = listen
        self._counters = counters
        self._ready = ready
        self._refresh = refresh
        self._tell = tell
        self._server: asyncio.Server | None = None
        self._binding: asyncio.Task[None] | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        if self._listen and not await self._bind():
            self._binding = asyncio.create_task(self._bind_later(), name="admin.bind")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._binding is not None:
            self._binding.cancel()
            with suppress(asyncio.CancelledError):
                await self._binding
        if self._server is not None:
            self._server.close()
            for writer in list(self._connections):
                writer.transport.abort()
            await self._server.wait_closed()

    @property
    def address(self) -> tuple[str, int] | None:
        """
        Host and port that are listened on; None while there are none.
        """
        if self._server is None:
            return None
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def _bind_later(self) -> None:
        while True:
            await asyncio.sleep(BIND_RETRY_S)
            if await self._bind():
                self._tell("admin_listening", f"admin endpoint listens on {self._listen}")
                return

    async def _bind(self) -> bool:
        host, port = split_listen(self._listen)
        try:
            self._server = await asyncio.start_server(
                self._serve, host or None, port, limit=HEAD_BYTES_MAX, backlog=CONNECTIONS_MAX
            )
        except OSError as error:
            self._tell(
                "admin_not_listening",
                f"admin.listen: {self._listen}: {error.strerror or error}: no health checks and no "
                f"metrics until it is free; tried again every {BIND_RETRY_S:g} s",
                level="error",
            )
            return False
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._connections.add(writer)
        try:
            async with asyncio.timeout(EXCHANGE_S):
                await self._exchange(reader, writer)
        except (OSError, TimeoutError):
            # The client went away or takes too long: its loss.
            writer.transport.abort()
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")  # network op
        except asyncio.LimitOverrunError:
            head_only = False
            answer = _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except asyncio.IncompleteReadError:
            return  # A port scan, or a TCP health check.
        else:
            head_only = head.startswith(b"HEAD ")
            answer = self._answer(head)
        lines = [
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            "Cache-Control: no-store",
            "Connection: close",
        ]
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            lines.append("Allow: GET, HEAD")
        writer.write("\r\n".join([*lines, "", ""]).encode("ascii"))
        if not head_only:
            writer.write(answer.body)
        await writer.drain()  # network op
        writer.close()
        await writer.wait_closed()  # network op

    def _answer(self, head: bytes) -> Answer:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _plain(HTTPStatus.BAD_REQUEST)
        method, target, _ = words
        if method not in {b"GET", b"HEAD"}:
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED)
        path = target.split(b"?", 1)[0]
        if path == b"/healthz":
            return _plain(HTTPStatus.OK, "ok")
        if path == b"/readyz":
            if self._ready():
                return _plain(HTTPStatus.OK, "ready")
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, "not every route is up")
        if path == b"/metrics":
            return self._metrics()
        if path == b"/":
            return _plain(HTTPStatus.OK, "tailrace: /healthz /readyz /metrics")
        return _plain(HTTPStatus.NOT_FOUND)

    def _metrics(self) -> Answer:
        # The client library costs 5 MB and 35 ms: only an agent that is scraped pays for it.
        from agent.runtime import exposition

        try:
            self._refresh()
            body = exposition.render(self._counters)
        except Exception as error:
            # A bug in a gauge must not take health checks, and then the agent, with it.
            text = f"/metrics: {type(error).__name__}: {error}"
            self._tell("metrics_failed", text, level="error")
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        return Answer(HTTPStatus.OK, body, exposition.CONTENT_TYPE)


def split_listen(listen: str) -> tuple[str, int]:
    """
    Return host and port of `127.0.0.1:2020`, `[::1]:2020` or `:2020`.

    Raises ValueError where it is none of these.
    """
    host, colon, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"no port in {listen!r}")
    if ":" in host and not bracketed:
        raise ValueError(f"IPv6 address without brackets in {listen!r}")
    return (host[1:-1] if bracketed else host), int(port)


def _plain(status: HTTPStatus, text: str = "") -> Answer:
    return Answer(status, f"{text or status.phrase}\n".encode())
