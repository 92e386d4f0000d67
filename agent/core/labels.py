"""
Kubernetes label selectors, parsed once and matched against the labels of a pod.

| text | matches where |
|---|---|
| `a=b` `a==b` | label a is b |
| `a!=b` | label a is not b, or absent |
| `a in (b,c)` | label a is b or c |
| `a notin (b,c)` | label a is neither, or absent |
| `a` | label a is there |
| `!a` | label a is absent |

Requirements are separated by commas, and all of them must hold; the empty selector matches everything.  Spaces
between words do not count.  An empty value is a value: `a=`, `a in (b,)`.

The same text as `kubectl -l` takes, so keys and values are checked as Kubernetes checks them: what could never
match is refused where it is written.  `<` and `>` of node selectors are not for labels of pods, and refused.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Kubernetes: a name and a value have at most 63 characters, the prefix of a key at most 253.
NAME_LENGTH_MAX = 63
PREFIX_LENGTH_MAX = 253

_TOKEN = re.compile(r"[ \t\r\n]*(?:(?P<word>[A-Za-z0-9_./-]+)|(?P<sign>==|!=|[=!,()])|(?P<end>$))")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")


class LabelSelectorError(ValueError):
    """
    A selector that cannot be parsed; `position` is the character where it goes wrong, from 0.
    """

    def __init__(self, text: str, position: int, reason: str) -> None:
        marked = f"{text[:position]}⟨here⟩{text[position:]}"
        super().__init__(f"{reason} at character {position + 1}: {marked}")
        self.position = position


class Operator(Enum):
    """
    What a requirement asks of one label.
    """

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "absent"


class Requirement(NamedTuple):
    """
    One condition on one label.
    """

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """
        Whether *labels* meet the condition.
        """
        value = labels.get(self.key)
        if self.operator is Operator.IN:
            return value is not None and value in self.values
        if self.operator is Operator.NOT_IN:
            return value is None or value not in self.values
        return (value is not None) is (self.operator is Operator.EXISTS)


class LabelSelector:
    """
    A parsed selector.
    """

    __slots__ = ("keys", "requirements", "text")

    def __init__(self, text: str) -> None:
        """
        Parse *text*; raises LabelSelectorError.
        """
        self.text = text
        self.requirements = _Parser(text).requirements()
        #: The labels that it looks at.
        self.keys = frozenset(item.key for item in self.requirements)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """
        Whether every requirement holds.
        """
        return all(item.matches(labels) for item in self.requirements)


class _Token(NamedTuple):
    text: str  # empty at the end
    position: int
    word: bool


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._read()
        self._index = 0

    def requirements(self) -> tuple[Requirement, ...]:
        if not self._peek().text:
            return ()
        found = [self._requirement()]
        while (token := self._next()).text:
            if token.text != ",":
                raise self._error(token, "expected a comma or the end")
            found.append(self._requirement())
        return tuple(found)

    def _read(self) -> list[_Token]:
        tokens: list[_Token] = []
        position = 0
        while True:
            match = _TOKEN.match(self._text, position)
            if match is None:
                bad = len(self._text) - len(self._text[position:].lstrip(" \t\r\n"))
                hint = "; `<` and `>` do not select pods" if self._text[bad] in "<>" else ""
                raise LabelSelectorError(
                    self._text, bad, f"{self._text[bad]!r} does not belong here{hint}"
                )
            group = match.lastgroup or "end"
            tokens.append(_Token(match[group], match.start(group), group == "word"))
            if group == "end":
                return tokens
            position = match.end()

    def _peek(self) -> _Token:
        return self._tokens[self._index]

    def _next(self) -> _Token:
        token = self._tokens[self._index]
        # The end is never passed.
        self._index = min(self._index + 1, len(self._tokens) - 1)
        return token

    def _error(self, token: _Token, expected: str) -> LabelSelectorError:
        found = repr(token.text) if token.text else "the end"
        return LabelSelectorError(self._text, token.position, f"{expected}, found {found}")

    def _requirement(self) -> Requirement:
        if self._peek().text == "!":
            self._next()
            return Requirement(self._key(), Operator.ABSENT)
        key = self._key()
        token = self._peek()
        if token.text in ("", ","):
            return Requirement(key, Operator.EXISTS)
        self._next()
        if token.text in ("=", "=="):
            return Requirement(key, Operator.IN, frozenset({self._value()}))
        if token.text == "!=":
            return Requirement(key, Operator.NOT_IN, frozenset({self._value()}))
        if token.text in ("in", "notin"):
            return Requirement(key, Operator(token.text), self._values())
        raise self._error(token, "expected =, ==, !=, in, notin, a comma or the end")

    def _key(self) -> str:
        token = self._next()
        if not token.word or token.text in ("in", "notin"):
            raise self._error(token, "expected a label's key")
        prefix, slash, name = token.text.rpartition("/")
        if slash and (len(prefix) > PREFIX_LENGTH_MAX or not _PREFIX.fullmatch(prefix)):
            raise LabelSelectorError(
                self._text,
                token.position,
                f"{prefix!r} is no DNS name, as a label's prefix must be",
            )
        self._check_name(name, token.position + len(prefix) + len(slash), "a label's name")
        return token.text

    def _value(self) -> str:
        if not self._peek().word:
            if self._peek().text in ("", ",", ")"):
                return ""
            raise self._error(self._peek(), "expected a label's value")
        token = self._next()
        self._check_name(token.text, token.position, "a label's value")
        return token.text

    def _values(self) -> frozenset[str]:
        opening = self._next()
        if opening.text != "(":
            raise self._error(opening, "expected ( and a list of values")
        if self._peek().text == ")":
            raise self._error(self._peek(), "expected at least one value")
        values = {self._value()}
        while (token := self._next()).text != ")":
            if token.text != ",":
                raise self._error(token, "expected a comma or )")
            values.add(self._value())
        return frozenset(values)

    def _check_name(self, name: str, position: int, what: str) -> None:
        if len(name) > NAME_LENGTH_MAX:
            raise LabelSelectorError(
                self._text,
                position + NAME_LENGTH_MAX,
                f"{what} has at most {NAME_LENGTH_MAX} characters, not {len(name)},",
            )
        if not _NAME.fullmatch(name):
            raise LabelSelectorError(
                self._text,
                position,
                f"{name!r} cannot be {what}: letters, digits, `-`, `_` and `.`, a letter or digit at both ends;",
            )
