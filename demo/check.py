"""
Whether what was written arrived: by content, per container.

Lines are compared as a multiset of (stream, text).  Every text carries a sequence number, so a
duplicate can never stand in for a missing line.  Delivery to CloudWatch is at least once: duplicates
there are counted, and are no failure.  Rows in Parquet are exactly once: there they are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from demo.writer import Container

Key = tuple[str, str, str]  # namespace, pod, container
Lines = Counter[tuple[str, str]]  # (stream, text)
#: Of many lines that are missing, so many are shown.
SHOWN_MAX = 5
SHOWN_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class Difference:
    """
    What one destination has too little or too much of.
    """

    found: int
    missing: Lines
    duplicated: Lines
    unexpected: Lines

    @property
    def same(self) -> bool:
        """
        Whether every line is there once, and nothing else.
        """
        return self.complete and not self.duplicated

    @property
    def complete(self) -> bool:
        """
        Whether every line is there at least once, and nothing else.
        """
        return not self.missing and not self.unexpected


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    One container at both destinations.
    """

    key: Key
    written: int
    events: Difference
    rows: Difference

    @property
    def agrees(self) -> bool:
        """
        Whether the contents agree.
        """
        return self.events.complete and self.rows.same


def compare(written: Lines, found: Lines) -> Difference:
    """
    Tell what *found* lacks, repeats and should not have.
    """
    surplus = found - written
    return Difference(
        found=found.total(),
        missing=written - found,
        duplicated=Counter({line: count for line, count in surplus.items() if line in written}),
        unexpected=Counter({line: count for line, count in surplus.items() if line not in written}),
    )


def judge(
    containers: Iterable[Container], events: Mapping[Key, Lines], rows: Mapping[Key, Lines]
) -> list[Verdict]:
    """
    Compare every container, and whatever arrived of containers that do not exist.
    """
    written: dict[Key, Lines] = {}
    for container in containers:
        lines = written.setdefault(container.key, Counter())
        lines.update((line.stream, line.text) for line in container.lines)
    return [
        Verdict(
            key=key,
            written=written.get(key, Counter()).total(),
            events=compare(written.get(key, Counter()), events.get(key, Counter())),
            rows=compare(written.get(key, Counter()), rows.get(key, Counter())),
        )
        for key in sorted(written.keys() | events.keys() | rows.keys())
    ]


def complaints(verdict: Verdict) -> list[str]:
    """
    Say which lines are missing, repeated or unknown, and where.
    """
    found: list[str] = []
    for place, difference, exact in (
        ("CloudWatch", verdict.events, False),
        ("Parquet", verdict.rows, True),
    ):
        kinds = [("missing", difference.missing), ("never written", difference.unexpected)]
        if exact:
            kinds.append(("duplicated", difference.duplicated))
        for kind, lines in kinds:
            found += _shown(f"{'/'.join(verdict.key)}: {kind} in {place}", lines)
    return found


def _shown(what: str, lines: Lines) -> list[str]:
    shown = [
        f"{what}: {count} × {stream} {text[:SHOWN_CHARACTERS]}"
        for (stream, text), count in lines.most_common(SHOWN_MAX)
    ]
    if len(lines) > SHOWN_MAX:
        shown.append(f"{what}: and {len(lines) - SHOWN_MAX} more")
    return shown
