"""
`tailrace replay`: files read to their end, a report whose numbers are right, and real lines.
"""

from __future__ import annotations

import gzip
import json
import signal
import urllib.request
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import duckdb
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import dataset

from tests.e2e.pods import rfc3339
from tests.e2e.world import World, tailrace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPORT_KEYS = {
    *("bytes_in", "lines_in", "routes", "wall_s", "startup_s", "startup_cpu_s", "cpu_s"),
    *("rss_peak_bytes", "throughput_bytes_s", "workers"),
}
ROUTE_KEYS = {
    *("events_out", "bytes_out", "wire_bytes", "requests", "rejected", "lost"),
    *("rows_delivered", "rejected_too_old"),
}


async def replay(world: World, *arguments: object, code: int = 0) -> tuple[dict[str, Any], str]:
    """
    Replay and return the report as a file, and as text.
    """
    world.write_config()
    path = world.directory / "report.json"
    done = await tailrace("replay", "-c", world.config_path, "--report", path, *arguments)
    assert done.code == code, done
    report: dict[str, Any] = json.loads(path.read_bytes())
    return report, done.out


async def test_the_report(tmp_path: Path) -> None:
    """
    Every key, and the numbers of what was really read and delivered; no cursor of the agent is touched.
    """
    async with World(tmp_path) as world:
        pod = world.pod("web-1")
        pod.lines(500)
        report, text = await replay(world, pod.path)
        assert set(report) == REPORT_KEYS
        size = pod.path.stat().st_size
        assert (report["bytes_in"], report["lines_in"]) == (size, 500)
        for route in report["routes"].values():
            assert set(route) == ROUTE_KEYS
            assert (route["events_out"], route["rejected"], route["lost"]) == (500, 0, 0)
            assert 0 < route["wire_bytes"] < route["bytes_out"]
        cloudwatch = report["routes"]["cloudwatch"]
        messages = world.cloudwatch.messages()
        assert cloudwatch["bytes_out"] == sum(len(item.encode()) + 26 for item in messages)
        assert cloudwatch["requests"] == len(world.cloudwatch.requests)
        assert report["routes"]["archive"]["wire_bytes"] == sum(
            len(item.body) for item in world.s3.objects.values()
        )
        assert 0 < report["startup_s"] < report["wall_s"]
        assert 0 < report["startup_cpu_s"] < report["cpu_s"]
        assert 30 << 20 < report["rss_peak_bytes"] < 1 << 30
        assert "500 lines" in text
        assert not world.state.exists()
        world.assert_exact(pod)


async def test_what_can_be_given(tmp_path: Path) -> None:
    """
    A directory, a .gz and a rotated name, without a final newline too; a missing path is exit 66.
    """
    async with World(tmp_path) as world:
        live, packed, rotated = (world.pod(name) for name in ("live", "packed", "rotated"))
        for pod in (live, packed, rotated):
            pod.lines(20)
        live.raw(f"{rfc3339(datetime.now(UTC))} stdout F no newline".encode())
        live.expect("no newline")
        gz = packed.path.with_name("0.log.20261122-101500.gz")
        gz.write_bytes(gzip.compress(packed.path.read_bytes()))
        packed.path.unlink()
        old = rotated.rotate()
        report, _ = await replay(world, live.directory.parent, gz, old)
        assert report["lines_in"] == 61
        assert {text for _, _, text in world.rows()} == {
            text for pod in (live, packed, rotated) for _, _, text in pod.written
        }
        assert sum(world.rows().values()) == sum(world.events().values()) == 61
        done = await tailrace("replay", "-c", world.config_path, tmp_path / "absent.log")
        assert done.code == 66
        assert "absent.log: no such file" in done.err


async def test_an_interrupted_replay_goes_on(tmp_path: Path) -> None:
    """
    With --state a killed replay resumes: every row once in Parquet, no line missing in CloudWatch.
    """
    async with World(tmp_path) as world:
        pod = world.pod("web-1")
        pod.lines(3000)
        world.source["chunk_bytes"] = 4096
        world.settings["commit_interval_s"] = 0.02
        world.sink("archive")["frame_age_s"] = 0.02
        world.write_config()
        state = tmp_path / "replay"
        arguments = ("replay", "-c", world.config_path, "--state", state, pod.path)
        done = await tailrace(*arguments, env={"TAILRACE_CRASH_AT": "commit_after:2"})
        assert done.code == -signal.SIGKILL, done
        report, _ = await replay(world, "--state", state, pod.path)
        assert report["lines_in"] <= 3000
        world.assert_cloudwatch_complete(pod)
        world.assert_parquet_exact(pod)
        # All is done: once more is nothing.
        report, _ = await replay(world, "--state", state, pod.path)
        assert report["lines_in"] == 0
        world.assert_parquet_exact(pod)


async def test_lines_that_are_too_old_are_warned_about(tmp_path: Path) -> None:
    """
    Exit 1, the number of them, and what to do; Parquet has them all.
    """
    async with World(tmp_path) as world:
        pod = world.pod("web-1")
        pod.lines(4)
        pod.lines(3, at=datetime.now(UTC) - timedelta(days=20))
        report, text = await replay(world, pod.path, code=1)
        assert report["routes"]["cloudwatch"]["rejected_too_old"] == 3
        assert report["routes"]["cloudwatch"]["rejected"] == 3
        assert report["routes"]["archive"]["rejected"] == 0
        assert "warning: cloudwatch: 3 lines are older than CloudWatch takes" in text
        world.assert_parquet_exact(pod)


def _wrapped(line: bytes, index: int, kind: str) -> bytes:
    moment = rfc3339(datetime.now(UTC) - timedelta(minutes=5), index % 1000)
    if kind == "cri":
        return f"{moment} stdout F ".encode() + line + b"\n"
    record = {"log": line.decode("utf-8", "replace") + "\n", "stream": "stdout", "time": moment}
    return json.dumps(record).encode() + b"\n"


@pytest.mark.parametrize("kind", ["cri", "docker"])
async def test_real_lines(kind: str, tmp_path: Path, shared_data: Path) -> None:
    """
    Lines of real systems, wrapped as the runtimes do, have the same content at both destinations.
    """
    async with World(tmp_path) as world:
        expected: Counter[tuple[str, str]] = Counter()
        paths = []
        for source in sorted(shared_data.glob("loghub/*.log")):
            pod = world.pod(source.stem.lower())
            lines = [line.rstrip(b"\r") for line in source.read_bytes().split(b"\n") if line]
            pod.raw(b"".join(_wrapped(line, index, kind) for index, line in enumerate(lines)))
            expected.update((pod.name, line.decode("utf-8", "replace")) for line in lines)
            paths.append(pod.path)
        assert len(paths) >= 8
        report, _ = await replay(world, *paths)
        assert report["lines_in"] == sum(expected.values())
        assert Counter(world.columns("pod", "message")) == expected
        found: Counter[tuple[str, str]] = Counter()
        for (name, _, text), count in world.events().items():
            found[name, text] += count
        assert found == expected


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """
    Moto's server for both services.
    """
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    # What moto holds belongs to the process, and other tests of this worker may have filled it.
    reset = urllib.request.Request(f"{url}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset, timeout=5).close()
    yield url
    server.stop()


async def test_both_routes_to_moto_and_sql_over_the_objects(tmp_path: Path, moto: str) -> None:
    """
    A second opinion on both protocols; DuckDB and pyarrow read the objects as Hive partitions.
    """
    client = {"endpoint_url": moto, "region_name": "eu-central-1"}
    s3, logs = boto3.client("s3", **client), boto3.client("logs", **client)
    s3.create_bucket(
        Bucket="logs", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    async with World(tmp_path) as world:
        for route in ("cloudwatch", "archive"):
            world.sink(route)["endpoint_url"] = moto
        world.sink("cloudwatch")["retention_days"] = 7
        pods = [world.pod("web-1"), world.pod("db-0", "data")]
        now = datetime.now(UTC)
        for pod in pods:
            pod.lines(100, at=now)
            pod.lines(100, at=now - timedelta(hours=30))
        await replay(world, *(pod.path for pod in pods))
        for pod in pods:
            page = logs.get_log_events(
                logGroupName=f"/test/{pod.namespace}", logStreamName=pod.name, startFromHead=True
            )
            found = [json.loads(event["message"])["log"] for event in page["events"]]
            assert sorted(found) == sorted(text for _, _, text in pod.written)
        archive = tmp_path / "archive"
        for item in s3.list_objects_v2(Bucket="logs")["Contents"]:
            target = archive / item["Key"]
            target.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file("logs", item["Key"], str(target))
        s3.close()
        logs.close()
        days = {f"{now - timedelta(hours=hours):%Y-%m-%d %H}": 200 for hours in (0, 30)}
        rows = duckdb.execute(
            f"SELECT dt || ' ' || hour, count(*) FROM read_parquet('{archive}/**/*.parquet', "
            "hive_partitioning = true, hive_types_autocast = false) WHERE cluster = 'test' GROUP BY 1"
        ).fetchall()
        assert dict(rows) == days
        table = dataset.dataset(archive / "prefix", partitioning="hive").to_table(
            columns=["pod", "stream", "message", "cluster", "dt"]
        )
        names = ("pod", "stream", "message")
        read = Counter(zip(*(table.column(name).to_pylist() for name in names), strict=True))
        assert read == Counter(line for pod in pods for line in pod.written)
        assert set(table.column("cluster").to_pylist()) == {"test"}
