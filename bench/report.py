"""
Everything that is measured, as one report: `python -m bench.report --full --peer fluent-bit=PATH`.

It writes report.json, report.md and plots to bench/report/.  `--brief` is the same with fewer rounds.  Without
both, sizes are small enough for three minutes; the figures are those of a quick look, and go to bench/out/report/.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench import paths, scaling, yardsticks
from bench.beside import OUT_DIRECTORY, ask_bytes, scratch, servers
from bench.compare import machine
from bench.constants import FLUSH_S
from bench.corpus import write_corpus
from bench.follow import SCENES, Follow, Scene, follow, follows_table, measure_scenes
from bench.harness import measure
from bench.peers import add_peers
from bench.runs import Bench, Run
from bench.tables import OURS, markdown, ratios_table, runs_table

if TYPE_CHECKING:
    from collections.abc import Callable

#: What the README shows; a quick look goes elsewhere.
DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "report")
QUICK_DIRECTORY = os.path.join(OUT_DIRECTORY, "report")
#: Of these two chunk sizes the smaller makes 64 times the segments of the same bytes.
CHUNKS = (4 << 10, 256 << 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """
    How much is measured.
    """

    mib: float
    rounds: int
    paths: tuple[str, ...]
    scenes: tuple[str, ...]
    scene_rounds: int
    scene_s: float
    overload_s: float
    lingers: tuple[float, ...]
    curves: dict[str, Any] | None


QUICK = Size(
    mib=32,
    rounds=1,
    paths=("blackhole", "message", "cloudwatch", "parquet"),
    scenes=("one-10000",),
    scene_rounds=1,
    scene_s=8,
    overload_s=0,
    lingers=(),
    curves=None,
)
FULL = Size(
    mib=256,
    rounds=5,
    paths=paths.PATHS,
    scenes=tuple(SCENES),
    scene_rounds=3,
    scene_s=60,
    overload_s=300,
    lingers=(5.0, 1.0, 0.2),
    curves={"mib": 64, "rounds": 3, "seconds": 20, "files_max": 5_000},
)
#: All that is in FULL, with fewer rounds and shorter looks.
BRIEF = dataclasses.replace(
    FULL,
    rounds=2,
    scene_rounds=1,
    scene_s=30,
    overload_s=120,
    curves={"mib": 32, "rounds": 2, "seconds": 10, "files_max": 5_000},
)


def batch(size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """
    Replay all paths with all programs; yardsticks and the limit in the same run.
    """
    with scratch() as directory:
        tree = os.path.join(directory, "corpus")
        manifest = write_corpus(tree, kind="halves", mib=size.mib, files=10)
        with servers(directory, tree) as endpoints:
            bench = Bench(directory, manifest, endpoints)
            runs = measure(bench, size.paths, rounds=size.rounds, peers=options.peers)
            bench.tailrace("cloudwatch")
            bodies = os.path.join(directory, "bodies")
            with open(bodies, "wb") as file:
                file.write(ask_bytes(endpoints, "/bodies"))
            segments = {path: segment_us(bench, path) for path in ("blackhole", "cloudwatch")}
        figures = yardsticks.measure(manifest.files)
        ours = sorted(
            (run for run in runs if (run.program, run.path) == (OURS, "cloudwatch")),
            key=lambda run: run.cpu_s,
        )
        limit = yardsticks.limit_s(ours[len(ours) // 2], manifest.files, bodies)
    return {"runs": runs, "yardsticks": figures, "limit": limit, "segment_us": segments}


def segment_us(bench: Bench, path: str) -> float:
    """
    Return what a segment costs beyond its lines: the same bytes in small chunks, and in large ones.
    """
    small, large = (bench.tailrace(path, source={"chunk_bytes": size}) for size in CHUNKS)
    more = small.size / CHUNKS[0] - large.size / CHUNKS[1]
    return (small.cpu_s - large.cpu_s) / more * 1e6


def stalls(seconds: float) -> dict[str, float]:
    """
    Return how late the agent's loop is while windows are sealed one after the other.
    """
    scene = Scene(name="sealing", files=100, rate=100, path="both")
    with scratch() as directory:
        target = os.path.join(directory, "late.json")
        follow(
            scene,
            seconds=seconds,
            warm_up=5,
            sink={"window_age_s": 5},
            wrap=lambda command: [command[0], "-m", "bench.loop", target, *command[3:]],
        )
        with open(target) as file:
            found: dict[str, float] = json.load(file)
            return found


def lingers(size: Size) -> list[dict[str, Any]]:
    """
    Follow 10,000 lines/s with every setting of `linger_s`.
    """
    found = []
    for value in size.lingers:
        item = follow(
            SCENES["one-10000"], seconds=size.scene_s, warm_up=5, sink={"linger_s": value}
        )
        found.append(
            {"linger_s": value, "cpu_percent": item.cpu_percent, "latency_ms": item.latency_ms}
        )
    return found


def words(report: dict[str, Any], runs: list[Run], follows: list[Follow]) -> str:
    """
    Return the report as Markdown.
    """
    limit = report["limit"]
    parts = [
        "# Measured",
        report["machine"],
        f"Tailrace: linger {FLUSH_S} s, PutLogEvents gzipped (ISA-L level 1), Parquet with zstd level 1."
        + "".join(f" {name}: {text}." for name, text in report["peers"].items()),
        f"## {report['mib']:g} MiB, read to the end",
        runs_table(runs),
        ratios_table(runs),
        yardsticks.table(report["yardsticks"]),
        " ".join(
            (
                f"The cloudwatch path takes {limit['ratio']:.2f} times the CPU of reading, gzipping,",
                f"hashing and TLS-writing the same bytes ({limit['floor_s']:.2f} s).",
            )
        ),
        "A segment costs "
        + ", ".join(f"{value:.0f} µs ({path})" for path, value in report["segment_us"].items())
        + " beyond its lines.",
        "## Followed",
        follows_table(follows),
    ]
    if report["lingers"]:
        rows = [
            [f"{item['linger_s']:g}", f"{item['cpu_percent']:.2f}"]
            + [f"{item['latency_ms'].get(name, 0):,.0f}" for name in ("p50", "p99", "max")]
            for item in report["lingers"]
        ]
        columns = ("linger_s", "CPU, % of a core", "p50 ms", "p99 ms", "max ms")
        parts += ["Line written to event in the sink:", markdown(columns, rows)]
    if report["stalls"]:
        late = report["stalls"]
        parts.append(
            f"Event loop while windows are sealed: late by p50 {late['p50']:.1f}, p99 {late['p99']:.1f}, "
            f"at most {late['max']:.1f} ms ({late['ticks']:,} looks)."
        )
    if report["scaling"]:
        parts += ["## Scaling", scaling.scaling_table(report["scaling"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def timed(what: str, work: Callable[[], Any]) -> Any:
    """
    Do *work* and say how long it took.
    """
    began = time.monotonic()
    found = work()
    print(f"{what}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def main() -> int:
    """
    Measure, write, draw.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--full", action="store_true", help="all sizes, rounds and curves")
    parser.add_argument("--brief", action="store_true", help="the same in 40 minutes")
    parser.add_argument("--mib", type=float, help="another size of the corpus")
    parser.add_argument("--rounds", type=int, help="another number of rounds")
    add_peers(parser)
    options = parser.parse_args()
    size = BRIEF if options.brief else FULL if options.full else QUICK
    size = dataclasses.replace(
        size, mib=options.mib or size.mib, rounds=options.rounds or size.rounds
    )
    scenes = [SCENES[name] for name in size.scenes]
    try:
        done = timed("paths", lambda: batch(size, options))
        follows = timed(
            "scenes",
            lambda: measure_scenes(
                scenes,
                rounds=size.scene_rounds,
                seconds=size.scene_s,
                overload_s=size.overload_s,
                warm_up=size.scene_s / 4,
                peers=options.peers,
            ),
        )
        found = {
            "lingers": timed("latency", lambda: lingers(size)),
            "stalls": timed("stalls", lambda: stalls(size.scene_s)),
            "scaling": [],
        }
        if size.curves:
            curves = size.curves
            points = timed("scaling", lambda: scaling.measure(**curves))
            found["scaling"] = [dataclasses.asdict(point) for point in points]
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    runs = done.pop("runs")
    report = done | found | {"machine": machine(), "mib": size.mib}
    report["peers"] = {peer.name: peer.settings() for peer in options.peers}
    text = words(report, runs, follows)
    print(text)
    report["runs"] = [run.as_json() for run in runs]
    report["follows"] = [dataclasses.asdict(item) for item in follows]
    directory = QUICK_DIRECTORY if size.curves is None else DIRECTORY
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "report.json"), "w") as file:
        json.dump(report, file)
    with open(os.path.join(directory, "report.md"), "w") as file:
        file.write(text)
    return _draw(report, directory)


def _draw(report: dict[str, Any], directory: str) -> int:
    try:
        from bench.plots import draw
    except ModuleNotFoundError as error:
        print(f"no plots: {error}; pip install -e '.[bench]'", file=sys.stderr)
        return 0
    print(f"{directory}: {', '.join(draw(report, directory))} (PNG and SVG)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
