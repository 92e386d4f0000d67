"""
Carries: bounded whatever is open, and a route can always go on.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.budget import Budget, Charge
from agent.core.carries import CARRY_PART, Carries

BUDGET_BYTES = 4000
CHUNK_BYTES = 300


def test_the_largest_goes_first_and_the_spared_one_stays() -> None:
    """
    Only beyond the limit, one after the other; the row that is being completed is never dropped.
    """
    share = Budget(BUDGET_BYTES, ("r", "s")).shares["r"]
    carries: Carries[str] = Carries(share)
    for key, size in (("small", 100), ("large", 300), ("middle", 200)):
        carries.hold(key, size)
        assert carries.beyond(spared=()) == ("large" if carries.bytes > 500 else None)
    assert carries.beyond(spared=("large",)) == "middle"
    carries.hold("large", 900)
    carries.hold("middle", 0)
    carries.hold("small", 0)
    assert carries.beyond(spared=("large",)) is None
    assert (share.held, share.carried) == (900, 900)
    carries.clear()
    assert (share.held, share.carried, "large" in carries) == (0, 0, False)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["carry", "chunk", "deliver"]), st.integers(0, 5), st.integers(0, 2500)
    ),
    max_size=60,
)


@given(STEPS)
def test_nothing_deadlocks_and_what_is_carried_is_bounded(
    steps: list[tuple[str, int, int]],
) -> None:
    """
    Rows grow, chunks come and go in any order.

    Carries keep to their part but for the spared one; two routes keep to the budget but for one chunk and one row each.
    As soon as a sink has given everything back, its route gets a chunk, whatever is carried.
    """
    budget = Budget(BUDGET_BYTES, ("r", "s"))
    routes = [(share, Carries[int](share), list[Charge]()) for share in budget.shares.values()]
    for kind, key, size in steps:
        share, carries, chunks = routes[key % 2]
        if kind == "carry":
            carries.hold(key, size)
            while (largest := carries.beyond(spared=(key,))) is not None:
                assert largest != key
                carries.hold(largest, 0)
        elif kind == "chunk":
            charge = share.take(CHUNK_BYTES)
            if charge is not None:
                chunks.append(charge)
            assert charge is not None or chunks, "a route whose sink holds nothing must go on"
        elif chunks:
            chunks.pop().release()
        assert carries.bytes - max(carries._held.values(), default=0) <= carries.bytes_max
        assert carries.bytes_max == share.guaranteed // CARRY_PART
        assert share.carried == carries.bytes
        assert share.held == carries.bytes + sum(charge.held for charge in chunks)
        assert budget.held <= BUDGET_BYTES + 2 * (CHUNK_BYTES + 2500)
    for _, carries, chunks in routes:
        carries.clear()
        while chunks:
            chunks.pop().release()
    assert budget.held == budget.common_held == 0
