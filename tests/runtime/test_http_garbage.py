"""
What a failed request leaves to the garbage collector, which comes seldom: nothing.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from agent.core.aws import AwsSettings
from agent.core.errors import RetryError
from agent.runtime import http_connect
from agent.runtime.http_connection import HttpConnection
from tests.fakes.garbage import Body, without_collector
from tests.fakes.ports import unused_port
from tests.fakes.wire import Wire

if TYPE_CHECKING:
    import ssl

    from agent.runtime.aws_http import Http


class TwoAddresses:
    """
    An event loop for which every host has two addresses that cannot be reached, for one reason.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def getaddrinfo(self, _: str, port: int, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("255.255.255.255", port))] * 2


@pytest.mark.parametrize(
    "kind", ["lost", "nonsense", "late", "untrusted", "refused", "two addresses"]
)
async def test_a_failed_request_is_no_garbage(
    http: Http,
    certificates: tuple[ssl.SSLContext, str],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Its connection has 300 KiB of TLS, its body up to 8 MiB, and the garbage collector comes seldom.
    """
    if kind == "untrusted" and not isinstance(asyncio.get_running_loop(), uvloop.Loop):
        pytest.skip("asyncio keeps a handshake that failed; the agent runs on uvloop")
    wire = Wire(b"EARLY SSH-2.0-OpenSSH_9\r\n" if kind == "nonsense" else None, tls=certificates[0])
    wire.delay_s = 30 if kind == "late" else 0
    if kind == "two addresses":
        loop = TwoAddresses(asyncio.get_running_loop())
        known = SimpleNamespace(get_running_loop=lambda: loop)
        monkeypatch.setattr(http_connect, "asyncio", known)
    async with wire.running() as url:
        asked = f"https://127.0.0.1:{unused_port()}" if kind == "refused" else url
        bundle = "" if kind == "untrusted" else certificates[1]
        settings = AwsSettings(region="r", ca_bundle=bundle)
        with without_collector():
            body = Body(b"x")
            gone = weakref.ref(body)
            with pytest.raises(RetryError):
                await http.send(
                    *("POST", asked),
                    headers={"host": "h"},
                    body=memoryview(body),
                    settings=settings,
                    timeout_s=1 if kind == "late" else 10,
                )
            del body
            async with asyncio.timeout(10):
                while gone() or any(isinstance(item, HttpConnection) for item in gc.get_objects()):
                    await asyncio.sleep(0.01)
