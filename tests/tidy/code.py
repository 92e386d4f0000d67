"""
Rules about how the code is written: sizes, dead files, swallowed errors, objects per line, words.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from tests.tidy.model import FUNCTIONS, dotted_name, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.tidy.model import Module

FILE_LINES_MAX = {".py": 400, ".pyx": 700}
FUNCTION_LINES_MAX = 60

ROW_OBJECTS = {"to_pylist", "as_py", "to_pydict", "tolist", "iterrows", "itertuples"}
#: Calls that wait for a disk: in an async function they carry the tag `# disk`.
DISK_CALLS = {
    "open",
    "os.fdatasync",
    "os.fsync",
    "os.ftruncate",
    "os.listdir",
    "os.makedirs",
    "os.mkdir",
    "os.open",
    "os.pread",
    "os.pwrite",
    "os.read",
    "os.remove",
    "os.rename",
    "os.replace",
    "os.rmdir",
    "os.scandir",
    "os.stat",
    "os.statvfs",
    "os.truncate",
    "os.unlink",
    "os.write",
}
#: Words for old things (the glossary in ARCHITECTURE.md), and names that say nothing.
SYNONYMS = {
    "pipeline": "Route",
    "tailer": "Source",
    "harvester": "Source",
    "bookmark": "Cursor",
    "watermark": "Cursor",
    "manager": "the thing that it is",
    "helper": "the thing that it does",
    "helpers": "the thing that it does",
    "util": "the thing that it does",
    "utils": "the thing that it does",
    "misc": "the thing that it does",
}
#: Where a module counts as used although nothing imports it.
COMMANDS = "agent.cli.main"
ENTRY_POINTS = {"agent", "agent.__main__", COMMANDS}
#: The pure-Python twin is written line by line on purpose: it is the specification.
TWIN = "agent/_reference"
CYTHON_FUNCTION = re.compile(r"(?P<indent> *)(?:async )?(?:def|cdef|cpdef) [^=]*\(")


def files_are_small(modules: Sequence[Module]) -> Iterator[str]:
    """
    A file fits into a head.
    """
    for module in modules:
        limit = FILE_LINES_MAX.get("." + module.path.rpartition(".")[2])
        if limit is not None and len(module.lines) > limit:
            yield module.at(
                limit, f"{len(module.lines)} lines, at most {limit}: is this file one thing?"
            )


def functions_are_small(modules: Sequence[Module]) -> Iterator[str]:
    """
    A function fits on a screen; its docstring does not count.
    """
    for module in modules:
        sizes = _cython_sizes(module) if module.path.endswith(".pyx") else _python_sizes(module)
        for name, line, size in sizes:
            if size > FUNCTION_LINES_MAX:
                yield module.at(
                    line,
                    f"{name} has {size} lines, at most {FUNCTION_LINES_MAX}: "
                    "the parent owns the ifs, the leaves are pure",
                )


def _python_sizes(module: Module) -> Iterator[tuple[str, int, int]]:
    for node, _ in walk(module.tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        assert node.end_lineno is not None
        size = node.end_lineno - node.lineno + 1
        if ast.get_docstring(node):
            docstring = node.body[0]
            assert docstring.end_lineno is not None
            size -= docstring.end_lineno - docstring.lineno + 1
        yield node.name, node.lineno, size


def _cython_sizes(module: Module) -> Iterator[tuple[str, int, int]]:
    lines = module.lines
    for start, line in enumerate(lines):
        match = CYTHON_FUNCTION.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        # The body ends before the next line that is not indented deeper; a signature's closing
        # parenthesis stands on the function's own indentation.
        stop = start + 1
        while stop < len(lines) and (
            not lines[stop].strip()
            or len(lines[stop]) - len(lines[stop].lstrip()) > indent
            or lines[stop].lstrip().startswith(")")
        ):
            stop += 1
        while not lines[stop - 1].strip():
            stop -= 1
        yield line.strip(), start + 1, stop - start


def nothing_is_dead(modules: Sequence[Module]) -> Iterator[str]:
    """
    Every module of agent/ is imported by another one, or named where a child process is started.
    """
    agent = [module for module in modules if module.in_agent]
    if not any(module.dotted == "agent.cli.main" for module in agent):
        return  # No command yet: nothing is wired.
    stubbed = {module.dotted for module in agent if module.path.endswith(".pyx")}
    for module in agent:
        name = module.dotted
        if module.path.startswith(TWIN):
            continue  # The specification has readers, and tests, but no callers.
        if module.path.endswith(("__init__.py", ".pyi")) or name in ENTRY_POINTS or name in stubbed:
            continue
        if not any(other is not module and _uses(other, name) for other in agent):
            yield module.at(1, f"nothing imports {name}: wire it or delete it")


def _uses(module: Module, name: str) -> bool:
    # Commands may be named there, and imported when they run.
    named = f'"{name.rpartition(".")[2]}"' in module.text
    if module.dotted == COMMANDS and name.startswith("agent.cli.") and named:
        return True
    # The prefix as well: `from agent.core.cursor import Cursor` is agent.core.cursor.Cursor.
    return any(
        item.name == name or item.name.startswith(f"{name}.") for item in module.imports
    ) or (f'"{name}"' in module.text)


def errors_are_not_swallowed(modules: Sequence[Module]) -> Iterator[str]:
    """
    `except Exception` raises again, or says in words why it may go on.
    """
    for module in modules:
        if not module.in_agent:
            continue
        for node, _ in walk(module.tree):
            if not isinstance(node, ast.ExceptHandler) or not _is_broad(node):
                continue
            raises = any(isinstance(child, ast.Raise) for child, _ in walk(node))
            head = module.lines[node.lineno - 1 : node.body[0].lineno]
            if not raises and not any("# " in line for line in head):
                yield module.at(
                    node.lineno,
                    "a broad except that goes on: catch what you expect, raise again, "
                    "or write the reason on its first line",
                )


def _is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(dotted_name(item) in {"Exception", "BaseException"} for item in types)


def no_object_per_line(modules: Sequence[Module]) -> Iterator[str]:
    """
    Python costs O(segments): no list of rows, no loop over rows.
    """
    for module in modules:
        if not module.in_agent or module.path.startswith(TWIN) or module.path.endswith(".pyx"):
            continue
        for node, _ in walk(module.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in ROW_OBJECTS:
                    yield module.at(
                        node.lineno,
                        f".{node.func.attr}() is banned in agent/: work on columns in _fast*",
                    )
            elif isinstance(node, ast.For | ast.comprehension) and _is_over_rows(node.iter):
                yield module.at(
                    node.iter.lineno, "a loop over rows is banned in agent/: it belongs into _fast*"
                )


def _is_over_rows(iterable: ast.expr) -> bool:
    text = ast.unparse(iterable)
    return bool(re.fullmatch(r"range\((.*[ ,.(])?rows\)|.*\.column\(.*\)", text))


def disk_is_tagged(modules: Sequence[Module]) -> Iterator[str]:
    """
    In an async function what waits for a disk says so: `# disk`.
    """
    for module in modules:
        if not module.in_agent:
            continue
        for node, parents in walk(module.tree):
            if not isinstance(node, ast.Call) or dotted_name(node.func) not in DISK_CALLS:
                continue
            functions = [item for item in parents if isinstance(item, FUNCTIONS)]
            if not functions or not isinstance(functions[-1], ast.AsyncFunctionDef):
                continue
            assert node.end_lineno is not None
            if not any(
                "# disk" in line for line in module.lines[node.lineno - 1 : node.end_lineno]
            ):
                yield module.at(
                    node.lineno,
                    f"{dotted_name(node.func)} in an async function waits for a disk: "
                    "tag the line `# disk`, or host.run_blocking it",
                )


def words_are_the_glossarys(modules: Sequence[Module]) -> Iterator[str]:
    """
    One word for one thing.
    """
    for module in modules:
        if not module.in_agent:
            continue
        names = [(module.dotted.split(".")[-1], 1)]
        names += [
            (node.name, node.lineno)
            for node, _ in walk(module.tree)
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        for name, line in names:
            for word in re.findall(r"[A-Z]?[a-z]+", name):
                if replacement := SYNONYMS.get(word.lower()):
                    yield module.at(line, f"{name}: say {replacement}, not {word.lower()}")


RULES = (
    files_are_small,
    functions_are_small,
    nothing_is_dead,
    errors_are_not_swallowed,
    no_object_per_line,
    disk_is_tagged,
    words_are_the_glossarys,
)
