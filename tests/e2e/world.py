"""
A whole world for the agent: a tree of logs, strict fakes of both destinations, the agent as a process.

It is really started, stopped and killed.

Every line that is written is remembered (pods.py), so that what arrived can be compared with it, line by line.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import yaml

from tests.e2e.arrived import IDENTITY, Arrivals, some
from tests.e2e.pods import Pod
from tests.fakes.cloudwatch import ACCESS_KEY, REGION, SECRET_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["IDENTITY", "World", "sample", "tailrace"]

REPOSITORY = Path(__file__).resolve().parent.parent.parent
#: A condition that the agent should reach is waited for this long, on a machine that may be busy.
PATIENCE_S = 90.0
CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
#: Neither the user's profile nor an instance's role is meant.
NO_CREDENTIALS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Done(NamedTuple):
    """
    What became of a command.
    """

    code: int
    out: str
    err: str


def environment(extra: dict[str, str] | None = None, *, credentials: bool = True) -> dict[str, str]:
    """
    Return the environment of a command: nothing of AWS but what a test gives it.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | NO_CREDENTIALS | (CREDENTIALS if credentials else {}) | (extra or {})


async def tailrace(
    *arguments: object, env: dict[str, str] | None = None, patience_s: float = PATIENCE_S
) -> Done:
    """
    Run `python -m agent` with *arguments* to its end; one that starts others needs more patience.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent",
        *map(str, arguments),
        cwd=REPOSITORY,
        env=environment(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(patience_s):
            out, err = await child.communicate()
    except TimeoutError:
        child.kill()
        out, err = await child.communicate()
        raise AssertionError(f"{arguments} does not end:\n{err.decode()}") from None
    assert child.returncode is not None
    return Done(child.returncode, out.decode(), err.decode())


def sample(name: str, **labels: object) -> str:
    """
    Return the key of a sample in `World.metrics`.
    """
    pairs = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{pairs}}}" if pairs else name


class World(Arrivals):
    """
    Fakes, tree and agent of one test.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pods = directory / "pods"
        self.state = directory / "state"
        self.config_path = directory / "tailrace.yaml"
        self.log_path = directory / "agent.log"
        super().__init__()
        self.agent: asyncio.subprocess.Process | None = None
        self.routes: list[dict[str, Any]] = []
        self.settings: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
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
                    "linger_s": 0.1,
                },
            },
            {
                "name": "archive",
                "sink": {
                    "type": "parquet",
                    "region": REGION,
                    "endpoint_url": self.s3.url,
                    "url": f"s3://{self.s3.bucket}/prefix",
                    # Nothing is sealed before the end, unless a test wants it: a seal is a process.
                    "window_age_s": 60,
                    "frame_age_s": 0.1,
                },
            },
        ]
        self.settings = {
            "cluster": "test",
            "node": "node-1",
            "state_dir": str(self.state),
            "commit_interval_s": 0.1,
            "drain_timeout_s": 60,
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
            await self.kill()
        await self.cloudwatch.__aexit__(None, None, None)
        await self.s3.__aexit__(None, None, None)

    @property
    def source(self) -> dict[str, Any]:
        """
        The settings of the only source.
        """
        source: dict[str, Any] = self.settings["sources"][0]
        return source

    def sink(self, route: str) -> dict[str, Any]:
        """
        The settings of a route's sink.
        """
        settings: dict[str, Any]
        (settings,) = [item["sink"] for item in self.routes if item["name"] == route]
        return settings

    def only(self, *routes: str) -> None:
        """
        Keep only *routes*.
        """
        self.routes = [item for item in self.routes if item["name"] in routes]

    def pod(self, name: str, namespace: str = "shop") -> Pod:
        """
        Return a new pod of one container.
        """
        return Pod(self.pods, name, namespace)

    # -- the process --------------------------------------------------------------------------

    def write_config(self) -> None:
        self.config_path.write_text(yaml.safe_dump({**self.settings, "routes": self.routes}))

    async def start(
        self,
        *,
        crash_at: str = "",
        env: dict[str, str] | None = None,
        credentials: bool = True,
        prefix: tuple[str, ...] = (),
        program: tuple[str, ...] = ("-m", "agent"),
        command: str = "run",
    ) -> None:
        """
        Start the agent.

        Args:
            crash_at: the point at which it kills itself.
            prefix: a command that runs the agent's, such as `setpriv`.
            program: what Python runs instead of the agent itself: a script that changes it first.
            command: which of the commands that run an agent.
        """
        self.write_config()
        whole = (*prefix, sys.executable, *program, command, "-c", str(self.config_path))
        with self.log_path.open("ab") as log:
            self.agent = await asyncio.create_subprocess_exec(
                *whole,
                cwd=REPOSITORY,
                env=environment(
                    {"TAILRACE_CRASH_AT": crash_at, **(env or {})}, credentials=credentials
                ),
                stderr=log,
            )

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """
        Ask the agent to drain; return its exit code.
        """
        assert self.agent is not None
        self.agent.send_signal(number)
        return await self.ended()

    async def kill(self) -> None:
        """
        Kill the agent.
        """
        assert self.agent is not None
        with suppress(ProcessLookupError):
            self.agent.kill()
        await self.ended()

    async def ended(self) -> int:
        """
        Wait for the end of the agent; return its exit code.
        """
        assert self.agent is not None
        async with asyncio.timeout(PATIENCE_S):
            return await self.agent.wait()

    @property
    def log(self) -> str:
        """
        What the agents of this world have said.
        """
        return self.log_path.read_text() if self.log_path.exists() else ""

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """
        Wait for *condition*, while the agent runs.
        """
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while not condition():
            if self.agent is not None and self.agent.returncode is not None:
                raise AssertionError(f"the agent ended before {what}:\n{self.log}")
            if asyncio.get_running_loop().time() > deadline:
                await self.kill()
                raise AssertionError(f"waited in vain for {what}:\n{self.log}")
            await asyncio.sleep(0.02)

    async def until_or_ended(self, seconds: float) -> None:
        """
        Let the agent run for *seconds*, or until it ends.
        """
        assert self.agent is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.agent.wait()

    async def delivered(self, *pods: Pod) -> None:
        """
        Wait until every line is in CloudWatch.
        """
        written = {line for pod in pods for line in pod.written}
        try:
            await self.until(
                lambda: written <= self.events().keys(), f"{len(written)} lines arrived"
            )
        except AssertionError as error:
            error.add_note(f"missing: {some(written - set(self.events()))}")
            raise

    async def started(self) -> None:
        """
        Wait until the admin endpoint says that every route is up.
        """
        assert self.agent is not None
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while (await self.get("/readyz"))[0] != 200:
            assert self.agent.returncode is None, self.log
            assert asyncio.get_running_loop().time() < deadline, self.log
            await asyncio.sleep(0.02)

    async def get(self, path: str) -> tuple[int, str]:
        """
        GET from the admin endpoint; status 0 where nobody answers.
        """
        return await asyncio.to_thread(_get, f"http://{self.settings['admin']['listen']}{path}")

    async def metrics(self) -> dict[str, float]:
        """
        Return every sample of /metrics by its name and labels.
        """
        status, text = await self.get("/metrics")
        assert status == 200
        return {name: float(value) for name, value in re.findall(r"(?m)^([^#\s].*) ([^ ]+)$", text)}

    async def until_metrics(
        self, condition: Callable[[dict[str, float]], object], what: str
    ) -> dict[str, float]:
        """
        Wait until the metrics fulfil *condition* and return them.
        """
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while not condition(metrics := await self.metrics()):
            lag = {name: value for name, value in metrics.items() if "tailrace" in name}
            assert asyncio.get_running_loop().time() < deadline, f"{what}: {lag}\n{self.log}"
            await self.until_or_ended(0.05)
        return metrics

    async def read(self, lines: int) -> None:
        """
        Wait until both routes have read so many lines: what is unread at a stop, stays unread.
        """
        await self.started()
        names = [sample("tailrace_read_lines_total", route=item["name"]) for item in self.routes]
        await self.until_metrics(
            lambda found: all(found.get(name, 0) >= lines for name in names), f"{lines} lines read"
        )

    async def status(self) -> dict[str, Any]:
        """
        Return what `tailrace status --json` says, its routes by name.
        """
        done = await tailrace("status", "-c", self.config_path, "--json", "--logs", "0")
        assert done.code == 0, done.err
        status: dict[str, Any] = json.loads(done.out)
        status["routes"] = {route["name"]: route for route in status["routes"]}
        return status

    async def until_committed(self, log: str, *, logs: int = 1) -> None:
        """
        Wait until every route has committed *log* to its end, among at least so many Logs.
        """
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            done = await tailrace("status", "-c", self.config_path, "--json", "--logs", "0")
            routes = json.loads(done.out)["routes"] if done.code == 0 else []
            lags = [{item["log"]: item["lag_bytes"] for item in route["logs"]} for route in routes]
            if lags and all(found.get(log) == 0 and len(found) >= logs for found in lags):
                return
            assert asyncio.get_running_loop().time() < deadline, f"{lags}"[:1000] + self.log
            await self.until_or_ended(0.1)

    async def losses(self) -> list[dict[str, Any]]:
        """
        Return what `tailrace losses --json` says.
        """
        done = await tailrace("losses", "-c", self.config_path, "--json")
        assert done.code == 0, done.err
        found: list[dict[str, Any]] = json.loads(done.out)
        return found


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""
