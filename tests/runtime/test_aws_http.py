"""
The pool of connections, against servers that answer byte for byte what a test says.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from agent.core.aws import AwsSettings
from agent.core.errors import RetryError
from agent.runtime.aws_http import CONNECTIONS_MAX, Http, HttpResponse
from agent.runtime.http_connection import RESPONSE_BYTES_MAX
from tests.fakes.wire import OK, Wire

if TYPE_CHECKING:
    import ssl


async def send(
    http: Http, url: str, method: str = "POST", body: bytes = b"x", **settings: Any
) -> HttpResponse:
    return await http.send(
        method,
        url,
        headers={"host": "h"},
        body=body,
        settings=AwsSettings(region="r", **settings),
        timeout_s=10,
    )


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK, 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nab\n\r\n0\r\n\r\n", 200, b"okab\n"),
        (b"HTTP/1.1 500 No\r\nconnection: close\r\n\r\nuntil the end", 500, b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 204 None\r\n\r\n", 204, b""),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok"),
    ],
    ids=["length", "chunked", "close", "continue", "hints", "204", "1.0"],
)  # fmt: skip
async def test_answers_end_where_they_end(
    http: Http, answer: bytes, status: int, body: bytes
) -> None:
    """
    Whatever says so; the next request gets its own answer.
    """
    wire = Wire(answer)
    async with wire.running() as url:
        found = await send(http, f"{url}/a?b")
        assert (found.status, found.body) == (status, body)
        assert (await send(http, url)).body == b"ok"
    assert wire.heads[0].startswith(b"POST /a?b HTTP/1.1\r\n")
    assert wire.connections == (1 if b"HTTP/1.1" in answer and b"close" not in answer else 2)


async def test_a_head_has_no_body(http: Http) -> None:
    wire = Wire(b"HTTP/1.1 200 OK\r\ncontent-length: 7000\r\nETag: e\r\n\r\n")
    async with wire.running() as url:
        answer = await send(http, url, "HEAD", b"")
        assert (answer.headers, answer.body) == ({"content-length": "7000", "etag": "e"}, b"")
        assert (await send(http, url)).body == b"ok"
    assert wire.connections == 1
    assert b"content-length" not in wire.heads[0]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "response"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "response"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\nconnection: close\r\n\r\nhalf", "connection"),
        (None, "connection"),
    ],
    ids=["other", "upgrade", "half", "nothing"],
)
async def test_what_is_no_answer_is_a_retry(http: Http, answer: bytes | None, code: str) -> None:
    wire = Wire(answer)
    async with wire.running() as url:
        with pytest.raises(RetryError) as caught:
            await send(http, url)
        assert caught.value.code == code
        assert url in str(caught.value)
        assert (await send(http, url)).body == b"ok"
    assert wire.connections == 2


async def test_an_answer_without_end_is_refused(http: Http) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {RESPONSE_BYTES_MAX + 1}\r\n\r\n".encode()
    wire = Wire(head + bytes(RESPONSE_BYTES_MAX + 1))
    async with wire.running() as url:
        with pytest.raises(RetryError, match="larger than") as caught:
            await send(http, url)
    assert caught.value.code == "response"


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used(http: Http) -> None:
    wire = Wire()
    async with wire.running() as url:
        await send(http, url)
        (kept,) = next(iter(http._idle.values()))
        assert kept[0].transport is not None
        wire_closed = Wire(OK + b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        kept[0].transport.abort()
        assert (await send(http, url)).status == 200
    assert wire.connections == 2
    # Bytes that nobody asked for end a connection, too.
    async with wire_closed.running() as url:
        assert (await send(http, url)).body == b"ok"
        await asyncio.sleep(0.05)
        assert (await send(http, url)).body == b"ok"
    assert wire_closed.connections == 2


@pytest.mark.parametrize("tls", [False, True])
async def test_large_bodies_arrive_whole(
    http: Http, certificates: tuple[ssl.SSLContext, str], tls: bool
) -> None:
    context, bundle = certificates
    body = bytes(range(256)) * 40_000
    wire = Wire(tls=context if tls else None)
    async with wire.running() as url:
        for part in (body, body[: 256 * 1024], body[: 256 * 1024 + 1], b""):
            assert (await send(http, url, "PUT", part, ca_bundle=bundle)).status == 200
            assert wire.bodies[-1] == part
    assert wire.connections == 1
    assert b"content-length: 0\r\n" in wire.heads[-1]


async def test_an_error_that_comes_before_the_body_has_gone(http: Http) -> None:
    """
    It is returned, and the connection is not used again.
    """
    wire = Wire(b"EARLY HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
    async with wire.running() as url:
        found = "connection"
        # The server's reset may overtake its answer.
        with suppress(RetryError):
            found = str((await send(http, url, "PUT", bytes(30 << 20))).status)
        assert found in ("403", "connection")
        assert (await send(http, url)).body == b"ok"
    assert wire.connections == 2


async def test_only_so_many_at_once(http: Http) -> None:
    wire = Wire()
    wire.delay_s = 0.05
    async with wire.running() as url:
        count = 2 * CONNECTIONS_MAX
        answers = await asyncio.gather(*(send(http, url) for _ in range(count)))
        assert {answer.status for answer in answers} == {200}
    assert wire.most <= CONNECTIONS_MAX
    assert wire.connections <= CONNECTIONS_MAX


async def test_a_cancelled_request_leaves_nothing(http: Http) -> None:
    wire = Wire()
    wire.delay_s = 30
    async with wire.running() as url:
        task = asyncio.create_task(send(http, url))
        while not wire.heads:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not http._idle
        wire.delay_s = 0
        assert (await send(http, url)).body == b"ok"


async def test_a_certificate_of_another_authority_says_what_to_do(
    http: Http, certificates: tuple[ssl.SSLContext, str]
) -> None:
    wire = Wire(tls=certificates[0])
    async with wire.running() as url:
        with pytest.raises(RetryError, match="ca_bundle") as caught:
            await send(http, url)
    assert (caught.value.code, caught.value.slow) == ("certificate", True)


class Proxy:
    """
    Understands CONNECT, and leads wherever *target* is.
    """

    def __init__(self, target: str, answer: bytes = b"HTTP/1.1 200 Connection established") -> None:
        host, _, port = target.partition("://")[2].rpartition(":")
        self._target = (host, int(port))
        self._answer = answer
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self._answer + b"\r\n\r\n")
        if b" 200 " not in self._answer:
            writer.close()
            return
        inner_reader, inner_writer = await asyncio.open_connection(*self._target)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))


@pytest.mark.parametrize("outer_tls", [False, True])
async def test_tls_goes_through_a_proxy(
    http: Http, certificates: tuple[ssl.SSLContext, str], outer_tls: bool
) -> None:
    """
    By CONNECT, with the name and password of its URL; the service's certificate is the one that is checked.
    """
    context, bundle = certificates
    wire = Wire(tls=context)
    async with wire.running() as url:
        proxy = Proxy(url)
        server = await asyncio.start_server(
            proxy.serve, "127.0.0.1", 0, ssl=context if outer_tls else None
        )
        async with server:
            port = server.sockets[0].getsockname()[1]
            named = f"{'https' if outer_tls else 'http'}://me:s%40crt@127.0.0.1:{port}"
            asked = url.replace("127.0.0.1", "localhost")
            for _ in range(2):
                answer = await send(http, f"{asked}/p", proxy=named, ca_bundle=bundle)
                assert answer.body == b"ok"
            await http.close()
    (head,) = proxy.heads
    authority = asked.partition("://")[2].encode()
    assert head.startswith(b"CONNECT " + authority + b" HTTP/1.1\r\nhost: " + authority)
    assert b"proxy-authorization: Basic bWU6c0BjcnQ=\r\n" in head
    assert wire.heads[0].startswith(b"POST /p HTTP/1.1\r\n")
    assert b"proxy-authorization" not in wire.heads[0]


async def test_a_proxy_that_refuses_is_named_without_its_password(http: Http) -> None:
    proxy = Proxy("http://127.0.0.1:1", b"HTTP/1.1 407 Proxy Authentication Required")
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RetryError, match="407 to CONNECT; check `proxy`") as caught:
            await send(
                http, "https://logs.test.invalid", proxy=f"http://me:secret@127.0.0.1:{port}"
            )
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_proxy_of_another_kind_is_refused(http: Http) -> None:
    with pytest.raises(RetryError, match="HTTPS_PROXY") as caught:
        await send(http, "https://logs.test.invalid", proxy="socks5://me:secret@127.0.0.1:1")
    assert caught.value.slow
    assert "secret" not in str(caught.value)
