"""
One pool of HTTP connections for the process: time-outs, proxy, certificates.

An answer is returned whole, whatever its status; everything else is a RetryError, or a cancellation.  No
request outlives its time-out, connecting and reading included.  Nothing is repeated and no redirect followed.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from base64 import b64encode
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from agent import __version__
from agent.core.errors import RetryError
from agent.runtime.http_connect import PORTS, Place, connect, place_of
from agent.runtime.http_connection import AnswerError, HttpResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.aws import AwsSettings
    from agent.runtime.http_connection import HttpConnection

__all__ = ["Http", "HttpResponse", "where"]

CONNECT_TIMEOUT_S = 10.0
#: As in the SDK: shorter than the idle time-out of AWS's front ends, longer than the default linger.
KEEPALIVE_S = 12.0
CONNECTIONS_MAX = 64
#: Not signed: a proxy may change them.
_ALWAYS = f"user-agent: tailrace/{__version__}\r\naccept-encoding: identity\r\n"


class Way(NamedTuple):
    """
    How to reach a host: requests that go the same way share connections.
    """

    place: Place
    #: As in the settings or the environment; "": none.
    proxy: str
    context: ssl.SSLContext | None


class Http:
    """
    The pool.  Connects on first use.
    """

    def __init__(self) -> None:
        self._closed = False
        self._free = asyncio.Semaphore(CONNECTIONS_MAX)
        self._idle: dict[Way, list[tuple[HttpConnection, asyncio.TimerHandle]]] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        #: By (scheme, host): what the environment says.
        self._proxies: dict[tuple[str, str], str] = {}

    async def close(self) -> None:
        """
        Close all connections.
        """
        self._closed = True
        for way in list(self._idle):
            while (connection := self._kept(way)) is not None:
                connection.close()
        # Closed transports tell their protocols in the next round of the loop.
        await asyncio.sleep(0)

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | memoryview,
        settings: AwsSettings,
        timeout_s: float,
    ) -> HttpResponse:  # network op
        """
        Send one request, which is signed already, and read its answer.
        """
        way = self._way(url, settings)
        head = _head(method, url, headers, way, len(body))
        try:
            async with asyncio.timeout(timeout_s), self._free:
                connection = self._kept(way) or await _connected(way)
                try:
                    return await connection.ask(method, head, body)
                finally:
                    self._keep(way, connection)
        except ssl.SSLCertVerificationError as error:
            raise RetryError(
                f"{where(url)}: certificate not trusted ({error}); "
                "set `ca_bundle` to the authority's PEM file",
                code="certificate",
                slow=True,
            ) from error
        except TimeoutError as error:
            raise RetryError(
                f"{where(url)}: no answer within {timeout_s:g} s", code="timeout"
            ) from error
        except AnswerError as error:
            raise RetryError(f"{where(url)}: {error}", code="response") from error
        except OSError as error:
            raise RetryError(
                f"{where(url)}: {str(error) or type(error).__name__}", code="connection"
            ) from error

    def _kept(self, way: Way) -> HttpConnection | None:
        idle = self._idle.get(way, [])
        while idle:
            connection, timer = idle.pop()
            timer.cancel()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        self._idle.pop(way, None)
        return None

    def _keep(self, way: Way, connection: HttpConnection) -> None:
        if self._closed:
            connection.close()
        elif connection.reusable:
            timer = asyncio.get_running_loop().call_later(KEEPALIVE_S, self._expire, way)
            self._idle.setdefault(way, []).append((connection, timer))

    def _expire(self, way: Way) -> None:
        # The one that was kept first.
        self._idle[way].pop(0)[0].close()

    def _way(self, url: str, settings: AwsSettings) -> Way:
        place = place_of(url)
        context = self._context(settings) if place.scheme == "https" else None
        return Way(place, settings.proxy or self._environment_proxy(place), context)

    def _environment_proxy(self, place: Place) -> str:
        """
        Return the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for *place*, looked up once a host.
        """
        key = (place.scheme, place.host)
        if key not in self._proxies:
            found = "" if proxy_bypass(place.host) else getproxies().get(place.scheme, "")
            self._proxies[key] = found
        return self._proxies[key]

    def _context(self, settings: AwsSettings) -> ssl.SSLContext:
        path = settings.ca_bundle or os.environ.get("AWS_CA_BUNDLE", "")
        context = self._contexts.get(path)
        if context is None:
            try:
                context = ssl.create_default_context(cafile=path or None)  # disk
            except (OSError, ssl.SSLError) as error:
                raise RetryError(
                    f"ca_bundle {path}: {error}", code="certificate", slow=True
                ) from error
            if not path and not context.cert_store_stats()["x509_ca"]:
                # A slim image without ca-certificates: the SDK brings Mozilla's list.
                sdk = find_spec("botocore")
                assert sdk is not None
                assert sdk.origin is not None
                context.load_verify_locations(
                    os.path.join(os.path.dirname(sdk.origin), "cacert.pem")
                )  # disk
            self._contexts[path] = context
        return context


async def _connected(way: Way) -> HttpConnection:
    """
    Return a new connection: to the host itself, or through its proxy.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if not way.proxy:
                return await connect(way.place, way.context)
            proxy = _proxy_place(way.proxy)
            outer = way.context or ssl.create_default_context()  # disk
            connection = await connect(proxy, outer if proxy.scheme == "https" else None)
            if way.context is not None:
                await _tunnel(connection, way, way.context)
            return connection
    except TimeoutError as error:
        raise OSError(f"not connected within {CONNECT_TIMEOUT_S:g} s") from error


async def _tunnel(connection: HttpConnection, way: Way, context: ssl.SSLContext) -> None:
    authority = way.place.authority
    head = f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{_proxy_login(way.proxy)}\r\n"
    answer = await connection.ask("CONNECT", head.encode(), b"")
    if not 200 <= answer.status < 300:
        connection.close()
        raise OSError(
            f"the proxy {_proxy_place(way.proxy).authority} answered {answer.status} to CONNECT; "
            "check `proxy`, HTTPS_PROXY and NO_PROXY"
        )
    assert connection.transport is not None
    try:
        connection.transport = await asyncio.get_running_loop().start_tls(
            connection.transport, connection, context, server_hostname=way.place.host.rstrip(".")
        )
    except BaseException:
        connection.close()
        raise


def _proxy_parts(proxy: str) -> SplitResult:
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _proxy_place(proxy: str) -> Place:
    parts = _proxy_parts(proxy)
    if parts.scheme not in PORTS or not parts.hostname:
        raise RetryError(
            f"a proxy is neither http://host nor https://host but {parts.scheme}:; "
            "check `proxy`, HTTPS_PROXY and HTTP_PROXY",
            code="proxy",
            slow=True,
        )
    return Place(parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme])


def _proxy_login(proxy: str) -> str:
    """
    Return the header line with the name and the password in the proxy's URL, "" without.
    """
    parts = _proxy_parts(proxy)
    if parts.username is None:
        return ""
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"proxy-authorization: Basic {b64encode(login.encode()).decode()}\r\n"


def _head(method: str, url: str, headers: Mapping[str, str], way: Way, size: int) -> bytes:
    """
    Return the request's line and headers.
    """
    by_proxy = bool(way.proxy) and way.context is None
    target = url if by_proxy else f"/{url.partition('://')[2].partition('/')[2]}"
    # A line break in a value would make it two headers.
    assert not any("\n" in value or "\r" in value for value in headers.values()), headers
    lines = [f"{method} {target} HTTP/1.1\r\n", _ALWAYS]
    lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
    if size or method not in ("GET", "HEAD", "DELETE"):
        lines.append(f"content-length: {size}\r\n")
    if by_proxy:
        lines.append(_proxy_login(way.proxy))
    return "".join((*lines, "\r\n")).encode()


def where(url: str) -> str:
    """
    Return *url* as it appears in a message: without its query, shortened.
    """
    return url.partition("?")[0][:120]
