"""
What knowing the pods costs: `python -m bench.metadata`.

| figure | how |
|---|---|
| CPU | the same corpus through the same route, with the API server and without, alternately; CPU after start-up |
| memory a pod | `tailrace run` beside a tree of PODS files, their pods known to the API server, and not |

`message` sends the same bytes with and without, so the difference is the metadata alone. A record of
`cloudwatch` grows by what is known of the pod, and so does the work of writing it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

from bench import paths
from bench.beside import AGENT_CORE, scratch, servers
from bench.corpus import KINDS, MIB, write_corpus
from bench.follow import free_address, running, wait_arrived, wait_ready
from bench.measure import process_tree, pss_bytes
from bench.runs import Bench, Run, settled
from bench.tables import spread
from bench.writer import make_files

if TYPE_CHECKING:
    from collections.abc import Sequence

PATHS = ("message", "parquet-128", "cloudwatch")
WITHOUT, WITH = "without", "with"
SETTLE_S = 3.0
SAMPLES = 5
ARRIVE_TIMEOUT_S = 120.0


def cpu_rows(options: argparse.Namespace) -> list[str]:
    """
    Return a row of the table for every path.
    """
    with scratch() as directory:
        tree = os.path.join(directory, "corpus")
        manifest = write_corpus(tree, kind=options.kind, mib=options.mib, files=options.files)
        runs: list[Run] = []
        with servers(directory, tree) as endpoints:
            bench = Bench(directory, manifest, endpoints)
            for number in range(options.rounds):
                for path in PATHS:
                    # Each comes first every other time: what the first one warms, helps the second.
                    order = (WITH, WITHOUT) if number % 2 else (WITHOUT, WITH)
                    runs += [
                        bench.tailrace(path, metadata=program == WITH, program=program)
                        for program in order
                    ]
    return [_cpu_row(settled(runs), path) for path in PATHS]


def _cpu_row(runs: Sequence[Run], path: str) -> str:
    without, known = (
        [run.cpu_s for run in runs if (run.path, run.program) == (path, program)]
        for program in (WITHOUT, WITH)
    )
    more = [(most / max(least, 1e-9) - 1) * 100 for least, most in zip(without, known, strict=True)]
    columns = (spread(without, ".2f"), spread(known, ".2f"), spread(more, "+.1f"))
    return f"| {path} | {' | '.join(columns)} |"


def memory_of(options: argparse.Namespace, *, known: bool) -> float:
    """
    Return the PSS of an agent beside PODS files whose pods the API server knows, or none of them.
    """
    with scratch() as directory:
        files = make_files(os.path.join(directory, "tree"), options.pods, seed=1, lines=1)
        nothing = os.path.join(directory, "nothing")
        tree = os.path.join(directory, "tree") if known else nothing
        with servers(directory, tree) as endpoints:
            admin = free_address()
            config = paths.tailrace_config(
                "cloudwatch",
                endpoints,
                directory=directory,
                pattern=os.path.join(directory, "tree", "pods", "*", "*", "*.log"),
                admin=admin,
            )
            with running(
                paths.tailrace_run(config),
                AGENT_CORE,
                log=os.path.join(directory, "agent.log"),
                environment=paths.environment(endpoints),
            ) as pid:
                wait_ready(admin)
                if wait_arrived(endpoints, len(files), ARRIVE_TIMEOUT_S) < len(files):
                    raise RuntimeError(f"not all of {len(files)} lines arrived")
                time.sleep(SETTLE_S)
                samples = []
                for _ in range(SAMPLES):
                    samples.append(pss_bytes(process_tree(pid)))
                    time.sleep(0.2)
                return statistics.median(samples)


def memory_row(options: argparse.Namespace) -> str:
    """
    Return the row of the table.
    """
    without, known = [], []
    for _ in range(options.memory_rounds):
        without.append(memory_of(options, known=False))
        known.append(memory_of(options, known=True))
    pods = [(more - less) / options.pods / 1024 for less, more in zip(without, known, strict=True)]
    columns = (
        spread([value / MIB for value in without], ".1f"),
        spread([value / MIB for value in known], ".1f"),
        spread(pods, ".1f"),
    )
    return f"| {options.pods} | {' | '.join(columns)} |"


def main() -> int:
    """
    Measure and show.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--mib", type=float, default=256)
    parser.add_argument("--kind", choices=sorted(KINDS), default="halves")
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pods", type=int, default=500)
    parser.add_argument("--memory-rounds", type=int, default=3)
    options = parser.parse_args()
    try:
        if options.rounds:
            print(f"{options.mib:g} MiB of {options.kind} lines in {options.files} pods\n")
            print("| path | CPU s without metadata | with | difference, % |")
            print("|---|---|---|---|", flush=True)
            print("\n".join(cpu_rows(options)))
        if options.memory_rounds:
            print("\n| pods | PSS MiB, none known | all known | KiB a pod |")
            print("|---|---|---|---|", flush=True)
            print(memory_row(options))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
