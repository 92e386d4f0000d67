"""
The batcher: when a pile is due, in which order, and that nothing gets lost or out of order in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.core.batcher import Batcher


@dataclass
class Named:
    """
    As much of a segment as the batcher knows.
    """

    name: object
    rows_left: int = 0
    encoded: int = 0


def segment(name: object) -> Any:
    return Named(name)


def names(waiting: list[Any]) -> list[Any]:
    return [item.segment.name for item in waiting]


def make(**limits: Any) -> Any:
    return Batcher(**({"bytes_max": 100, "events_max": 10, "linger_s": 5.0} | limits))


def due(batcher: Any, now: float, **options: Any) -> Any:
    return batcher.due(now, **({"count_max": 99, "busy": lambda _key: False} | options))


def test_a_pile_is_due_when_it_is_old():
    batcher = make()
    batcher.add("a", segment(1), bytes=1, events=1, now=10.0)
    assert due(batcher, 14.9) == []
    assert due(batcher, 15.0) == ["a"]
    assert due(batcher, 15.0, stretch=2.0) == []
    assert due(batcher, 20.0, stretch=2.0) == ["a"]


def test_the_age_is_that_of_the_oldest_segment():
    batcher = make()
    batcher.add("a", segment(1), bytes=1, events=1, now=10.0)
    batcher.add("a", segment(2), bytes=1, events=1, now=14.0)
    assert batcher.oldest() == 10.0
    assert due(batcher, 15.0) == ["a"]


def test_a_pile_is_due_when_it_is_full_by_bytes_or_events():
    batcher = make()
    batcher.add("bytes", segment(1), bytes=100, events=1, now=0.0)
    batcher.add("events", segment(2), bytes=1, events=10, now=0.0)
    batcher.add("neither", segment(3), bytes=99, events=9, now=0.0)
    assert due(batcher, 0.0) == ["bytes", "events"]


def test_everything_is_due_oldest_first_when_asked():
    batcher = make()
    for second, key in enumerate("cab"):
        batcher.add(key, segment(key), bytes=1, events=1, now=float(second))
    assert due(batcher, 3.0, everything=True) == ["c", "a", "b"]
    assert due(batcher, 3.0, everything=True, count_max=2) == ["c", "a"]
    assert due(batcher, 3.0, everything=True, busy=lambda key: key == "c") == ["a", "b"]


def test_busy_destinations_stay_due():
    batcher = make()
    batcher.add("a", segment(1), bytes=100, events=1, now=0.0)
    assert due(batcher, 9.0, busy=lambda _key: True) == []
    assert due(batcher, 9.0) == ["a"]


def test_taking_stops_at_the_limits_and_the_rest_keeps_its_age():
    batcher = make()
    for number in range(5):
        batcher.add("a", segment(number), bytes=60, events=1, now=float(number))
    assert names(batcher.take("a")) == [0, 1]
    assert batcher.oldest() == 2.0
    assert due(batcher, 2.0) == ["a"]
    assert names(batcher.take("a")) == [2, 3]
    assert due(batcher, 2.0) == []
    assert names(batcher.take("a")) == [4]
    assert "a" not in batcher
    assert batcher.oldest() is None


def test_a_segment_larger_than_the_limits_is_taken_alone():
    batcher = make()
    batcher.add("a", segment(1), bytes=1000, events=1000, now=0.0)
    batcher.add("a", segment(2), bytes=1, events=1, now=0.0)
    assert names(batcher.take("a")) == [1]
    assert names(batcher.take("a")) == [2]


def test_what_is_put_back_goes_first_with_its_age_and_the_size_of_what_is_left():
    batcher = make()
    for number in range(3):
        batcher.add("a", segment(number), bytes=60, events=4, now=float(number))
    taken = batcher.take("a")
    assert batcher.fills(taken)
    taken[1].segment.rows_left = 1
    batcher.put_back("a", [taken[1].rest(soon=0.5)])
    assert batcher.oldest() == 1.0
    assert due(batcher, 2.0) == []
    batcher.add("a", segment(3), bytes=25, events=1, now=3.0)
    assert due(batcher, 3.0) == ["a"]
    assert names(batcher.take("a")) == [1, 2, 3]
    batcher.put_back("a", [])
    assert "a" not in batcher


def test_what_is_left_of_a_segment_that_is_on_its_way_is_due_soon():
    batcher = make()
    batcher.add("a", segment(1), bytes=120, events=4, now=10.0)
    (waiting,) = batcher.take("a")
    waiting.segment.rows_left, waiting.segment.encoded = 1, 3
    batcher.put_back("a", [waiting.rest(soon=6.0)])
    assert due(batcher, 10.9) == []
    assert due(batcher, 11.0) == ["a"]
    assert waiting.rest(soon=12.0).since == 10.0
    assert waiting.rest(soon=6.0).bytes == 30


def test_clearing_returns_everything():
    batcher = make()
    for key in "ab":
        batcher.add(key, segment(key), bytes=100, events=1, now=0.0)
    assert [item.name for item in batcher.clear()] == ["a", "b"]
    assert not len(batcher)
    assert due(batcher, 99.0) == []


class Model(RuleBasedStateMachine):
    """
    The batcher against lists.
    """

    def __init__(self) -> None:
        super().__init__()
        self.batcher = make()
        self.model: dict[str, list[tuple[int, int, int, float]]] = {}
        self.now = 0.0
        self.number = 0

    @rule(
        key=st.sampled_from("abcd"),
        size=st.integers(0, 150),
        events=st.integers(1, 15),
        step=st.floats(0, 3),
    )
    def add(self, key, size, events, step):
        self.now += step
        self.number += 1
        self.batcher.add(key, segment(self.number), bytes=size, events=events, now=self.now)
        self.model.setdefault(key, []).append((self.number, size, events, self.now))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def take(self, data):
        key = data.draw(st.sampled_from(sorted(self.model)))
        taken = self.batcher.take(key)
        pile = self.model[key]
        assert names(taken) == [item[0] for item in pile[: len(taken)]]
        assert taken
        assert len(taken) == len(pile) or self.batcher.fills(taken)
        # The last one is there because those before did not fill a payload.
        assert sum(item[1] for item in pile[: len(taken) - 1]) < 100
        assert sum(item[2] for item in pile[: len(taken) - 1]) < 10
        kept = data.draw(st.integers(0, len(taken) - 1))
        rest = taken[len(taken) - kept :]
        if rest:
            rest[0].segment.rows_left = data.draw(st.integers(1, rest[0].events))
            rest[0] = rest[0].rest(self.now)
        self.batcher.put_back(key, rest)
        pile[: len(taken)] = [(*names([item]), *item[1:]) for item in rest]
        if not pile:
            del self.model[key]

    @rule(busy=st.sets(st.sampled_from("abcd")), stretch=st.sampled_from([1.0, 3.0]))
    def look(self, busy, stretch):
        found = due(self.batcher, self.now, busy=busy.__contains__, stretch=stretch)
        assert len(found) == len(set(found))
        expected = {
            key
            for key, pile in self.model.items()
            if key not in busy
            and (
                sum(item[1] for item in pile) >= 100
                or sum(item[2] for item in pile) >= 10
                or self.now >= pile[0][3] + 5.0 * stretch
            )
        }
        assert set(found) == expected

    @invariant()
    def the_oldest_is_the_oldest(self):
        oldest = min((pile[0][3] for pile in self.model.values()), default=None)
        assert self.batcher.oldest() == oldest
        assert len(self.batcher) == len(self.model)


Model.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestModel = Model.TestCase
