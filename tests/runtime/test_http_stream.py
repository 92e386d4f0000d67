"""
Answers as streams, from servers that say byte for byte what a test says.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from agent.runtime.http_connect import connect, place_of
from agent.runtime.http_connection import (
    HEAD_BYTES_MAX,
    STREAM_BYTES_MAX,
    AnswerError,
    HttpConnection,
)
from tests.fakes.kube_certificates import Authority
from tests.fuzz.wires import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from agent.runtime.http_connection import HttpStream

    Script = Callable[[asyncio.StreamWriter], Awaitable[None]]

pytestmark = pytest.mark.tls
HEAD = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
#: What a transport hands over at once: asyncio's reads 256 KiB, uvloop's 250 KiB, TLS up to 16 KiB more.
READ_BYTES = 272 * 1024


class Server:
    """
    Runs *script* for every request.
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self.requests = 0
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                await self._script(writer)
            await reader.read()
        self.ended.set()
        writer.close()

    @asynccontextmanager
    async def connected(
        self, context: ssl.SSLContext | None = None
    ) -> AsyncIterator[HttpConnection]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self._tls)
        async with server:
            port = server.sockets[0].getsockname()[1]
            connection = await connect(place_of(f"http://127.0.0.1:{port}"), context)
            try:
                yield connection
            finally:
                connection.close()
                async with asyncio.timeout(10):
                    await self.ended.wait()


def saying(*pieces: bytes, end: bool = False) -> Script:
    async def script(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if end:
            writer.close()

    return script


async def rest(stream: HttpStream) -> bytes:
    pieces = []
    while piece := await stream.chunk():
        pieces.append(piece)
    return b"".join(pieces)


ENDS = {
    "length": (b"HTTP/1.1 200 Fine\r\nContent-Length: 6\r\n\r\nabcdef", True),
    "chunked": (
        (
            b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2;x=y\r\nab\r\n4\r\ncdef\r\n0\r\nx: y\r\n\r\n"
        ),
        True,
    ),
    "close": (b"HTTP/1.1 200 Fine\r\nserver: s\r\n\r\nabcdef", False),
    "said": (b"HTTP/1.1 200 Fine\r\ncontent-length: 6\r\nconnection: close\r\n\r\nabcdef", False),
    "1.0": (b"HTTP/1.0 200 Fine\r\ncontent-length: 6\r\n\r\nabcdef", False),
    "continue": (
        (
            b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 103 Hints\r\nc: d\r\n\r\n"
            b"HTTP/1.1 200 Fine\r\ncontent-length: 6\r\n\r\nabcdef"
        ),
        True,
    ),
}


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("how", ENDS)
async def test_a_stream_ends_where_the_answer_does(how: str, bytewise: bool) -> None:
    answer, kept = ENDS[how]
    pieces = [bytes([byte]) for byte in answer] if bytewise else [answer]
    async with Server(saying(*pieces, end=not kept)).connected() as connection:
        stream = await connection.stream("GET", HEAD, b"")
        assert (stream.status, stream.reason) == (200, "Fine")
        assert all(name == name.lower() for name in stream.headers)
        assert not {"a", "c"} & stream.headers.keys()
        assert await rest(stream) == b"abcdef"
        assert await stream.chunk() == b"", "the end stays the end"
        assert connection.reusable == kept


async def test_what_has_come_is_there_before_the_rest() -> None:
    """
    The head before the body, and each chunk before the next.
    """
    taken = asyncio.Queue[None]()

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for chunk in (b"1\r\na\r\n", b"2\r\nbc\r\n", b"0\r\n\r\n"):
            await taken.get()
            writer.write(chunk)

    async with asyncio.timeout(10), Server(script).connected() as connection:
        stream = await connection.stream("GET", HEAD, b"")
        for expected in (b"a", b"bc", b""):
            taken.put_nowait(None)
            assert await stream.chunk() == expected


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (CHUNKED + b"3\r\nabc\r\n", ConnectionError),
        (CHUNKED + b"8\r\nabc", ConnectionError),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", ConnectionError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc", ConnectionError),
        (CHUNKED + b"3\r\nabc\r\nSSH-2.0", AnswerError),
        (CHUNKED + b"3\r\nabcdefg\r\n", AnswerError),
    ],
    ids=["no last chunk", "half a chunk", "half an end", "short", "garbage", "long chunk"],
)
async def test_a_cut_is_no_end(answer: bytes, error: type[Exception]) -> None:
    """
    What came before it is handed out; then it is an error, however often somebody asks.
    """
    async with Server(saying(answer, end=True)).connected() as connection:
        stream = await connection.stream("GET", HEAD, b"")
        while not (found := await stream.chunk()).startswith(b"abc"):
            assert found
        for _ in range(2):
            with pytest.raises(error):
                await stream.chunk()
        assert not connection.reusable


async def test_a_reset_is_no_end_of_an_answer_that_ends_with_the_connection() -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await taken.wait()
        # With no time to linger a connection is reset.
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    taken = asyncio.Event()
    async with asyncio.timeout(10), Server(script).connected() as connection:
        stream = await connection.stream("GET", HEAD, b"")
        assert await stream.chunk() == b"abc"
        taken.set()
        with pytest.raises(ConnectionError):
            await stream.chunk()


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 1000),
        (b"HTTP/1.1 200 ", b"y" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 200),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
        (CHUNKED + b"1\r\na\r\n0\r\n", b"x: y\r\n" * 200),
        (CHUNKED + b"1;", b"y" * 1000),
    ],
    ids=["header", "reason", "headers", "informational", "trailers", "extension"],
)
async def test_what_has_no_end_is_refused(start: bytes, more: bytes) -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.is_closing():
            writer.write(more)
            await writer.drain()

    async with asyncio.timeout(10), Server(script).connected() as connection:
        with pytest.raises(AnswerError, match=f"larger than {HEAD_BYTES_MAX}"):
            await rest(await connection.stream("GET", HEAD, b""))


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """
    The server's and the client's.
    """
    authority = Authority(tmp_path)
    pair = authority.issue("server", "127.0.0.1")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pair.certificate, pair.key)
    return server, ssl.create_default_context(cafile=authority.path)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_slow_reader_is_waited_for(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], tls: bool
) -> None:
    """
    So little waits in memory, however much the server has; nothing is missing, and the connection serves again.
    """
    count, block = 400, bytes(range(256)) * 256
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {count * len(block)}\r\n\r\n".encode()
    server = Server(saying(head, *[block] * count), contexts[0] if tls else None)
    async with asyncio.timeout(60), server.connected(contexts[1] if tls else None) as connection:
        for request in range(2):
            stream = await connection.stream("GET", HEAD, b"")
            size = longest = calls = 0
            while piece := await stream.chunk():
                assert (
                    piece[: len(block)]
                    == (block * 2)[size % len(block) :][: len(piece[: len(block)])]
                )
                size, longest, calls = size + len(piece), max(longest, len(piece)), calls + 1
                if calls < 20:
                    await asyncio.sleep(0.02)
            assert size == count * len(block)
            assert longest <= STREAM_BYTES_MAX + READ_BYTES
            assert longest > STREAM_BYTES_MAX, "the reader was never behind: this shows nothing"
            connection.release()
            assert server.requests == request + 1


async def test_tls_that_ends_while_nobody_reads_is_no_end(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """
    TLS may drop what it holds; without a length only the error says that something is missing.
    """

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(STREAM_BYTES_MAX + 1))
        await behind.wait()
        writer.write(bytes(100_000))
        await writer.drain()
        # Without waiting for the other side's good-bye, as Go's server does.
        writer.transport.abort()

    behind = asyncio.Event()
    async with (
        asyncio.timeout(10),
        Server(script, contexts[0]).connected(contexts[1]) as connection,
    ):
        stream = await connection.stream("GET", HEAD, b"")
        while not connection._paused:
            await asyncio.sleep(0.005)
        behind.set()
        # uvloop drops it here; asyncio waits with the end until somebody reads.
        for _ in range(40):
            await asyncio.sleep(0.005)
        size = 0
        with suppress(ConnectionError):
            while piece := await stream.chunk():
                size += len(piece)
            assert size == STREAM_BYTES_MAX + 1 + 100_000


@pytest.mark.parametrize("end", [b"", b"c"])
async def test_reading_goes_on_after_each_pause(end: bytes) -> None:
    """
    Whether or not the answer was over by then: the next one has to be read, too.
    """
    connection, wire = HttpConnection(), Wire()
    connection.connection_made(wire)
    asked = asyncio.create_task(connection.stream("GET", HEAD, b""))
    await asyncio.sleep(0)
    size = STREAM_BYTES_MAX + 1
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {size + len(end)}\r\n\r\n".encode()
    connection.data_received(head + b"b" * size)
    stream = await asked
    assert wire.paused
    assert len(await stream.chunk()) == size
    assert not wire.paused
    if end:
        connection.data_received(end)
        assert not wire.paused
        assert await stream.chunk() == end
    assert await stream.chunk() == b""
    connection.release()
    assert connection.reusable


@pytest.mark.parametrize("when", ["head", "body"])
async def test_a_cancelled_reader_closes_the_connection(when: str) -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED if when == "body" else b"HTTP/1.1 200")
        await writer.drain()
        sent.set()

    async def read(connection: HttpConnection) -> None:
        stream = await connection.stream("GET", HEAD, b"")
        try:
            await stream.chunk()
        finally:
            connection.release()

    sent = asyncio.Event()
    server = Server(script)
    async with asyncio.timeout(10), server.connected() as connection:
        task = asyncio.create_task(read(connection))
        await sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.ended.wait()
        assert not connection.reusable


async def test_an_answer_that_is_not_read_takes_its_connection_with_it() -> None:
    server = Server(saying(OK))
    async with asyncio.timeout(10), server.connected() as connection:
        for _ in range(2):
            assert await rest(await connection.stream("GET", HEAD, b"")) == b"ok"
            connection.release()
            assert (await connection.ask("GET", HEAD, b"")).body == b"ok"
        await connection.stream("GET", HEAD, b"")
        connection.release()
        await server.ended.wait()
        with pytest.raises(ConnectionError):
            await connection.stream("GET", HEAD, b"")
    assert server.requests == 5


@pytest.mark.parametrize(
    "answer",
    [
        OK + OK,
        b"HTTP/1.1 204 None\r\n\r\nmore",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"\x16\x03\x01garbage",
    ],
    ids=["two", "body of 204", "upgrade", "no HTTP"],
)
async def test_bytes_that_nobody_asked_for_end_the_connection(answer: bytes) -> None:
    async with asyncio.timeout(10), Server(saying(answer)).connected() as connection:
        with suppress(AnswerError):
            assert await rest(await connection.stream("GET", HEAD, b"")) in (b"ok", b"")
        assert not connection.reusable
        with pytest.raises(ConnectionError):
            await connection.ask("GET", HEAD, b"")


async def test_a_body_of_head_is_not_taken_for_the_next_answer() -> None:
    async with asyncio.timeout(10), Server(saying(OK)).connected() as connection:
        stream = await connection.stream("HEAD", HEAD, b"")
        assert (stream.status, await rest(stream)) == (200, b"")
        assert not connection.reusable
