"""
The main job, start to end, without an AWS account: `make demo`.

An AWS endpoint on loopback, containers that log to a kubelet-shaped tree (pieces, rotations, a
deleted pod), and `tailrace run` with a CloudWatch route and a Parquet route.  When the containers are
done, the agent is told to stop; then every line that was written is looked for at both destinations.

Exit code 0: the contents agree for every container.  1: they do not; the working directory is kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import yaml
from rich.console import Console
from rich.table import Table

from demo.check import Verdict, complaints, judge
from demo.cloud import client, delivered_events, delivered_rows, download, local_cloud, open_archive
from demo.writer import Container

if TYPE_CHECKING:
    from collections.abc import Sequence

BUCKET = "demo-logs"
GROUP = "/aws/containerinsights/demo/application"
OUT_DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "out")
ROUTES = ("cloudwatch", "archive")
READY_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 30.0
TICK_S = 0.05
#: Characters of a table in a file.
WIDTH = 120
#: (namespace, pod, container, lines a tick) of the containers that are there from the beginning.
CONTAINERS = (
    ("shop", "web-7d4b9c6f5-x2x7p", "nginx", 12),
    ("shop", "web-7d4b9c6f5-x2x7p", "app", 10),
    ("shop", "cart-5f8d7c9b6-q9k4z", "app", 8),
    ("payments", "api-6c9f8d7b5-m3n8w", "api", 8),
    ("payments", "ledger-0", "ledger", 5),
    ("jobs", "report-28913040-7hxkd", "report", 6),
)
#: This pod is deleted, a moment after its last line.
DELETED_POD = "report-28913040-7hxkd"
#: And this one starts while the agent runs.
LATE = ("kube-system", "coredns-6d4b75cb6d-k8s2v", "coredns", 5)

QUERIES = (
    (
        "Lines per namespace and stream",
        """SELECT namespace, stream, count(*) AS lines, sum(length(message)) AS characters,
  strftime(min(time), '%H:%M:%S') AS first, strftime(max(time), '%H:%M:%S') AS last
FROM logs GROUP BY ALL ORDER BY ALL""",
    ),
    (
        "HTTP statuses of the access logs",
        """SELECT pod, regexp_extract(message, '" (\\d{3}) ', 1) AS status, count(*) AS requests
FROM logs WHERE message LIKE '%HTTP/1.1" %' GROUP BY ALL ORDER BY requests DESC LIMIT 8""",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """
    Where everything of one demo is.
    """

    directory: str
    url: str
    admin_port: int

    @property
    def pods(self) -> str:
        """
        The tree that the containers log to.
        """
        return os.path.join(self.directory, "pods")

    @property
    def config_path(self) -> str:
        return os.path.join(self.directory, "tailrace.yaml")

    def config(self) -> dict[str, object]:
        """
        Two routes over one source.
        """
        return {
            "cluster": "demo",
            "node": "demo-node",
            "state_dir": os.path.join(self.directory, "state"),
            "drain_timeout_s": 25,
            "admin": {"listen": f"127.0.0.1:{self.admin_port}"},
            "log": {"format": "text", "level": "info"},
            "sources": [
                {"name": "containers", "type": "files", "paths": [f"{self.pods}/*/*/*.log"]}
            ],
            "routes": [
                {
                    "name": ROUTES[0],
                    "sink": {
                        "type": "cloudwatch",
                        "region": "us-east-1",
                        "endpoint_url": self.url,
                        "group": "/aws/containerinsights/{cluster}/application",
                        "stream": "{namespace}.{pod}.{container}",
                        "format": "container_insights",
                        "linger_s": 1,
                    },
                },
                {
                    "name": ROUTES[1],
                    "sink": {
                        "type": "parquet",
                        "region": "us-east-1",
                        "endpoint_url": self.url,
                        "url": f"s3://{BUCKET}/logs",
                        "window_age_s": 5,
                    },
                },
            ],
        }


def play(pods: str, seconds: float) -> list[Container]:
    """
    Let containers log for *seconds*; returns them with all that they wrote.
    """
    rates: dict[Container, int] = {}
    for namespace, pod, name, rate in CONTAINERS:
        rates[Container(pods, namespace=namespace, pod=pod, name=name)] = rate
    everyone = list(rates)
    ticks = max(int(seconds / TICK_S), 20)
    rotations = {ticks // 3, ticks * 2 // 3}
    for tick in range(ticks):
        for container, rate in rates.items():
            container.write(rate)
        if tick in rotations:
            for container in everyone[:4]:
                container.rotate()
        if tick == ticks // 4:
            namespace, pod, name, rate = LATE
            late = Container(pods, namespace=namespace, pod=pod, name=name)
            everyone.append(late)
            rates[late] = rate
        if tick == ticks // 2:
            _end_pod(rates)
        time.sleep(TICK_S)
    for container in rates:
        container.write_interleaved_pieces()
        container.close()
    return everyone


def _end_pod(rates: dict[Container, int]) -> None:
    for container in [item for item in rates if item.pod == DELETED_POD]:
        container.write(50)
        time.sleep(0.4)  # The kubelet needs a moment, too.
        container.delete_pod()
        del rates[container]


def wait_ready(scene: Scene, agent: subprocess.Popen[bytes]) -> None:
    """
    Wait until the agent says that it is ready.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and agent.poll() is None:
        if _get(scene, "/readyz") is not None:
            return
        time.sleep(0.1)
    raise RuntimeError("the agent did not become ready")


def wait_read(scene: Scene, lines: int) -> None:
    """
    Wait until both routes have read *lines* lines: what is unread when the agent stops, stays unread.
    """
    deadline = time.monotonic() + READ_TIMEOUT_S
    while time.monotonic() < deadline:
        metrics = _get(scene, "/metrics") or ""
        if all(_lines_read(metrics, route) >= lines for route in ROUTES):
            return
        time.sleep(0.1)
    print(
        f"the agent has not read all {lines} lines within {READ_TIMEOUT_S:.0f} s", file=sys.stderr
    )


def _lines_read(metrics: str, route: str) -> float:
    start = f'tailrace_read_lines_total{{route="{route}"}}'
    values = [line.split()[-1] for line in metrics.splitlines() if line.startswith(start)]
    return float(values[0]) if values else 0.0


def _get(scene: Scene, path: str) -> str | None:
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{scene.admin_port}{path}", timeout=5
        ) as answer:
            body: bytes = answer.read()
            return body.decode()
    except (urllib.error.URLError, OSError):
        return None


def run_agent(scene: Scene, seconds: float, log: IO[bytes]) -> list[Container]:
    """
    Run the agent beside containers that log, and stop it as an operator does.
    """
    with open(scene.config_path, "w") as file:
        yaml.safe_dump(scene.config(), file, sort_keys=False)
    command = [sys.executable, "-m", "agent", "run", "-c", scene.config_path]
    with subprocess.Popen(command, stdout=log, stderr=log) as agent:
        try:
            wait_ready(scene, agent)
            containers = play(scene.pods, seconds)
            wait_read(scene, sum(item.lines_physical for item in containers))
            agent.send_signal(signal.SIGTERM)
            code = agent.wait(STOP_TIMEOUT_S)
        finally:
            agent.kill()
    if code != 0:
        raise RuntimeError(f"the agent ended with exit code {code}")
    return containers


def table(verdicts: Sequence[Verdict]) -> Table:
    """
    One row a container.
    """
    shown = Table(title="Lines written, events in CloudWatch, rows in Parquet")
    for name in ("namespace", "pod", "container"):
        shown.add_column(name, overflow="fold")
    for name in ("written", "events", "twice", "rows"):
        shown.add_column(name, justify="right")
    shown.add_column("contents")
    for verdict in verdicts:
        shown.add_row(
            *verdict.key,
            f"{verdict.written:,}",
            f"{verdict.events.found:,}",
            f"{verdict.events.duplicated.total():,}",
            f"{verdict.rows.found:,}",
            "agree" if verdict.agrees else "DIFFER",
        )
    return shown


def inspect(scene: Scene, containers: Sequence[Container], console: Console) -> bool:
    """
    Fetch everything from both destinations, compare, show.
    """
    archive = os.path.join(scene.directory, "archive")
    if not download(scene.url, BUCKET, archive):
        raise RuntimeError("no object in S3")
    with open_archive(archive) as database:
        verdicts = judge(containers, delivered_events(scene.url, GROUP), delivered_rows(database))
        console.print(table(verdicts))
        for title, query in QUERIES:
            answer = database.execute(query)
            console.print(f"\n{query}", markup=False, highlight=False, soft_wrap=True)
            shown = Table(title=title)
            for column in answer.description or ():
                shown.add_column(str(column[0]), overflow="fold")
            for row in answer.fetchall():
                shown.add_row(*(str(value) for value in row))
            console.print(shown)
    for text in (text for verdict in verdicts for text in complaints(verdict)):
        console.print(text, markup=False, highlight=False)
    return bool(verdicts) and all(verdict.agrees for verdict in verdicts)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """
    Play the scene in a temporary directory.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=12, help="how long the containers log")
    parser.add_argument("--keep", action="store_true", help="keep the working directory")
    options = parser.parse_args()

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    os.makedirs(OUT_DIRECTORY, exist_ok=True)
    directory = tempfile.mkdtemp(dir=OUT_DIRECTORY)
    log_path = os.path.join(directory, "agent.log")
    agrees = False
    try:
        with local_cloud() as url, open(log_path, "wb") as log:
            scene = Scene(directory=directory, url=url, admin_port=_free_port())
            client("s3", url).create_bucket(Bucket=BUCKET)
            console.print(
                f"AWS at {url}, containers log for {options.seconds:.0f} s to {scene.pods}",
                soft_wrap=True,
            )
            agrees = inspect(scene, run_agent(scene, options.seconds, log), console)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        console.print(f"{error}; the last lines of {log_path}:", markup=False)
        with open(log_path, errors="replace") as lines:
            console.print("".join(lines.readlines()[-20:]), markup=False, highlight=False)
    finally:
        if agrees and not options.keep:
            shutil.rmtree(directory)
        else:
            console.print(f"configuration, logs, state and objects: {directory}")
    console.print("every line arrived" if agrees else "FAILED: the contents differ")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
