"""
The tree of an expression: every node takes out of a mask the rows that do not satisfy it.

A node that asks about the container answers once for a segment; the others are column operations, and look at
the rows that are still in the mask alone, so what is cheap and rare belongs to the left of `and`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent import _fastwhere as kernel
from agent._fastfields import severity_of
from agent._fastregex import narrow_matches
from agent.core import regex
from agent.core.cursor import STREAM_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent._fastfields import Mask
    from agent._fastparse import Columns
    from agent._fastregex import Regex
    from agent.core.batch import Resource

Value = str | float | bool
#: Operands with a key behind them.
KEYED = ("fields", "labels", "annotations", "namespace_labels")
#: Operands that are texts of the Resource.
RESOURCE = (
    *("cluster", "node", "namespace", "pod", "pod_uid", "container", "path", "image"),
    *("owner_kind", "owner_name", "region", "zone"),
)
OPERANDS = ("level", "stream", "message", *RESOURCE, *KEYED)
#: Levels by name: the lowest and the highest severity number of each (OpenTelemetry).
LEVELS = {
    "trace": (1, 4),
    "debug": (5, 8),
    "info": (9, 12),
    "warn": (13, 16),
    "error": (17, 20),
    "fatal": (21, 24),
}
_COMPARISONS = {
    "==": kernel.COMPARE_EQ,
    "<": kernel.COMPARE_LT,
    "<=": kernel.COMPARE_LE,
    ">": kernel.COMPARE_GT,
    ">=": kernel.COMPARE_GE,
}


class OperandError(ValueError):
    """
    The operand takes no such test.
    """


class Operand(NamedTuple):
    """
    What a test looks at: `fields` and its key, `level`, ….
    """

    root: str
    key: str = ""

    @property
    def of_rows(self) -> bool:
        """
        Whether it differs from row to row.
        """
        return self.root in {"level", "stream", "message", "fields"}


class Rows(NamedTuple):
    """
    The rows of a segment, and where their fields are.
    """

    columns: Columns
    resource: Resource
    indices: Mapping[str, int]

    def target(self, operand: Operand) -> int:
        """
        Return what the kernels call *operand*: a message or a field.
        """
        return self.indices[operand.key] if operand.root == "fields" else kernel.TARGET_MESSAGE


class Predicate(Protocol):
    """
    A node.
    """

    def narrow(self, rows: Rows, mask: Mask) -> None:
        """Take the rows that do not satisfy it out of *mask*."""

    def operands(self) -> Iterator[Operand]:
        """Yield what it looks at."""


@dataclass(frozen=True, slots=True)
class Always:
    """
    `true` and `false`.
    """

    value: bool

    def narrow(self, rows: Rows, mask: Mask) -> None:
        del rows
        if not self.value:
            mask.clear()

    def operands(self) -> Iterator[Operand]:
        yield from ()


@dataclass(frozen=True, slots=True)
class Not:
    """
    The rows that do not satisfy another test.
    """

    inner: Predicate

    def narrow(self, rows: Rows, mask: Mask) -> None:
        others = mask.copy()
        self.inner.narrow(rows, others)
        mask.subtract(others)

    def operands(self) -> Iterator[Operand]:
        yield from self.inner.operands()


@dataclass(frozen=True, slots=True)
class And:
    """
    The rows that satisfy all of several tests.
    """

    parts: tuple[Predicate, ...]

    def narrow(self, rows: Rows, mask: Mask) -> None:
        for part in self.parts:
            part.narrow(rows, mask)

    def operands(self) -> Iterator[Operand]:
        for part in self.parts:
            yield from part.operands()


@dataclass(frozen=True, slots=True)
class Or:
    """
    The rows that satisfy one of several tests; each looks at those that none before it has.
    """

    parts: tuple[Predicate, ...]

    def narrow(self, rows: Rows, mask: Mask) -> None:
        left = mask.copy()
        for part in self.parts[:-1]:
            some = left.copy()
            part.narrow(rows, some)
            left.subtract(some)
        last = left.copy()
        self.parts[-1].narrow(rows, last)
        left.subtract(last)
        mask.subtract(left)

    def operands(self) -> Iterator[Operand]:
        for part in self.parts:
            yield from part.operands()


@dataclass(frozen=True, slots=True)
class Level:
    """
    A range of severity numbers.
    """

    low: int
    high: int

    def narrow(self, rows: Rows, mask: Mask) -> None:
        kernel.narrow_severity(rows.columns, mask, self.low, self.high)

    def operands(self) -> Iterator[Operand]:
        yield Operand("level")


@dataclass(frozen=True, slots=True)
class Stream:
    """
    One of stdout, stderr, other.
    """

    index: int

    def narrow(self, rows: Rows, mask: Mask) -> None:
        kernel.narrow_streams(rows.columns, mask, 1 << self.index)

    def operands(self) -> Iterator[Operand]:
        yield Operand("stream")


@dataclass(frozen=True, slots=True)
class Number:
    """
    A field against a number.
    """

    operand: Operand
    sign: str
    value: float

    def narrow(self, rows: Rows, mask: Mask) -> None:
        target = rows.target(self.operand)
        kernel.narrow_number(rows.columns, mask, target, _COMPARISONS[self.sign], self.value)

    def operands(self) -> Iterator[Operand]:
        yield self.operand


@dataclass(frozen=True, slots=True)
class Text:
    """
    A message or a field against a text: equal, contains, starts_with or exists.
    """

    operand: Operand
    word: str
    text: str

    def narrow(self, rows: Rows, mask: Mask) -> None:
        target = rows.target(self.operand)
        if self.word == "exists":
            kernel.narrow_exists(rows.columns, mask, target)
            return
        narrow = {
            "==": kernel.narrow_text,
            "contains": kernel.narrow_contains,
            "starts_with": kernel.narrow_starts,
        }[self.word]
        narrow(rows.columns, mask, target, self.text.encode())

    def operands(self) -> Iterator[Operand]:
        yield self.operand


@dataclass(frozen=True, slots=True)
class Container:
    """
    A text of the Resource: the same for all rows of a segment.
    """

    operand: Operand
    word: str
    text: str

    def narrow(self, rows: Rows, mask: Mask) -> None:
        if not self.holds(rows.resource):
            mask.clear()

    def holds(self, resource: Resource) -> bool:
        """
        Whether the container satisfies it.
        """
        value = _text_of(resource, self.operand)
        if not value:
            return False
        if self.word == "==":
            return value == self.text
        if self.word == "contains":
            return self.text in value
        return value.startswith(self.text) if self.word == "starts_with" else True

    def operands(self) -> Iterator[Operand]:
        yield self.operand


@dataclass(frozen=True, slots=True)
class Matches:
    """
    A text that a pattern matches somewhere.
    """

    operand: Operand
    pattern: str
    compiled: Regex

    def narrow(self, rows: Rows, mask: Mask) -> None:
        if self.operand.of_rows:
            narrow_matches(rows.columns, mask, rows.target(self.operand), self.compiled)
            return
        value = _text_of(rows.resource, self.operand)
        if not value or not self.compiled.search(value.encode("utf-8", "surrogateescape")):
            mask.clear()

    def operands(self) -> Iterator[Operand]:
        yield self.operand


def exists(operand: Operand) -> Predicate:
    """
    Return the test whether *operand* has a value.
    """
    if operand.root == "level":
        return Level(1, 24)
    if operand.root in {"message", "fields"}:
        return Text(operand, "exists", "")
    return Always(value=True) if operand.root == "stream" else Container(operand, "exists", "")


def compare(operand: Operand, sign: str, value: Value) -> Predicate:
    """
    Return the test of *operand* against *value*; a ValueError says what is expected in its place.
    """
    if operand.root == "level":
        return _level(sign, value)
    if operand.root == "stream":
        if value not in STREAM_NAMES or sign != "==":
            raise ValueError(f"== or != and one of {', '.join(STREAM_NAMES)}")
        return Stream(STREAM_NAMES.index(str(value)))
    if operand.root == "fields" and isinstance(value, bool):
        if sign != "==":
            raise ValueError("a number: true and false have no order")
        return Text(operand, "==", "true" if value else "false")
    if operand.root == "fields" and isinstance(value, float):
        return Number(operand, sign, value)
    if not isinstance(value, str):
        raise ValueError("a text in quotes")  # noqa: TRY004 - the type of a literal in an expression
    if sign != "==":
        raise ValueError("a number: texts have no order here")
    return Text(operand, "==", value) if operand.of_rows else Container(operand, "==", value)


def text_test(operand: Operand, word: str, text: str) -> Predicate:
    """
    Return the test whether *operand* contains, starts with or matches *text*; raises ValueError.
    """
    if operand.root in {"level", "stream"}:
        raise OperandError(f"a text: {operand.root} is compared")
    if word == "matches":
        return Matches(operand, text, regex.compile_pattern(text))
    if not text:
        raise ValueError("an empty text is in every text")
    return Text(operand, word, text) if operand.of_rows else Container(operand, word, text)


def _level(sign: str, value: Value) -> Predicate:
    number = severity_of(value.encode()) if isinstance(value, str) else 0
    found = [bounds for bounds in LEVELS.values() if bounds[0] <= number <= bounds[1]]
    if not found:
        raise ValueError(f"a level, one of {', '.join(LEVELS)}")
    low, high = found[0]
    return {
        "==": Level(low, high),
        "<": Level(1, low - 1),
        "<=": Level(1, high),
        ">": Level(high + 1, 24),
        ">=": Level(low, 24),
    }[sign]


def _text_of(resource: Resource, operand: Operand) -> str:
    if operand.root in KEYED:
        pairs: tuple[tuple[str, str], ...] = getattr(resource, operand.root)
        return next((value for key, value in pairs if key == operand.key), "")
    return str(getattr(resource, operand.root))
