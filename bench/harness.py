"""
The whole agent over a corpus, on one core: `python -m bench.harness`.

Every round runs every path once, and the peer (if one is given) right after Tailrace, so that both see
the same machine.  The agent has core 0, the counting server core 1.  The table shows medians:

| column | what |
|---|---|
| MiB/s | corpus size over wall time after start-up |
| wall, CPU | seconds of the whole run; CPU with children, as the kernel counts it |
| start-up | wall seconds until the first byte is read, and CPU seconds of a run over an empty file |
| CPU/GiB | CPU seconds after start-up for a GiB of log |
| peak PSS | of the process tree, sampled |
| wire | bytes of request bodies, as the server counted them |
| events | what the server counted: events, rows, or lines of gzipped objects |

The same run measures what the machine can do with the same bytes (bench/yardsticks.py).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench import paths, yardsticks
from bench.corpus import KINDS, MIB, Manifest, write_corpus
from bench.measure import Cost, pinned, run_measured

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OUT_DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "out")
AGENT_CORE, SERVER_CORE = 0, 1
RUN_TIMEOUT_S = 600.0
#: Characters of a table in a file.
WIDTH = 140
COLUMNS = (
    "path",
    "program",
    "MiB/s",
    "wall s",
    "CPU s",
    "start-up s",
    "its CPU s",
    "CPU s/GiB",
    "peak PSS MiB",
    "wire MiB",
    "events",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """
    One program over one path, once.
    """

    program: str
    path: str
    cost: Cost
    startup_s: float | None  # None: the program does not say
    startup_cpu_s: float
    size: int
    wire_bytes: int
    events: int

    @property
    def throughput(self) -> float:
        """
        Bytes of log a second, after start-up.
        """
        return self.size / max(self.cost.wall_s - (self.startup_s or 0), 1e-9)

    @property
    def cpu_per_gib(self) -> float:
        """
        CPU seconds for a GiB, after start-up.
        """
        return (self.cost.cpu_s - self.startup_cpu_s) / self.size * 1024 * MIB


class Bench:
    """
    A corpus, a counting server, and a directory for what the runs leave.
    """

    def __init__(self, directory: str, manifest: Manifest, endpoints: paths.Endpoints) -> None:
        self._directory = directory
        self._manifest = manifest
        self._endpoints = endpoints
        self._empty = os.path.join(directory, "empty", "pods", "a_b_c", "d", "0.log")
        os.makedirs(os.path.dirname(self._empty), exist_ok=True)
        with open(self._empty, "wb"):
            pass

    def tailrace(self, path: str) -> Run:
        """
        Replay the corpus, and an empty file for what starting costs.
        """
        idle, _ = self._replay(path, [self._empty])
        self._server("/reset")
        cost, report = self._replay(path, self._manifest.files)
        lost = {
            name: route
            for name, route in report["routes"].items()
            if route["lost"] or route["rejected"]
        }
        if lost:
            raise RuntimeError(f"{path}: not everything was delivered: {lost}")
        events = sum(route["events_out"] for route in report["routes"].values())
        return self._run(
            "tailrace",
            path,
            cost,
            startup_s=report["startup_s"],
            startup_cpu_s=idle.cpu_s,
            dropped=events if path == "blackhole" else 0,
        )

    def fluent_bit(self, binary: str, path: str) -> Run:
        """
        Let the peer read the corpus from its head to its end.
        """
        self._server("/reset")
        pattern = os.path.join(
            os.path.dirname(self._manifest.files[0]), "..", "..", "*", "*", "*.log"
        )
        with self._workspace() as (directory, log):
            config = paths.fluent_bit_config(
                path, self._endpoints, directory=directory, pattern=os.path.normpath(pattern)
            )
            cost = self._measure([binary, "-c", config], log)
        return self._run("fluent-bit", path, cost)

    def _replay(self, path: str, files: Sequence[str]) -> tuple[Cost, dict[str, Any]]:
        with self._workspace() as (directory, log):
            pattern = os.path.join(directory, "none", "*.log")
            config = paths.tailrace_config(
                path, self._endpoints, directory=directory, pattern=pattern
            )
            report = os.path.join(directory, "report.json")
            cost = self._measure(paths.tailrace_replay(config, files, report), log)
            with open(report) as file:
                return cost, json.load(file)

    def _measure(self, command: Sequence[str], log: IO[bytes]) -> Cost:
        try:
            return run_measured(
                pinned(command, AGENT_CORE),
                log=log,
                environment=paths.environment(self._endpoints),
                timeout_s=RUN_TIMEOUT_S,
            )
        except subprocess.SubprocessError as error:
            with open(log.name, errors="replace") as lines:
                last = "".join(lines.readlines()[-15:])
            raise RuntimeError(f"{error}\n{last}") from error

    def _run(
        self,
        program: str,
        path: str,
        cost: Cost,
        *,
        startup_s: float | None = None,
        startup_cpu_s: float = 0.0,
        dropped: int = 0,
    ) -> Run:
        counts = self._server("/counts")
        services = (counts["cloudwatch"], counts["s3"])
        return Run(
            program=program,
            path=path,
            cost=cost,
            startup_s=startup_s,
            startup_cpu_s=startup_cpu_s,
            size=self._manifest.bytes,
            wire_bytes=sum(service["wire_bytes"] for service in services),
            events=dropped + counts["cloudwatch"]["events"] + counts["s3"]["rows"],
        )

    @contextlib.contextmanager
    def _workspace(self) -> Iterator[tuple[str, IO[bytes]]]:
        directory = tempfile.mkdtemp(dir=self._directory)
        with open(os.path.join(directory, "program.log"), "wb") as log:
            yield directory, log
        shutil.rmtree(directory)

    def _server(self, target: str) -> dict[str, Any]:
        method = "POST" if target == "/reset" else "GET"
        request = urllib.request.Request(self._endpoints.plain + target, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            parsed: dict[str, Any] = json.load(answer)
            return parsed


@contextlib.contextmanager
def counting_server(directory: str) -> Iterator[paths.Endpoints]:
    """
    Run bench/servers.py beside, for the length of the block.
    """
    command = [sys.executable, "-m", "bench.servers", "--directory", directory]
    with subprocess.Popen(pinned(command, SERVER_CORE), stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            urls = json.loads(server.stdout.readline())
            yield paths.Endpoints(plain=urls["plain"], tls=urls["tls"], authority=urls["ca"])
        finally:
            server.terminate()
            server.communicate()  # Its last counts; without a reader it could not end in order.


def results_table(runs: Sequence[Run]) -> Table:
    """
    One row a path and program: medians over the rounds.
    """
    table = Table(title="Medians")
    for name in COLUMNS[:2]:
        table.add_column(name)
    for name in COLUMNS[2:]:
        table.add_column(name, justify="right")
    for path, program in dict.fromkeys((run.path, run.program) for run in runs):
        same = [run for run in runs if (run.path, run.program) == (path, program)]
        median = statistics.median
        startups = [run.startup_s for run in same if run.startup_s is not None]
        table.add_row(
            path,
            program,
            f"{median(run.throughput for run in same) / MIB:,.0f}",
            f"{median(run.cost.wall_s for run in same):.2f}",
            f"{median(run.cost.cpu_s for run in same):.2f}",
            f"{median(startups):.2f}" if startups else "in wall",
            f"{median(run.startup_cpu_s for run in same):.2f}" if startups else "in CPU",
            f"{median(run.cpu_per_gib for run in same):.2f}",
            f"{median(run.cost.pss_peak_bytes for run in same) / MIB:.0f}",
            f"{median(run.wire_bytes for run in same) / MIB:.1f}",
            f"{median(run.events for run in same):,.0f}",
        )
    return table


def yardstick_table(figures: dict[str, float]) -> Table:
    """
    Show what the machine does with the same bytes.
    """
    table = Table(title="Yardsticks: one thread, the same bytes")
    table.add_column("work")
    table.add_column("MiB per CPU second", justify="right")
    for name, rate in figures.items():
        table.add_row(name, f"{rate / MIB:,.0f}")
    return table


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--mib", type=float, default=256)
    parser.add_argument("--kind", choices=sorted(KINDS), default="access")
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--path", dest="paths", action="append", choices=paths.PATHS)
    parser.add_argument("--peer", metavar="fluent-bit=PATH", help="run this binary alternately")
    parser.add_argument("--json", metavar="FILE", help="write every run to FILE, too")
    options = parser.parse_args()
    if options.peer and not options.peer.startswith("fluent-bit="):
        parser.error(f"--peer: got {options.peer!r}, expected fluent-bit=PATH")
    return options


def _measure_all(bench: Bench, options: argparse.Namespace) -> list[Run]:
    chosen = options.paths or list(paths.PATHS)
    runs: list[Run] = []
    with Progress() as progress:
        task = progress.add_task("runs", total=options.rounds * len(chosen))
        for _ in range(options.rounds):
            for path in chosen:
                runs.append(bench.tailrace(path))
                if options.peer:
                    runs.append(bench.fluent_bit(options.peer.partition("=")[2], path))
                progress.advance(task)
    return runs


def main() -> int:
    """
    Make the corpus, measure, show.
    """
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    os.makedirs(OUT_DIRECTORY, exist_ok=True)
    directory = tempfile.mkdtemp(dir=OUT_DIRECTORY)
    try:
        manifest = write_corpus(
            os.path.join(directory, "corpus"),
            kind=options.kind,
            mib=options.mib,
            files=options.files,
            seed=options.seed,
        )
        console.print(
            f"{options.kind}, seed {options.seed}: {manifest.bytes / MIB:.0f} MiB, "
            f"{manifest.lines:,} lines, {options.files} files"
        )
        figures = yardsticks.measure(manifest.files)
        with counting_server(directory) as endpoints:
            runs = _measure_all(Bench(directory, manifest, endpoints), options)
    except RuntimeError as error:
        console.print(str(error), markup=False, highlight=False)
        return 1
    finally:
        shutil.rmtree(directory)
    console.print(results_table(runs))
    console.print(yardstick_table(figures))
    if options.json:
        written = [
            {
                "program": run.program,
                "path": run.path,
                "wall_s": run.cost.wall_s,
                "cpu_s": run.cost.cpu_s,
                "startup_s": run.startup_s,
                "startup_cpu_s": run.startup_cpu_s,
                "pss_peak_bytes": run.cost.pss_peak_bytes,
                "rss_peak_bytes": run.cost.rss_peak_bytes,
                "bytes": run.size,
                "wire_bytes": run.wire_bytes,
                "events": run.events,
            }
            for run in runs
        ]
        with open(options.json, "w") as file:
            json.dump({"runs": written, "yardsticks": figures}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
