"""
A tree of YAML to a frozen Settings dataclass, collecting every problem on the way.

Types are those of the dataclass: `Annotated[type, msgspec.Meta(…)]`.  msgspec converts and checks the
leaves; what is between them is walked here, because msgspec stops at the first problem.

- A whole number whose name has the word `bytes` takes sizes as well: `32MiB`.
- The expectation in a message is made from type, constraints and name, or is
  `Meta(extra={"expected": "…"})` where that says it better.
- **Hook.** A Settings class may define

      def problems(self) -> list[tuple[str, object, str]]:

  and return (key, value, expectation) for what its types cannot say: templates, URLs, keys that
  exclude one another.  It is called when all types are right.  A ValueError(`key: got …, expected …`) out of
  `__post_init__` says the same for one key.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import types
import typing
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from agent.config.problems import Problem, child, nearest, quoted, shortened, wrong
from agent.config.text import Scalar, scalar_value

#: Stands for a value that could not be made; the problem is noted.
BAD: Any = object()

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,6}))? ?(B|KiB|MiB|GiB|TiB)")


#: Stands for the field of a value that belongs to none.
_NO_FIELD: dataclasses.Field[Any] = dataclasses.field()
_NO_FIELD.name = ""


class Converter:
    """
    Converts trees; `problems` grows.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def settings(
        self, cls: type, tree: object, path: str, *, given: frozenset[str] = frozenset()
    ) -> Any:
        """
        Return an instance of the dataclass *cls*, or BAD.

        Keys of *given* that are no fields were read by the caller.
        """
        if not isinstance(tree, dict):
            self._wrong(path, tree, "a mapping")
            return BAD
        hints = typing.get_type_hints(cls, include_extras=True)
        fields = {item.name: item for item in dataclasses.fields(cls)}
        for key in tree:
            if key not in fields and key not in given:
                self.unknown(child(path, key), key, fields)
        values = {}
        for name, item in fields.items():
            if name in tree:
                values[name] = self._value(hints[name], tree[name], child(path, name), item)
            elif not _has_default(item):
                expected = f"is missing, expected {expectation(hints[name], name)}"
                meaning = unwrapped(hints[name])[1].get("description", "").rstrip(".")
                text = f"{expected}: {meaning}" if meaning else expected
                self.problems.append(Problem(child(path, name), text))
                values[name] = BAD
        if any(value is BAD for value in values.values()):
            return BAD
        try:
            made = cls(**values)
        except ValueError as error:
            self._refused(str(error), fields, path)
            return BAD
        for key, value, expected in getattr(made, "problems", list)():
            self.problems.append(wrong(child(path, key), shown(value), expected))
        return made

    def _refused(self, text: str, fields: typing.Container[str], path: str) -> None:
        # `key: got …, expected …`, as __post_init__ may raise it.
        key, colon, rest = text.partition(": ")
        if colon and key in fields:
            path, text = child(path, key), rest
        self.problems.append(Problem(path, text))

    def unknown(self, path: str, key: str, known: typing.Iterable[str]) -> None:
        """
        Note an unknown key, with the known one that is nearest.
        """
        hint = nearest(key, known) or f": expected one of {', '.join(known)}"
        self.problems.append(Problem(path, f"unknown key{hint}"))

    def _wrong(self, path: str, tree: object, expected: str) -> None:
        self.problems.append(wrong(path, shown(tree), expected))

    def _value(self, hint: Any, tree: object, path: str, item: dataclasses.Field[Any]) -> Any:
        kind, _ = unwrapped(hint)
        if kind is int and is_bytes(item.name):
            return self._bytes(hint, tree, path, item)
        return self._any(hint, tree, path, item)

    def _any(self, hint: Any, tree: object, path: str, item: dataclasses.Field[Any]) -> Any:
        kind, _ = unwrapped(hint)
        origin = get_origin(kind)
        if origin in {Union, types.UnionType}:
            if isinstance(tree, Scalar) and tree.value is None:
                return None
            others = [option for option in get_args(kind) if option is not types.NoneType]
            return (
                self._any(others[0], tree, path, item)
                if len(others) == 1
                else self._leaf(hint, tree, path, item)
            )
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self.settings(kind, tree, path)
        if origin in {list, tuple, frozenset, set}:
            return self._items(hint, tree, path, item)
        if origin is dict:
            if not isinstance(tree, dict):
                self._wrong(path, tree, expectation(hint, item.name))
                return BAD
            pairs = {
                key: self._any(get_args(kind)[1], value, child(path, key), item)
                for key, value in tree.items()
            }
            return (
                BAD
                if any(value is BAD for value in pairs.values())
                else self._checked(hint, pairs, tree, path, item)
            )
        return self._leaf(hint, tree, path, item)

    def _items(self, hint: Any, tree: object, path: str, item: dataclasses.Field[Any]) -> Any:
        kind, _ = unwrapped(hint)
        if not isinstance(tree, list):
            self._wrong(path, tree, expectation(hint, item.name))
            return BAD
        element = get_args(kind)[0]
        items = [
            self._any(element, value, f"{path}[{index}]", item) for index, value in enumerate(tree)
        ]
        if any(value is BAD for value in items):
            return BAD
        return self._checked(hint, items, tree, path, item)

    def _checked(
        self, hint: Any, value: Any, tree: object, path: str, item: dataclasses.Field[Any]
    ) -> Any:
        # Lengths; elements that are dataclasses were made here and are taken as they are.
        kind, _ = unwrapped(hint)
        elements = [option for option in get_args(kind) if option is not Ellipsis]
        if any(dataclasses.is_dataclass(unwrapped(option)[0]) for option in elements):
            return get_origin(kind)(value)
        return self._convert(hint, value, tree, path, item)

    def leaf(self, hint: Any, tree: object, path: str) -> Any:
        """
        Return the scalar *tree* as a value of type *hint*, or BAD.
        """
        return self._leaf(hint, tree, path, _NO_FIELD)

    def _leaf(self, hint: Any, tree: object, path: str, item: dataclasses.Field[Any]) -> Any:
        if not isinstance(tree, Scalar):
            self._wrong(path, tree, expectation(hint, item.name, default_of(item)))
            return BAD
        kind, _ = unwrapped(hint)
        value = tree.value
        if tree.substituted and not takes_text(kind):
            value = scalar_value(tree.text)
        return self._convert(hint, value, tree, path, item)

    def _convert(
        self, hint: Any, value: Any, tree: object, path: str, item: dataclasses.Field[Any]
    ) -> Any:
        try:
            return msgspec.convert(value, hint)
        except msgspec.ValidationError:
            expected = expectation(hint, item.name, default_of(item))
            if isinstance(tree, Scalar):
                if unwrapped(hint)[0] is str and not isinstance(tree.value, str) and tree.text:
                    expected += f" (in quotes: {quoted(tree.text)})"
                expected += nearest(tree.text, choices(unwrapped(hint)[0]))
            self._wrong(path, tree, expected)
            return BAD

    def _bytes(self, hint: Any, tree: object, path: str, item: dataclasses.Field[Any]) -> Any:
        value = tree.value if isinstance(tree, Scalar) else None
        if isinstance(value, str) and isinstance(tree, Scalar):
            size = bytes_from(tree.text)
            value = tree.text if size is None else size
        return self._convert(hint, value, tree, path, item)


def bytes_from(text: str) -> int | None:
    """
    Return the size that *text* means, e.g. `32MiB`; None where it means none.
    """
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    whole, fraction, unit = match.groups()
    factor = UNITS[unit]
    if fraction is None:
        return int(whole) * factor
    part, rest = divmod(int(fraction) * factor, 10 ** len(fraction))
    # 0.3KiB is no whole number of bytes, and whoever writes it did not mean one.
    return None if rest else int(whole) * factor + part


def bytes_text(size: float) -> str:
    """
    Return *size* in the largest unit that it is a whole number of.
    """
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % UNITS[unit] == 0:
            return f"{int(size // UNITS[unit])}{unit}"
    return f"{size:g}"


def expectation(hint: Any, name: str, default: Any = None) -> str:
    """
    Return in words what a value of type *hint* under the key *name* looks like.
    """
    kind, meta = unwrapped(hint)
    if meta.get("extra", {}).get("expected"):
        return str(meta["extra"]["expected"])
    options = [option for option in get_args(kind) if option is not types.NoneType]
    if get_origin(kind) in {Union, types.UnionType}:
        return " or ".join(expectation(option, name, default) for option in options)
    if words := choices(kind):
        return "one of " + ", ".join(words)
    if kind in {int, float}:
        return _number_expectation(kind, meta, name, default)
    if kind is str:
        pattern = f" matching {meta['pattern']}" if meta.get("pattern") else ""
        return ("text that is not empty" if meta.get("min_length") == 1 else "text") + pattern
    if get_origin(kind) in {list, tuple, set, frozenset}:
        return f"a list, each {expectation(options[0], name)}"
    return "true or false" if kind is bool else "a mapping"


def _number_expectation(kind: Any, meta: dict[str, Any], name: str, default: Any) -> str:
    if kind is int and is_bytes(name):
        example = bytes_text(default) if default else "32MiB"
        sizes = _range(meta, bytes_text)
        return f"bytes{sizes}, as a whole number or with KiB, MiB or GiB, e.g. {example}"
    what = "a whole number" if kind is int else "a number"
    limits = _range(meta, lambda value: f"{value:g}")
    if name.endswith("_s"):
        return f"seconds as {what}{limits}, e.g. {default or 5:g}"
    return f"{what}{limits}"


def _range(meta: dict[str, Any], text: typing.Callable[[Any], str]) -> str:
    low, high = meta.get("ge"), meta.get("le")
    if low is not None and high is not None:
        return f" from {text(low)} to {text(high)}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    parts = [
        f"{word} {text(meta[key])}" for key, word in words.items() if meta.get(key) is not None
    ]
    return f" {' and '.join(parts)}" if parts else ""


def unwrapped(hint: Any) -> tuple[Any, dict[str, Any]]:
    """
    Return the type behind Annotated, and the constraints of its Meta.
    """
    meta: dict[str, Any] = {}
    while get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        for note in notes:
            if isinstance(note, msgspec.Meta):
                names = (
                    "ge",
                    "gt",
                    "le",
                    "lt",
                    "min_length",
                    "max_length",
                    "pattern",
                    "description",
                    "extra",
                )
                meta |= {
                    name: value for name in names if (value := getattr(note, name)) is not None
                }
    return hint, meta


def choices(kind: Any) -> list[str]:
    """
    Return the words that a Literal or an Enum allows; empty for other types.
    """
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [str(item.value) for item in kind]
    return []


def takes_text(kind: Any) -> bool:
    """
    Return whether the text of an environment variable is taken as it is.
    """
    options = get_args(kind) if get_origin(kind) in {Union, types.UnionType} else (kind,)
    return any(
        unwrapped(option)[0] is str
        or any(isinstance(word, str) for word in choices(unwrapped(option)[0]))
        for option in options
    )


def is_bytes(name: str) -> bool:
    """
    Return whether the key *name* is a size: `window_bytes_max`.
    """
    return "bytes" in name.split("_")


def default_of(item: dataclasses.Field[Any]) -> Any:
    """
    Return a number that is a field's default, for an example.
    """
    value = item.default
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def shown(value: object) -> str:
    """
    Return a value, of a tree or of Settings, as it appears in a message.
    """
    if isinstance(value, Scalar):
        return value.shown
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else shortened(str(value))


def _has_default(item: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return item.default is not missing or item.default_factory is not missing
