"""
Where reads end and where a restart resumes changes no row.
"""

from __future__ import annotations

from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _fastparse, _reference
from tests.fast.support import PARSERS, logs, read_log

LIMITS = st.sampled_from([1, 2, 5, 30, 60, 2_000])
SIZES = st.lists(st.integers(0, 400), max_size=40)


@given(logs(), LIMITS)
def test_both_read_the_same(log, limit):
    """
    The compiled parser gives the rows and the cursor of the reference.
    """
    file_format, generations = log
    options = {"format": file_format, "line_bytes_max": limit}
    expected = read_log(lambda: _reference.Parser(**options), generations, [], [])
    assert read_log(lambda: _fastparse.Parser(**options), generations, [], []) == expected


@pytest.mark.parametrize("make", PARSERS)
@given(logs(), LIMITS, SIZES)
def test_any_split_is_the_whole(make, log, limit, sizes):
    """
    Reads of any sizes give the rows of one read.
    """
    file_format, generations = log

    def parser():
        return make(format=file_format, line_bytes_max=limit)

    assert read_log(parser, generations, sizes, []) == read_log(parser, generations, [], [])


@given(logs(), LIMITS)
def test_byte_by_byte_is_the_whole(log, limit):
    """
    A writer that is read after each of its bytes loses nothing.
    """
    file_format, generations = log

    def parser():
        return _fastparse.Parser(format=file_format, line_bytes_max=limit)

    assert read_log(parser, generations, repeat(1), []) == read_log(parser, generations, [], [])


@pytest.mark.parametrize("make", PARSERS)
@given(logs(), LIMITS, SIZES, st.lists(st.booleans(), max_size=40))
def test_a_restart_changes_nothing(make, log, limit, sizes, restarts):
    """
    Starting over from the cursor, after any read, gives each row exactly once.
    """
    file_format, generations = log

    def parser():
        return make(format=file_format, line_bytes_max=limit)

    assert read_log(parser, generations, sizes, restarts) == read_log(parser, generations, [], [])
