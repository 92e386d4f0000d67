"""
Patterns of paths against the standard library's, component by component.
"""

from __future__ import annotations

import fnmatch

from hypothesis import given
from hypothesis import strategies as st

from agent.sources.globs import Globs

COMPONENT = st.sampled_from(["a", "b", "ab", "*", "?", "a*", "[ab]", "**", "[", "a\n"])
NAME = st.sampled_from(["a", "b", "ab", "ba", "[", "a\n", "*"])
#: The last component names files.
PATTERN = st.tuples(st.lists(COMPONENT, max_size=3), COMPONENT.filter(lambda part: part != "**"))


def fits(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(fits(pattern[1:], path[skip:]) for skip in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and fits(pattern[1:], path[1:])


@given(
    patterns=st.lists(PATTERN, min_size=1, max_size=4), path=st.lists(NAME, min_size=1, max_size=4)
)
def test_a_file_is_wanted_where_a_pattern_fits(
    patterns: list[tuple[list[str], str]], path: list[str]
) -> None:
    """
    By the places of its directory, entered from the root or found by its path.
    """
    parts = [[*above, last] for above, last in patterns]
    globs = Globs(tuple("/" + "/".join(pattern) for pattern in parts))
    directory = "/" + "/".join(path[:-1])
    places = globs.places_of(directory)
    assert globs.wants(directory, places, path[-1]) == any(fits(part, path) for part in parts)


def test_thousands_of_names_in_one_directory_are_looked_up() -> None:
    """
    A replay of an archive names every file: comparing each name with each pattern took 1 ms a file of 5,000.
    """
    globs = Globs(tuple(f"/archive/{number}.log" for number in range(50_000)))
    (places,) = globs.roots.values()
    found = [globs.wants("/archive", places, f"{number}.log") for number in range(50_001)]
    assert found == [True] * 50_000 + [False]
