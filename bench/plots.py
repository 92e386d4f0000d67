"""
Plots of a report, as PNG and SVG: `python -m bench.plots bench/report/report.json`.

matplotlib is an extra (`pip install -e '.[bench]'`); nothing else needs it.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

MIB = 1 << 20
SAMPLE_INTERVAL_S = 0.25
OURS = "tailrace"
COLORS = ("#1b6ca8", "#d1495b", "#edae49", "#66a182")
BATCH_PATHS = ("blackhole", "message", "cloudwatch", "parquet")


def _style() -> None:
    # The same figures give the same file, so that a committed plot changes only with them.
    mpl.rcParams.update(
        {
            "svg.hashsalt": "tailrace",
            "svg.fonttype": "none",
            "font.size": 10,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )


def programs(items: list[dict[str, Any]]) -> list[str]:
    """
    Return the programs, ours first.
    """
    return sorted({item["program"] for item in items}, key=lambda name: (name != OURS, name))


def cpu_per_mb(axes: Axes, report: dict[str, Any]) -> None:
    """
    CPU for a MB of log, by path and program; numbers on the bars.
    """
    runs = report["runs"]
    paths = [path for path in BATCH_PATHS if any(run["path"] == path for run in runs)]
    names = programs(runs)
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        heights = [
            statistics.median(
                run["cpu_s"] / run["size"] * 1e9
                for run in runs
                if (run["path"], run["program"]) == (path, name)
            )
            for path in paths
        ]
        places = [index + (number - (len(names) - 1) / 2) * width for index in range(len(paths))]
        bars = axes.bar(places, heights, width, label=name, color=COLORS[number % len(COLORS)])
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    axes.set_xticks(range(len(paths)), paths)
    axes.set_ylabel("CPU ms for a MB of log")
    axes.set_title("CPU by path (lower is better)")
    axes.legend()


def memory_over_time(axes: Axes, report: dict[str, Any]) -> None:
    """
    PSS of the process tree while the sink takes half of what is written.
    """
    found = [item for item in report["follows"] if item["scene"] == "overload"]
    for number, name in enumerate(programs(found)):
        samples = next(item["samples"] for item in found if item["program"] == name)
        seconds = [index * SAMPLE_INTERVAL_S for index in range(len(samples))]
        axes.plot(
            seconds,
            [value / MIB for value in samples],
            label=name,
            color=COLORS[number % len(COLORS)],
        )
    axes.set_xlabel("seconds")
    axes.set_ylabel("PSS, MiB")
    axes.set_ylim(bottom=0)
    axes.set_title("Memory under twice the load that the sink takes")
    if found:
        axes.legend()


def throughput_by_files(axes: Axes, report: dict[str, Any]) -> None:
    """
    Throughput of a replay to CloudWatch over one corpus in more and more files.
    """
    points = [point for point in report["scaling"] if point["curve"] == "files"]
    sizes = [point["size"] for point in points]
    axes.plot(sizes, [point["value"] for point in points], "o-", color=COLORS[0])
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xlabel("files")
    axes.set_ylabel("MiB/s")
    axes.set_ylim(bottom=0)
    axes.set_title("Throughput by number of files")


def latency(axes: Axes, report: dict[str, Any]) -> None:
    """
    Line written to event in the sink, and CPU, by the setting that trades them.
    """
    found = report["lingers"]
    names = [f"{item['linger_s']:g}" for item in found]
    for number, key in enumerate(("p50", "p99")):
        heights = [item["latency_ms"].get(key, 0) / 1000 for item in found]
        places = [index + (number - 0.5) * 0.35 for index in range(len(found))]
        bars = axes.bar(places, heights, 0.35, label=key, color=COLORS[number])
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    labels = [
        f"{name} s\n{item['cpu_percent']:.1f} % CPU"
        for name, item in zip(names, found, strict=True)
    ]
    axes.set_xticks(range(len(found)), labels)
    axes.set_xlabel("linger_s")
    axes.set_ylabel("seconds")
    axes.set_title("Latency at 10,000 lines/s")
    axes.legend()


def scaling(axes: Axes, report: dict[str, Any]) -> None:
    """
    Every other curve, relative to its first point.
    """
    points = report["scaling"]
    curves = [
        curve for curve in dict.fromkeys(point["curve"] for point in points) if curve != "files"
    ]
    for number, curve in enumerate(curves):
        same = [point for point in points if point["curve"] == curve]
        first = same[0]
        axes.plot(
            [point["size"] / first["size"] for point in same],
            [point["value"] / max(first["value"], 1e-9) for point in same],
            "o-",
            label=f"{curve} ({first['unit']})",
            color=f"C{number}",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("times the first size")
    axes.set_ylabel("times the first value")
    axes.set_title("Scaling")
    axes.legend(fontsize=8)


PLOTS: dict[str, tuple[str, Callable[[Axes, dict[str, Any]], None]]] = {
    "cpu": ("runs", cpu_per_mb),
    "memory": ("follows", memory_over_time),
    "throughput": ("scaling", throughput_by_files),
    "latency": ("lingers", latency),
    "scaling": ("scaling", scaling),
}


def draw(report: dict[str, Any], directory: str) -> list[str]:
    """
    Write every plot that the report has figures for; returns their names.
    """
    _style()
    made = []
    for name, (needs, plot) in PLOTS.items():
        if not report.get(needs):
            continue
        figure, axes = plt.subplots(figsize=(7, 4))
        plot(axes, report)
        figure.text(0.01, 0.005, report["machine"], fontsize=7, alpha=0.7)
        figure.tight_layout(rect=(0, 0.03, 1, 1))
        figure.savefig(os.path.join(directory, f"{name}.png"), dpi=150)
        figure.savefig(os.path.join(directory, f"{name}.svg"), metadata={"Date": None})
        plt.close(figure)
        made.append(name)
    return made


def main() -> int:
    """
    Draw.
    """
    (path,) = sys.argv[1:]
    with open(path) as file:
        report = json.load(file)
    print(", ".join(draw(report, os.path.dirname(os.path.abspath(path)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
