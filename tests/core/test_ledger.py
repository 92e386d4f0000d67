"""
The ledger: a cursor never passes an unresolved row, in whatever order rows are settled.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.batch import Resource, Segment
from agent.core.budget import Budget
from agent.core.cursor import StreamCursor, cursor_at
from agent.core.ledger import Ledger


def segment(
    start: int, stop: int, rows: int, *, generation: int = 0, stdout: int | None = None
) -> Segment:
    """
    A segment of *rows* rows; *stdout* is where an open row of stdout holds its stream.
    """
    cursor = cursor_at(generation, stop)
    if stdout is not None:
        cursor = (cursor[0], StreamCursor(generation, stdout), cursor[2])
    share = Budget(1024, ("r",)).shares["r"]
    charge = share.take(1)
    assert charge is not None
    return Segment(
        log="a.log",
        generation=generation,
        file_id="0" * 32,
        start=start,
        stop=stop,
        resource=Resource(path="a.log"),
        columns=None,
        cursor_after=cursor,
        read_ns=0,
        charge=charge,
        rows=rows,
    )


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.data())
def test_committed_is_the_longest_resolved_prefix(rows: list[int], data: st.DataObject) -> None:
    """
    After any order of settling, `committed` is the end of the longest prefix without open rows.
    """
    ledger = Ledger(cursor_at(0, 0))
    segments = [segment(i * 10, i * 10 + 10, count) for i, count in enumerate(rows)]
    for item in segments:
        ledger.track(item)
    events = data.draw(st.permutations([i for i, count in enumerate(rows) for _ in range(count)]))
    open_rows = list(rows)
    for index in events:
        ledger.settle(segments[index], 1)
        open_rows[index] -= 1
        prefix = next((i for i, count in enumerate(open_rows) if count), len(rows))
        assert ledger.committed == cursor_at(0, prefix * 10)
        assert ledger.unresolved_bytes == (len(rows) - prefix) * 10
    assert ledger.idle


def test_open_row_of_one_stream_holds_only_that_stream() -> None:
    """
    A resolved segment that leaves a piece of stdout open commits stdout at the piece, the others behind it.
    """
    ledger = Ledger(cursor_at(0, 0))
    item = segment(0, 100, 1, stdout=40)
    ledger.track(item)
    assert ledger.settle(item, 1)
    assert ledger.committed == (StreamCursor(0, 100), StreamCursor(0, 40), StreamCursor(0, 100))


def test_segments_without_rows_resolve_in_their_turn() -> None:
    """
    A stretch of a discarded line commits only when everything before it has.
    """
    ledger = Ledger(cursor_at(0, 0))
    first, second = segment(0, 10, 1), segment(10, 20, 0)
    ledger.track(first)
    ledger.track(second)
    assert ledger.committed == cursor_at(0, 0)
    ledger.settle(first, 1)
    assert ledger.committed == cursor_at(0, 20)


@pytest.mark.parametrize(("start", "generation"), [(11, 0), (9, 0), (5, 1)])
def test_a_gap_is_a_broken_invariant(start: int, generation: int) -> None:
    """
    Segments tile the chain: a gap, an overlap or a generation begun in its middle stops the run.
    """
    ledger = Ledger(cursor_at(0, 0))
    ledger.track(segment(0, 10, 1))
    with pytest.raises(AssertionError, match="does not continue"):
        ledger.track(segment(start, 30, 1, generation=generation))


def test_settling_too_many_rows_is_a_broken_invariant() -> None:
    """
    A row settled twice would let the cursor pass one that is still open.
    """
    ledger = Ledger(cursor_at(0, 0))
    item = segment(0, 10, 2)
    ledger.track(item)
    ledger.settle(item, 1)
    with pytest.raises(AssertionError):
        ledger.settle(item, 2)
