"""
Values made once for an object.
"""

from __future__ import annotations

import weakref

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
    By number and by bytes; what was made of the oldest object goes first.
    """
    things = [Thing(str(index)) for index in range(50)]
    few: Once[Thing, str] = Once(
        lambda thing, *texts: thing.name + "".join(texts), size=len, entries_max=3
    )
    for thing in things:
        assert few.get(thing) == thing.name
        assert len(few) <= 3
    for index in range(50):
        assert few.get(things[0], (str(index),)) == f"0{index}"
        assert len(few) <= 3
    small: Once[Thing, str] = Once(lambda thing: thing.name, size=len, bytes_max=100)
    large = [Thing("x" * length) for length in (40, 40, 40, 90, 500, 20)]
    for thing in large:
        assert small.get(thing) == thing.name
    assert len(small) == 1
    assert small.get(things[0]) == "0"
    assert len(small) == 2


def test_a_value_goes_with_its_object() -> None:
    """
    Nothing of a pod that is gone is held; another object where it was is another.
    """
    known: Once[Thing, str] = Once(lambda thing, *texts: thing.name + "".join(texts), size=len)
    kept = Thing("kept")
    known.get(kept)
    for index in range(50):
        thing = Thing(str(index))
        gone = weakref.ref(thing)
        assert known.get(thing) == str(index)
        assert known.get(thing, ("a",)) == f"{index}a"
        assert len(known) == 3
        del thing
        assert gone() is None
        assert len(known) == 1
    assert known.get(kept) == "kept"


def test_what_was_dropped_may_go_later() -> None:
    """
    An object whose values had to make room dies as any other.
    """
    known: Once[Thing, str] = Once(lambda thing: thing.name, size=len, entries_max=1)
    first, second = Thing("first"), Thing("second")
    assert [known.get(first), known.get(second)] == ["first", "second"]
    del first
    assert len(known) == 1
    del second
    assert len(known) == 0


def test_an_object_may_go_while_a_value_is_made() -> None:
    """
    Anything can drop the last reference, at any time: a thread that is done with a segment, too.
    """
    things = [Thing(str(index)) for index in range(6)]

    def make(thing: Thing) -> str:
        if len(things) > 1:
            del things[0]
        return thing.name

    known: Once[Thing, str] = Once(make, size=len, entries_max=2)
    kept = Thing("kept")
    for _ in range(3):
        known.get(things[-1])
        known.get(things[0])
        known.get(kept)
    assert known.get(kept) == "kept"
    del things[:]
    assert len(known) == 1
    del kept
    assert len(known) == 0
