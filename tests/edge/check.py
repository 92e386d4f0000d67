"""
Compares what a verifying writer has written with what arrived, and says what is wrong.

A line is *owed* where the promise holds: it could be read for GRACE_S while the agent was up (between the moment
when every route was ready and its end), or its file was open in the agent when its last name went, and the agent
stayed up.  What is not owed may be missing without a record; how many lines that are is said.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.edge.intervals import Intervals
from tests.edge.journal import STREAMS, UNLINKED, Journal, Line, Name, file_id_of, names_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.edge.own_time import OwnTime

#: A second is promised; what the disk and the writer's clock take of it is not known to the agent's own time.
GRACE_S = 2.0
#: A loss record for what could be read so long, with every sink up, was not necessary.
NEEDLESS_S = 10.0
SHOWN_MAX = 5

Spans = list[tuple[float, float]]


class Row(NamedTuple):
    """
    A row in Parquet.
    """

    file_id: str
    offset: int
    row_kind: str
    stream: str
    message: str


@dataclass
class Verdict:
    """
    What was found.
    """

    lines: int = 0
    owed: int = 0
    lost: Counter[str] = field(default_factory=Counter)  # by route
    excused: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    #: Loss records of files whose first line was not whole.
    unknown: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, what: str, items: Sequence[object]) -> None:
        """
        Add a problem, if there are *items*.
        """
        if items:
            shown = "\n    ".join(str(item)[:400] for item in items[:SHOWN_MAX])
            self.problems.append(f"{len(items)} {what}:\n    {shown}")


class Checker:
    """
    The journal of a writer, ready to be asked.
    """

    def __init__(self, journal: Journal, up: Spans, own_time: OwnTime) -> None:
        self.journal = journal
        self.up = up
        self.own_time = own_time
        self.verdict = Verdict(lines=len(journal.lines))
        self.line_of = {self.name(line): line for line in journal.lines}
        self.lines_of: dict[int, list[Line]] = defaultdict(list)
        for line in journal.lines:
            self.lines_of[line.content].append(line)
        self.rows: dict[tuple[int, int, int], list[Name]] = defaultdict(list)
        for line in journal.lines:
            name = self.name(line)
            self.rows[name.log, name.stream, line.row].append(name)
        self.starts = [start for start, _ in up]
        self.file_ids: dict[str, int] = {}
        for index, content in enumerate(journal.contents):
            if content.head:
                self.file_ids[file_id_of(journal.logs[content.log], content.head)] = index
        self.file_id_of = {content: file_id for file_id, content in self.file_ids.items()}
        self.owed = {name for name, line in self.line_of.items() if self.readable(line, GRACE_S)}
        self.verdict.owed = len(self.owed)

    def name(self, line: Line) -> Name:
        return Name(self.journal.contents[line.content].log, line.stream, line.number)

    def readable(self, line: Line, seconds: float) -> bool:
        """
        Whether an agent that was up could read *line* for so long, of its own time.
        """
        had = self.own_time
        for inode in self.journal.contents[line.content].inodes:
            until = float("inf") if inode.until is None else inode.until
            # Of spans that begin before the line, only the latest can still be under way.
            for start, stop in self.up[max(0, bisect(self.starts, line.at) - 1) :]:
                if start > until:
                    break
                # Who was up for so long before the last name went has it open, and reads on.
                opened = had(max(start, inode.since)) + seconds < had(min(until, stop))
                end = stop if opened and inode.how == UNLINKED else min(until, stop)
                if had(max(start, inode.since, line.at)) + seconds < had(end):
                    return True
        return False

    def lost_lines(self, losses: Iterable[dict[str, Any]]) -> set[Name]:
        """
        Return the lines that loss records name, in whole or in part.
        """
        found: set[Name] = set()
        for loss in losses:
            content = self.file_ids.get(loss["file_id"])
            if content is None:
                # Of a file that vanished with its first line incomplete nobody knows the identity, and a copy
                # that is still being made begins like no file that was written.
                self.verdict.unknown += 1
                continue
            start, stop = loss["start"], loss["stop"]
            lines = self.lines_of[content]
            found |= {self.name(line) for line in lines if line.start < stop and start < line.stop}
        return found

    def check_route(self, route: str, arrived: Counter[Name], losses: list[dict[str, Any]]) -> None:
        """
        Check that nothing is missing without a record, and nothing was invented or given up without need.
        """
        lost = self.lost_lines(losses)
        verdict = self.verdict
        verdict.add(f"lines in {route} that nobody wrote", sorted(arrived.keys() - self.line_of))
        streams: dict[tuple[int, int], list[set[int]]] = defaultdict(lambda: [set(), set(), set()])
        for at, names in enumerate((self.owed, arrived, lost)):
            for name in names:
                streams[name.log, name.stream][at].add(name.number)
        missing: list[str] = []
        for (log, stream), (owed, there, given_up) in sorted(streams.items()):
            gone = Intervals.of(owed) - Intervals.of(there) - Intervals.of(given_up)
            for start, stop in gone.parts:
                first = self.line_of[Name(log, stream, start)]
                missing.append(
                    f"{self.journal.logs[log]} {STREAMS[stream]} {start}-{stop - 1}, {first}"
                )
        verdict.add(f"stretches missing in {route} without a loss record", missing)
        needless = [
            line
            for name in sorted(lost - arrived.keys())
            if self.readable(line := self.line_of[name], NEEDLESS_S)
        ]
        verdict.add(f"lines given up by {route} that could be read", needless)
        verdict.lost[route] = len(lost - arrived.keys())
        verdict.excused[route] = len(self.line_of.keys() - arrived.keys() - lost)
        verdict.duplicates[route] = sum(arrived.values()) - len(arrived)

    def check_texts(self, route: str, texts: Iterable[str]) -> list[list[Name]]:
        """
        Check that every text is a row as it was written, or the rest of one that was lost in part.

        Returns:
            The lines of each text.
        """
        found: list[list[Name]] = []
        wrong: list[str] = []
        for text in texts:
            names, whole = names_in(text)
            found.append(names)
            line = self.line_of.get(names[0]) if names else None
            if not whole or line is None or not self.is_joined(names):
                wrong.append(text)
        self.verdict.add(f"texts in {route} that nobody wrote like that", wrong)
        return found

    def is_joined(self, names: list[Name]) -> bool:
        """
        Whether *names* are consecutive pieces of one row.

        Where a row begins and ends may be the business of a loss.  A piece may be followed by the first line that is
        there after files that nobody could see: their lines, all of them between the two, are not owed.
        """
        for one, other in pairwise(names):
            if one[:2] != other[:2] or one.number >= other.number:
                return False
            between = (Name(*one[:2], number) for number in range(one.number + 1, other.number))
            if one.number + 1 == other.number:
                same = self.line_of[one].row == self.line_of[other].row
            else:
                same = not any(name in self.owed for name in between)
            if not same:
                return False
        return True

    def check_order(self, route: str, sequences: Iterable[list[list[Name]]]) -> None:
        """
        Check that lines come in their order: after a repetition, what is new is later than all before.
        """
        wrong: list[str] = []
        for sequence in sequences:
            highest: dict[tuple[int, int], int] = defaultdict(lambda: -1)
            seen: set[Name] = set()
            for names in sequence:
                for name in names:
                    if name in seen:
                        continue
                    seen.add(name)
                    if name.number < highest[name.log, name.stream]:
                        wrong.append(f"{name} after {highest[name.log, name.stream]}")
                    highest[name.log, name.stream] = max(
                        name.number, highest[name.log, name.stream]
                    )
        self.verdict.add(f"lines out of order in {route}", wrong)

    def check_events(self, route: str, streams: list[list[str]], losses: list[Any]) -> None:
        """
        Check what is in CloudWatch, stream by stream.
        """
        sequences = [self.check_texts(route, texts) for texts in streams]
        self.check_order(route, sequences)
        arrived = Counter(name for names in sequences for row in names for name in row)
        self.check_route(route, arrived, losses)

    def check_rows(self, route: str, groups: list[list[Row]], losses: list[Any]) -> None:
        """
        Check what is in Parquet, row group by row group: once, at its place, in order.
        """
        rows = [row for group in groups for row in group]
        keys = Counter((row.file_id, row.offset, row.row_kind) for row in rows)
        self.verdict.add(
            f"rows twice in {route}", [key for key, count in keys.items() if count > 1]
        )
        sequences = [self.check_texts(route, [row.message for row in group]) for group in groups]
        self.check_order(route, sequences)
        texts = [names for sequence in sequences for names in sequence]
        misplaced = [
            row
            for row, names in zip(rows, texts, strict=True)
            if names and not self.is_at_its_place(row, names[0])
        ]
        self.verdict.add(f"rows in {route} with the identity of another", misplaced)
        arrived = Counter(name for names in texts for name in names)
        twice = [name for name, count in arrived.items() if count > 1]
        self.verdict.add(f"lines twice in {route}", twice)
        self.check_route(route, arrived, losses)

    def is_at_its_place(self, row: Row, name: Name) -> bool:
        """
        Whether *row*, which begins with the line *name*, says where that was written.
        """
        line = self.line_of.get(name)
        return line is not None and (row.file_id, row.offset, row.stream) == (
            self.file_id_of[line.content],
            line.start,
            STREAMS[line.stream],
        )
