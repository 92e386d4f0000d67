"""
Running a program over a corpus, once, and what it cost.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from dataclasses import asdict, dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from bench import paths
from bench.beside import AGENT_CORE, ask, last_lines, program_files
from bench.corpus import MIB
from bench.measure import Cost, pinned, run_measured
from bench.pods import link_containers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.corpus import Manifest
    from bench.peers import Peer

RUN_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """
    One program over one path, once.  `cost` is of the whole run, start-up included.
    """

    program: str
    path: str
    cost: Cost
    startup_s: float  # until the first byte is read; of a program that does not say, a run over an empty file
    startup_cpu_s: float  # a run over an empty file
    size: int
    wire_bytes: int
    body_bytes: int
    object_bytes: int
    events: int

    @property
    def cpu_s(self) -> float:
        """
        CPU seconds after start-up.
        """
        return max(self.cost.cpu_s - self.startup_cpu_s, 0.0)

    @property
    def throughput(self) -> float:
        """
        Bytes of log a second, after start-up.
        """
        return self.size / max(self.cost.wall_s - self.startup_s, 1e-9)

    @property
    def cpu_per_gib(self) -> float:
        """
        CPU seconds for a GiB, after start-up.
        """
        return self.cpu_s / self.size * 1024 * MIB

    def as_json(self) -> dict[str, Any]:
        """
        Return everything by name; memory over time is kept too.
        """
        return asdict(self) | {"cpu_s": self.cpu_s, "throughput": self.throughput}


def settled(runs: Sequence[Run]) -> list[Run]:
    """
    Return *runs* with the start-up CPU of each its program's median over that path.

    A start takes as long as some runs; its own scatter is not to become theirs.
    """
    starts: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        starts.setdefault((run.path, run.program), []).append(run.startup_cpu_s)
    return [
        replace(run, startup_cpu_s=statistics.median(starts[run.path, run.program])) for run in runs
    ]


class Bench:
    """
    A corpus, the servers, and a directory for what the runs leave.
    """

    def __init__(self, directory: str, manifest: Manifest, endpoints: paths.Endpoints) -> None:
        self._directory = directory
        self._manifest = manifest
        self._endpoints = endpoints
        root, _, first = manifest.files[0].rpartition("/pods/")
        self._containers = link_containers(root, manifest.files)
        # The pod of the first file with nothing to say: the API server knows it as well.
        empty = os.path.join(directory, "empty")
        self._empty = os.path.join(empty, "pods", first)
        os.makedirs(os.path.dirname(self._empty), exist_ok=True)
        with open(self._empty, "wb"):
            pass
        self._empty_containers = link_containers(empty, [self._empty])

    def tailrace(
        self,
        path: str,
        *,
        metadata: bool | None = None,
        made: Sequence[Mapping[str, Any]] | None = None,
        source: Mapping[str, Any] | None = None,
        program: str = "tailrace",
        workers: int = 0,
    ) -> Run:
        """
        Replay the corpus, and an empty file for what starting costs; with *workers*, on all cores.
        """

        def replay(files: Sequence[str]) -> tuple[Cost, dict[str, Any]]:
            return self._replay(
                path, files, metadata=metadata, made=made, source=source, workers=workers
            )

        idle, _ = replay([self._empty])
        ask(self._endpoints, "/reset")
        cost, report = replay(self._manifest.files)
        given = report["routes"]
        events = sum(route["events_out"] for route in given.values())
        lost = {
            name: route
            for name, route in given.items()
            if route["lost"] or route["rejected"] or route["rows_delivered"] != self._manifest.rows
        }
        if lost:
            raise RuntimeError(
                f"{path}: not all of {self._manifest.rows:,} rows were delivered: {lost}"
            )
        return self._run(
            program,
            path,
            cost,
            startup_s=report["startup_s"],
            startup_cpu_s=idle.cpu_s,
            dropped=events if path == "blackhole" else 0,
        )

    def peer(self, peer: Peer, path: str) -> Run:
        """
        Let the peer read an empty file, then the corpus, from its head to its end.
        """
        idle = self._peer(peer, path, self._empty_containers)
        ask(self._endpoints, "/reset")
        cost = self._peer(peer, path, self._containers)
        return self._run(
            peer.name, path, cost, startup_s=idle.wall_s, startup_cpu_s=idle.cpu_s, dropped=0
        )

    def _peer(self, peer: Peer, path: str, containers: str) -> Cost:
        with program_files(self._directory) as (directory, log):
            command = peer.reads(path, self._endpoints, directory=directory, containers=containers)
            return self._measure(pinned(command, AGENT_CORE), log)

    def _replay(
        self,
        path: str,
        files: Sequence[str],
        *,
        metadata: bool | None,
        made: Sequence[Mapping[str, Any]] | None,
        source: Mapping[str, Any] | None,
        workers: int,
    ) -> tuple[Cost, dict[str, Any]]:
        with program_files(self._directory) as (directory, log):
            config = paths.tailrace_config(
                path,
                self._endpoints,
                directory=directory,
                pattern=os.path.join(directory, "none", "*.log"),
                metadata=metadata,
                made=made,
                source=source,
            )
            report = os.path.join(directory, "report.json")
            command = paths.tailrace_replay(config, files, report, workers=workers)
            cost = self._measure(command if workers else pinned(command, AGENT_CORE), log)
            with open(report) as file:
                return cost, json.load(file)

    def _measure(self, command: Sequence[str], log: IO[bytes]) -> Cost:
        try:
            return run_measured(
                command,
                log=log,
                environment=paths.environment(self._endpoints),
                timeout_s=RUN_TIMEOUT_S,
            )
        except subprocess.SubprocessError as error:
            raise RuntimeError(f"{error}\n{last_lines(log.name)}") from error

    def _run(
        self,
        program: str,
        path: str,
        cost: Cost,
        *,
        startup_s: float,
        startup_cpu_s: float,
        dropped: int,
    ) -> Run:
        counts = ask(self._endpoints, "/counts")
        services = (counts["cloudwatch"], counts["s3"])
        return Run(
            program=program,
            path=path,
            cost=cost,
            startup_s=startup_s,
            startup_cpu_s=startup_cpu_s,
            size=self._manifest.bytes,
            wire_bytes=sum(service["wire_bytes"] for service in services),
            body_bytes=sum(service["body_bytes"] for service in services),
            object_bytes=counts["s3"]["object_bytes"],
            events=dropped + counts["cloudwatch"]["events"] + counts["s3"]["rows"],
        )
