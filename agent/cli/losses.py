"""
`tailrace losses`: what will never be delivered, and why.

Ranges of one file that touch and have one reason are one line.  Of more than `--limit` lines the newest are
shown; the first line then sums up the rest, so that what it adds up to is always everything.
"""

from __future__ import annotations

import os
import re
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.cli.status import directory, print_json, time_text
from agent.cli.table import printable, size_text, table
from agent.config.problems import nearest
from agent.core.batch import LossReason
from agent.core.errors import StopError, shown
from agent.runtime.store_file import open_read_only
from agent.runtime.store_losses import read_losses

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterable, Sequence

    from agent.core.checkpoint import LossRow

_NS = 1_000_000_000
_UNITS_S = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
_AGE = re.compile(r"(?P<number>[0-9]{1,9})\s*(?P<unit>s|min|m|h|d)")
FOLDED = "(older records)"
#: Kinds of trouble that a merged line names.
DETAILS_MAX = 3


@dataclass(slots=True, kw_only=True)
class Line:
    """
    One or more records.
    """

    at_ns: int
    route: str
    reason: str
    log: str
    file_id: str
    generation: int
    start: int
    stop: int
    rows: int
    details: list[str]
    records: int = 1


def main(args: argparse.Namespace) -> int:
    """
    Print the losses.  Exit codes: 0, or 78 where there is no state, no such route or no such reason.
    """
    since_ns = since(args.since, time.time_ns()) if args.since is not None else 0
    connection = open_read_only(directory(args))
    try:
        names = [name for (name,) in connection.execute("SELECT name FROM routes ORDER BY name")]
        if args.route is not None:
            _known(args.route, names, "no route is called")
        rows = read_losses(connection, args.route)
    finally:
        connection.close()
    if args.reason is not None:
        # A newer version may have written others.
        reasons = {*map(str, LossReason), *(str(row.loss.reason) for row in rows)}
        _known(args.reason, sorted(reasons), "no reason is called")
    chosen = [
        row for row in rows if row.at_ns >= since_ns and args.reason in (None, str(row.loss.reason))
    ]
    lines, folded = fold(merge(chosen), args.limit)
    if args.json:
        print_json([_plain(line) for line in [*folded, *lines]])
    elif not chosen:
        sys.stdout.write("nothing was lost\n")
    else:
        sys.stdout.write(render([*folded, *lines]))
    return 0


def since(text: str, now_ns: int) -> int:
    """
    Return the moment that *text* means: an age (`90min`, `2h`, `7d`) or a time (ISO 8601, UTC unless it says).

    Raises StopError (64).
    """
    found = _AGE.fullmatch(text.strip())
    if found is not None:
        return now_ns - int(found["number"]) * _UNITS_S[found["unit"]] * _NS
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise StopError(
            f"--since: got {shown(text)}, expected an age such as 90min, 2h or 7d, or a time such as "
            "2026-11-22T10:15:00Z",
            exit_code=os.EX_USAGE,
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * _NS


def merge(rows: Iterable[LossRow]) -> list[Line]:
    """
    Join ranges that touch, of one file, route and reason; the result is oldest first.
    """
    lines = [
        Line(
            at_ns=row.at_ns,
            route=row.route,
            reason=str(row.loss.reason),
            log=row.loss.log,
            file_id=row.loss.file_id,
            generation=row.loss.generation,
            start=row.loss.start,
            stop=row.loss.stop,
            rows=row.loss.rows,
            details=[row.loss.detail] if row.loss.detail else [],
        )
        for row in rows
    ]
    # Without a file id a record is a sum already.
    lines.sort(key=lambda line: (line.route, line.reason, line.log, line.file_id, line.start))
    merged: list[Line] = []
    for line in lines:
        last = merged[-1] if merged else None
        if last is not None and line.file_id and _same(last, line) and line.start <= last.stop:
            _join(last, line)
        else:
            merged.append(line)
    return sorted(merged, key=lambda line: (bool(line.file_id), line.at_ns, line.log, line.start))


def _same(one: Line, other: Line) -> bool:
    mine = (one.route, one.reason, one.log, one.file_id)
    return mine == (other.route, other.reason, other.log, other.file_id)


def _join(last: Line, line: Line) -> None:
    last.stop = max(last.stop, line.stop)
    # Rows add up only where all were counted.
    last.rows = last.rows + line.rows if last.rows and line.rows else 0
    last.at_ns = max(last.at_ns, line.at_ns)
    last.records += line.records
    last.details += [detail for detail in line.details if detail not in last.details]
    del last.details[DETAILS_MAX:]


def fold(lines: Sequence[Line], limit: int) -> tuple[list[Line], list[Line]]:
    """
    Return the newest *limit* lines (0: all), and a line a reason for the rest.
    """
    count = len(lines) - limit if limit else 0
    if count <= 0:
        return list(lines), []
    sums: dict[tuple[str, str], Line] = {}
    for line in lines[:count]:
        size = line.stop - line.start
        known = sums.get((line.route, line.reason))
        if known is None:
            sums[line.route, line.reason] = Line(
                at_ns=line.at_ns,
                route=line.route,
                reason=line.reason,
                log=FOLDED,
                file_id="",
                generation=0,
                start=0,
                stop=size,
                rows=line.rows,
                details=[],
                records=line.records,
            )
            continue
        known.at_ns = max(known.at_ns, line.at_ns)
        known.stop += size
        known.rows += line.rows
        known.records += line.records
    folded = [line for _, line in sorted(sums.items())]
    for line in folded:
        line.details = [f"{line.records} records folded (--limit 0 shows all)"]
    return list(lines[count:]), folded


def render(lines: Sequence[Line]) -> str:
    """
    Return *lines* as a table.
    """
    head = ("time", "route", "reason", "bytes", "rows", "Log", "range", "detail")
    cells = [
        (
            time_text(line.at_ns),
            line.route,
            line.reason,
            size_text(line.stop - line.start),
            line.rows or None,
            printable(line.log),
            f"{line.generation}:{line.start}-{line.stop}" if line.file_id else None,
            printable("; ".join(line.details)),
        )
        for line in lines
    ]
    return table(head, cells, right="34")


def _plain(line: Line) -> dict[str, object]:
    return {
        "time": time_text(line.at_ns),
        "route": line.route,
        "reason": line.reason,
        "log": printable(line.log),
        "file_id": line.file_id,
        "generation": line.generation,
        "start": line.start,
        "stop": line.stop,
        "rows": line.rows,
        "detail": "; ".join(line.details),
        "records": line.records,
    }


def _known(name: str, names: Collection[str], problem: str) -> None:
    if name not in names:
        raise StopError(
            f"{problem} {shown(name)}{nearest(name, names)}; there are {', '.join(names)}",
            exit_code=os.EX_CONFIG,
        )
