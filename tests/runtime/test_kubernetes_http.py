"""
One session with an API server, byte for byte: what is sent, how long it may take, and what is sent again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from agent import __version__
from agent.core.errors import RetryError
from agent.runtime import kubernetes_http
from agent.runtime.kubernetes_config import Access
from agent.runtime.kubernetes_http import Connection
from tests.fakes.kube_certificates import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.runtime.http_connection import HttpStream

pytestmark = pytest.mark.tls
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
#: Instead of an answer: the connection ends.
GONE = b""


class Api:
    """
    An API server that says *answers*, one a request; then OK.
    """

    def __init__(self, directory: Path, *names: str) -> None:
        authority = Authority(directory)
        self.ca_file = str(authority.path)
        pair = authority.issue("server", *(names or ("127.0.0.1",)))
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(pair.certificate, pair.key)
        self.answers: list[bytes] = []
        #: (number of the connection, the request's line)
        self.requests: list[tuple[int, str]] = []
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.silent = asyncio.Event()
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append((number, head.partition(" HTTP/")[0]))
                self.heads.append(head)
                size = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
                self.bodies.append(await reader.readexactly(size))
                answer = self.answers.pop(0) if self.answers else OK
                writer.write(answer)
                await writer.drain()
                if answer == GONE or b"close" in answer or b"half" in answer:
                    break
        self.open -= 1
        writer.close()

    @asynccontextmanager
    async def running(self, path: str = "", **fields: Any) -> AsyncIterator[Connection]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            url = f"https://127.0.0.1:{self.port}{path}"
            values = {"url": url, "ca_file": self.ca_file, "token": "t", **fields}
            connection = Connection(Access(**values))
            try:
                yield connection
            finally:
                await connection.close()
                async with asyncio.timeout(10):
                    while self.open:
                        await asyncio.sleep(0.005)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


async def send(
    connection: Connection, method: str = "GET", path: str = "/api", body: bytes = b"", **more: Any
) -> tuple[int, bytes]:
    found: list[tuple[int, bytes]] = []

    async def answered(response: HttpStream) -> None:
        found.append((response.status, await response.read(1000) or b"too long"))

    limits = {"query": {}, "deadline_s": 300.0, "timeout_s": 300.0, **more}
    await connection.send(method, path, answered=answered, body=body, **limits)
    return found[0]


async def test_what_is_sent(api: Api) -> None:
    async with api.running() as connection:
        query = {"watch": "1", "fieldSelector": "spec.nodeName=n 1&x"}
        await send(connection, path="/api/v1/pods", query=query)
        await send(connection, "PUT", "/lease", b"{}")
        await send(connection, "POST", "/lease")
    assert api.heads[0].split("\r\n") == [
        "GET /api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn+1%26x HTTP/1.1",
        f"host: 127.0.0.1:{api.port}",
        "accept: application/json",
        "accept-encoding: identity",
        f"user-agent: tailrace/{__version__}",
        "authorization: Bearer t",
        "",
        "",
    ]
    assert api.heads[1].endswith("content-type: application/json\r\ncontent-length: 2\r\n\r\n")
    assert api.bodies == [b"", b"{}", b""]
    assert "content-length: 0\r\n" in api.heads[2]
    assert api.connections == 1


async def test_a_server_may_be_below_a_path_and_have_another_name(tmp_path: Path) -> None:
    """
    As of a kubeconfig that leads through a gateway.
    """
    api = Api(tmp_path, "kubernetes.default.svc")
    async with api.running(
        server_name="kubernetes.default.svc", token="", path="/k8s"
    ) as connection:
        assert await send(connection) == (200, b"ok")
    assert api.requests == [(1, "GET /k8s/api")]
    assert "authorization" not in api.heads[0]
    async with api.running() as connection:
        with pytest.raises(RetryError, match="certificate not trusted") as caught:
            await send(connection)
    assert (caught.value.code, caught.value.slow) == ("certificate", True)


async def test_a_token_is_read_for_every_request(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "token"
    async with api.running(token_file=str(file)) as connection:
        for token in ("one", "two"):
            file.write_text(f"{token}\n")
            await send(connection)
            assert f"authorization: Bearer {token}\r\n" in api.heads[-1]
        file.write_text("one\r\nx-remote-user: admin")
        with pytest.raises(RetryError, match="no line of text"):
            await send(connection)
    assert len(api.requests) == 2


async def test_redirects_are_answers_and_a_proxy_is_not_asked(
    api: Api, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
    api.answers = [b"HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 2\r\n\r\nno"]
    async with api.running() as connection:
        assert await send(connection) == (302, b"no")
    assert len(api.requests) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "PATCH"])
async def test_a_kept_connection_that_is_dead_is_replaced_once(api: Api, method: str) -> None:
    """
    Where a request may arrive twice; POST and PATCH may not.
    """
    api.answers = [OK, GONE]
    async with api.running() as connection:
        await send(connection)
        if method in ("GET", "PUT"):
            assert await send(connection, method, body=b"{}") == (200, b"ok")
        else:
            with pytest.raises(RetryError) as caught:
                await send(connection, method, body=b"{}")
            assert caught.value.code == "connection"
        again = [(2, f"{method} /api")] if method in ("GET", "PUT") else []
        assert api.requests == [(1, "GET /api"), (1, f"{method} /api"), *again]
        await send(connection)
        api.requests.clear()
        api.answers = [GONE, GONE]
        with pytest.raises(RetryError):
            await send(connection)
        assert len(api.requests) == 2, "only once"


@pytest.mark.parametrize(
    ("answers", "count"),
    [
        ([GONE], 1),
        ([b"SSH-2.0-half\r\n"], 1),
        ([OK, b"HTTP/1.1 200 half"], 2),
        ([OK, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"], 2),
    ],
    ids=["a new one", "no HTTP", "a first line", "a body"],
)
async def test_what_was_answered_or_new_is_not_repeated(
    api: Api, answers: list[bytes], count: int
) -> None:
    api.answers = list(answers)
    async with api.running() as connection:
        for _ in answers[1:]:
            await send(connection)
        with pytest.raises(RetryError) as caught:
            await send(connection)
        assert caught.value.code == "connection"
        assert len(api.requests) == count
        assert await send(connection) == (200, b"ok")


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (OK, True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n" + bytes(2000), False),
        (OK + OK, False),
    ],
    ids=["length", "chunked", "close", "longer than read", "two"],
)
async def test_a_connection_is_kept_where_the_answer_was_read(
    api: Api, answer: bytes, kept: bool
) -> None:
    api.answers = [answer]
    async with api.running() as connection:
        await send(connection)
        # What ended a connection is seen before anything is sent: this serves requests that must not be repeated.
        async with asyncio.timeout(10):
            while not kept and api.open:
                await asyncio.sleep(0.005)
        assert await send(connection, "POST") == (200, b"ok")
    assert api.connections == (1 if kept else 2)


async def test_a_connection_is_not_kept_for_ever(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_http, "KEPT_S", 0.01)
    async with api.running() as connection:
        await send(connection)
        async with asyncio.timeout(10):
            while api.open:
                await asyncio.sleep(0.005)
        await send(connection, "POST")
    assert api.connections == 2


@pytest.mark.parametrize("limit", ["timeout_s", "deadline_s"])
async def test_a_server_that_is_silent_is_left(api: Api, limit: str) -> None:
    """
    Before the head, or in the middle of a body.
    """
    api.answers = [
        b"HTTP/1.1 " if limit == "timeout_s" else b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
    ]
    async with asyncio.timeout(10), api.running() as connection:
        limits: dict[str, Any] = {limit: 0.2}
        with pytest.raises(RetryError, match="no answer in time") as caught:
            await send(connection, **limits)
        assert caught.value.code == "timeout"
        assert await send(connection) == (200, b"ok")
    assert api.connections == 2


async def test_a_server_that_does_not_shake_hands_is_left(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_http, "CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        connection = Connection(Access(url=url, ca_file=api.ca_file))
        async with asyncio.timeout(10):
            with pytest.raises(RetryError, match="no answer in time") as caught:
                await send(connection)
    assert caught.value.code == "timeout"


@pytest.mark.parametrize("url", ["https://127.0.0.1:{port}", "https://a..b", "https://x.invalid"])
async def test_nobody_there_is_a_retry(api: Api, free_port: int, url: str) -> None:
    url = url.format(port=free_port)
    with pytest.raises(RetryError) as caught:
        await send(Connection(Access(url=url, ca_file=api.ca_file)))
    assert caught.value.code == "connection"
    assert str(caught.value).startswith(f"{url}/api: ")


async def test_a_peer_that_is_gone_is_noticed_by_the_kernel(api: Api) -> None:
    """
    The options are those of the socket that is used.
    """
    found: dict[str, int] = {}

    async def answered(response: HttpStream) -> None:
        transport = response._connection.transport
        assert transport is not None
        sock = transport.get_extra_info("socket")
        for name in ("KEEPIDLE", "KEEPINTVL", "KEEPCNT", "USER_TIMEOUT", "NODELAY"):
            found[name] = sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}"))
        found["alive"] = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    async with api.running() as connection:
        await connection.get("/", {}, answered, deadline_s=10, timeout_s=10)
    assert found == {
        "KEEPIDLE": 30,
        "KEEPINTVL": 10,
        "KEEPCNT": 3,
        "USER_TIMEOUT": 60_000,
        "NODELAY": 1,
        "alive": 1,
    }


async def test_a_cancelled_request_leaves_no_connection(api: Api) -> None:
    api.answers = [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"]
    async with asyncio.timeout(10), api.running() as connection:
        task = asyncio.create_task(send(connection))
        while not api.requests:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while api.open:
            await asyncio.sleep(0.005)
        assert await send(connection) == (200, b"ok")


def test_no_other_client_is_imported() -> None:
    """
    Another client would cost 14 MiB, for ever.
    """
    code = (
        "import sys\n"
        "import agent.runtime.kubernetes, agent.runtime.election, agent.runtime.instance, agent.runtime.metadata\n"
        "print(*[m for m in sys.modules if m.partition('.')[0] in ('aiohttp', 'yarl', 'multidict', 'requests', "
        "'urllib3', 'aiobotocore', 'botocore', 'http')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
