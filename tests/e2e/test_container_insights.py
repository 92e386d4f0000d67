"""
`config/examples/container-insights.yaml`: AWS's groups, streams and shapes, out of the agent as a process.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
import yaml

from tests.e2e.test_kubernetes import NODE, connect, object_of
from tests.e2e.world import World
from tests.fakes.cloudwatch import REGION
from tests.fakes.kube_api import FakeKubeApi

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "examples" / "container-insights.yaml"

pytestmark = pytest.mark.tls


def example(world: World) -> None:
    """
    Let *world* run the example, over its own files and fakes.
    """
    tree = yaml.safe_load(EXAMPLE.read_text())
    world.routes = tree.pop("routes")
    for route in world.routes:
        route["sink"] |= {"region": REGION, "endpoint_url": world.cloudwatch.url, "linger_s": 0.1}
    for source in tree["sources"]:
        source["poll_interval_s"] = 0.05
    containers, host = tree["sources"][:2]
    containers["paths"] = [f"{world.pods}/*/*/*.log"]
    host["paths"] = [f"{world.directory}/log/{name}" for name in host["components"]]
    world.settings |= {"cluster": "demo", "node": NODE, "sources": tree["sources"]}


def write_host(log: Path) -> None:
    """
    Write the files of a host.
    """
    log.mkdir()
    # CloudWatch takes no event that is older than 14 days.
    stamp = dt.datetime.now(dt.UTC).isoformat()
    (log / "dmesg").write_text("[    0.000000] Linux version 6.1\n")
    (log / "messages").write_text(f"{stamp} ip-1 systemd[1]: Started it.\n")
    (log / "secure").write_text(f'{stamp} ip-1 sshd[42]: Accepted "key"\nodd line\n')


def arrived(world: World) -> dict[str, list[dict[str, object]]]:
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


async def test_the_three_groups(tmp_path: Path) -> None:
    """
    Application, dataplane and host, each line once, in the group and the stream that AWS's agent uses.
    """
    async with FakeKubeApi(tmp_path) as api, World(tmp_path) as world:
        connect(world, api)
        example(world)
        world.settings["instance"] |= {"zone": "eu-central-1a", "instance_id": "i-0123"}
        where = {"az": "eu-central-1a", "ec2_instance_id": "i-0123"}
        web, proxy = world.pod("web-1"), world.pod("kube-proxy-x1", "kube-system")
        web.write('{"n":1}')
        proxy.write('I1122 19:00:01.000000       1 proxier.go:1] "Synced"', stream="stderr")
        for number, pod in enumerate((web, proxy), 1):
            api.put("pods", object_of(pod, number))
        write_host(tmp_path / "log")
        await world.start()
        await world.until(lambda: sum(map(len, arrived(world).values())) == 6, "six events")
        assert await world.stop() == 0
        found = arrived(world)
        ids = [f"{number:064x}" for number in (1, 2)]
        tail = "tail.var.log.containers"
        (application,) = found.pop(
            f"application {NODE}-application.var.log.containers.web-1_shop_app-{ids[0]}.log"
        )
        kubernetes = application.pop("kubernetes")
        assert isinstance(kubernetes, dict)
        assert kubernetes["docker_id"] == ids[0]
        assert kubernetes["pod_name"] == "web-1"
        time = application.pop("time")
        assert isinstance(time, str)
        assert application == {
            "stream": "stdout",
            "_p": "F",
            "log": '{"n":1}',
            "log_processed": {"n": 1},
        }
        (dataplane,) = found.pop(
            f"dataplane {NODE}-dataplane.{tail}.kube-proxy-x1_kube-system_app-{ids[1]}.log"
        )
        assert dataplane.pop("time")
        line = proxy.written[0][2]
        assert dataplane == {"stream": "stderr", "_p": "F", "log": line} | where
        assert found == {
            f"host {NODE}.host.dmesg": [{"message": "Linux version 6.1"} | where],
            f"host {NODE}.host.messages": [
                {"host": "ip-1", "ident": "systemd", "pid": "1", "message": "Started it."} | where
            ],
            f"host {NODE}.host.secure": [
                {"host": "ip-1", "ident": "sshd", "pid": "42", "message": 'Accepted "key"'} | where,
                {"log": "odd line"} | where,
            ],
        }
