"""
The files of the repository, parsed, for the rules beside this module.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Import:
    """
    One imported module, as far as it can be told: `from agent.core import cursor` is agent.core.cursor.
    """

    name: str
    line: int
    top_level: bool
    types_only: bool


class Module:
    """
    A file of the repository, parsed.
    """

    def __init__(self, path: str, text: str) -> None:
        self.path = path  # relative to the repository
        self.text = text
        self.lines = text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text) if self.path.endswith((".py", ".pyi")) else ast.Module([], [])

    @property
    def dotted(self) -> str:
        """
        The name under which it is imported.
        """
        name = re.sub(r"\.\w+$", "", self.path).replace("/", ".")
        return name.removesuffix(".__init__")

    @property
    def part(self) -> str:
        """
        The part of agent/ that it belongs to: core, sinks, config …; empty outside of agent/.
        """
        names = self.dotted.split(".")
        return names[1] if names[0] == "agent" and len(names) > 1 else ""

    @property
    def in_agent(self) -> bool:
        return self.dotted.split(".")[0] == "agent"

    @cached_property
    def imports(self) -> list[Import]:
        found: list[Import] = []
        for node, parents in walk(self.tree):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            top_level = not any(isinstance(item, FUNCTIONS) for item in parents)
            types_only = any(
                isinstance(item, ast.If) and "TYPE_CHECKING" in ast.unparse(item.test)
                for item in parents
            )
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                assert not node.level, f"{self.path}:{node.lineno}: relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [Import(name, node.lineno, top_level, types_only) for name in names]
        return found

    def at(self, line: int, text: str) -> str:
        """
        A finding.
        """
        return f"{self.path.removeprefix('agent/')}:{line}: {text}"


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def walk(
    node: ast.AST, parents: tuple[ast.AST, ...] = ()
) -> Iterator[tuple[ast.AST, tuple[ast.AST, ...]]]:
    """
    Every node below *node* with the chain of nodes above it.
    """
    for child in ast.iter_child_nodes(node):
        yield child, (*parents, node)
        yield from walk(child, (*parents, node))


def dotted_name(node: ast.AST) -> str:
    """
    `a.b.c` of an attribute chain; empty for anything else.
    """
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted_name(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def read_modules(root: Path, directories: Sequence[str]) -> list[Module]:
    """
    Parse every Python, stub and Cython file below *directories*.
    """
    paths = [
        path
        for directory in directories
        for suffix in (".py", ".pyi", ".pyx")
        for path in sorted((root / directory).rglob(f"*{suffix}"))
    ]
    return [Module(str(path.relative_to(root)), path.read_text()) for path in paths]
