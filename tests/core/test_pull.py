"""
Where queries and sweeps begin: what they find for certain, however long one takes.
"""

from __future__ import annotations

from typing import Any

from agent.core.pull import Progress, Query, queries_of
from agent.core.pull_sweep import Sweep

OVERLAP_MS = 900_000
LATE_MS = 7_200_000
START_MS = 1_900_000_000_000
STREAM = "kube-apiserver-audit-0"


def query() -> Query:
    (made,) = queries_of("c", "", "g", ["audit"], {})
    return made


def progress() -> Progress:
    return Progress(query=query(), overlap_ms=OVERLAP_MS, reach_ms=START_MS)


def item(time_ms: int, *, late_ms: int, name: str = "x") -> dict[str, Any]:
    return {
        "eventId": name,
        "timestamp": time_ms,
        "ingestionTime": time_ms + late_ms,
        "logStreamName": STREAM,
        "message": "m",
    }


def ask(made: Progress, now_ms: int, *, stop_ms: int | None = None) -> int:
    """
    Ask one query that begins at *now_ms* and is answered at *stop_ms*; return where its span begins.
    """
    assert made.begin(now_ms, now_ms / 1000, lag_ms=0)
    start_ms = made.start_ms
    made.take([], None, now_ms=stop_ms or now_ms)
    return start_ms


def test_a_thorough_query_that_took_long() -> None:
    """
    The next one begins two thirds of the overlap before it began, not before it ended.
    """
    made = progress()
    first_ms = START_MS + 60_000
    assert ask(made, first_ms, stop_ms=first_ms + 500_000) == START_MS - OVERLAP_MS
    near_ms = first_ms + 500_000
    assert made.begin(near_ms, first_ms / 1000 + 1, lag_ms=0)
    made.take([], None, now_ms=near_ms)
    assert made.reach_ms == near_ms
    assert ask(made, near_ms + 1) == first_ms - OVERLAP_MS * 2 // 3


def test_the_first_third_is_what_a_sweep_leaves_to_queries() -> None:
    """
    It takes what was later, and only once.
    """
    made = progress()
    sweep = Sweep(query=query(), progress=made, late_ms=LATE_MS, whole_ms=START_MS)
    now_ms = START_MS + LATE_MS
    made.reach_ms = now_ms
    assert not sweep.begin(now_ms - 1)
    assert sweep.begin(now_ms)
    assert (sweep.start_ms, sweep.stop_ms) == (START_MS - LATE_MS, now_ms - OVERLAP_MS)
    page = [
        item(START_MS, late_ms=OVERLAP_MS // 3 - 1, name="soon"),
        item(START_MS, late_ms=OVERLAP_MS // 3, name="late"),
    ]
    assert [event.event_id for event in sweep.take(page, "more", now_ms=now_ms)] == ["late"]
    assert sweep.take(page, None, now_ms=now_ms) == []


def test_a_sweep_begins_where_the_last_one_ended() -> None:
    """
    At the latest, also when queries were far behind: what they left behind since then is in it.
    """
    made = progress()
    sweep = Sweep(query=query(), progress=made, late_ms=LATE_MS, whole_ms=START_MS)
    now_ms = START_MS + 10 * LATE_MS
    made.reach_ms = START_MS + LATE_MS
    assert sweep.begin(now_ms)
    stop_ms = sweep.stop_ms
    assert stop_ms == START_MS + LATE_MS - OVERLAP_MS
    sweep.take([], None, now_ms=now_ms)
    made.reach_ms = now_ms
    assert sweep.begin(now_ms + LATE_MS)
    assert sweep.start_ms == stop_ms


def test_a_token_of_a_sweep_that_expires() -> None:
    """
    It goes on from the last event that it has seen.
    """
    made = progress()
    sweep = Sweep(query=query(), progress=made, late_ms=LATE_MS, whole_ms=START_MS)
    made.reach_ms = now_ms = START_MS + LATE_MS
    assert sweep.begin(now_ms)
    sweep.take([item(START_MS, late_ms=OVERLAP_MS)], "token", now_ms=now_ms)
    sweep.restart()
    assert sweep.begin(now_ms + 1)
    assert (sweep.start_ms, sweep.token) == (START_MS, "")
