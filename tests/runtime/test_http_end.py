"""
How a connection ends: early answers, answers that nobody asked for, and what is left of it.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.runtime.http_connect import connect, place_of
from agent.runtime.http_connection import HttpConnection
from tests.fakes.garbage import without_collector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

HEAD = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
REFUSED = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"


@asynccontextmanager
async def connected(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[HttpConnection]:
    """
    A connection to a server that does what *serve* does, and then nothing.
    """
    ended = asyncio.Event()

    async def serve_then_wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
        await ended.wait()
        writer.transport.abort()

    server = await asyncio.start_server(serve_then_wait, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(30):
            connection = await connect(place_of(f"http://127.0.0.1:{port}"), None)
            yield connection
            connection.close()
    finally:
        ended.set()
        server.close()
        await asyncio.sleep(0.01)


async def test_an_answer_that_comes_while_a_large_body_is_written() -> None:
    """
    The server refuses and reads no more, but keeps the connection: the answer counts, not a time-out.
    """

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.1)  # Now the client waits to write more.
        writer.write(REFUSED)

    body = b"x" * (64 << 20)
    head = f"PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    async with connected(refuse) as connection:
        answer = await connection.ask("PUT", head, body)
        assert (answer.status, answer.body) == (403, b"no")
        assert not connection.reusable


async def test_a_server_that_speaks_first_ends_the_connection() -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REFUSED)

    async with connected(speak) as connection:
        await asyncio.sleep(0.1)
        with pytest.raises(ConnectionResetError):
            await connection.ask("GET", HEAD, b"")
        with pytest.raises(ConnectionResetError):
            await connection.ask("GET", HEAD, b"")


async def test_a_closed_connection_is_no_garbage() -> None:
    """
    Of TLS it has 300 KiB, and the garbage collector comes seldom.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(REFUSED)

    with without_collector():
        async with connected(answer) as connection:
            await connection.ask("GET", HEAD, b"")
        del connection
        async with asyncio.timeout(10):
            while any(isinstance(item, HttpConnection) for item in gc.get_objects()):
                await asyncio.sleep(0.01)
