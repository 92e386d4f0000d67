"""
The source `eks_control_plane` in the agent as a process: what the service has is in Parquet, each event once.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import yaml

from agent.runtime.election import ANNOTATION
from tests.e2e.world import REPOSITORY, World, tailrace
from tests.fakes.cloudwatch import REGION
from tests.fakes.kube_api import FakeKubeApi

if TYPE_CHECKING:
    from pathlib import Path

GROUP = "/aws/eks/test/cluster"
HEX = "0123456789abcdef0123456789abcdef"
LINES = {
    f"kube-apiserver-{HEX}": 'E1128 10:15:00.123456      11 controller.go:116] "loading failed" err="503"',
    f"kube-apiserver-audit-{HEX}": "",
    f"authenticator-{HEX}": 'time="2026-11-28T10:15:00Z" level=warning msg="access denied" arn="arn:aws:iam::1:role/x"',
    f"kube-controller-manager-{HEX}": "I1128 10:15:00.123456      10 leader.go:1] first\nsecond line",
    f"kube-scheduler-{HEX}": "W1128 10:15:00.123456      10 a.go:1] slow",
}


def audit(number: int) -> str:
    return json.dumps(
        {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "auditID": f"id-{number}",
            "stage": "ResponseComplete",
            "verb": "delete",
            "user": {"username": "alice"},
            "responseStatus": {"code": 403},
        }
    )


def example(world: World) -> None:
    """
    Let *world* run the example, with its own fakes as destinations.
    """
    text = (REPOSITORY / "config" / "examples" / "eks-control-plane.yaml").read_text()
    tree = yaml.safe_load(text.replace("${ARCHIVE_BUCKET}", world.s3.bucket))
    (source,) = tree["sources"]
    source |= {
        "region": REGION,
        "endpoint_url": world.cloudwatch.url,
        "election": "none",
        "poll_interval_s": 1,
        "lag_s": 0,
        "overlap_s": 120,
        "requests_per_s_max": 25,
    }
    source.pop("lease_namespace")
    world.settings["sources"] = [source]
    world.settings["memory_budget_bytes"] = "64MiB"
    world.settings["kubernetes"] = {"enabled": False}
    sink = world.sink("archive")
    world.routes = tree["routes"]
    for route in world.routes:
        place = {key: sink[key] for key in ("region", "endpoint_url", "frame_age_s")}
        route["sink"] |= place | {"window_age_s": 1}


def happen(world: World, count: int, dice: random.Random) -> dict[str, str]:
    """
    Let *count* events have happened within the last minutes; return their messages by id.
    """
    now_ms = int(time.time() * 1000)
    made = {}
    for number in range(count):
        stream = dice.choice(list(LINES))
        message = LINES[stream] or audit(number)
        at_ms = now_ms - dice.randint(0, 100_000)
        made[world.cloudwatch.filter.add(GROUP, stream, message, time_ms=at_ms)] = message
    return made


async def test_every_event_is_one_row_through_kills(tmp_path: Path) -> None:
    """
    With its own columns, those of its component, its time and its level; and the view of config/athena has each once.
    """
    dice = random.Random(7)
    async with World(tmp_path) as world:
        example(world)
        world.cloudwatch.filter.page_events = 40
        world.cloudwatch.filter.empty_pages = 1
        written = happen(world, 150, dice)
        for _ in range(2):
            await world.start()
            await more_rows(world)
            await world.kill()
            written |= happen(world, 50, dice)
        await world.start()
        await world.until(lambda: arrived(world) >= written.keys(), "every event")
        assert await world.stop() == 0
        rows = world.columns("event_id", "message")
        assert Counter(event_id for event_id, _ in rows) == Counter(written.keys())
        assert dict(rows) == written
        check_columns(world)
        check_view(world)
        assert not [item for item in await world.losses() if item]
        done = await tailrace("ddl", "-c", world.config_path, "eks-audit")
        assert done.code == 0
        for name in ("event_id", "log_type", "log_stream", "eks_cluster", "verb", "code"):
            assert f"`{name}`" in done.out


async def more_rows(world: World) -> None:
    seen = len(world.columns("event_id"))
    await world.until(lambda: len(world.columns("event_id")) > seen, "more rows")


def arrived(world: World) -> set[str]:
    return {event_id for (event_id,) in world.columns("event_id")}


def check_columns(world: World) -> None:
    by_type: dict[str, set[Any]] = {}
    for key, table in world.tables():
        for row in table.to_pylist():
            assert row["eks_cluster"] == "test"
            assert abs(row["time"].timestamp() - time.time()) < 600
            kind = row["log_type"]
            by_type.setdefault(kind, set()).add((row["container"], row["level"]))
            if kind == "audit":
                assert "eks-audit" in key
                assert (row["verb"], row["username"], row["code"]) == ("delete", "alice", 403)
            if kind == "authenticator":
                assert row["arn"] == "arn:aws:iam::1:role/x"
    assert by_type == {
        "api": {("kube-apiserver", "ERROR")},
        "audit": {("audit", None)},
        "authenticator": {("aws-iam-authenticator", "WARN")},
        "controllerManager": {("kube-controller-manager", "INFO")},
        "scheduler": {("kube-scheduler", "WARN")},
    }


def check_view(world: World) -> None:
    view = (REPOSITORY / "config" / "athena" / "views" / "audit.sql").read_text()
    tables = [
        table.append_column(name, pa.array([value] * table.num_rows))
        for key, table in world.tables()
        if "eks-audit" in key
        for name, value in re.findall("(cluster)=([^/]+)/", key)
    ]
    once = pa.concat_tables(tables)
    with duckdb.connect() as database:
        database.register("once", once)
        # A second node fetched the same after a change of the Lease.
        database.execute(
            "CREATE TABLE eks_audit AS SELECT *, 'x' AS dt, 'x' AS hour FROM "
            "(SELECT * FROM once UNION ALL SELECT * REPLACE ('other' AS node) FROM once)"
        )
        database.execute(view)
        found = database.execute("SELECT count(*) FROM audit").fetchall()
    assert found == [(once.num_rows,)]
    assert once.num_rows


async def test_a_puller_runs_what_is_fetched_and_nothing_else(tmp_path: Path) -> None:
    """
    Of the configuration of a node it takes the EKS sources and their routes.
    """
    async with World(tmp_path) as world:
        files, route = world.source, world.routes[0]
        example(world)
        world.settings["sources"].insert(0, files)
        # What would stop an agent that has no API server.
        world.settings["kubernetes"] = {"enabled": True}
        world.routes.append(route | {"name": "pods", "source": files["name"]})
        world.pod("web").lines(3)
        written = happen(world, 40, random.Random(3))
        await world.start(command="puller")
        await world.until(lambda: arrived(world) == written.keys(), "every event")
        assert await world.stop() == 0
        assert "following logs for 3 routes" in world.log
        world.settings["sources"].pop()
        world.routes = world.routes[-1:]
        await world.start(command="puller")
        assert await world.ended() == 78
        assert "no route reads a source of type eks_control_plane" in world.log


async def test_what_no_route_wants_fills_no_spool(tmp_path: Path) -> None:
    """
    The source fetches all types, and there is a route for one alone.
    """
    dice = random.Random(5)
    async with World(tmp_path) as world:
        example(world)
        world.routes = [route for route in world.routes if route["name"] == "eks-audit"]
        happen(world, 30, dice)
        await world.start()
        spool = world.state / "spool" / "eks"

        def beyond(number: int) -> bool:
            return any(int(path.name[-14:]) > number for path in spool.glob("*.log-*"))

        for number in range(4):
            await world.until(partial(beyond, number), "another batch")
            happen(world, 30, dice)
        await world.until(lambda: len(list(spool.glob("*.log-*"))) <= 5, "an empty spool")
        assert await world.stop() == 0


async def test_the_lease_of_a_process(tmp_path: Path) -> None:
    """
    It is taken, kept over a kill, and given back by a stop, with how far every route has what was fetched.
    """
    name = ("logs", "tailrace-eks-control-plane")
    (tmp_path / "api").mkdir()
    async with FakeKubeApi(tmp_path / "api") as api, World(tmp_path / "world") as world:
        example(world)
        (source,) = world.settings["sources"]
        source |= {"election": "lease", "lease_namespace": "logs", "lease_duration_s": 20}
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
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
            )
        )
        world.settings["kubernetes"] = {"enabled": False, "kubeconfig": str(kubeconfig)}

        def spec() -> dict[str, Any]:
            found: dict[str, Any] = api.leases.items.get(name, {}).get("spec", {})
            return found

        written = happen(world, 40, random.Random(1))
        await world.start()
        await world.until(lambda: arrived(world) >= written.keys(), "every event")
        holder = spec()["holderIdentity"]
        assert holder.startswith("node-1_")
        await world.kill()
        written |= happen(world, 10, random.Random(2))
        await world.start()
        await world.until(lambda: arrived(world) >= written.keys(), "the events after the kill")
        assert (spec()["holderIdentity"], spec()["leaseTransitions"]) == (holder, 0)
        assert await world.stop() == 0
        assert spec()["holderIdentity"] == ""
        reach = json.loads(api.leases.items[name]["metadata"]["annotations"][ANNOTATION])
        assert len(reach) == 4
        assert all(abs(value / 1000 - time.time()) < 600 for value in reach.values())
        assert Counter(event_id for (event_id,) in world.columns("event_id")) == Counter(
            written.keys()
        )
        assert not api.leases.problems
