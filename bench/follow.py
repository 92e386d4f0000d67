"""
What following costs: `python -m bench.follow --files 100 --rate 100 --seconds 60`.

A writer process appends RATE lines a second to each of FILES files, each with a write of its own, while
the agent follows them; both on cores of their own.  After a warm-up, the agent's CPU is what the kernel
counted over the window, its memory is sampled every quarter of a second.  `--rate 0` measures an idle
tree.  `--idle-files N` adds files that nobody writes to.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bench import paths
from bench.beside import AGENT_CORE, OUT_DIRECTORY, SERVER_CORE, counting_server
from bench.corpus import MIB, NANOSECONDS, Clock, access_texts, log_path
from bench.measure import Sampler, cpu_seconds, pinned, process_tree, rss_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: The writer wakes this often; every wake-up writes its part of the lines.
TICK_S = 0.01
SAMPLE_INTERVAL_S = 0.25
READY_TIMEOUT_S = 20.0
STOP_GRACE_S = 10.0
TEXT_COUNT = 10_000


def write_lines(files: Sequence[str], rate: float, seconds: float) -> None:
    """
    Append *rate* lines a second to each file for *seconds*, one write a line.
    """
    import random

    texts = list(access_texts(random.Random(7), TEXT_COUNT))
    descriptors = [os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) for path in files]
    clock = Clock(time.time_ns())
    began = time.monotonic()
    last_ns = time.time_ns()
    written = 0
    while (elapsed := time.monotonic() - began) < seconds:
        due = int(elapsed * rate * len(descriptors))
        for number in range(written, due):
            now_ns = time.time_ns()
            head = f"{clock.advance(now_ns - last_ns)} stdout F {number} "
            last_ns = now_ns
            line = head + texts[number % TEXT_COUNT] + "\n"
            os.write(descriptors[number % len(descriptors)], line.encode())
        written = due
        time.sleep(TICK_S)
    for descriptor in descriptors:
        os.close(descriptor)
    print(written, flush=True)


def make_files(root: str, count: int, *, seed: int, lines: int) -> list[str]:
    """
    Make *count* files of *lines* lines each.
    """
    made = [log_path(root, index, seed) for index in range(count)]
    clock = Clock((int(time.time()) - 3_600) * NANOSECONDS)
    for path in made:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.writelines(
                f"{clock.advance(1_000)} stdout F line {number}\n" for number in range(lines)
            )
    return made


@contextlib.contextmanager
def running(
    command: Sequence[str], core: int, *, log: str, environment: dict[str, str]
) -> Iterator[int]:
    """
    Run the agent for the length of the block; yields its process id.
    """
    with (
        open(log, "wb") as output,
        subprocess.Popen(
            pinned(command, core), stdout=output, stderr=output, env=environment
        ) as process,
    ):
        try:
            yield process.pid
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


def observe(pid: int, seconds: float) -> dict[str, float]:
    """
    Watch the process tree of *pid* for *seconds*.
    """
    sampler = Sampler(pid, SAMPLE_INTERVAL_S)
    cpu_before = cpu_seconds(process_tree(pid))
    began = time.monotonic()
    sampler.start()
    time.sleep(seconds)
    sampler.stop()
    took = time.monotonic() - began
    tree = process_tree(pid)
    return {
        "CPU, % of a core": (cpu_seconds(tree) - cpu_before) / took * 100,
        "PSS, median MiB": statistics.median(sampler.samples) / MIB,
        "PSS, peak MiB": sampler.pss_peak_bytes / MIB,
        "RSS at the end, MiB": rss_bytes(tree) / MIB,
    }


def free_address() -> str:
    """
    Return an address of loopback that nobody listens at.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def measure(options: argparse.Namespace, directory: str) -> dict[str, float]:
    """
    Run agent and writer together and watch the agent.
    """
    files = make_files(directory, options.files, seed=1, lines=1)
    make_files(directory, options.idle_files, seed=2, lines=100)
    admin = free_address()
    pattern = os.path.join(directory, "pods", "*", "*", "*.log")
    total_s = options.warm_up + options.seconds + 1
    writer_command = [
        sys.executable,
        "-m",
        "bench.follow",
        "--write",
        str(total_s),
        "--rate",
        str(options.rate),
    ]
    with counting_server(directory) as endpoints:
        config = paths.tailrace_config(
            options.path, endpoints, directory=directory, pattern=pattern, admin=admin
        )
        start = functools.partial(
            running,
            paths.tailrace_run(config),
            AGENT_CORE,
            log=os.path.join(directory, "agent.log"),
            environment=paths.environment(endpoints),
        )
        if options.restart:
            with start():
                wait_ready(admin)
                time.sleep(options.warm_up)
        with start() as pid:
            wait_ready(admin)
            with subprocess.Popen(
                pinned([*writer_command, *files], SERVER_CORE), stdout=subprocess.PIPE
            ) as writer:
                try:
                    time.sleep(options.warm_up)
                    figures = observe(pid, options.seconds)
                    written, _ = writer.communicate(timeout=total_s)
                finally:
                    writer.kill()
    return {"lines a second, written": int(written) / total_s} | figures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--idle-files", type=int, default=0)
    parser.add_argument(
        "--restart",
        action="store_true",
        help="let one agent deliver what is there, and measure the next one",
    )
    parser.add_argument("--rate", type=float, default=100, help="lines a second and file")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=5)
    parser.add_argument("--path", choices=paths.PATHS, default="blackhole")
    parser.add_argument("--write", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """
    Measure and show; with --write, be the writer.
    """
    options = _options()
    if options.write is not None:
        write_lines(options.targets, options.rate, options.write)
        return 0
    console = Console()
    os.makedirs(OUT_DIRECTORY, exist_ok=True)
    directory = tempfile.mkdtemp(dir=OUT_DIRECTORY)
    try:
        figures = measure(options, directory)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        with open(os.path.join(directory, "agent.log"), errors="replace") as lines:
            console.print(f"{error}\n{''.join(lines.readlines()[-15:])}", markup=False)
        return 1
    finally:
        shutil.rmtree(directory)
    table = Table(title=f"{options.files} files × {options.rate:g} lines/s, {options.path}")
    table.add_column("figure")
    table.add_column("", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.1f}")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
