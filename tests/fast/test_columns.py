"""
Columns: rows of unwanted streams are taken out before anybody else holds them.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent._fastparse import FLAG_STREAM_MASK, Columns

NAMES = ("time_ns", "offset", "time_start", "message_start", "message_len", "flags", "time_len")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), max_size=30), st.integers(0, 7))
def test_dropping_streams_keeps_the_others_as_they_were(
    rows: list[tuple[int, int]], streams: int
) -> None:
    """
    What is left are the rows of the other streams, in their order, with all their columns.
    """
    data = bytes(100)
    made = [(n, n * 2, n, 3, n + 5, size, stream | 0x10) for n, (stream, size) in enumerate(rows)]
    columns = Columns.build(data, made)
    kept = [row for row in made if not streams >> (row[6] & FLAG_STREAM_MASK) & 1]
    assert columns.drop_streams(streams) == len(made) - len(kept)
    assert columns.rows == len(kept)
    assert columns.message_bytes == sum(row[5] for row in kept)
    found = list(zip(*(columns.column(name).tolist() for name in NAMES), strict=True))
    assert found == [(t, o, ts, ms, ml, f, tl) for t, o, ts, tl, ms, ml, f in kept]
