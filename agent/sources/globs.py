"""
Glob patterns, matched directory by directory.

`*`, `?` and `[…]` match within one component; a component `**` matches any number of directories.
A directory carries the places that patterns have reached in it, so a walk enters only directories
that can hold a match, and a new file needs one comparison a pattern.

No I/O.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

#: (index of the pattern, index of the component that names in this directory are compared with).
Places = frozenset[tuple[int, int]]

_MAGIC = re.compile(r"[*?[]")


class Globs:
    """
    Patterns over absolute paths, and exclusions.
    """

    __slots__ = ("_excluded", "_parts", "roots")

    def __init__(self, patterns: tuple[str, ...], exclude: tuple[str, ...] = ()) -> None:
        self._parts: list[list[re.Pattern[str] | None]] = []
        #: Longest literal directories, with the places that the patterns have there.
        self.roots: dict[str, Places] = {}
        self._excluded = [_components(pattern.split("/")[1:]) for pattern in exclude]
        for number, pattern in enumerate(patterns):
            components = pattern.split("/")[1:]
            literal = 0
            while literal < len(components) - 1 and not _MAGIC.search(components[literal]):
                literal += 1
            root = "/" + "/".join(components[:literal])
            self._parts.append(_components(components))
            places = self._closed({(number, literal)})
            self.roots[root] = self.roots.get(root, frozenset()) | places

    def enter(self, places: Places, name: str) -> Places:
        """
        Return the places in the subdirectory *name*; empty where nothing in it can match.
        """
        reached = set()
        for pattern, index in places:
            parts = self._parts[pattern]
            part = parts[index]
            if part is None:
                reached.add((pattern, index))
            elif index + 1 < len(parts) and part.match(name):
                reached.add((pattern, index + 1))
        return self._closed(reached)

    def may_match(self, path: str) -> bool:
        """
        Whether *path* lies below a literal directory of a pattern.
        """
        return path.startswith(tuple(root.rstrip("/") + "/" for root in self.roots))

    def places_of(self, directory: str) -> Places:
        """
        Return the places that the patterns have in *directory*, by its path alone.
        """
        found: set[tuple[int, int]] = set()
        for root, places in self.roots.items():
            prefix = root.rstrip("/") + "/"
            if directory == root:
                found |= places
            elif directory.startswith(prefix):
                for name in directory[len(prefix) :].split("/"):
                    places = self.enter(places, name)  # noqa: PLW2901 - walks down from the root
                found |= places
        return frozenset(found)

    def wants(self, directory: str, places: Places, name: str) -> bool:
        """
        Whether the file *name* in *directory* matches.
        """
        for pattern, index in places:
            parts = self._parts[pattern]
            part = parts[index]
            if part is not None and index == len(parts) - 1 and part.match(name):
                path = [*directory.strip("/").split("/"), name]
                return not any(_matches(excluded, path) for excluded in self._excluded)
        return False

    def _closed(self, places: set[tuple[int, int]]) -> Places:
        closed = set(places)
        for pattern, start in places:
            index = start
            while index < len(self._parts[pattern]) - 1 and self._parts[pattern][index] is None:
                index += 1
                closed.add((pattern, index))
        return frozenset(closed)


def _components(parts: list[str]) -> list[re.Pattern[str] | None]:
    return [None if part == "**" else re.compile(fnmatch.translate(part)) for part in parts]


def _matches(pattern: list[re.Pattern[str] | None], path: list[str]) -> bool:
    if not pattern:
        return not path
    part = pattern[0]
    if part is None:
        return any(_matches(pattern[1:], path[skip:]) for skip in range(len(path) + 1))
    return bool(path) and bool(part.match(path[0])) and _matches(pattern[1:], path[1:])


def sees(blind: Collection[str], directory: str) -> bool:
    """
    Whether *directory* is neither blind nor below a directory that is.
    """
    while directory not in blind:
        above = posixpath.dirname(directory)
        if above == directory:
            return True
        directory = above
    return False
