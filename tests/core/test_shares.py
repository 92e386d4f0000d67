"""
Workers of a replay get whole Logs, in shares of about the same size, and keep what they have.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.shares import log_of, shared

SIZES = st.dictionaries(st.text("abcdef/", min_size=1), st.integers(0, 10**9), max_size=40)


def test_rotated_files_belong_to_the_log_of_their_live_one() -> None:
    for name in ("0.log", "0.log.20261122-101500", "0.log.20261121-090000.gz", "0.log.3"):
        assert log_of(f"/old/app/{name}") == "/old/app/0.log"
    assert log_of("/old/app/1.log") == "/old/app/1.log"
    assert log_of("/old/other/0.log") == "/old/other/0.log"


def test_the_largest_go_first() -> None:
    sizes = {"a": 10, "b": 9, "c": 8, "d": 1, "e": 1}
    plan = shared(sizes, 2, {})
    loads = [sum(sizes[log] for log in sizes if plan[log] == worker) for worker in range(2)]
    # a to one, b and c to the other, and the small ones to the one with less.
    assert sorted(loads) == [12, 17]


@given(SIZES, st.integers(1, 8))
def test_no_share_is_larger_than_the_largest_log_over_the_mean(
    sizes: dict[str, int], workers: int
) -> None:
    plan = shared(sizes, workers, {})
    assert plan.keys() == sizes.keys()
    loads = [0] * workers
    for log, worker in plan.items():
        loads[worker] += sizes[log]
    assert max(loads) <= sum(sizes.values()) / workers + max(sizes.values(), default=0)
    assert plan == shared(dict(reversed(sizes.items())), workers, {})


@given(SIZES, SIZES, st.integers(1, 5))
def test_what_was_given_away_stays(
    before: dict[str, int], after: dict[str, int], workers: int
) -> None:
    first = shared(before, workers, {})
    second = shared(after, workers, first)
    assert second.keys() == after.keys()
    assert all(second[log] == first[log] for log in after.keys() & before.keys())
