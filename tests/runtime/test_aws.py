"""
Signed requests: the signature is checked by an implementation of its own, on a real connection.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

import pytest
from aiohttp import web

from agent.core.aws import AwsSettings
from agent.core.errors import RetryError
from agent.runtime.aws import Aws
from tests.fakes.cloudwatch import ACCESS_KEY, REGION, SECRET_KEY, FakeCloudWatch
from tests.fakes.sigv4 import SignedRequest, check_signature
from tests.sinks.cloudwatch_bench import set_credentials

if TYPE_CHECKING:
    from collections.abc import Callable

ASSUMED = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><AssumedRoleId>A:t</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/r/t</Arn></AssumedRoleUser>
<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s3cret</SecretAccessKey>
<SessionToken>t0ken</SessionToken><Expiration>{expiration}</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>"""


class SystemClock:
    def __init__(self) -> None:
        self.wrong_by_s = 0.0

    def now_ns(self) -> int:
        return time.time_ns() + int(self.wrong_by_s * 1e9)


class Server:
    """
    Anything HTTP: `handler` gets (method, raw path, headers, body) and returns a response.
    """

    def __init__(self) -> None:
        self.seen: list[SignedRequest] = []
        self.handler: Callable[[SignedRequest], web.Response] = lambda _request: web.Response()
        self.hang = False

    async def __aenter__(self) -> Self:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            path, _, query = request.raw_path.partition("?")
            body = await request.read()
            self.seen.append(SignedRequest(request.method, path, query, request.headers, body))
            if self.hang:
                await asyncio.Event().wait()
            return self.handler(self.seen[-1])

        self._runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@pytest.fixture
async def server():
    async with Server() as running:
        yield running


@pytest.fixture
async def aws(monkeypatch):
    set_credentials(monkeypatch)
    made = Aws(clock=SystemClock())
    yield made
    await made.close()


def settings(url: str, **fields: Any) -> AwsSettings:
    return AwsSettings(region=REGION, endpoint_url=url, **fields)


def check(request: SignedRequest, service: str, keys=None) -> str:
    keys = keys or {ACCESS_KEY: (SECRET_KEY, None)}
    return check_signature(request, service=service, region=REGION, keys=keys, now=time.time())


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "HEAD"])
@pytest.mark.parametrize("key", ["plain", "date=2026-11-23/hour=07/a b+c~ä%.parquet"])
async def test_requests_to_s3_are_signed_as_they_go_on_the_wire(aws, server, method, key):
    client = aws.client("s3", settings(server.url))
    answer = await client.request(
        method,
        f"/bucket/{key}",
        query={"uploadId": "a+b/c=", "partNumber": "1", "list-type": ""},
        headers={"If-None-Match": "*", "x-amz-meta-a": "  two   spaces "},
        body=b"" if method in ("GET", "HEAD") else memoryview(b"body"),
        timeout_s=5,
    )
    assert answer.status == 200
    (request,) = server.seen
    assert check(request, "s3") == ACCESS_KEY
    assert request.headers["If-None-Match"] == "*"
    assert request.body == (b"" if method in ("GET", "HEAD") else b"body")


async def test_a_large_body_arrives_whole(aws, server):
    body = os.urandom(3 << 20)
    answer = await aws.client("s3", settings(server.url)).request(
        "PUT", "/bucket/key", body=body, timeout_s=10
    )
    # aiohttp's server refuses more than 1 MiB by itself.
    assert answer.status == 413 or server.seen[0].body == body


async def test_an_answer_is_returned_whole_with_lower_case_headers(aws, server):
    server.handler = lambda _request: web.Response(
        status=409, body=b"<Error><Code>Conflict</Code></Error>", headers={"ETag": "x"}
    )
    answer = await aws.client("s3", settings(server.url)).request("GET", "/b/k", timeout_s=5)
    assert (answer.status, answer.headers["etag"]) == (409, "x")
    assert answer.error_code() == "Conflict"


async def test_a_redirect_is_returned(aws, server):
    server.handler = lambda _request: web.Response(status=307, headers={"Location": "/other"})
    answer = await aws.client("s3", settings(server.url)).request("GET", "/b/k", timeout_s=5)
    assert answer.status == 307
    assert len(server.seen) == 1


async def test_a_wrong_clock_is_corrected_from_the_refusal(aws):
    async with FakeCloudWatch() as fake:
        aws._clock.wrong_by_s = -3600
        client = aws.client("logs", settings(fake.url))
        headers = {
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": "Logs_20140328.DescribeLogGroups",
        }
        for _ in range(2):
            answer = await client.request("POST", "/", headers=headers, body=b"{}", timeout_s=5)
            assert answer.status == 200
        assert abs(aws.skew_s - 3600) < 5
        assert fake.count("DescribeLogGroups") == 2
        # The clock is set right: the correction goes.
        aws._clock.wrong_by_s = 0
        answer = await client.request("POST", "/", headers=headers, body=b"{}", timeout_s=5)
        assert answer.status == 200
        assert aws.skew_s == 0


async def test_no_answer_in_time_is_a_retry(aws, server):
    server.hang = True
    with pytest.raises(RetryError, match="no answer within") as caught:
        await aws.client("logs", settings(server.url)).request("POST", "/", timeout_s=0.1)
    assert (caught.value.code, caught.value.slow) == ("timeout", False)


async def test_nobody_listening_is_a_retry(aws, free_port):
    client = aws.client("logs", settings(f"http://127.0.0.1:{free_port}"))
    with pytest.raises(RetryError) as caught:
        await client.request("POST", "/", timeout_s=5)
    assert (caught.value.code, caught.value.slow) == ("connection", False)


async def test_a_missing_region_says_what_to_do(aws, monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RetryError, match="AWS_REGION") as caught:
        await aws.client("logs", AwsSettings()).request("POST", "/", timeout_s=5)
    assert caught.value.slow


async def test_a_bad_ca_bundle_names_the_file(aws):
    client = aws.client("logs", settings("https://127.0.0.1:1", ca_bundle="/nonexistent.pem"))
    with pytest.raises(RetryError, match=r"/nonexistent\.pem") as caught:
        await client.request("POST", "/", timeout_s=5)
    assert caught.value.slow


async def test_requests_go_through_the_proxy(aws, server):
    client = aws.client("logs", settings("http://logs.test.invalid", proxy=server.url))
    answer = await client.request("POST", "/", body=b"x", timeout_s=5)
    assert answer.status == 200
    (request,) = server.seen
    assert request.headers["Host"] == "logs.test.invalid"


@pytest.mark.parametrize("way", ["settings", "environment"])
async def test_a_proxy_gets_the_name_and_password_of_its_url(aws, server, monkeypatch, way):
    """
    Whoever names it; the service's own signature is another header.
    """
    proxy = server.url.replace("http://", "http://me:secret@")
    if way == "environment":
        monkeypatch.setenv("http_proxy", proxy)
    named = {"proxy": proxy} if way == "settings" else {}
    client = aws.client("logs", settings("http://logs.test.invalid", **named))
    assert (await client.request("POST", "/", body=b"x", timeout_s=5)).status == 200
    (request,) = server.seen
    assert request.headers["Host"] == "logs.test.invalid"
    assert request.headers["Proxy-Authorization"] == "Basic bWU6c2VjcmV0"
    assert request.headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")


async def test_no_proxy_where_the_environment_says_so(aws, server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1,.test.invalid")
    client = aws.client("logs", settings(server.url))
    assert (await client.request("POST", "/", timeout_s=5)).status == 200
    other = aws.client("logs", settings("http://logs.test.invalid"))
    with pytest.raises(RetryError, match=r"logs\.test\.invalid") as caught:
        await other.request("POST", "/", timeout_s=5)
    assert "127.0.0.1:1" not in str(caught.value)


async def test_a_role_is_assumed_with_the_external_id_and_only_once(aws, server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)

    def handler(request: SignedRequest) -> web.Response:
        if b"AssumeRole" in request.body:
            check(request, "sts")
            assert b"ExternalId=ext-1" in request.body
            assert b"RoleSessionName=tailrace" in request.body
            text = ASSUMED.format(key="ASIAROLE", expiration="2999-01-01T00:00:00Z")
            return web.Response(text=text, content_type="text/xml")
        check(request, "logs", {"ASIAROLE": ("s3cret", "t0ken")})
        return web.Response()

    server.handler = handler
    role = settings(server.url, role_arn="arn:aws:iam::1:role/r", external_id="ext-1")
    client = aws.client("logs", role)
    answers = await asyncio.gather(*(client.request("POST", "/", timeout_s=5) for _ in range(5)))
    assert {answer.status for answer in answers} == {200}
    assert len(server.seen) == 6


async def test_a_web_identity_reads_its_token_file_again(aws, server, monkeypatch, tmp_path):
    token = tmp_path / "token"
    token.write_text("first")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
    tokens = []

    def handler(request: SignedRequest) -> web.Response:
        if b"AssumeRoleWithWebIdentity" in request.body:
            assert "Authorization" not in request.headers
            tokens.append(request.body.partition(b"WebIdentityToken=")[2].partition(b"&")[0])
            # A few seconds, of which a sixth is not used: the next request needs another one.
            soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
            text = ASSUMED.format(key=f"ASIA{len(tokens)}", expiration=soon)
            return web.Response(text=text, content_type="text/xml")
        key = check(request, "logs", {f"ASIA{n}": ("s3cret", "t0ken") for n in (1, 2, 3, 4)})
        return web.Response(text=key)

    server.handler = handler
    client = aws.client("logs", settings(server.url))
    first = await client.request("POST", "/", timeout_s=5)
    token.write_text("second")
    await asyncio.sleep(2)
    second = await client.request("POST", "/", timeout_s=5)
    assert first.body != second.body
    assert tokens[0] == b"first"
    assert tokens[-1] == b"second"


async def test_a_refused_role_says_so_and_is_slow(aws, server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
    error = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    server.handler = lambda _request: web.Response(status=403, text=error)
    client = aws.client("logs", settings(server.url, role_arn="arn:aws:iam::1:role/r"))
    with pytest.raises(RetryError, match="trust policy") as caught:
        await client.request("POST", "/", timeout_s=5)
    assert caught.value.slow


MEASURE = """
import asyncio, sys, time, uvloop

class Clock:
    now_ns = staticmethod(time.time_ns)

async def main():
    from agent.core.aws import AwsSettings
    from agent.core.errors import RetryError
    from agent.runtime.aws import Aws
    aws = Aws(clock=Clock())
    client = aws.client("logs", AwsSettings(region="r", endpoint_url="http://127.0.0.1:9", {more}))
    try:
        await client.request("POST", "/", body=b"x", timeout_s=5)
    except RetryError as error:
        assert error.code in ("connection", "credentials"), error
    await aws.close()
    print(*({{name.partition(".")[0] for name in sys.modules}} & {{"botocore", "boto3", "aiohttp"}}))

uvloop.run(main())
"""


@pytest.mark.parametrize("more", ["", "role_arn='arn:aws:iam::1:role/r'"])
def test_the_process_that_sends_never_imports_the_sdk(monkeypatch, more):
    """
    It costs more memory than everything else of an agent that waits.
    """
    set_credentials(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    command = [sys.executable, "-c", MEASURE.format(more=more)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == []
