"""
Credentials that expire, are replaced or cannot be had for a while during a run: it goes on without a restart.

Each source is the SDK's own provider against an endpoint on loopback; every request is checked for its signature.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from agent.core.errors import RetryError
from agent.runtime.aws import Aws
from agent.runtime.aws_credentials import FAILED_S
from tests.fakes.sigv4 import SignatureError, SignedRequest
from tests.runtime.test_aws import ASSUMED, Server, SystemClock, check, settings

if TYPE_CHECKING:
    from pathlib import Path

HOUR_S = 3600.0
FORMAT = "%Y-%m-%dT%H:%M:%SZ"


class Issuer:
    """
    The service, STS and the credentials endpoint in one: only the latest key that it issued is good.
    """

    def __init__(self) -> None:
        self.server = Server()
        self.server.handler = self.answer
        self.issued = 0
        self.tokens: list[str] = []
        self.down = False
        self.lifetime_s = 6 * HOUR_S

    def answer(self, request: SignedRequest) -> web.Response:
        if request.raw_path == "/credentials":
            return self.container(request)
        if b"AssumeRoleWithWebIdentity" in request.body:
            return self.web_identity(request)
        try:
            key = check(request, "logs", {f"ASIA{self.issued}": ("s3cret", "t0ken")})
        except SignatureError as error:
            body = json.dumps({"__type": "ExpiredTokenException", "message": error.message})
            return web.Response(status=400, text=body)
        return web.Response(text=key)

    def container(self, request: SignedRequest) -> web.Response:
        if self.down:
            return web.Response(status=500)
        self.tokens.append(request.headers.get("Authorization", ""))
        self.issued += 1
        return web.json_response(
            {
                "AccessKeyId": f"ASIA{self.issued}",
                "SecretAccessKey": "s3cret",
                "Token": "t0ken",
                "Expiration": self.expiration(),
            }
        )

    def web_identity(self, request: SignedRequest) -> web.Response:
        if self.down:
            return web.Response(status=503)
        self.tokens.append(
            request.body.partition(b"WebIdentityToken=")[2].partition(b"&")[0].decode()
        )
        self.issued += 1
        text = ASSUMED.format(key=f"ASIA{self.issued}", expiration=self.expiration())
        return web.Response(text=text, content_type="text/xml")

    def expiration(self) -> str:
        return time.strftime(FORMAT, time.gmtime(time.time() + self.lifetime_s))


@pytest.fixture
async def issuer():
    made = Issuer()
    async with made.server:
        yield made


@pytest.fixture(params=["irsa", "pod-identity", "ecs"])
def token(
    request: pytest.FixtureRequest, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """
    The environment of a pod or task, and its token file.
    """
    file = tmp_path / "token"
    file.write_text("first")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    environment = {
        "irsa": {
            "AWS_ROLE_ARN": "arn:aws:iam::1:role/r",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(file),
            "AWS_ENDPOINT_URL_STS": issuer.server.url,
        },
        "pod-identity": {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{issuer.server.url}/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file),
        },
        "ecs": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{issuer.server.url}/credentials"},
    }[request.param]
    environment |= {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return file


@pytest.fixture
async def aws():
    made = Aws(clock=SystemClock())
    yield made
    await made.close()


async def ask(client: Any) -> bytes:
    answer = await client.request("POST", "/", timeout_s=5)
    assert answer.status == 200, answer
    body: bytes = answer.body
    return body


async def test_credentials_that_the_service_no_longer_accepts(
    aws: Aws, issuer: Issuer, token: Path
) -> None:
    """
    Revoked before their time, the token file rotated: renewed at once, in the same request, with the new token.
    """
    client = aws.client("logs", settings(issuer.server.url))
    assert await ask(client) == b"ASIA1"
    assert await ask(client) == b"ASIA1"
    token.write_text("second")
    issuer.issued += 1
    assert await ask(client) == b"ASIA3"
    assert issuer.issued == 3
    assert issuer.tokens[-1] in {"second", ""}


async def test_credentials_run_out_while_their_source_is_down(
    aws: Aws, issuer: Issuer, token: Path
) -> None:
    """
    Requests fail with what to look at and are retried slowly; when the source is back, the next one succeeds.
    """
    client = aws.client("logs", settings(issuer.server.url))
    issuer.lifetime_s = 300
    first = await ask(client)
    issuer.down = True
    token.unlink()
    clock = aws._clock
    assert isinstance(clock, SystemClock)
    # In the last quarter they are renewed, but still good; in the last sixth they are not.
    clock.wrong_by_s = 230
    assert await ask(client) == first
    clock.wrong_by_s = 260
    with pytest.raises(RetryError, match="cannot get AWS credentials"):
        await ask(client)
    token.write_text("second")
    issuer.down = False
    issuer.lifetime_s = 6 * HOUR_S
    clock.wrong_by_s += FAILED_S
    last = await ask(client)
    assert last == f"ASIA{issuer.issued}".encode()
    assert issuer.tokens[-1] in {"second", ""}


@pytest.mark.parametrize("wrong_by_s", [-5 * HOUR_S, 5 * HOUR_S])
async def test_a_clock_that_jumps_during_a_run(
    aws: Aws, issuer: Issuer, token: Path, wrong_by_s: float
) -> None:
    """
    NTP steps or a suspended machine: the refusal's Date corrects the signature, and the request is sent again.
    """
    del token
    skewed = 0

    def answer(request: SignedRequest) -> web.Response:
        nonlocal skewed
        try:
            return web.Response(text=check(request, "logs", {"ASIA1": ("s3cret", "t0ken")}))
        except SignatureError as error:
            skewed += 1
            body = json.dumps({"__type": error.code, "message": error.message})
            return web.Response(status=400, text=body)

    client = aws.client("logs", settings(issuer.server.url))
    await ask(client)
    issue, issuer.server.handler = issuer.answer, answer
    clock = aws._clock
    assert isinstance(clock, SystemClock)
    for jump in (wrong_by_s, wrong_by_s / 2, 0.0):
        clock.wrong_by_s = jump
        for _ in range(3):
            assert await ask(client) == b"ASIA1"
    # Once for each jump, not for each request.
    assert skewed == 3
    assert aws.skew_s == 0
    issuer.server.handler = issue
