"""
Figures as Markdown: medians with their spread, and ratios of what one round measured.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from bench.corpus import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bench.runs import Run

OURS = "tailrace"
#: The kernel counts CPU in ticks of 10 ms, and a start scatters by more.
MEASURABLE_S = 0.02
RUN_COLUMNS = (
    *("path", "program", "MiB/s", "CPU s", "CPU s/GiB", "start-up CPU s", "peak PSS MiB"),
    *("sent MiB", "on the wire MiB", "events"),
)
RATIO_COLUMNS = ("path", "peer", "its CPU / ours", "its peak / ours", "its wire bytes / ours")


def spread(values: Sequence[float], form: str) -> str:
    """
    Return the median with the lowest and the highest.
    """
    if not values:
        return "–"
    middle, low, high = (
        format(value, form) for value in (statistics.median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} ({low} … {high})"


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """
    Return a table; the first *words* columns are text, the others numbers.
    """
    rule = ["---" if index < words else "---:" for index in range(len(columns))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, rule, *rows))


def runs_table(runs: Sequence[Run]) -> str:
    """
    One row a path and program: medians over the rounds.
    """

    def row(path: str, program: str) -> list[str]:
        same = [run for run in runs if (run.path, run.program) == (path, program)]

        def over(value: Callable[[Run], float], form: str) -> str:
            return spread([value(run) for run in same], form)

        def middle(value: Callable[[Run], float], form: str) -> str:
            return format(statistics.median(value(run) for run in same), form)

        return [
            path,
            program,
            middle(lambda run: run.throughput / MIB, ",.0f"),
            over(lambda run: run.cpu_s, ".2f"),
            middle(lambda run: run.cpu_per_gib, ".2f"),
            middle(lambda run: run.startup_cpu_s, ".2f"),
            over(lambda run: run.cost.pss_peak_bytes / MIB, ".0f"),
            middle(lambda run: run.body_bytes / MIB, ",.0f"),
            middle(lambda run: run.wire_bytes / MIB, ",.0f"),
            middle(lambda run: run.events, ",.0f"),
        ]

    pairs = dict.fromkeys((run.path, run.program) for run in runs)
    return markdown(RUN_COLUMNS, [row(*pair) for pair in pairs], words=2)


def ratios(runs: Sequence[Run], path: str, peer: str, value: Callable[[Run], float]) -> list[float]:
    """
    Return *value* of the peer over ours, round by round: both saw the same machine.
    """
    ours, theirs = (
        [value(run) for run in runs if (run.path, run.program) == (path, program)]
        for program in (OURS, peer)
    )
    # Below what the kernel counts, a ratio would be a made-up number: no round, no figure.
    return [his / own for own, his in zip(ours, theirs, strict=False) if own > MEASURABLE_S]


def ratios_table(runs: Sequence[Run]) -> str:
    """
    One row a path and peer; empty without a peer.
    """
    pairs = dict.fromkeys((run.path, run.program) for run in runs if run.program != OURS)
    rows = [
        [
            path,
            peer,
            spread(ratios(runs, path, peer, lambda run: run.cpu_s), ".1f"),
            spread(ratios(runs, path, peer, lambda run: run.cost.pss_peak_bytes), ".2f"),
            spread(ratios(runs, path, peer, lambda run: run.wire_bytes), ".1f"),
        ]
        for path, peer in pairs
    ]
    return markdown(RATIO_COLUMNS, rows, words=2) if rows else ""
