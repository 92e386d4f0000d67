"""
Signed requests to AWS on one lean connection pool per process.

Credentials come from the environment or the SDK (runtime/aws_credentials.py): no service client, no serializer, no
model.  Measured: a client object costs 12 MB and 1.4 ms a request more, botocore's signer and aiohttp's client 0.3 ms.

What a caller of `request` may rely on:

- an answer is returned whole, whatever its status; everything else is a RetryError, or a cancellation;
- no request outlives `timeout_s`, connecting and reading included; looking up credentials comes on top;
- a clock that is wrong is corrected by the Date header of the refusal, and credentials that expired early are
  renewed; in both cases the request is sent a second time at once, which the service has not acted on;
- nothing else is repeated here: retrying is the sink's, because it may duplicate.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import fields
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol

from agent.core.aws import AwsSettings
from agent.runtime.aws_credentials import Identity
from agent.runtime.aws_endpoints import Endpoint, endpoint_for, request_url
from agent.runtime.aws_http import Http, HttpResponse
from agent.runtime.aws_signature import Keys, Signer
from agent.runtime.http_connect import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping


#: AWS accepts signatures within 5 minutes; a difference below this is not worth correcting.
SKEW_MIN_S = 60.0
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

CODES_SKEW = frozenset(
    {"RequestTimeTooSkewed", "InvalidSignatureException", "RequestExpired", "SignatureDoesNotMatch"}
)
CODES_EXPIRED = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)


class WallClock(Protocol):
    """
    The part of the host's clock that signatures need.
    """

    def now_ns(self) -> int: ...


class Aws:
    """
    Everything shared by the clients of the process: connections, identities, clock skew.
    """

    def __init__(self, *, clock: WallClock) -> None:
        self._clock = clock
        self.http = Http()
        self._identities: dict[AwsSettings, Identity] = {}
        #: One child at a time, however many roles there are: each has 45 MB while it lives.
        self._child = asyncio.Semaphore(1)
        #: Seconds to add to our clock for the signature.
        self.skew_s = 0.0

    def client(self, service: str, settings: AwsSettings) -> ServiceClient:
        """
        Return a client of *service* ("logs" or "s3"); nothing is looked up or connected yet.
        """
        # Sinks' settings inherit AwsSettings: routes that reach AWS in the same way share an identity.
        plain = AwsSettings(
            **{field.name: getattr(settings, field.name) for field in fields(AwsSettings)}
        )
        identity = self._identities.get(plain)
        if identity is None:
            identity = self._identities[plain] = Identity(
                plain, now_s=self.now_s, skew_s=lambda: self.skew_s, child=self._child
            )
        return ServiceClient(self, service, plain, identity)

    async def close(self) -> None:
        """
        Close all connections.
        """
        for identity in self._identities.values():
            identity.close()
        await self.http.close()

    def correct_skew(self, response: HttpResponse) -> bool:
        """
        Take the service's clock from its Date header; return whether ours was corrected.
        """
        try:
            theirs = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError):
            return False
        skew_s = theirs - self._clock.now_ns() / 1e9
        if abs(skew_s - self.skew_s) < SKEW_MIN_S:
            return False
        self.skew_s = skew_s if abs(skew_s) >= SKEW_MIN_S else 0.0
        return True

    def now_s(self) -> float:
        """
        Return the service's time, in seconds since the epoch.
        """
        return self._clock.now_ns() / 1e9 + self.skew_s


class ServiceClient:
    """
    One AWS service in one Region: implements AwsClient of core/host.py.

    Paths of S3 are `/bucket/key`; on AWS's own endpoints the bucket moves into the host name.
    """

    def __init__(self, aws: Aws, service: str, settings: AwsSettings, identity: Identity) -> None:
        self._aws = aws
        self._service = service
        self._settings = settings
        self._identity = identity
        self._signer: Signer | None = None
        self._endpoint: Endpoint | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview = b"",
        timeout_s: float,
    ) -> HttpResponse:  # network op
        """
        Send one signed request and read its answer.

        Raises RetryError for what never reached an answer (connection, time-out, credentials: slow).
        """
        endpoint = await self._resolved()
        url = request_url(endpoint, self._service, path, query)
        unsigned = request_headers(url, headers or {})
        if self._service == "s3" and url.startswith("https"):
            unsigned["x-amz-content-sha256"] = UNSIGNED_PAYLOAD
        else:
            unsigned["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
        keys = (await self._identity.found()).keys
        response = await self._send(keys, method, url, unsigned, body, timeout_s)
        if response.status not in (400, 401, 403):
            return response
        code = response.error_code()
        if (code in CODES_SKEW or (not code and method == "HEAD")) and self._aws.correct_skew(
            response
        ):
            return await self._send(keys, method, url, unsigned, body, timeout_s)
        if code in CODES_EXPIRED:
            renewed = await self._identity.renewed(keys)
            if renewed is not None:
                return await self._send(renewed, method, url, unsigned, body, timeout_s)
        return response

    async def _send(
        self,
        keys: Keys,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | memoryview,
        timeout_s: float,
    ) -> HttpResponse:
        assert self._signer is not None
        signed = self._signer.signed(
            keys, method=method, url=url, headers=headers, at_s=self._aws.now_s()
        )
        return await self._aws.http.send(
            method, url, headers=signed, body=body, settings=self._settings, timeout_s=timeout_s
        )

    async def _resolved(self) -> Endpoint:
        if self._endpoint is None:
            settings = self._settings
            found = await self._identity.found()
            custom = settings.endpoint_url or os.environ.get(
                f"AWS_ENDPOINT_URL_{self._service.upper()}"
            )
            custom = custom or os.environ.get("AWS_ENDPOINT_URL") or ""
            self._signer = Signer(self._service, found.region)
            self._endpoint = endpoint_for(
                self._service,
                found.region,
                endpoint_url=custom,
                fips=settings.fips or found.fips,
                dual_stack=settings.dual_stack or found.dual_stack,
            )
        return self._endpoint


def request_headers(url: str, headers: Mapping[str, str]) -> dict[str, str]:
    """
    Return *headers* with lower-case names, and the host of *url*.
    """
    return {
        "host": place_of(url).header,
        **{name.lower(): value for name, value in headers.items()},
    }
