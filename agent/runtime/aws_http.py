"""
One pool of HTTP connections for the process: time-outs, proxy, certificates.

An answer is returned whole, whatever its status; everything else is a RetryError, or a cancellation.  No
request outlives its time-out, connecting and reading included.  Nothing is repeated and no redirect followed.
"""

from __future__ import annotations

import io
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from agent import __version__
from agent.core.errors import RetryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.aws import AwsSettings

CONNECT_TIMEOUT_S = 10.0
#: As in the SDK: shorter than the idle time-out of AWS's front ends, longer than the default linger.
KEEPALIVE_S = 12.0
CONNECTIONS_MAX = 64
#: Answers of the services used are kilobytes; objects are never read back in the agent.
RESPONSE_BYTES_MAX = 64 * 1024 * 1024
#: aiohttp writes larger bodies in pieces when they come as a file.
BODY_WHOLE_BYTES_MAX = 1024 * 1024


@dataclass(slots=True)
class HttpResponse:
    """
    An answer, read whole.  Header names are in lower case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def error_code(self) -> str:
        """
        Return the code of an AWS error (JSON, XML or header), "" where there is none.
        """
        code = self.headers.get("x-amzn-errortype", "")
        head = self.body[:4096].decode(errors="replace")
        if not code and "<Code>" in head:
            code = head.partition("<Code>")[2].partition("<")[0]
        elif not code and '"__type"' in head:
            code = head.partition('"__type"')[2].partition('"')[2].partition('"')[0]
        return code.rpartition("#")[2].partition(":")[0].strip()


class Http:
    """
    The pool.  Connects on first use.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}
        #: By (scheme, host): what the environment says.
        self._proxies: dict[tuple[str, str], str | None] = {}

    async def close(self) -> None:
        """
        Close all connections.
        """
        session, self._session = self._session, None
        if session is not None:
            await session.close()

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
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=KEEPALIVE_S)
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        data = body if len(body) <= BODY_WHOLE_BYTES_MAX else io.BytesIO(body)
        try:
            async with self._session.request(
                method,
                URL(url, encoded=True),
                # Not signed: a proxy may change them.
                headers={
                    **headers,
                    "user-agent": f"tailrace/{__version__}",
                    "accept-encoding": "identity",
                },
                data=data if len(body) else None,
                proxy=settings.proxy or self._environment_proxy(url),
                ssl=self._context(settings) if url.startswith("https") else True,
                allow_redirects=False,
                skip_auto_headers=("Content-Type",),
                timeout=aiohttp.ClientTimeout(
                    total=timeout_s, sock_connect=min(CONNECT_TIMEOUT_S, timeout_s)
                ),
            ) as response:
                return HttpResponse(
                    response.status,
                    {name.lower(): value for name, value in response.headers.items()},
                    await _read(response),
                )
        except aiohttp.ClientConnectorCertificateError as error:
            raise RetryError(
                f"{where(url)}: certificate not trusted ({error.certificate_error}); "
                "set `ca_bundle` to the authority's PEM file",
                code="certificate",
                slow=True,
            ) from error
        except TimeoutError as error:
            raise RetryError(
                f"{where(url)}: no answer within {timeout_s:g} s", code="timeout"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise RetryError(
                f"{where(url)}: {str(error) or type(error).__name__}", code="connection"
            ) from error

    def _environment_proxy(self, url: str) -> str | None:
        """
        Return the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for *url*.

        Looked up once a host: aiohttp's `trust_env` does it for every request, and asks a .netrc too, both in
        another thread.
        """
        parts = urlsplit(url)
        key = (parts.scheme, parts.hostname or "")
        if key not in self._proxies:
            self._proxies[key] = None if proxy_bypass(key[1]) else getproxies().get(key[0])
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
                import botocore

                context.load_verify_locations(
                    os.path.join(os.path.dirname(botocore.__file__), "cacert.pem")
                )  # disk
            self._contexts[path] = context
        return context


async def _read(response: aiohttp.ClientResponse) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > RESPONSE_BYTES_MAX:
            raise RetryError(
                f"{where(str(response.url))}: answer larger than {RESPONSE_BYTES_MAX} bytes",
                code="response",
            )
        pieces.append(piece)
    return b"".join(pieces)


def where(url: str) -> str:
    """
    Return *url* as it appears in a message: without its query, shortened.
    """
    return url.partition("?")[0][:120]
