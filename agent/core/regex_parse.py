r"""
Patterns of regular expressions to a tree; core/regex.py says what they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from agent._fastregex import (
    PLACE_BEGIN,
    PLACE_END,
    PLACE_LINE_BEGIN,
    PLACE_LINE_END,
    PLACE_NO_WORD,
    PLACE_WORD,
)

REPEAT_MAX = 1_000
GROUPS_MAX = 32
DEPTH_MAX = 100

_ASCII = (1 << 128) - 1


def bits_of(*ranges: tuple[int, int]) -> int:
    """
    Return a set of bytes, as bits, out of ranges.
    """
    return sum(((1 << (high - low + 1)) - 1) << low for low, high in ranges)


_DIGITS = bits_of((48, 57))
_WORDS = bits_of((48, 57), (65, 90), (95, 95), (97, 122))
_SPACES = bits_of((9, 13), (32, 32))
_CLASSES = {"d": _DIGITS, "w": _WORDS, "s": _SPACES}
_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "a": 7}
_PLACES = {"A": PLACE_BEGIN, "z": PLACE_END, "Z": PLACE_END, "b": PLACE_WORD, "B": PLACE_NO_WORD}


class RegexError(ValueError):
    """
    What is wrong with a pattern, and where: the last two lines show the place.
    """

    def __init__(self, problem: str, pattern: str, position: int) -> None:
        shown = pattern.replace("\n", " ").replace("\t", " ")
        super().__init__(f"{problem}\n    {shown}\n    {' ' * position}^")


class Node(NamedTuple):
    """
    A part of a pattern: `kind` and what belongs to it.
    """

    kind: str  # bytes, any, cat, alt, repeat, group, place, empty
    parts: tuple[Node, ...] = ()
    bits: int = 0  # of bytes: the ASCII ones; of place: which
    wide: bool = False  # of any: characters above ASCII as well
    low: int = 0
    high: int = -1  # -1: without end
    lazy: bool = False


_EMPTY = Node("empty")


@dataclass(slots=True)
class Parser:
    """
    Recursive descent over a pattern.
    """

    pattern: str
    position: int = 0
    depth: int = 0
    fold: bool = False
    dot_all: bool = False
    lines: bool = False
    #: Names of the groups, "" for those without.
    names: list[str] = field(default_factory=list)

    def whole(self) -> Node:
        while self.pattern.startswith("(?", self.position):
            stop = self.pattern.find(")", self.position)
            flags = self.pattern[self.position + 2 : stop]
            if stop < 0 or not flags or set(flags) - set("ism"):
                break
            self.fold |= "i" in flags
            self.dot_all |= "s" in flags
            self.lines |= "m" in flags
            self.position = stop + 1
        made = self._alternation()
        if self.position < len(self.pattern):
            raise self._wrong("a closing parenthesis without an opening one")
        return made

    def _wrong(self, problem: str, position: int | None = None) -> RegexError:
        return RegexError(problem, self.pattern, self.position if position is None else position)

    def _peek(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def _alternation(self) -> Node:
        parts = [self._sequence()]
        while self._peek() == "|":
            self.position += 1
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else Node("alt", tuple(parts))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while (character := self._peek()) and character not in "|)":
            parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else Node("cat", tuple(parts)) if parts else _EMPTY

    def _repeated(self, node: Node) -> Node:
        start = self.position
        bounds = self._bounds()
        if bounds is None:
            return node
        if node.kind == "place":
            raise self._wrong("nothing to repeat: this is a place", start)
        lazy = self._peek() == "?"
        self.position += lazy
        if self._bounds() is not None:
            raise self._wrong("a repetition of a repetition", self.position - 1)
        return Node("repeat", (node,), low=bounds[0], high=bounds[1], lazy=lazy)

    def _bounds(self) -> tuple[int, int] | None:
        simple = {"*": (0, -1), "+": (1, -1), "?": (0, 1)}.get(self._peek())
        if simple is not None:
            self.position += 1
            return simple
        if self._peek() != "{":
            return None
        stop = self.pattern.find("}", self.position)
        low, comma, high = self.pattern[self.position + 1 : max(stop, 0)].partition(",")
        if stop < 0 or not low.isdecimal() or not (high.isdecimal() or not high):
            return None  # A brace that means itself.
        bounds = (int(low), int(high) if high else -1 if comma else int(low))
        if max(bounds) > REPEAT_MAX or 0 <= bounds[1] < bounds[0]:
            raise self._wrong(f"a repetition from low to high, at most {REPEAT_MAX}")
        self.position = stop + 1
        return bounds

    def _atom(self) -> Node:
        character = self._peek()
        self.position += 1
        if character == "(":
            return self._group()
        if character == "[":
            return self._class()
        if character == ".":
            return Node(
                "any", bits=_ASCII if self.dot_all else _ASCII & ~bits_of((10, 10)), wide=True
            )
        if character == "^":
            return Node("place", bits=PLACE_LINE_BEGIN if self.lines else PLACE_BEGIN)
        if character == "$":
            return Node("place", bits=PLACE_LINE_END if self.lines else PLACE_END)
        if character in "*+?":
            raise self._wrong("nothing to repeat", self.position - 1)
        if character == "\\":
            return self._escape()
        return self._literal(character)

    def _literal(self, character: str) -> Node:
        if self.fold and character.isascii() and character.isalpha():
            lower, upper = ord(character.lower()), ord(character.upper())
            return Node("bytes", bits=1 << lower | 1 << upper)
        parts = tuple(Node("bytes", bits=1 << byte) for byte in character.encode())
        return parts[0] if len(parts) == 1 else Node("cat", parts)

    def _group(self) -> Node:
        start = self.position - 1
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise self._wrong(f"more than {DEPTH_MAX} groups in one another", start)
        number = 0
        if self._peek() == "?":
            rest = self.pattern[self.position : self.position + 2]
            if rest == "?:":
                self.position += 2
            else:
                named = self.pattern.startswith(("?P<", "?<"), self.position)
                opened = self.pattern.find("<", self.position) + 1
                closed = self.pattern.find(">", self.position)
                name = self.pattern[opened : max(closed, 0)]
                if not named or not name.replace(".", "_").isidentifier() or name in self.names:
                    problem = "expected (?:…), (?P<name>…) or, at the beginning, (?i): look-around is not linear"
                    raise self._wrong(problem, start)
                self.position = closed + 1
                number = self._number(name, start)
        else:
            number = self._number("", start)
        made = self._alternation()
        if self._peek() != ")":
            raise self._wrong("a group without its closing parenthesis", start)
        self.position += 1
        self.depth -= 1
        return Node("group", (made,), low=number) if number else made

    def _number(self, name: str, start: int) -> int:
        if len(self.names) == GROUPS_MAX:
            raise self._wrong(f"more than {GROUPS_MAX} groups: use (?:…)", start)
        self.names.append(name)
        return len(self.names)

    def _escape(self) -> Node:
        start = self.position - 1
        character = self._peek()
        self.position += 1
        if character.lower() in _CLASSES:
            bits = _CLASSES[character.lower()]
            if character.isupper():
                return Node("any", bits=_ASCII & ~bits, wide=True)
            return Node("bytes", bits=bits)
        if character in _PLACES:
            return Node("place", bits=_PLACES[character])
        return self._literal(self._escaped(character, start))

    def _escaped(self, character: str, start: int) -> str:
        if character in _CONTROLS:
            return chr(_CONTROLS[character])
        if character == "x":
            digits = self.pattern[self.position : self.position + 2]
            self.position += 2
            try:
                value = int(digits, 16) if len(digits) == 2 else 256
            except ValueError:
                value = 256
            if value < 128:
                return chr(value)
            raise self._wrong(r"expected \x and two hexadecimal digits below 80", start)
        if not character or character.isalnum():
            raise self._wrong("means nothing behind a backslash here", start)
        return character

    def _class(self) -> Node:
        start = self.position - 1
        negated = self._peek() == "^"
        self.position += negated
        bits, others = 0, list[str]()
        first = True
        while first or self._peek() != "]":
            low = self._class_item(start)
            first = False
            if isinstance(low, int):
                bits |= low
                continue
            high: str | int = low
            if self._peek() == "-" and self.pattern[self.position + 1 : self.position + 2] != "]":
                self.position += 1
                high = self._class_item(start)
            if isinstance(high, int) or high < low or (high != low and not high.isascii()):
                raise self._wrong(
                    "a range of ASCII characters, from low to high", self.position - 1
                )
            if low.isascii():
                bits |= bits_of((ord(low), ord(high)))
            else:
                others.append(low)
        self.position += 1
        if self.fold:
            letters = bits & bits_of((65, 90), (97, 122))
            bits |= (letters & bits_of((65, 90))) << 32 | (letters & bits_of((97, 122))) >> 32
        if not negated:
            parts = [Node("bytes", bits=bits)] if bits else []
            parts += [self._literal(other) for other in others]
            return parts[0] if len(parts) == 1 else Node("alt", tuple(parts))
        if others:
            raise self._wrong("a negated class of ASCII characters", start)
        return Node("any", bits=_ASCII & ~bits, wide=True)

    def _class_item(self, start: int) -> str | int:
        """
        Return a character, or the bits of a class.
        """
        character = self._peek()
        if not character:
            raise self._wrong("a class without its closing bracket", start)
        self.position += 1
        if character != "\\":
            return character
        escaped = self._peek()
        self.position += 1
        if escaped in _CLASSES:
            return _CLASSES[escaped]
        if escaped.lower() in _CLASSES:
            return _ASCII & ~_CLASSES[escaped.lower()]
        return "\b" if escaped == "b" else self._escaped(escaped, self.position - 2)
