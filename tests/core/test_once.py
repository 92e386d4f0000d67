"""
Values made once for an object.
"""

from __future__ import annotations

from agent.core.once import Once


class Thing:
    """
    Equal to every other.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing)

    def __hash__(self) -> int:
        raise AssertionError("nobody asks for the value of a key")


def test_a_value_is_made_once_for_an_object() -> None:
    made: list[str] = []

    def make(thing: Thing) -> str:
        made.append(thing.name)
        return thing.name

    known: Once[Thing, str] = Once(make, size=len)
    one, other = Thing("one"), Thing("other")
    assert [known.get(item) for item in (one, other, one, other)] == ["one", "other"] * 2
    assert made == ["one", "other"]


def test_what_is_remembered_is_bounded() -> None:
    """
    By number and by bytes; an object of the same identity as one before is another.
    """
    few: Once[Thing, str] = Once(lambda thing: thing.name, size=len, entries_max=3)
    for index in range(50):
        assert few.get(Thing(str(index))) == str(index)
        assert len(few) <= 3
    small: Once[Thing, str] = Once(lambda thing: thing.name, size=len, bytes_max=100)
    for length in (40, 40, 40, 90, 500, 20):
        assert len(small.get(Thing("x" * length))) == length
    assert len(small) == 1
    assert small.get(Thing("y")) == "y"
    assert len(small) == 2
