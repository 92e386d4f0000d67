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

#: A component of a pattern: a name, a pattern of names, or None for `**`.
Part = str | re.Pattern[str] | None

_MAGIC = re.compile(r"[*?[]")


class Globs:
    """
    Patterns over absolute paths, and exclusions.
    """

    __slots__ = ("_below", "_excluded", "_named", "_parts", "_wild", "roots")

    def __init__(self, patterns: tuple[str, ...], exclude: tuple[str, ...] = ()) -> None:
        self._parts: list[list[Part]] = []
        #: Patterns that end with a name, by that name: a replay can have thousands of them in a directory.
        self._named: dict[str, list[int]] = {}
        #: The others' last components, by the places of a directory.
        self._wild: dict[Places, list[re.Pattern[str]]] = {}
        roots: dict[str, set[tuple[int, int]]] = {}
        self._excluded = [_components(pattern.split("/")[1:]) for pattern in exclude]
        for number, pattern in enumerate(patterns):
            components = pattern.split("/")[1:]
            literal = 0
            while literal < len(components) - 1 and not _MAGIC.search(components[literal]):
                literal += 1
            root = "/" + "/".join(components[:literal])
            parts = _components(components)
            self._parts.append(parts)
            if isinstance(parts[-1], str):
                self._named.setdefault(parts[-1], []).append(number)
            roots.setdefault(root, set()).update(self._closed({(number, literal)}))
        #: Longest literal directories, with the places that the patterns have there.
        self.roots: dict[str, Places] = {root: frozenset(found) for root, found in roots.items()}
        self._below = tuple(root.rstrip("/") + "/" for root in roots)

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
            elif index + 1 < len(parts) and _fits(part, name):
                reached.add((pattern, index + 1))
        return self._closed(reached)

    def may_match(self, path: str) -> bool:
        """
        Whether *path* lies below a literal directory of a pattern.
        """
        return path.startswith(self._below)

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
        if not self._ends(places, name):
            return False
        path = [*directory.strip("/").split("/"), name]
        return not any(_matches(excluded, path) for excluded in self._excluded)

    def _ends(self, places: Places, name: str) -> bool:
        for number in self._named.get(name, ()):
            if (number, len(self._parts[number]) - 1) in places:
                return True
        wild = self._wild.get(places)
        if wild is None:
            last = [
                self._parts[number][index]
                for number, index in places
                if index == len(self._parts[number]) - 1
            ]
            wild = self._wild[places] = [part for part in last if isinstance(part, re.Pattern)]
        return any(part.match(name) for part in wild)

    def _closed(self, places: set[tuple[int, int]]) -> Places:
        closed = set(places)
        for pattern, start in places:
            index = start
            while index < len(self._parts[pattern]) - 1 and self._parts[pattern][index] is None:
                index += 1
                closed.add((pattern, index))
        return frozenset(closed)


def _components(parts: list[str]) -> list[Part]:
    return [_component(part) for part in parts]


def _component(text: str) -> Part:
    if text == "**":
        return None
    return re.compile(fnmatch.translate(text)) if _MAGIC.search(text) else text


def _fits(part: str | re.Pattern[str], name: str) -> bool:
    return part == name if isinstance(part, str) else bool(part.match(name))


def _matches(pattern: list[Part], path: list[str]) -> bool:
    if not pattern:
        return not path
    part = pattern[0]
    if part is None:
        return any(_matches(pattern[1:], path[skip:]) for skip in range(len(path) + 1))
    return bool(path) and _fits(part, path[0]) and _matches(pattern[1:], path[1:])


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
