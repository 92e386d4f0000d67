"""
YAML text to a tree of mappings, lists and scalars; strict where YAML sets traps.

- Scalars are those of YAML 1.2's core schema: `true`/`false` are booleans, `yes`, `no`, `on`, `off` are text,
  `0123` is the number 123, and dates are text.
- A key that occurs twice, a merge key (`<<`), a tag other than `!!str`, a key that is not text: refused.
- `${NAME}` and `${NAME:-default}` in a scalar stand for environment variables (unset or empty: the
  default), `$$` for a dollar sign.  Keys are not touched.  A variable without default must be set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from agent.config.problems import Problem, child, quoted, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A configuration with hundreds of routes is far below; a "billion laughs" of aliases is not.
NODES_MAX = 100_000
DEPTH_MAX = 40

_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+")
_INT_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DIGITS_MAX = 30
_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:-)((?:[^{}$]|\$\$)*))?\}|\$\{")
_IMPLICIT = "implicit"
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Scalar:
    """
    A value as it was written, and as which type YAML reads it.
    """

    value: str | int | float | bool | None
    text: str
    #: Holds an environment variable, whose text takes the type that the key has.
    substituted: bool = False

    @property
    def shown(self) -> str:
        """
        The value as it appears in a message.
        """
        if self.value is None:
            return "nothing"
        return quoted(self.text) if isinstance(self.value, str) else shortened(self.text)


Tree: TypeAlias = "dict[str, Tree] | list[Tree] | Scalar"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """
    Leaves the types of scalars to us, and shows explicit tags.
    """

    def resolve(self, _kind: object, _value: object, _implicit: object) -> str:
        return _IMPLICIT


def read_tree(text: str, environ: Mapping[str, str]) -> tuple[Any, list[Problem]]:
    """
    Return the tree of *text* and what is wrong with it; the tree is None where it is no YAML.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        return None, [_syntax_problem(error, text)]
    except yaml.YAMLError as error:
        return None, [Problem("", f"is not YAML: {shortened(str(error))}")]
    except RecursionError:
        return None, [Problem("", "is nested too deeply")]
    if node is None:
        return {}, []
    builder = _Builder(environ)
    return builder.build(node, "", 0), builder.problems


def scalar_value(text: str) -> str | int | float | bool | None:
    """
    Return what a plain scalar means in YAML 1.2's core schema.
    """
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if len(text) <= _DIGITS_MAX:
        if _INT.fullmatch(text):
            return int(text)
        if _INT_BASED.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    what = error.problem or error.context or "cannot be read"
    if "found character that cannot start any token" in what:
        what += " (a value that begins with @, % or ` needs quotes)"
    if "${" in text and "flow" in (error.context or ""):
        what += ' (between { } or [ ] a variable needs quotes: "${NAME}")'
    context = f" {error.context}" if error.context and error.problem else ""
    return Problem("", f"{place}is not YAML: {what}{context}")


class _Builder:
    """
    Makes the tree and collects problems on the way.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._environ = environ
        self._nodes = 0

    def build(self, node: yaml.Node, path: str, depth: int) -> Tree:
        self._nodes += 1
        if self._nodes > NODES_MAX or depth > DEPTH_MAX:
            # Once is enough: an alias that contains itself would say so for ever.
            if self._nodes < 2 * NODES_MAX:
                self._nodes = 2 * NODES_MAX
                self.problems.append(
                    Problem(path, "too many values or levels (an alias in itself?)")
                )
            return Scalar(None, "")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in {_IMPLICIT, _TAG + "map", _TAG + "seq"}:
            self._refuse_tag(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.build(item, f"{path}[{index}]", depth + 1)
                for index, item in enumerate(node.value)
            ]
        assert isinstance(node, yaml.MappingNode)
        return self._mapping(node, path, depth)

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> Tree:
        tree: dict[str, Tree] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(path, f"line {line}: a key must be text"))
                continue
            key = key_node.value
            where = child(path, key)
            if key == "<<" and not key_node.style:
                text = f"line {line}: merge keys are not supported: write the keys out"
                self.problems.append(Problem(where, text))
                continue
            if key in tree:
                text = f"line {line}: given twice, first on line {lines[key]}: keep one"
                self.problems.append(Problem(where, text))
                continue
            lines[key] = line
            tree[key] = self.build(value_node, where, depth + 1)
        return tree

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Scalar:
        if node.tag not in {_IMPLICIT, _TAG + "str"}:
            self._refuse_tag(node, path)
        text = node.value
        if "$" in text:
            substituted = self._substituted(text, path)
            return Scalar(substituted, substituted, substituted=True)
        plain = not node.style and node.tag == _IMPLICIT
        return Scalar(scalar_value(text) if plain else text, text)

    def _substituted(self, text: str, path: str) -> str:
        def value(match: re.Match[str]) -> str:
            whole, name, colon, default = (
                match.group(0),
                match.group(1),
                match.group(2),
                match.group(3),
            )
            if whole == "$$":
                return "$"
            if name is None:
                rest = quoted(text[match.start() :])
                expected = "${NAME} or ${NAME:-default} (a literal $ is written $$)"
                self.problems.append(Problem(path, f"got {rest}, expected {expected}"))
                return ""
            found = self._environ.get(name)
            if colon and not found:
                return str(default).replace("$$", "$")
            if found is None:
                hint = f"set it, or write ${{{name}:-default}}"
                self.problems.append(
                    Problem(path, f"environment variable {name} is not set: {hint}")
                )
                return ""
            return found

        return _VARIABLE.sub(value, text)

    def _refuse_tag(self, node: yaml.Node, path: str) -> None:
        tag = node.tag.replace(_TAG, "!!")
        line = node.start_mark.line + 1
        self.problems.append(
            Problem(path, f"line {line}: tag {quoted(tag)} is not supported: leave it out")
        )
