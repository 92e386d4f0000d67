"""
How cost grows: `python -m bench.scaling`.

| curve | what grows | what is measured |
|---|---|---|
| files | a corpus of one size in more files | MiB/s and CPU of a replay to CloudWatch |
| idle | files that nobody writes to | CPU and memory of an agent beside them |
| line bytes | the length of a line, 100 bytes to 16 KB | CPU for a MiB, to CloudWatch |
| labels | labels of a pod, all in every record | CPU for a million lines, to CloudWatch |
| routes | routes to CloudWatch over the same files | CPU |
| workers | processes of one replay, on all cores: to nowhere, with `redact` | MiB/s |

`power`: from the first point to the last, cost grows with size to this power.  1 is linear, less is better; of workers,
whose number is no load, it is that of their speed, and more is better.  Of `files`, 0 would say that only bytes cost.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bench import paths
from bench.beside import scratch, servers
from bench.corpus import MIB, PAD_SIZES, write_corpus
from bench.follow import Scene, follow
from bench.pods import LABELS
from bench.runs import Bench, settled
from bench.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.runs import Run

FILES = (10, 100, 1_000, 5_000)
IDLE = (10, 100, 1_000, 5_000)
LABEL_COUNTS = (5, 10, 20, 50)
ROUTES = (1, 2, 4)
WORKERS = (1, 2, 4, 8)
#: They share out whole files, and a start of theirs takes as long as 256 MiB.
WORKER_FILES = 32
WORKER_CORPUS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """
    One point of a curve.
    """

    curve: str
    size: int
    value: float
    unit: str
    cost: float  # of all of it, for `power`


def replayed(
    sizes: Sequence[int],
    *,
    mib: float,
    rounds: int,
    kind: Callable[[int], str] = lambda _size: "halves",
    files: Callable[[int], int] = lambda _size: 4,
    labels: Callable[[int], int] = lambda _size: LABELS,
    routes: Callable[[int], int] = lambda _size: 1,
) -> dict[int, tuple[Run, int]]:
    """
    Replay a corpus for every size; returns the run of median CPU, and the rows of its corpus.
    """
    found: dict[int, tuple[Run, int]] = {}
    for size in sizes:
        with scratch() as directory:
            tree = os.path.join(directory, "corpus")
            manifest = write_corpus(tree, kind=kind(size), mib=mib, files=files(size))
            with servers(directory, tree, labels=labels(size)) as endpoints:
                (route,) = paths.routes("cloudwatch", endpoints)
                made: list[dict[str, Any]] = [
                    route | {"name": f"cloudwatch-{number}"} for number in range(routes(size))
                ]
                bench = Bench(directory, manifest, endpoints)
                runs = settled([bench.tailrace("cloudwatch", made=made) for _ in range(rounds)])
        runs.sort(key=lambda run: run.cpu_s)
        found[size] = (runs[len(runs) // 2], manifest.rows)
        print(f"{size}: {found[size][0].cpu_s:.2f} CPU s", file=sys.stderr, flush=True)
    return found


def measure(*, mib: float, rounds: int, seconds: float, files_max: int) -> list[Point]:
    """
    Take all curves.
    """
    points: list[Point] = []

    def add(curve: str, size: int, value: float, unit: str, cost: float) -> None:
        points.append(Point(curve=curve, size=size, value=value, unit=unit, cost=cost))

    some = [count for count in FILES if count <= files_max]
    for size, (run, _) in replayed(some, mib=mib, rounds=rounds, files=lambda size: size).items():
        add("files", size, run.throughput / MIB, "MiB/s", run.cpu_s)
    for size in (count for count in IDLE if count <= files_max):
        scene = Scene(name=f"idle-{size}", files=1, rate=0, idle_files=size)
        found = [follow(scene, seconds=seconds, warm_up=seconds) for _ in range(rounds)]
        cpu = statistics.median(item.cpu_percent for item in found)
        add("idle", size, cpu, "% of a core", cpu)
        memory = statistics.median(item.pss_median_bytes for item in found) / MIB
        add("idle memory", size, memory, "PSS MiB", memory)
    lengths = replayed(PAD_SIZES, mib=mib, rounds=rounds, kind=lambda size: f"pad-{size}")
    for size, (run, _) in lengths.items():
        per_mib = run.cpu_s / (run.size / MIB)
        add("line bytes", size, per_mib * 1000, "CPU ms for a MiB", per_mib * size)
    for size, (run, rows) in replayed(
        LABEL_COUNTS, mib=mib, rounds=rounds, labels=lambda size: size
    ).items():
        per_million = run.cpu_s / rows * 1e6
        add("labels", size, per_million, "CPU s for a million lines", per_million)
    for size, (run, _) in replayed(
        ROUTES, mib=mib, rounds=rounds, routes=lambda size: size
    ).items():
        add("routes", size, run.cpu_s, "CPU s", run.cpu_s)
    for size, speed in shared_out(mib=mib * WORKER_CORPUS, rounds=rounds).items():
        add("workers", size, speed / MIB, "MiB/s", speed)
    return points


def shared_out(*, mib: float, rounds: int) -> dict[int, float]:
    """
    Replay a corpus with 1, 2, 4… workers, up to the number of cores; returns the median bytes a second.
    """
    route = {
        "name": "blackhole",
        "transforms": [{"redact": ["all"]}],
        "sink": {"type": "blackhole"},
    }
    counts = [count for count in WORKERS if count <= len(os.sched_getaffinity(0))]
    with scratch() as directory:
        tree = os.path.join(directory, "corpus")
        manifest = write_corpus(tree, kind="halves", mib=mib, files=WORKER_FILES)
        with servers(directory, tree) as endpoints:
            bench = Bench(directory, manifest, endpoints)
            speeds: dict[int, list[float]] = {count: [] for count in counts}
            for _ in range(rounds):
                for count in counts:
                    run = bench.tailrace("blackhole", made=[route], workers=count)
                    speeds[count].append(run.throughput)
    return {count: statistics.median(found) for count, found in speeds.items()}


def scaling_table(points: Sequence[dict[str, Any]]) -> str:
    """
    One row a curve.
    """
    rows = []
    for curve in dict.fromkeys(point["curve"] for point in points):
        same = [point for point in points if point["curve"] == curve]
        shown = ", ".join(f"{point['size']:,}: {point['value']:.2f}" for point in same)
        rows.append([curve, same[0]["unit"], shown, f"{power(same[0], same[-1]):.2f}"])
    return markdown(("curve", "unit", "points", "power"), rows, words=3)


def power(first: dict[str, Any], last: dict[str, Any]) -> float:
    """
    Return the power of size that cost grows with between two points; nan where there is one only, or no cost.
    """
    if first["size"] == last["size"] or min(first["cost"], last["cost"]) <= 0:
        return math.nan
    return math.log(last["cost"] / first["cost"]) / math.log(last["size"] / first["size"])


def main() -> int:
    """
    Measure and show.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--mib", type=float, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30, help="beside idle files")
    parser.add_argument("--files-max", type=int, default=IDLE[-1])
    options = parser.parse_args()
    try:
        points = measure(
            mib=options.mib,
            rounds=options.rounds,
            seconds=options.seconds,
            files_max=options.files_max,
        )
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(scaling_table([asdict(point) for point in points]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
