"""
The budget: bounded in sum, and a greedy route never takes another one's minimum.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.budget import SEGMENT_BYTES, Budget, Charge
from agent.core.counters import Counters
from agent.core.resolve import Resolver
from tests.core.test_ledger import segment


def test_a_full_route_leaves_the_minimum_of_the_others() -> None:
    """
    A route that never gives back stops at its minimum and the common part; the other still gets its own.
    """
    budget = Budget(1000, ("dead", "alive"))
    charges = []
    while (charge := budget.shares["dead"].take(50)) is not None:
        charges.append(charge)
    assert budget.shares["dead"].held == 750
    taken = 0
    while budget.shares["alive"].take(50) is not None:
        taken += 50
    assert taken == 250
    assert budget.held == budget.size


def test_a_chunk_larger_than_the_minimum_is_admitted_alone() -> None:
    """
    A very long line must not wait for ever: a route that holds nothing gets any chunk.
    """
    budget = Budget(1000, ("a", "b"))
    charge = budget.shares["a"].take(5000)
    assert charge is not None
    assert budget.shares["a"].take(1) is None
    assert budget.shares["b"].take(250) is not None
    charge.release()
    assert budget.shares["a"].take(1) is not None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 400), st.booleans()), max_size=40))
def test_sums_stay_true(steps: list[tuple[str, int, bool]]) -> None:
    """
    Whatever is taken, resized and released: what is held is the sum of the charges.

    The common part is what exceeds the minimums.
    """
    budget = Budget(1000, ("a", "b"))
    charges: list[Charge] = []
    for name, size, give_back in steps:
        if give_back and charges:
            charges.pop(0).release()
        else:
            charge = budget.shares[name].take(size)
            if charge is not None:
                charges.append(charge)
                charge.resize(size // 2)
        assert budget.held == sum(charge.held for charge in charges)
        assert budget.common_held == sum(
            max(0, share.held - share.guaranteed) for share in budget.shares.values()
        )
    for charge in charges:
        charge.release()
    assert budget.held == budget.common_held == 0


def test_unresolved_segments_cost_what_they_hold() -> None:
    """
    Its objects hold more than the columns of a short line: the ledgers are charged for them until it is resolved.
    """
    share = Budget(1 << 20, ("r",)).shares["r"]
    resolver = Resolver("r", {}, Counters(), share)
    segments = [segment(start, start + 10, 1) for start in range(0, 100, 10)]
    for item in segments:
        resolver.track(item)
    assert share.held == 10 * SEGMENT_BYTES
    for item in segments[1:]:
        resolver.delivered(item, 1)
    assert share.held == 10 * SEGMENT_BYTES, "they wait behind the first one"
    resolver.delivered(segments[0], 1)
    assert share.held == 0
    resolver.track(segment(100, 110, 1))
    resolver.close()
    assert share.held == 0


def test_a_share_that_is_short_says_so() -> None:
    """
    From the chunk that found no room to the one that does.
    """
    share = Budget(1000, ("a", "b")).shares["a"]
    charge = share.take(700)
    assert charge is not None
    assert not share.short
    assert share.take(100) is None
    assert share.short
    charge.release()
    assert share.take(100) is not None
    assert not share.short
