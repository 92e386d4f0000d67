"""
A whole world for the agent: a kubelet-shaped tree, strict fakes of CloudWatch and S3, and the agent as
a process that is really started, stopped and killed.

Every line that is written is remembered, so that what arrived can be compared with it, line by line.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
import urllib.request
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import yaml
from pyarrow import parquet

from tests.fakes.cloudwatch import ACCESS_KEY, REGION, SECRET_KEY, FakeCloudWatch
from tests.fakes.s3 import FakeS3

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: A condition that the agent should reach is waited for this long, on a machine that may be busy.
PATIENCE_S = 30.0
CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

#: (pod, stream, message)
Line = tuple[str, str, str]


def rfc3339(moment: datetime, nanoseconds: int = 0) -> str:
    """
    Return *moment* as a CRI runtime writes it.
    """
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond * 1000 + nanoseconds:09d}Z"


@dataclass
class Pod:
    """
    One container's log file, and every row that it should become.
    """

    root: Path
    name: str
    namespace: str = "shop"
    written: list[Line] = field(default_factory=list)
    _open: dict[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        uid = f"11111111-2222-3333-4444-{self.name.encode().hex()[:12]:0>12}"
        return self.root / f"{self.namespace}_{self.name}_{uid}" / "app"

    @property
    def path(self) -> Path:
        return self.directory / "0.log"

    def write(
        self, text: str, *, stream: str = "stdout", tag: str = "F", at: datetime | None = None
    ) -> None:
        """
        Append one CRI line; pieces become part of the row that their `F` ends.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(f"{rfc3339(at or datetime.now(UTC))} {stream} {tag} {text}\n".encode())
        whole = self._open.pop(stream, "") + text
        if tag == "P":
            self._open[stream] = whole
        else:
            self.written.append((self.name, stream, whole))

    def lines(self, count: int, *, at: datetime | None = None) -> None:
        """
        Append *count* lines on both streams, each with its number.
        """
        for _ in range(count):
            number = len(self.written)
            self.write(f"{self.name} line {number}", stream=("stdout", "stderr")[number % 2], at=at)

    def rotate(self) -> None:
        """
        Rename the live file as kubelet does; the next write makes a new one.
        """
        self.path.rename(self.path.with_name(f"0.log.{datetime.now(UTC):%Y%m%d-%H%M%S}"))


class World:
    """
    Fakes, tree and agent of one test.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pods = directory / "pods"
        self.state = directory / "state"
        self.config_path = directory / "tailrace.yaml"
        self.cloudwatch = FakeCloudWatch()
        self.s3 = FakeS3()
        self.agent: asyncio.subprocess.Process | None = None
        self.log = b""
        self.admin_port = 0
        self.routes: list[dict[str, Any]] = []
        self.settings: dict[str, Any] = {}

    async def __aenter__(self) -> World:
        self.pods.mkdir(parents=True, exist_ok=True)
        await self.cloudwatch.__aenter__()
        await self.s3.__aenter__()
        self.routes = [
            {
                "name": "cloudwatch",
                "sink": {
                    "type": "cloudwatch",
                    "region": REGION,
                    "endpoint_url": self.cloudwatch.url,
                    "group": "/test/{namespace}",
                    "stream": "{pod}",
                    "format": "container_insights",
                    "linger_s": 0.2,
                },
            },
            {
                "name": "archive",
                "sink": {
                    "type": "parquet",
                    "region": REGION,
                    "endpoint_url": self.s3.url,
                    "url": f"s3://{self.s3.bucket}/prefix",
                    "window_age_s": 1,
                    "frame_age_s": 0.1,
                },
            },
        ]
        self.settings = {
            "cluster": "test",
            "node": "node-1",
            "state_dir": str(self.state),
            "commit_interval_s": 0.1,
            "drain_timeout_s": 20,
            "lock_wait_s": 5,
            "admin": {"listen": ""},
            "log": {"format": "text", "level": "info"},
            "sources": [
                {
                    "name": "containers",
                    "type": "files",
                    "paths": [f"{self.pods}/*/*/*.log"],
                    "poll_interval_s": 0.05,
                    "rotate_grace_s": 0.5,
                }
            ],
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.agent is not None and self.agent.returncode is None:
            with suppress(ProcessLookupError):
                self.agent.kill()
            await self.ended()
        await self.cloudwatch.__aexit__(None, None, None)
        await self.s3.__aexit__(None, None, None)

    def pod(self, name: str, namespace: str = "shop") -> Pod:
        """
        Return a new pod of one container.
        """
        return Pod(self.pods, name, namespace)

    def write_config(self) -> None:
        self.config_path.write_text(yaml.safe_dump({**self.settings, "routes": self.routes}))

    async def start(self, *, crash_at: str = "", env: dict[str, str] | None = None) -> None:
        """
        Start the agent; *crash_at* names the point at which it kills itself.
        """
        self.write_config()
        self.agent = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "agent",
            "run",
            "-c",
            str(self.config_path),
            env={**os.environ, **CREDENTIALS, "TAILRACE_CRASH_AT": crash_at, **(env or {})},
            stderr=asyncio.subprocess.PIPE,
        )

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """
        Ask the agent to drain; return its exit code.
        """
        assert self.agent is not None
        self.agent.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        """
        Wait for the end of the agent; return its exit code.
        """
        assert self.agent is not None
        async with asyncio.timeout(PATIENCE_S):
            _, stderr = await self.agent.communicate()
        self.log += stderr
        assert self.agent.returncode is not None
        return self.agent.returncode

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """
        Wait for *condition*, while the agent runs.
        """
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while not condition():
            if self.agent is not None and self.agent.returncode is not None:
                await self.ended()
                raise AssertionError(f"the agent ended before {what}:\n{self.log.decode()}")
            if asyncio.get_running_loop().time() > deadline:
                assert self.agent is not None
                self.agent.kill()
                await self.ended()
                raise AssertionError(f"waited in vain for {what}:\n{self.log.decode()}")
            await asyncio.sleep(0.02)

    async def until_or_ended(self, seconds: float) -> None:
        """
        Let the agent run for *seconds*, or until it ends.
        """
        assert self.agent is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.agent.wait()

    # -- what arrived -------------------------------------------------------------------------

    def events(self) -> Counter[Line]:
        """
        Return the lines in CloudWatch.
        """
        found: Counter[Line] = Counter()
        for message in self.cloudwatch.messages():
            record = json.loads(message)
            found[record["kubernetes"]["pod_name"], record["stream"], record["log"]] += 1
        return found

    def tables(self) -> list[tuple[str, Any]]:
        """
        Return (key, table) of every object in S3.
        """
        return [
            (key, parquet.ParquetFile(io.BytesIO(stored.body)).read())
            for key, stored in self.s3.objects.items()
        ]

    def rows(self) -> Counter[Line]:
        """
        Return the lines in Parquet.
        """
        found: Counter[Line] = Counter()
        for _, table in self.tables():
            columns = [table.column(name).to_pylist() for name in ("pod", "stream", "message")]
            found.update(zip(*columns, strict=True))
        return found

    def assert_parquet_exact(self, *pods: Pod) -> None:
        """
        Every written line is one row; `(node, file_id, offset, row_kind)` is unique.
        """
        written = Counter(line for pod in pods for line in pod.written)
        rows = self.rows()
        assert not written - rows, f"missing in Parquet: {list((written - rows).items())[:5]}"
        assert not rows - written, f"twice in Parquet: {list((rows - written).items())[:5]}"
        keys: Counter[tuple[str, ...]] = Counter()
        for _, table in self.tables():
            names = ("node", "file_id", "offset", "row_kind")
            keys.update(zip(*(table.column(name).to_pylist() for name in names), strict=True))
        assert not keys or max(keys.values()) == 1

    def assert_cloudwatch_complete(self, *pods: Pod) -> None:
        """
        Every written line is an event at least once, and nothing else is there.
        """
        written = Counter(line for pod in pods for line in pod.written)
        events = self.events()
        assert not set(written) - set(events), f"missing: {list(set(written) - set(events))[:5]}"
        assert not set(events) - set(written), f"invented: {list(set(events) - set(written))[:5]}"

    def assert_cloudwatch_exact(self, *pods: Pod) -> None:
        """
        Every written line is one event.
        """
        self.assert_cloudwatch_complete(*pods)
        duplicates = [line for line, count in self.events().items() if count > 1]
        assert not duplicates, f"twice in CloudWatch: {duplicates[:5]}"

    async def get(self, path: str) -> tuple[int, str]:
        """
        GET from the admin endpoint.
        """
        return await asyncio.to_thread(_get, f"http://{self.settings['admin']['listen']}{path}")


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def two_hours() -> tuple[datetime, datetime]:
    """
    Return a moment of the last hour and one of this hour: rows of two partitions.
    """
    now = datetime.now(UTC)
    return now - timedelta(hours=1), now
