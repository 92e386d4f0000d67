"""
Times as the runtimes write them, for both implementations.
"""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _reference_lines
from agent._fastparse import FLAG_INVALID, FLAG_READ_TIME, FORMAT_CRI
from tests.fast.support import PARSERS, parse

TIME_NS = 1_795_374_001_500_000_000
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - without a zone, as hypothesis draws them

both = pytest.mark.parametrize("make", PARSERS)


TIMES = [
    (b"1970-01-01T00:00:00Z", 0),
    (b"2026-11-22T19:00:01.5Z", TIME_NS),
    (b"2026-11-22T21:30:01.5+02:30", TIME_NS),
    (b"2026-11-22T18:59:01.5-00:01", TIME_NS),
    (b"2024-02-29T00:00:00.000000001Z", 1_709_164_800_000_000_001),
    (b"2000-12-31T23:59:60Z", 978_307_200_000_000_000),
    (b"2262-04-11T23:47:16.854775807Z", 2**63 - 1),
    (b"2262-04-11T23:47:16.854775808Z", None),
    (b"2262-04-11T23:47:17Z", None),
    (b"1969-12-31T23:59:59Z", None),
    (b"1970-01-01T00:00:00+00:01", None),
    (b"2026-02-29T00:00:00Z", None),
    (b"2026-13-01T00:00:00Z", None),
    (b"2026-00-01T00:00:00Z", None),
    (b"2026-11-00T00:00:00Z", None),
    (b"2026-11-22T24:00:00Z", None),
    (b"2026-11-22T19:60:00Z", None),
    (b"2026-11-22T19:00:61Z", None),
    (b"2026-11-22T19:00:01.Z", None),
    (b"2026-11-22T19:00:01.1234567890Z", None),
    (b"2026-11-22T19:00:01", None),
    (b"2026-11-22T19:00:01z", None),
    (b"2026-11-22 19:00:01Z", None),
    (b"2026-11-22T19:00:01+0200", None),
    (b"2026-11-22T19:00:01+24:00", None),
    (b"2026-11-22T19:00:01+00:60", None),
    (b"2026-11-22T19:00:0xZ", None),
]


@both
@pytest.mark.parametrize(("text", "expected"), TIMES)
def test_times(make, text, expected):
    """
    What a runtime writes is read exactly; what cannot be is no time, in whichever minute it follows.
    """
    before = b"2026-11-22T19:00:01Z stdout F x\n"
    for lines in (b"%s stdout F x\n", before + b"%s stdout F x\n"):
        row = parse(make(format=FORMAT_CRI, line_bytes_max=1_000), lines % text)[-1]
        if expected is None:
            assert row.flags == FLAG_INVALID | FLAG_READ_TIME
        else:
            assert (row.time_ns, row.time, row.flags) == (expected, text, 1)


@both
@given(
    st.datetimes(EPOCH + dt.timedelta(days=1), EPOCH + dt.timedelta(days=106_000)),
    st.integers(0, 9),
    st.integers(-1439, 1439),
)
def test_any_time(make, time, digits, zone_minutes):
    """
    Python's calendar agrees, whatever the number of digits and the zone.
    """
    zone = f"{'-' if zone_minutes < 0 else '+'}{abs(zone_minutes) // 60:02}:{abs(zone_minutes) % 60:02}"
    fraction = f"{time.microsecond:06}000"[:digits]
    text = time.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "") + zone
    seconds = (time.replace(microsecond=0) - EPOCH) // dt.timedelta(seconds=1)
    expected = (seconds - zone_minutes * 60) * 10**9 + int(fraction.ljust(9, "0"))
    (row,) = parse(make(format=FORMAT_CRI, line_bytes_max=1_000), text.encode() + b" stdout F x\n")
    assert row.time_ns == expected
    assert _reference_lines.read_time(text.encode()) == expected
