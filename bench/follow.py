"""
What following costs, and how long a line takes: `python -m bench.follow`.

A writer appends to files while an agent follows them; the agent has one core, writer and servers the other.  After a
warm-up, its CPU is what the kernel counted over the window, its memory is sampled every quarter of a second, and
the server compares the time in every event with its own.

| scene | what is written |
|---|---|
| one-10000 | one container, 10,000 lines/s |
| hundred-100 | 100 containers, 100 lines/s each |
| one-1000, one-100 | one container |
| idle-1000 | nothing, beside 1,000 files |
| overload | one container, 10,000 lines/s, and the server takes half of it |

After `overload` the server takes everything again, and every line must have arrived.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench import paths
from bench.beside import AGENT_CORE, SERVER_CORE, ask, last_lines, scratch, servers
from bench.corpus import MIB
from bench.measure import Sampler, cpu_seconds, pinned, process_tree
from bench.peers import add_peers
from bench.pods import link_containers
from bench.tables import OURS, markdown, spread
from bench.writer import make_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bench.peers import Peer

SAMPLE_INTERVAL_S = 0.25
READY_TIMEOUT_S = 60.0
STOP_GRACE_S = 10.0
ARRIVE_TIMEOUT_S = 900.0
#: Paths whose every event the server sees as it comes.
COUNTED = ("cloudwatch", "message", "both")
#: Of a file that nobody writes to.
IDLE_LINES = 10
COLUMNS = (
    *("scene", "program", "CPU, % of a core", "median PSS MiB", "peak PSS MiB"),
    *("lines written", "arrived", "p50 ms", "p99 ms"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """
    What is written, and where it goes.
    """

    name: str
    files: int
    rate: float  # lines a second and file
    idle_files: int = 0
    path: str = "cloudwatch"
    events_per_s: float = 0  # what the server takes; 0: everything


SCENES = {
    scene.name: scene
    for scene in (
        Scene(name="one-10000", files=1, rate=10_000),
        Scene(name="hundred-100", files=100, rate=100),
        Scene(name="one-1000", files=1, rate=1_000),
        Scene(name="one-100", files=1, rate=100),
        Scene(name="idle-1000", files=1, rate=0, idle_files=1_000),
        Scene(name="overload", files=1, rate=10_000, events_per_s=5_000),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """
    One program in one scene, once.
    """

    program: str
    scene: str
    cpu_percent: float
    pss_median_bytes: float
    pss_peak_bytes: int
    samples: list[int]  # PSS every quarter of a second
    written: int
    arrived: int
    latency_ms: dict[str, float]


@contextlib.contextmanager
def running(
    command: Sequence[str], core: int, *, log: str, environment: Mapping[str, str]
) -> Iterator[int]:
    """
    Run a program for the length of the block; yields its process id.
    """
    with (
        open(log, "wb") as output,
        subprocess.Popen(
            pinned(command, core), stdout=output, stderr=output, env=dict(environment)
        ) as process,
    ):
        try:
            yield process.pid
            if process.poll() is not None:
                raise RuntimeError(f"the program ended by itself\n{last_lines(log)}")
            process.send_signal(signal.SIGTERM)
            process.wait(paths.DRAIN_TIMEOUT_S + STOP_GRACE_S)
        finally:
            process.kill()


def wait_ready(admin: str) -> None:
    """
    Wait until the agent says that it is ready.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"http://{admin}/readyz", timeout=1).close()
            return
        time.sleep(0.1)
    raise RuntimeError("the agent did not become ready")


def free_address() -> str:
    """
    Return an address of loopback that nobody listens at.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def wait_arrived(endpoints: paths.Endpoints, count: int, timeout_s: float) -> int:
    """
    Wait until *count* events have arrived, or none came any more; returns how many did.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        arrived: int = ask(endpoints, "/counts")["cloudwatch"]["events"]
        if arrived >= count or time.monotonic() > deadline:
            return arrived
        time.sleep(0.5)


def follow(
    scene: Scene,
    *,
    seconds: float,
    warm_up: float,
    peer: Peer | None = None,
    sink: Mapping[str, Any] | None = None,
    wrap: Callable[[list[str]], list[str]] = list,
) -> Follow:
    """
    Run program, servers and writer together and watch the program.

    Args:
        sink: settings of Tailrace's last sink that differ from the path's.
        wrap: what is run in place of Tailrace's command: the same with something around it.
    """
    limits = ["--latencies", "--events-per-s", str(scene.events_per_s)]
    with scratch() as directory:
        tree = os.path.join(directory, "tree")
        files = make_files(tree, scene.files, seed=1, lines=1)
        idle = make_files(tree, scene.idle_files, seed=2, lines=IDLE_LINES)
        containers = link_containers(tree, files + idle)
        with servers(directory, tree, *limits) as endpoints:
            admin = free_address()
            if peer is None:
                made = paths.routes(scene.path, endpoints)
                made[-1]["sink"].update(sink or {})
                config = paths.tailrace_config(
                    scene.path,
                    endpoints,
                    directory=directory,
                    pattern=os.path.join(tree, "pods", "*", "*", "*.log"),
                    admin=admin,
                    made=made,
                )
                command = wrap(paths.tailrace_run(config))
            else:
                command = peer.follows(
                    scene.path, endpoints, directory=directory, containers=containers
                )
            log = os.path.join(directory, "program.log")
            with running(
                command, AGENT_CORE, log=log, environment=paths.environment(endpoints)
            ) as pid:
                if peer is None:
                    wait_ready(admin)
                there = scene.files + IDLE_LINES * scene.idle_files
                if scene.path in COUNTED:
                    wait_arrived(endpoints, there, READY_TIMEOUT_S)
                    ask(endpoints, "/reset")
                watched = _watch(pid, scene, files, seconds=seconds, warm_up=warm_up)
                sent = watched.pop("written")
                ask(endpoints, "/unlimited")
                counted = sent and scene.path in COUNTED
                arrived = wait_arrived(endpoints, sent, ARRIVE_TIMEOUT_S if counted else 0)
                latency = ask(endpoints, "/counts")["latency_ms"]
    return Follow(
        program=peer.name if peer else OURS,
        scene=scene.name,
        written=sent,
        arrived=arrived,
        latency_ms=latency,
        **watched,
    )


def _watch(
    pid: int, scene: Scene, files: Sequence[str], *, seconds: float, warm_up: float
) -> dict[str, Any]:
    """
    Write, and watch the process tree of *pid* meanwhile.
    """
    total_s = warm_up + seconds
    command = [sys.executable, "-m", "bench.writer", "--seconds", str(total_s)]
    command += ["--rate", str(scene.rate), *files]
    with subprocess.Popen(pinned(command, SERVER_CORE), stdout=subprocess.PIPE) as writer:
        try:
            time.sleep(warm_up)
            sampler = Sampler(pid, SAMPLE_INTERVAL_S)
            cpu_before = cpu_seconds(process_tree(pid))
            began = time.monotonic()
            sampler.start()
            written, _ = writer.communicate(timeout=total_s * 3 + READY_TIMEOUT_S)
            sampler.stop()
            took = time.monotonic() - began
            cpu_s = cpu_seconds(process_tree(pid)) - cpu_before
        finally:
            writer.kill()
    if not sampler.samples:
        raise RuntimeError("the program ended while it was watched")
    return {
        "cpu_percent": cpu_s / took * 100,
        "pss_median_bytes": statistics.median(sampler.samples),
        "pss_peak_bytes": sampler.pss_peak_bytes,
        "samples": sampler.samples,
        "written": int(written),
    }


def follows_table(found: Sequence[Follow]) -> str:
    """
    One row a scene and program: medians over the rounds.
    """
    rows = []
    for scene, program in dict.fromkeys((item.scene, item.program) for item in found):
        same = [item for item in found if (item.scene, item.program) == (scene, program)]
        delays = [item.latency_ms for item in same if item.latency_ms]
        rows.append(
            [
                scene,
                program,
                spread([item.cpu_percent for item in same], ".2f"),
                f"{statistics.median(item.pss_median_bytes for item in same) / MIB:.0f}",
                f"{statistics.median(item.pss_peak_bytes for item in same) / MIB:.0f}",
                f"{sum(item.written for item in same):,}",
                f"{sum(item.arrived for item in same):,}",
                *(
                    f"{statistics.median(delay[name] for delay in delays):,.0f}" if delays else ""
                    for name in ("p50", "p99")
                ),
            ]
        )
    return markdown(COLUMNS, rows, words=2)


def measure_scenes(
    scenes: Sequence[Scene],
    *,
    rounds: int,
    seconds: float,
    overload_s: float,
    warm_up: float,
    peers: Sequence[Peer],
) -> list[Follow]:
    """
    Run every program in every scene, round by round; an overload is run once.

    Raises RuntimeError where lines of ours are missing.
    """
    found: list[Follow] = []
    for number in range(rounds):
        for scene in scenes:
            overload = bool(scene.events_per_s)
            if overload and number:
                continue
            for peer in (None, *peers):
                length = overload_s if overload else seconds
                item = follow(scene, seconds=length, warm_up=warm_up, peer=peer)
                if peer is None and scene.path in COUNTED and item.arrived < item.written:
                    raise RuntimeError(
                        f"{scene.name}: {item.arrived:,} of {item.written:,} lines arrived"
                    )
                found.append(item)
                said = f"{scene.name}: {item.program} {item.cpu_percent:.2f} %"
                print(said, file=sys.stderr, flush=True)
    return found


def main() -> int:
    """
    Measure and show.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--scene", dest="scenes", action="append", choices=sorted(SCENES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--overload-seconds", type=float, default=300)
    parser.add_argument("--warm-up", type=float, default=10)
    parser.add_argument("--json", metavar="FILE", help="write every run to FILE, too")
    add_peers(parser)
    options = parser.parse_args()
    try:
        found = measure_scenes(
            [SCENES[name] for name in options.scenes or SCENES],
            rounds=options.rounds,
            seconds=options.seconds,
            overload_s=options.overload_seconds,
            warm_up=options.warm_up,
            peers=options.peers,
        )
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(follows_table(found))
    if options.json:
        with open(options.json, "w") as file:
            json.dump([dataclasses.asdict(item) for item in found], file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
