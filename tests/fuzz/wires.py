"""
HTTP as it is on the wire: answers to the client of AWS, and requests to the admin endpoint.
"""

from __future__ import annotations

import asyncio
import zlib

from agent.core.counters import Counters
from agent.runtime.admin import HEAD_BYTES_MAX, Admin
from agent.runtime.http_connection import AnswerError, HttpConnection
from tests.fuzz.registry import Fuzzer


class Wire(asyncio.Transport):
    """
    A transport that only knows whether it was given up, and whether it may read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.paused = False

    def write(self, data: object) -> None:
        pass

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


def http(data: bytes) -> None:
    """
    Whatever comes, in whatever pieces: an answer, or an error that a caller handles; as a stream it is the same.
    """
    _run(_http(data))


async def _http(data: bytes) -> None:
    choice = zlib.crc32(data)
    method = ("GET", "HEAD", "CONNECT")[choice % 3]
    step = 1 + choice // 3 % 40
    connection, wire = HttpConnection(), Wire()
    connection.connection_made(wire)
    asked = asyncio.create_task(connection.ask(method, b"", b""))
    await asyncio.sleep(0)
    for start in range(0, len(data), step):
        if not wire.closed:
            connection.data_received(data[start : start + step])
    connection.connection_lost(None)
    body: bytes | None = None
    try:
        answer = await asked
    except (AnswerError, ConnectionError):
        assert wire.closed
    else:
        body = answer.body
        assert 200 <= answer.status <= 999
        assert len(body) <= len(data)
        assert all(name == name.lower() for name in answer.headers)
    assert await _streamed(method, data, 1 + choice // 120 % 40) == body


async def _streamed(method: str, data: bytes, step: int) -> bytes | None:
    """
    Return the body as a stream of which next to nothing may wait, in pieces of *step*; None: an error.
    """
    connection, wire = HttpConnection(), Wire()
    connection.connection_made(wire)
    read = asyncio.create_task(_read(connection, method))
    await asyncio.sleep(0)
    connection._size_max = 4
    for start in range(0, len(data), step):
        if not wire.closed:
            connection.data_received(data[start : start + step])
            for _ in range(3):
                await asyncio.sleep(0)
            assert read.done() or not wire.paused
    connection.connection_lost(None)
    try:
        return await read
    except (AnswerError, ConnectionError):
        assert wire.closed
        return None


async def _read(connection: HttpConnection, method: str) -> bytes:
    stream = await connection.stream(method, b"", b"")
    assert 200 <= stream.status <= 999
    pieces = []
    while piece := await stream.chunk():
        pieces.append(piece)
    return b"".join(pieces)


class _Writer:
    """
    Takes what is written.
    """

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass


def _tell(*words: object, **_: object) -> None:
    raise AssertionError(words)


ADMIN = Admin("", counters=Counters(), ready=lambda: True, refresh=lambda: None, tell=_tell)


def admin(data: bytes) -> None:
    """
    A request is answered with one whole response, or not at all.
    """

    async def ask() -> bytes:
        reader = asyncio.StreamReader(limit=HEAD_BYTES_MAX)
        reader.feed_data(data)
        reader.feed_eof()
        writer = _Writer()
        await ADMIN._exchange(reader, writer)  # type: ignore[arg-type]
        return writer.data

    answer = _run(ask())
    if answer:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 ")
        (length,) = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
        assert data.startswith(b"HEAD ") or int(length.partition(b": ")[2]) == len(body)


_loop = asyncio.new_event_loop()


def _run(coroutine):
    return _loop.run_until_complete(coroutine)


FUZZERS = (
    Fuzzer(
        "http",
        http,
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\nok\r\n0\r\nx: y\r\n\r\n"
            ),
            b"HTTP/1.0 503 Slow Down\r\nRetry-After: 3\r\n\r\n<Error><Code>SlowDown</Code></Error>",
            b"HTTP/1.1 204 No Content\r\nx-amzn-RequestId: a\r\n\r\n",
        ),
        (
            b"HTTP/1.1 ",
            b"\r\n",
            b"\r\n\r\n",
            b"content-length: ",
            b"transfer-encoding: chunked\r\n",
            b"connection: upgrade\r\nupgrade: h2c\r\n",
            b"101",
            b"ffffffffffffffff",
            b"\x00",
            b"\xff",
        ),
        cost=2,
    ),
    Fuzzer(
        "admin",
        admin,
        (
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"HEAD /healthz?x=y HTTP/1.0\r\n\r\n",
            b"GET /readyz HTTP/1.1\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        ),
        (
            b"GET ",
            b"HEAD ",
            b" HTTP/1.",
            b"/metrics",
            b"/healthz",
            b"\r\n",
            b"\r\n\r\n",
            b"?",
            b" ",
            b"\x00",
        ),
        cost=2,
    ),
)
