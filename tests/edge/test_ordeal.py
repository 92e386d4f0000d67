"""
Short ordeals of the real agent, and proof that their checks can fail.

The long ones are `make crashes` and `make faults`, whose figures are in README "Promises".  Every run has another seed;
the two that start processes are slow tests, so that a run of all tests judges the change and not its luck.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.edge import ordeal as whole
from tests.edge.check import NEEDLESS_S, Checker, Row
from tests.edge.intervals import Intervals
from tests.edge.journal import CUT, UNLINKED, Content, Inode, Journal, Line, Name, text_of
from tests.edge.own_time import OwnTime, waited_for_cpu_s

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Another one every time; a failure says which, and how to have it again.
SEED = int(os.environ.get("TAILRACE_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
PATH = "/pods/a_b_u/app/0.log"
HEAD = b"2026-11-22T10:15:00.000000000Z stdout F first\n"


def judge(ordeal: whole.Ordeal, command: str) -> None:
    """
    Fail with the command that does the same again.
    """
    assert not ordeal.found.problems, "\n".join(
        [*ordeal.found.problems, whole.figures(ordeal), f"again: {command} --seed {SEED}"]
    )
    assert ordeal.found.owed > 1000, whole.figures(ordeal)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_killed_at_random(tmp_path: Path) -> None:
    """
    Five times SIGKILL while files rotate, are cut and deleted: no line is lost in silence, no row is twice.
    """
    judge(
        await whole.crashes(tmp_path, seed=SEED, kills=5, slots=10),
        "python -m tests.edge.ordeal crashes --count 5 --slots 10",
    )


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_destinations_that_fail(tmp_path: Path) -> None:
    """
    Endpoints that go away, cut, answer late, refuse and throttle: the same holds.
    """
    judge(
        await whole.faults(tmp_path, seed=SEED, count=6, slots=10),
        "python -m tests.edge.ordeal faults --count 6 --slots 10",
    )


# -- the checks ---------------------------------------------------------------------------------


def journal(*, until: float | None = None, how: str = "", rows: int = 4) -> Journal:
    """
    Return one file with lines of stdout, written at second 10; its last two are one row.
    """
    lines = [
        Line(0, at * 100, at * 100 + 100, 0, at, 10.0, min(at, rows - 2)) for at in range(rows)
    ]
    return Journal([PATH], [Content(0, [Inode(10.0, until, how)], HEAD)], lines)


def checked(
    events: list[str],
    *,
    written: Journal | None = None,
    losses: Sequence[tuple[int, int]] = (),
    up: float = 1000,
    own_time: OwnTime | None = None,
) -> list[str]:
    """
    Return the problems of *events* in one stream.
    """
    checker = Checker(written or journal(), [(0.0, up)], own_time or OwnTime())
    (file_id,) = checker.file_ids
    records = [{"file_id": file_id, "start": start, "stop": stop} for start, stop in losses]
    checker.check_events("cloudwatch", [events], records)
    return checker.verdict.problems


def text(*numbers: int) -> str:
    return "".join(text_of(Name(0, 0, number)) for number in numbers)


def test_all_that_was_written_arrived() -> None:
    """
    No problem; a row that came twice after a crash is none either.
    """
    assert not checked([text(0), text(1), text(2, 3)])
    assert not checked([text(0), text(1), text(0), text(1), text(2, 3)])


def test_a_duplicate_does_not_hide_a_loss() -> None:
    """
    As many events as lines, and one line is missing.
    """
    (problem,) = checked([text(0), text(0), text(2, 3)])
    assert "1 stretches missing in cloudwatch" in problem
    assert "stdout 1-1" in problem


def test_a_loss_record_explains_its_bytes_only() -> None:
    """
    Line 1 is at bytes 100 to 200.
    """
    gone = journal(until=10.5, how=CUT)
    assert not checked(
        [text(0), text(2, 3)], losses=[(100, 200)], written=journal(until=13.0, how=CUT)
    )
    assert checked([text(0), text(2, 3)], losses=[(200, 300)], written=journal(until=13.0, how=CUT))
    assert not checked([text(0), text(2, 3)], written=gone), "nobody could have read it"


def test_a_loss_without_need() -> None:
    """
    A record is no excuse for a line that could be read for long.
    """
    late = journal(until=10.0 + NEEDLESS_S + 1, how=CUT)
    (problem,) = checked([text(0), text(2, 3)], losses=[(100, 200)], written=late)
    assert "given up" in problem


def test_who_has_a_file_open_reads_on() -> None:
    """
    A name that went away at once is no excuse where the agent was up before and after.
    """
    written = journal(until=15.0, how=UNLINKED)
    written.lines[1].at = 14.9
    assert checked([text(0), text(2, 3)], written=written)
    assert not checked([text(0), text(2, 3)], written=written, up=15.5), "it was killed at once"
    written.contents[0].inodes[0].how = CUT
    assert not checked([text(0), text(2, 3)], written=written)


def test_the_promise_is_of_time_in_which_the_agent_runs() -> None:
    """
    A file that was there for 5 s while the agent's threads had a core for one of them; with all 5 it is owed.
    """
    written = journal(until=15.0, how=CUT)
    assert checked([text(0), text(2, 3)], written=written, own_time=OwnTime())
    waiting = OwnTime()
    waiting.add(10.0, 0.0)
    for step in range(1, 26):
        waiting.add(10.0 + step * 0.2, 0.16)
    assert not checked([text(0), text(2, 3)], written=written, own_time=waiting)


def test_own_time() -> None:
    """
    Waiting for a core does not count, nor does a gap between two samples; threads that wait together take one moment.
    """
    own = OwnTime()
    for moment, waited in ((0.2, 0.0), (0.4, 0.1), (0.6, 0.5), (2.0, 0.0), (2.2, -1.0)):
        own.add(moment, waited)
    expected = {0.1: 0.1, 0.2: 0.2, 0.3: 0.25, 0.4: 0.3, 0.6: 0.3, 1.0: 0.3, 2.2: 0.5, 3.2: 1.5}
    assert {moment: round(own(moment), 9) for moment in expected} == expected
    assert own(float("inf")) == float("inf")
    assert waited_for_cpu_s(os.getpid()) >= 0
    assert waited_for_cpu_s(2**22 + 1) == 0


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([text(0), text(2, 3), text(1)], "out of order"),
        ([text(0), text(1, 2), text(3)], "nobody wrote like that"),
        ([text(0), text(1), text(3, 2)], "nobody wrote like that"),
        ([text(0), text(1), text(2, 3) + "!"], "nobody wrote like that"),
        ([text(0), text(1), text(2, 3), text(4)], "that nobody wrote"),
    ],
)
def test_what_else_can_be_wrong(events: list[str], problem: str) -> None:
    """
    Order, joins, texts, invented lines.
    """
    assert any(problem in found for found in checked(events))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"offset": 100}, "rows twice"),
        ({"offset": 1}, "identity of another"),
        ({"stream": "stderr"}, "identity of another"),
        ({"message": text(1)}, "lines twice"),
    ],
)
def test_what_can_be_wrong_with_rows(change: dict[str, Any], problem: str) -> None:
    """
    Every row once, at its place.
    """
    checker = Checker(journal(), [(0.0, 1000.0)], OwnTime())
    (file_id,) = checker.file_ids
    rows = [Row(file_id, at * 100, "line", "stdout", text(at)) for at in (0, 1)]
    rows += [Row(file_id, 200, "line", "stdout", text(2, 3))._replace(**change)]
    checker.check_rows("archive", [rows], [])
    found = checker.verdict.problems
    assert any(problem in item for item in found) if problem else not found


@pytest.mark.parametrize("seed", range(50))
def test_intervals_are_sets(seed: int) -> None:
    """
    Union and difference are those of Python's sets.
    """
    rng = random.Random(seed)
    one, other = ({rng.randrange(60) for _ in range(rng.randrange(40))} for _ in range(2))
    assert Intervals.of(one) | Intervals.of(other) == Intervals.of(one | other)
    assert Intervals.of(one) - Intervals.of(other) == Intervals.of(one - other)
    assert len(Intervals.of(Counter(one))) == len(one)
