"""
What is measured is told right: medians, ratios round by round, changes, plots.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bench import scaling, yardsticks
from bench.compare import compared, figures_of, machine
from bench.corpus import PAD_SIZES, write_corpus
from bench.follow import Follow, follows_table
from bench.loop import summary
from bench.measure import Cost
from bench.runs import Run
from bench.servers import Request, Sink
from bench.tables import ratios, ratios_table, runs_table, spread

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
RUN = Run(
    program="tailrace",
    path="cloudwatch",
    cost=Cost(wall_s=3, cpu_s=2.5, pss_peak_bytes=80 * MIB, rss_peak_bytes=90 * MIB),
    startup_s=1,
    startup_cpu_s=0.5,
    size=64 * MIB,
    wire_bytes=10 * MIB,
    body_bytes=100 * MIB,
    object_bytes=0,
    events=1000,
)


def runs() -> list[Run]:
    found = []
    for factor in (1, 2, 6):
        for program, times in (("tailrace", 1), ("other", 8)):
            cost = replace(RUN.cost, cpu_s=0.5 + 2 * factor * times)
            found.append(replace(RUN, program=program, cost=cost))
    return found


def test_start_up_is_part_of_nothing() -> None:
    """
    Neither of throughput nor of CPU.
    """
    assert RUN.cpu_s == 2
    assert RUN.throughput == 32 * MIB
    assert RUN.cpu_per_gib == 32
    assert spread([3, 1, 2], ".1f") == "2.0 (1.0 … 3.0)"
    assert spread([3], ".1f") == "3.0"


def test_ratios_are_taken_within_a_round() -> None:
    """
    A slow minute is slow for both.
    """
    assert ratios(runs(), "cloudwatch", "other", lambda run: run.cpu_s) == [8, 8, 8]
    assert "| cloudwatch | other | 8.0 (8.0 … 8.0) |" in ratios_table(runs())
    assert ratios_table([RUN]) == ""
    assert "| cloudwatch | tailrace | 32 | 4.00 (2.00 … 12.00) | 64.00 |" in runs_table(runs())


def test_the_limit_counts_each_byte_where_it_is(tmp_path: Path) -> None:
    """
    Lines are read, bodies gzipped, the wire hashed and encrypted.
    """
    lines, bodies = tmp_path / "lines", tmp_path / "bodies"
    lines.write_bytes(b"line of a log\n" * 100_000)
    bodies.write_bytes(b'{"timestamp":1,"message":"line"}' * 50_000)
    found = yardsticks.limit_s(RUN, [str(lines)], str(bodies))
    assert found["cpu_s"] == 2
    assert found["ratio"] == pytest.approx(2 / found["floor_s"])
    # More to compress takes longer, on a machine of any speed: ten thousand times as much.
    more = yardsticks.limit_s(
        replace(RUN, body_bytes=10_000 * RUN.body_bytes), [str(lines)], str(bodies)
    )
    assert more["floor_s"] > found["floor_s"]


def test_a_slower_function_is_named(tmp_path: Path) -> None:
    """
    Exit 1 where it was asked for, and a baseline of another machine is said.
    """
    new, baseline = tmp_path / "new.json", tmp_path / "baseline.json"
    benchmarks = [
        {"name": name, "extra_info": {"ns_per_line": value}}
        for name, value in (("parse", 23.0), ("encode", 100.0), ("gzip", 9.0))
    ]
    new.write_text(json.dumps({"benchmarks": [*benchmarks, {"name": "x", "extra_info": {}}]}))
    assert figures_of(str(new)) == {"parse": 23, "encode": 100, "gzip": 9}
    before = {"parse": 20.0, "encode": 101.0, "gone": 1.0}
    assert [row[3] for row in compared(before, figures_of(str(new)))] == pytest.approx(
        [-0.99, 0, 15], abs=0.01
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bench.compare", str(new), "--baseline", str(baseline)]
        return subprocess.run([*command, *arguments], capture_output=True, text=True)

    baseline.write_text(json.dumps({"machine": machine(), "ns_per_line": before}))
    assert run().returncode == 0
    done = run("--fail-at", "10")
    assert done.returncode == 1
    assert "slower by more than 10 %: parse" in done.stderr
    assert "in the baseline alone: gone" in done.stdout
    assert run("--fail-at", "20").returncode == 0
    assert run("--save").returncode == 0
    assert "another machine" not in (said := run().stdout)
    assert "| parse | 23.0 | 23.0 | +0.0 |" in said
    baseline.write_text(json.dumps({"machine": "Cray-1", "ns_per_line": before}))
    assert "the baseline is of another machine: Cray-1" in run().stdout


def test_late_ticks_are_summed_up() -> None:
    """
    One long stall is the greatest, and not the 99th of a hundred.
    """
    found = summary([1.0] * 100 + [50.0] + [2.0] * 99)
    assert (found["ticks"], found["p50"], found["p99"], found["max"]) == (200, 1.0, 2.0, 50.0)
    assert summary([]) == {}


def test_the_power_of_a_curve_says_whether_it_is_linear() -> None:
    """
    Four times the routes for four times the CPU is 1, for twice the CPU a half, for 16 times 2.
    """

    def table(*costs: float) -> str:
        sizes = zip((1, 4), costs, strict=False)
        found = [
            {"curve": "routes", "size": size, "value": cost, "unit": "CPU s", "cost": cost}
            for size, cost in sizes
        ]
        return scaling.scaling_table(found)

    assert table(2.0, 8.0).endswith("| routes | CPU s | 1: 2.00, 4: 8.00 | 1.00 |")
    assert table(2.0, 4.0).endswith("| 0.50 |")
    assert table(2.0, 32.0).endswith("| 2.00 |")
    assert table(2.0).endswith("| nan |")
    assert table(0.0, 1.0).endswith("| nan |")


@pytest.mark.parametrize("size", PAD_SIZES)
def test_padded_lines_have_their_length(tmp_path: Path, size: int) -> None:
    """
    Within the digits of a time, whose zeros at the end are not written.
    """
    (path,) = write_corpus(str(tmp_path), kind=f"pad-{size}", mib=0.3).files
    lengths = {len(line) for line in (tmp_path / path).read_bytes().splitlines()}
    assert max(lengths) <= size + 10
    assert min(lengths) >= size - 10


def test_bodies_are_kept_for_the_yardsticks() -> None:
    """
    The last ones, gunzipped.
    """
    sink = Sink()
    for number in range(20):
        body = b'{"logEvents":[{"timestamp":%d}]}' % number
        sink.answer(Request("POST", "/", {"x-amz-target": "Logs.PutLogEvents"}, body))
    _, _, content = sink.answer(Request("GET", "/bodies", {}, b""))
    assert content.startswith(b'{"logEvents":[{"timestamp":4}]}')
    assert content.count(b"logEvents") == 16


def followed(program: str, scene: str) -> Follow:
    return Follow(
        program=program,
        scene=scene,
        cpu_percent=2.0,
        pss_median_bytes=40 * MIB,
        pss_peak_bytes=50 * MIB,
        samples=[MIB] * 8,
        written=100,
        arrived=100,
        latency_ms={"p50": 100.0, "p99": 900.0, "max": 1000.0},
    )


def test_plots_are_drawn(tmp_path: Path) -> None:
    """
    Each as PNG and SVG, and the same figures give the same file.
    """
    pytest.importorskip("matplotlib", reason="an extra: pip install -e '.[bench]'")
    from dataclasses import asdict

    from bench.plots import PLOTS, draw

    found = [followed(program, "overload") for program in ("tailrace", "other")]
    assert "| overload | other | 2.00 | 40 | 50 | 100 | 100 | 100 | 900 |" in follows_table(found)
    report: dict[str, Any] = {
        "machine": "a machine",
        "runs": [run.as_json() for run in runs()],
        "follows": [asdict(item) for item in found],
        "lingers": [{"linger_s": 5.0, "cpu_percent": 2.0, "latency_ms": found[0].latency_ms}],
        "scaling": [
            {"curve": curve, "size": size, "value": 1.0, "unit": "CPU s", "cost": 1.0}
            for curve in ("files", "routes")
            for size in (1, 10)
        ],
    }
    assert draw(report, str(tmp_path)) == list(PLOTS)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(first) == 2 * len(PLOTS)
    draw(report, str(tmp_path))
    assert {name: (tmp_path / name).read_bytes() for name in first if name.endswith("svg")} == {
        name: content for name, content in first.items() if name.endswith("svg")
    }
    assert draw({**report, "scaling": [], "lingers": []}, str(tmp_path)) == ["cpu", "memory"]
