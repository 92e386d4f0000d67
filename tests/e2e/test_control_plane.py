"""
The source `control_plane` in the agent as a process: static pods, audit files and host logs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.e2e.world import World, sample

if TYPE_CHECKING:
    from pathlib import Path


def event(number: int, **more: Any) -> str:
    """
    Return an audit event.
    """
    found = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": f"id-{number}",
        "stage": "ResponseComplete",
        "verb": "get",
        "user": {"username": "alice", "groups": ["dev"]},
        "objectRef": {"resource": "secrets", "namespace": "shop", "name": f"s-{number}"},
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-11-22T19:00:01.000000Z",
        "stageTimestamp": "2026-11-22T19:00:01.004500Z",
    }
    return json.dumps(found | more)


def control_plane(world: World, root: Path) -> None:
    """
    Let the archive of *world* read a control plane whose files are below *root*.
    """
    world.only("archive")
    world.settings["sources"] = [
        {
            "name": "control-plane",
            "type": "control_plane",
            "paths": [f"{world.pods}/*/*/*.log", f"{root}/*.log", f"{root}/messages"],
            "more_paths": {"audit": [f"{root}/audit*.log"], "messages": [f"{root}/messages"]},
            "poll_interval_s": 0.05,
            "rotate_grace_s": 0.5,
        }
    ]
    (route,) = world.routes
    route["transforms"] = [{"multiline": "component", "hold_max_s": 0.2}, {"parse": "component"}]
    route["sink"]["column_sets"] = ["audit", "components", "host"]


async def test_audit_files_over_rotations_and_a_kill(tmp_path: Path) -> None:
    """
    Every event is one row with its columns, also those of 1 MB, with malformed ones between them.
    """
    audit = tmp_path / "audit" / "audit.log"
    audit.parent.mkdir()
    text = "é\\" * (70 << 10)
    large = {"kind": "ConfigMap", "data": {"a": text}}
    events = [event(number) for number in range(30)]
    events[7] = event(7, level="RequestResponse", requestObject=large, responseObject=large)
    events[11] = event(11, annotations={"audit.k8s.io/truncated": "true"})
    events[13] = events[12][:100]
    assert len(events[7]) > 1 << 20

    def append(first: int, stop: int) -> None:
        with audit.open("a") as file:
            file.writelines(line + "\n" for line in events[first:stop])

    def rotate(stamp: str) -> None:
        audit.rename(audit.with_name(f"audit-{stamp}.log"))

    async with World(tmp_path) as world:
        control_plane(world, audit.parent)
        append(0, 5)
        rotate("2026-11-22T20-41-02.677")
        append(5, 15)
        await world.start()
        await world.until_committed(str(audit))
        await world.kill()
        append(15, 20)
        rotate("2026-11-22T20-41-03.001")
        append(20, 30)
        await world.start()
        await world.until_committed(str(audit))
        assert await world.stop() == 0
        rows = world.columns("time_ns", "message")
        assert len(rows) == 30
        missing = [line[:100] for line in set(events) - {message for _, message in rows}]
        assert missing == []
        times = {time_ns for time_ns, message in rows if message != events[13]}
        assert times == {1_795_374_001_004_500_000}
        found = {
            row[0]: row[1:]
            for row in world.columns(
                "audit_id", "container", "object_name", "code", "latency_ms", "event_truncated"
            )
        }
        assert found["id-0"] == ("audit", "s-0", 200, 4.5, None)
        assert found["id-11"][-1] is True
        assert found[None] == ("audit", None, None, None, None)
        assert len(found) == 30
        # A difference of half a MB is nothing to print.
        objects = {
            json.loads(value)["data"]["a"]
            for (value,) in world.columns("request_object")
            if value is not None
        }
        assert bool(objects == {text})
        assert "unparsed_lines" in world.log
        assert await world.losses() == []


async def test_an_event_over_reads_a_rotation_and_a_kill(tmp_path: Path, free_port: int) -> None:
    """
    Structured klog over several lines is one row, wherever reads, files and runs of the agent end in it.
    """
    log = tmp_path / "log" / "kube-apiserver.log"
    log.parent.mkdir()
    before = '"Before" n=1'
    block = (
        'E1122 19:00:01.000000       1 a.go:1] "Failed" err=<\n\tfirst\n\tsecond\n > logger="x"\n'
    )
    async with World(tmp_path) as world:
        control_plane(world, log.parent)
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        world.routes[0]["transforms"][0]["hold_max_s"] = 60
        # Cut between lines and in the middle of one; a file always ends with a line.
        parts = [block[:20], block[20:60], block[60:64], block[64:]]
        log.write_text(f"I1122 19:00:00.000000       1 a.go:1] {before}\n{parts[0]}")
        await world.start()
        await world.read(1)
        with log.open("a") as file:
            file.write(parts[1])
        await world.read(3)
        await world.kill()
        assert (parts[0] + parts[1]).endswith("\tfirst\n")
        log.rename(log.with_name("kube-apiserver.log.1"))
        log.write_text(parts[2])
        await world.start()
        await world.read(2)
        with log.open("a") as file:
            file.write(parts[3] + "I1122 19:00:02.000000       1 a.go:1] after\n")
        # The first line again, if it was not committed.
        await world.read(5)
        await world.until_or_ended(1)
        assert await world.stop() == 0
        rows = sorted(world.columns("message", "err", "logger"), key=str)
        messages = [message for message, _, _ in rows]
        # The last one may go on: it waits for the next run.
        assert messages == [
            block[:-1],
            f"I1122 19:00:00.000000       1 a.go:1] {before}",
        ]
        assert rows[0][1:] == ("<\n\tfirst\n\tsecond\n >", "x")
        assert await world.losses() == []


async def test_a_node_of_a_control_plane(tmp_path: Path, free_port: int) -> None:
    """
    Static pods, an unknown one among them, and files of the host: each by its own format.
    """
    async with World(tmp_path) as world:
        control_plane(world, tmp_path / "log")
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        (tmp_path / "log").mkdir()
        messages = tmp_path / "log" / "messages"
        messages.write_text("Nov 22 19:00:01 node-1 systemd[1]: Started session 4.\n")
        world.pods.joinpath("kube-system_kube-vip-node-1_0a1b").mkdir()
        for container, lines in {
            "kube-apiserver": [
                'E1122 19:00:01.000000       1 a.go:1] "Failed" err=<',
                "\tfirst",
                " >",
                '{"ts":1795374001123.4,"caller":"b.go:2","msg":"Started","v":0}',
            ],
            "etcd": ['{"level":"warn","ts":"2026-11-22T19:00:01Z","caller":"c.go:3","msg":"slow"}'],
            "kube-vip": ["no format that anybody knows"],
        }.items():
            directory = world.pods / f"kube-system_{container}-node-1_0a1b" / container
            directory.mkdir(parents=True)
            directory.joinpath("0.log").write_text(
                "".join(f"2026-11-22T19:00:01.5Z stderr F {line}\n" for line in lines)
            )
        await world.start()
        await world.until_committed(str(messages), logs=4)
        metrics = await world.metrics()
        assert await world.stop() == 0
        names = ("container", "level", "msg", "caller", "err", "host", "ident", "pid", "text")
        rows = sorted(world.columns(*names), key=str)
        assert rows == [
            ("etcd", "WARN", "slow", "c.go:3", *[None] * 5),
            ("kube-apiserver", "ERROR", "Failed", "a.go:1", "<\n\tfirst\n >", *[None] * 4),
            ("kube-apiserver", "INFO", "Started", "b.go:2", *[None] * 5),
            ("kube-vip", *[None] * 8),
            ("messages", *[None] * 4, "node-1", "systemd", 1, "Started session 4."),
        ]
        unknown = sample("tailrace_unknown_component_rows_total", route="archive")
        assert metrics[unknown] == 1
        assert "unknown_component" in world.log
        assert "kube-vip" in world.log
