"""
`config/examples/container-insights.yaml`: AWS's groups, streams and shapes, out of the agent as a process.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.e2e.test_kubernetes import NODE, connect, object_of
from tests.e2e.world import World
from tests.fakes.cloudwatch import REGION
from tests.fakes.journal import Journal, real
from tests.fakes.kube_api import FakeKubeApi

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "examples" / "container-insights.yaml"
WHERE = {"az": "eu-central-1a", "ec2_instance_id": "i-0123"}

pytestmark = pytest.mark.tls


def example(world: World, wanted: Callable[[str], bool]) -> None:
    """
    Let *world* run the example over its own files and fakes: the *wanted* types of sources.
    """
    tree = yaml.safe_load(EXAMPLE.read_text())
    sources = {item["name"]: item for item in tree["sources"] if wanted(item["type"])}
    for source in sources.values():
        if source["type"] == "journal":
            source["directory"] = f"{world.directory}/journal"
        else:
            source |= {"paths": [f"{world.pods}/*/*/*.log"], "poll_interval_s": 0.05}
    world.routes = [item for item in tree["routes"] if item["source"] in sources]
    for route in world.routes:
        route["sink"] |= {"region": REGION, "endpoint_url": world.cloudwatch.url, "linger_s": 0.1}
    world.settings |= {"cluster": "demo", "node": NODE, "sources": list(sources.values())}
    world.settings["instance"] = {
        "imds": False,
        "zone": WHERE["az"],
        "instance_id": WHERE["ec2_instance_id"],
    }


def arrived(world: World) -> dict[str, list[dict[str, Any]]]:
    """
    Return what is in CloudWatch, by the group's last part and the stream.
    """
    return {
        f"{name.removeprefix('/aws/containerinsights/demo/')} {stream}": [
            json.loads(message) for _, message in events
        ]
        for name, made in world.cloudwatch.groups.items()
        for stream, events in made.streams.items()
    }


async def deliver(world: World, count: int) -> dict[str, list[dict[str, Any]]]:
    """
    Run the agent until so many events have arrived; return them.
    """
    await world.start()
    await world.until(lambda: sum(map(len, arrived(world).values())) >= count, f"{count} events")
    assert await world.stop() == 0
    return arrived(world)


async def test_containers(tmp_path: Path) -> None:
    """
    Those of the node in dataplane, all others in application, with pod and container id in the stream.
    """
    async with FakeKubeApi(tmp_path) as api, World(tmp_path) as world:
        connect(world, api)
        example(world, lambda kind: kind == "files")
        web, proxy = world.pod("web-1"), world.pod("kube-proxy-x1", "kube-system")
        web.write('{"n":1}')
        proxy.write('I1122 19:00:01.000000       1 proxier.go:1] "Synced"', stream="stderr")
        for number, pod in enumerate((web, proxy), 1):
            api.put("pods", object_of(pod, number))
        found = await deliver(world, 2)
        ids = [f"{number:064x}" for number in (1, 2)]
        names = "var.log.containers"
        (application,) = found.pop(
            f"application {NODE}-application.{names}.web-1_shop_app-{ids[0]}.log"
        )
        (dataplane,) = found.pop(
            f"dataplane {NODE}-dataplane.tail.{names}.kube-proxy-x1_kube-system_app-{ids[1]}.log"
        )
        assert found == {}
        kubernetes = application.pop("kubernetes")
        assert (kubernetes["pod_name"], kubernetes["docker_id"]) == ("web-1", ids[0])
        assert application.pop("time")
        log = {"stream": "stdout", "_p": "F", "log": '{"n":1}', "log_processed": {"n": 1}}
        assert application == log
        assert dataplane.pop("time")
        assert dataplane == {"stream": "stderr", "_p": "F", "log": proxy.written[0][2]} | WHERE


@real
async def test_the_journal(tmp_path: Path) -> None:
    """
    Units in dataplane, a stream each; kernel, messages and authentication in host.
    """
    journal = Journal(tmp_path / "journal")
    journal.write("I1122 kubelet", unit="kubelet.service", PRIORITY=7)
    journal.write("level=info", unit="containerd.service", PRIORITY=7)
    journal.write("Linux version", unit="", _TRANSPORT="kernel", SYSLOG_IDENTIFIER="kernel")
    journal.write("Accepted", unit="", SYSLOG_FACILITY=10, SYSLOG_IDENTIFIER="sshd", _PID=42)
    journal.write("a job", unit="", SYSLOG_FACILITY=9, SYSLOG_IDENTIFIER="CRON")
    journal.write("Started", unit="", SYSLOG_FACILITY=3, SYSLOG_IDENTIFIER="systemd", _PID=1)
    async with World(tmp_path) as world:
        example(world, lambda kind: kind == "journal")
        found = await deliver(world, 6)
    linux = {"host": "ip-1", "ident": "kernel", "message": "Linux version"} | WHERE
    started = {"host": "ip-1", "ident": "systemd", "pid": "1", "message": "Started"} | WHERE
    assert found == {
        f"dataplane {NODE}-dataplane.systemd.{unit}.service": [
            {"hostname": "ip-1", "systemd_unit": f"{unit}.service", "message": text} | WHERE
        ]
        for unit, text in (("kubelet", "I1122 kubelet"), ("containerd", "level=info"))
    } | {
        f"host {NODE}.host.dmesg": [linux],
        f"host {NODE}.host.messages": [linux, started],
        f"host {NODE}.host.secure": [
            {"host": "ip-1", "ident": "sshd", "pid": "42", "message": "Accepted"} | WHERE
        ],
    }
