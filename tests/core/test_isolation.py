"""
Isolation: a place that keeps failing is read ever more carefully, then skipped; others are not touched.
"""

from __future__ import annotations

from agent.core.isolation import PLACES_MAX, Isolation, Place, Treatment


def test_a_place_is_retried_then_read_slowly_then_skipped() -> None:
    """
    Three failures at one place end in a skip; a fourth stays there.
    """
    isolation = Isolation()
    place = Place("a.log", 0, 10, 20)
    outcomes = [isolation.failed(place) for _ in range(4)]
    assert outcomes == [Treatment.PLAIN, Treatment.REFERENCE_PARSER, Treatment.SKIP, Treatment.SKIP]
    assert isolation.treatments() == [(place, Treatment.SKIP)]


def test_places_are_counted_apart() -> None:
    """
    One failure at each of two places isolates neither.
    """
    isolation = Isolation()
    isolation.failed(Place("a.log", 0, 10, 20))
    isolation.failed(Place("a.log", 0, 20, 30))
    assert isolation.treatments() == []


def test_the_memory_of_places_is_bounded() -> None:
    """
    The oldest place is forgotten first.
    """
    isolation = Isolation()
    for i in range(PLACES_MAX + 10):
        isolation.failed(Place("a.log", i, 0, 1))
        isolation.failed(Place("a.log", i, 0, 1))
    assert len(isolation.treatments()) <= PLACES_MAX


def test_a_place_that_grows_is_the_same_place() -> None:
    """
    The poison is in the last chunk of a file that grows between the runs: it is isolated all the same.
    """
    isolation = Isolation()
    outcomes = [isolation.failed(Place("a.log", 0, 10, stop)) for stop in (20, 30, 40)]
    assert outcomes == [Treatment.PLAIN, Treatment.REFERENCE_PARSER, Treatment.SKIP]
    assert isolation.treatments() == [(Place("a.log", 0, 10, 20), Treatment.SKIP)]


def test_only_what_places_have_in_common_is_skipped() -> None:
    """
    A checkpoint moved where the next run begins: bytes that it got through are not skipped.
    """
    isolation = Isolation()
    for start, stop in ((10, 30), (20, 40), (15, 45)):
        isolation.failed(Place("a.log", 0, start, stop))
    assert isolation.treatments() == [(Place("a.log", 0, 20, 30), Treatment.SKIP)]
