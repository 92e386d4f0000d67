"""
The whole agent over a corpus, on one core: `python -m bench.harness`.

Every round runs every path once, and every peer right after Tailrace, so that all see the same machine.
Programs have core 0, the servers core 1.  Tables are Markdown: the median, and in parentheses the lowest and
the highest.

| column | what |
|---|---|
| MiB/s | corpus size over wall time after start-up |
| CPU s | of the process and its children, as the kernel counts it, without start-up |
| start-up CPU s | of a run over an empty file |
| peak PSS | of the process tree, sampled |
| sent, on the wire | request bodies before and after compression |
| events | what the server counted: events, rows, or lines of gzipped objects |

The same run measures what the machine can do with the same bytes (bench/yardsticks.py).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from bench import paths, yardsticks
from bench.beside import scratch, servers
from bench.corpus import KINDS, MIB, write_corpus
from bench.peers import add_peers
from bench.runs import Bench, Run, settled
from bench.tables import ratios_table, runs_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.peers import Peer


def measure(
    bench: Bench, chosen: Sequence[str], *, rounds: int, peers: Sequence[Peer]
) -> list[Run]:
    """
    Run all programs over all paths, round by round.
    """
    runs: list[Run] = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("runs", total=rounds * len(chosen))
        for _ in range(rounds):
            for path in chosen:
                runs.append(bench.tailrace(path))
                runs += [bench.peer(peer, path) for peer in peers]
                progress.advance(task)
    return settled(runs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--mib", type=float, default=256)
    parser.add_argument("--kind", choices=sorted(KINDS), default="halves")
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--path", dest="paths", action="append", choices=paths.PATHS)
    parser.add_argument("--json", metavar="FILE", help="write every run to FILE, too")
    add_peers(parser)
    return parser.parse_args()


def main() -> int:
    """
    Make the corpus, measure, show.
    """
    options = _options()
    try:
        with scratch() as directory:
            tree = os.path.join(directory, "corpus")
            manifest = write_corpus(
                tree, kind=options.kind, mib=options.mib, files=options.files, seed=options.seed
            )
            print(
                f"{options.kind}, seed {options.seed}: {manifest.bytes / MIB:.0f} MiB, "
                f"{manifest.lines:,} lines, {options.files} files\n"
            )
            with servers(directory, tree) as endpoints:
                bench = Bench(directory, manifest, endpoints)
                chosen = options.paths or paths.PATHS
                runs = measure(bench, chosen, rounds=options.rounds, peers=options.peers)
            figures = yardsticks.measure(manifest.files)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(runs_table(runs))
    if options.peers:
        print(f"\n{ratios_table(runs)}")
    print(f"\n{yardsticks.table(figures)}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(
                {"runs": [run.as_json() for run in runs], "yardsticks": figures}, file, indent=1
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
