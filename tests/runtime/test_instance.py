"""
Region, zone and instance id: from what knows them, and never a hang.
"""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from agent.core.instance import Instance, InstanceSettings
from agent.core.kube_objects import NodeObject, decoded
from agent.runtime.instance import find_instance, of_node

DOCUMENT = {
    "region": "eu-west-1",
    "availabilityZone": "eu-west-1b",
    "instanceId": "i-0123456789abcdef0",
    "accountId": "123456789012",
    "kernelId": None,
}
FOUND = Instance(region="eu-west-1", zone="eu-west-1b", instance_id="i-0123456789abcdef0")


class Imds:
    """
    IMDSv2: a token by PUT, then a document for whoever shows it.
    """

    def __init__(self) -> None:
        self.mode = ""
        self.seen: list[str] = []

    async def __aenter__(self):
        async def handle(request: web.BaseRequest) -> web.Response:
            self.seen.append(f"{request.method} {request.path}")
            if self.mode == "hang" or (self.mode == "hang later" and request.method == "GET"):
                await asyncio.Event().wait()
            if self.mode == "off":
                return web.Response(status=403)
            if request.method == "PUT" and request.path == "/latest/api/token":
                assert int(request.headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
                return web.Response(text="t0ken")
            if request.headers.get("X-aws-ec2-metadata-token") != "t0ken":
                return web.Response(status=401)
            body = "<html>" if self.mode == "garbage" else json.dumps(DOCUMENT)
            return web.Response(text="x" * 100_000 if self.mode == "endless" else body)

        self._runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{port}/"}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@pytest.fixture
async def imds():
    async with Imds() as made:
        yield made


def node(provider: str = "aws:///us-east-1a/i-0abcdef0123456789", **labels: str) -> NodeObject:
    body = json.dumps({"metadata": {"labels": labels}, "spec": {"providerID": provider}})
    made = decoded(body.encode(), NodeObject)
    assert made is not None
    return made


async def test_the_metadata_service_knows_all_three(imds):
    assert await find_instance(InstanceSettings(), imds.environ) == FOUND
    assert imds.seen == ["PUT /latest/api/token", "GET /latest/dynamic/instance-identity/document"]


@pytest.mark.parametrize("mode", ["hang", "hang later", "off", "garbage", "endless"])
async def test_a_service_that_does_not_answer_leaves_them_absent(imds, mode):
    imds.mode = mode
    async with asyncio.timeout(10):
        found = await find_instance(InstanceSettings(), imds.environ, timeout_s=0.1)
    assert found == Instance()


async def test_off_aws_they_are_absent(free_port):
    environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{free_port}"}
    assert await find_instance(InstanceSettings(), environ, timeout_s=1) == Instance()
    region = await find_instance(InstanceSettings(), {**environ, "AWS_REGION": "us-west-2"})
    assert region == Instance(region="us-west-2")


async def test_the_configuration_goes_first_and_then_the_node(imds):
    labels = {
        "topology.kubernetes.io/region": "us-east-1",
        "topology.kubernetes.io/zone": "us-east-1a",
    }
    settings = InstanceSettings(region="mars-north-1")
    found = await find_instance(settings, imds.environ, node=node(**labels))
    assert found == Instance(
        region="mars-north-1", zone="us-east-1a", instance_id="i-0abcdef0123456789"
    )
    assert not imds.seen, "nothing was left to ask for"


async def test_what_the_node_does_not_know_is_asked_for(imds):
    old = {"failure-domain.beta.kubernetes.io/zone": "us-east-1f"}
    found = await find_instance(InstanceSettings(), imds.environ, node=node("kind://x", **old))
    assert found == Instance(
        region="eu-west-1", zone="us-east-1f", instance_id="i-0123456789abcdef0"
    )


@pytest.mark.parametrize("how", ["settings", "environment"])
async def test_nobody_is_asked_where_that_is_not_wanted(imds, how):
    settings = InstanceSettings(imds=how != "settings")
    environ = {**imds.environ, "AWS_EC2_METADATA_DISABLED": "true" if how == "environment" else ""}
    assert await find_instance(settings, environ) == Instance()
    assert not imds.seen


@pytest.mark.parametrize(
    "provider", ["", "gce://p/z/i-0abcdef0123456789", "aws:///us-east-1a/fargate-ip-10-0-0-1"]
)
def test_an_id_of_something_else_is_none(provider):
    assert of_node(node(provider)).instance_id == ""
