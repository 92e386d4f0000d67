"""
The whole agent with the API server's metadata: churn, a route that selects by label, an outage.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.core.pods_kit import status
from tests.e2e.world import World
from tests.fakes.kube_api import FakeKubeApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.pods import Pod

NODE = "node-1"
PODS = 40
LINES = 5

pytestmark = pytest.mark.tls


def object_of(pod: Pod, number: int = 0, **labels: str) -> dict[str, Any]:
    """
    Return what the API server says about *pod*.
    """
    return {
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": pod.directory.parent.name.rpartition("_")[2],
            "labels": labels,
        },
        "spec": {"nodeName": NODE, "containers": [{"name": "app", "image": "acme/app:1"}]},
        "status": {
            "podIP": "10.0.0.9",
            "containerStatuses": [status(containerID=f"containerd://{number:064x}")],
        },
    }


def connect(world: World, api: FakeKubeApi, **settings: object) -> None:
    """
    Let the agent of *world* ask *api*.
    """
    tree = {
        "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": api.url,
                    "certificate-authority": str(api.authority.path),
                },
            }
        ],
        "users": [{"name": "u", "user": {"token": "token-1"}}],
    }
    path = world.directory / "kubeconfig"
    path.write_text(yaml.safe_dump(tree))
    world.settings["kubernetes"] = {
        "enabled": True,
        "kubeconfig": str(path),
        "node_name": NODE,
        **settings,
    }
    # Nothing may leave loopback.
    world.settings["instance"] = {"imds": False}


def records(world: World) -> Iterator[dict[str, Any]]:
    """
    Yield the records in CloudWatch.
    """
    for message in world.cloudwatch.messages():
        yield json.loads(message)


async def test_pods_that_live_for_a_moment(tmp_path: Path) -> None:
    """
    40 pods come and go: every line is delivered, and every one has its pod's label and container id.
    """
    async with FakeKubeApi(tmp_path) as api, World(tmp_path) as world:
        connect(world, api)
        world.sink("cloudwatch")["labels"] = True
        await world.start()
        pods = [world.pod(f"p{number:04d}-web") for number in range(PODS)]
        for number, pod in enumerate(pods):
            # The file is there first, as on a node; the status follows.
            pod.lines(1)
            api.put("pods", object_of(pod, number, app=pod.name))
            pod.lines(LINES - 1)
            await asyncio.sleep(0.02)  # The rate of the churn, not a wait for something.
            if number >= 10:
                gone = pods[number - 10]
                first = gone.written[0]
                await world.until(lambda line=first: line in world.events(), "its first line")  # type: ignore[misc]
                api.delete("pods", gone.name, gone.namespace)
                shutil.rmtree(gone.directory.parent)
        await world.delivered(*pods)
        assert await world.stop() == 0, world.log
        world.assert_exact(*pods)
        for record in records(world):
            about = record["kubernetes"]
            assert about["labels"] == {"app": about["pod_name"]}
            number = int(about["pod_name"][1:5])
            assert about["docker_id"] == f"{number:064x}"
        for _, table in world.tables():
            assert set(table.column("image").to_pylist()) == {"docker.io/acme/app:1"}


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_200_pods_in_a_minute(tmp_path: Path) -> None:
    """
    Each lives one to five seconds, and its directory goes with it, read or not.
    """
    lives = random.Random(200)
    async with FakeKubeApi(tmp_path) as api, World(tmp_path) as world:
        connect(world, api)
        world.sink("cloudwatch")["labels"] = True
        await world.start()
        await world.until(lambda: "following logs" in world.log, "the start")

        async def live(number: int) -> Pod:
            await asyncio.sleep(number * 0.3)  # The rate of the churn, not a wait for something.
            pod = world.pod(f"p{number:04d}-web")
            pod.lines(1)
            api.put("pods", object_of(pod, number, app=pod.name))
            for _ in range(LINES - 1):
                await asyncio.sleep(lives.uniform(1.0, 5.0) / (LINES - 1))
                pod.lines(1)
            api.delete("pods", pod.name, pod.namespace)
            shutil.rmtree(pod.directory.parent)
            return pod

        pods = await asyncio.gather(*(live(number) for number in range(200)))
        await world.delivered(*pods)
        assert await world.stop() == 0, world.log
        world.assert_exact(*pods)
        for record in records(world):
            assert record["kubernetes"]["labels"] == {"app": record["kubernetes"]["pod_name"]}
        assert not await world.losses()


async def test_a_route_that_selects_by_label_never_leaks(tmp_path: Path) -> None:
    """
    With the API server away the selecting route holds and the other goes on; afterwards each has its own.
    """
    async with FakeKubeApi(tmp_path) as api, World(tmp_path) as world:
        connect(world, api, metadata_wait_s=0.3)
        world.routes[0]["select"] = {"labels": "team=shop"}
        public, secret = world.pod("public"), world.pod("secret")
        for pod in (public, secret):
            pod.lines(10)
        api.put("pods", object_of(public, 1, team="shop"))
        api.put("pods", object_of(secret, 2, team="bank"))
        await api.stop()
        world.sink("archive")["window_age_s"] = 0.1
        await world.start()
        await world.until(
            lambda: {*public.written, *secret.written} <= set(world.rows()),
            "the archive has everything",
        )
        assert not world.events()
        await api.start()
        await world.until(lambda: set(public.written) <= set(world.events()), "what is selected")
        secret.lines(10)
        public.lines(10)
        await world.until(lambda: set(public.written) <= set(world.events()), "what came later")
        assert await world.stop() == 0, world.log
        world.assert_cloudwatch_exact(public)
        world.assert_parquet_exact(public, secret)
