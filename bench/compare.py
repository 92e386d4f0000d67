"""
Hot functions against a saved baseline: `make bench-compare`.

`python -m bench.compare NEW.json` reads what pytest-benchmark wrote and prints nanoseconds a line beside those of
bench/baseline.json, in per cent.  `--fail-at 10` ends with exit code 1 where one got slower by more than that;
`--save` makes NEW the baseline.  The smallest time of all rounds counts: noise only ever adds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys

from bench.tables import markdown

BASELINE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "baseline.json")


def figures_of(path: str) -> dict[str, float]:
    """
    Return nanoseconds a line by name, from a file of pytest-benchmark.
    """
    with open(path) as file:
        found = json.load(file)["benchmarks"]
    return {
        item["name"]: item["extra_info"]["ns_per_line"]
        for item in found
        if "ns_per_line" in item["extra_info"]
    }


def machine() -> str:
    """
    Name this machine: figures of two are not to be compared.
    """
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, CPython {platform.python_version()}"
    return f"{platform.machine()}, CPython {platform.python_version()}"


def compared(before: dict[str, float], now: dict[str, float]) -> list[tuple[str, str, str, float]]:
    """
    Return name, both figures, and the change in per cent; a new one has changed by nothing.
    """
    return [
        (
            name,
            f"{before[name]:.1f}" if name in before else "new",
            f"{value:.1f}",
            (value / before[name] - 1) * 100 if name in before else 0.0,
        )
        for name, value in sorted(now.items())
    ]


def main() -> int:
    """
    Compare, or save.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("new", metavar="NEW.json")
    parser.add_argument("--baseline", default=BASELINE)
    parser.add_argument("--save", action="store_true", help="make NEW the baseline")
    parser.add_argument(
        "--fail-at", type=float, metavar="PERCENT", help="exit 1 where one is slower by more"
    )
    options = parser.parse_args()
    now = figures_of(options.new)
    if not now:
        print(f"{options.new}: no figures in it", file=sys.stderr)
        return 1
    if options.save:
        with open(options.baseline, "w") as file:
            json.dump({"machine": machine(), "ns_per_line": now}, file, indent=1)
            file.write("\n")
        return 0
    with open(options.baseline) as file:
        saved = json.load(file)
    if saved["machine"] != machine():
        print(f"the baseline is of another machine: {saved['machine']}; this is {machine()}\n")
    rows = compared(saved["ns_per_line"], now)
    columns = ("hot function", "baseline, ns a line", "now", "change, %")
    print(markdown(columns, [[*row[:3], f"{row[3]:+.1f}"] for row in rows]))
    gone = sorted(saved["ns_per_line"].keys() - now.keys())
    if gone:
        print(f"\nin the baseline alone: {', '.join(gone)}")
    slower = [row[0] for row in rows if options.fail_at is not None and row[3] > options.fail_at]
    if slower:
        print(f"\nslower by more than {options.fail_at:g} %: {', '.join(slower)}", file=sys.stderr)
    return int(bool(slower))


if __name__ == "__main__":
    sys.exit(main())
