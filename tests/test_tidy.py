"""
The floors and the style of the repository, as a test; the rules are in tests/tidy/.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tidy import code, floors
from tests.tidy.model import Module, read_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Rule = Callable[[Sequence[Module]], Iterator[str]]

REPOSITORY = Path(__file__).resolve().parent.parent
RULES: list[Rule] = [*floors.RULES, *code.RULES]
LONG_FUNCTION = "def f():\n" + "    g()\n" * 60

#: Per rule: (path, source, a part of the message) of files that it must refuse.
REFUSED: list[tuple[Rule, str, str, str]] = [
    (
        floors.imports_go_down,
        "agent/core/a.py",
        "from agent.sinks import b",
        "imports go down only",
    ),
    (floors.imports_go_down, "agent/runtime/a.py", "import agent.config", "imports go down only"),
    (
        floors.imports_go_down,
        "agent/sinks/a.py",
        "from agent.sources.files import b",
        "never import one",
    ),
    (
        floors.imports_go_down,
        "agent/sinks/a.py",
        "def f():\n    from agent import runtime",
        "a.py:2",
    ),
    (floors.imports_go_down, "agent/_reference.py", "from agent.core.batch import Loss", "go down"),
    (floors.imports_go_down, "agent/cli/a.py", "import tests.tidy", "does not import tests/"),
    (floors.imports_go_down, "agent/things/a.py", "", "has no floor"),
    (
        floors.imports_go_down,
        "agent/runtime/agent.py",
        "from agent.config import Config",
        "go down only",
    ),
    (
        floors.core_is_pure,
        "agent/core/batcher.py",
        "import time\n\nx = time.monotonic()",
        "core/batcher.py:3: time.monotonic is banned in core/, take now as an argument",
    ),
    (floors.core_is_pure, "agent/core/a.py", "from random import random", "float in [0, 1)"),
    (floors.core_is_pure, "agent/core/a.py", "import asyncio", "let runtime/ wait"),
    (floors.core_is_pure, "agent/core/a.py", "import os.path", "take a Disk"),
    (floors.core_is_pure, "agent/core/a.py", "import pyarrow as pa", "staging buffers"),
    (floors.core_is_pure, "agent/core/a.py", "open('x')", "open is banned"),
    (floors.components_ask_the_host, "agent/sinks/a.py", "import time\ntime.time_ns()", "now_ns()"),
    (floors.components_ask_the_host, "agent/sources/a.py", "asyncio.sleep(1)", "host.clock.sleep"),
    (
        floors.only_runtime_starts_tasks,
        "agent/sinks/a.py",
        "asyncio.create_task(f())",
        "take a Tasks",
    ),
    (floors.only_runtime_starts_tasks, "agent/cli/a.py", "loop.create_task(f())", "take a Tasks"),
    (floors.only_runtime_starts_tasks, "agent/sources/a.py", "asyncio.TaskGroup()", "take a Tasks"),
    (floors.sdk_stays_in_its_module, "agent/sinks/a.py", "import botocore.auth", "AwsClient"),
    (floors.pyarrow_stays_out_of_the_agent, "agent/sinks/a.py", "import pyarrow", "seal child"),
    (floors.pyarrow_stays_out_of_the_agent, "agent/cli/a.py", "import pyarrow", "inside a command"),
    (code.files_are_small, "agent/core/a.py", "x = 1\n" * 401, "401 lines, at most 400"),
    (code.files_are_small, "agent/_fastparse.pyx", "x = 1\n" * 701, "701 lines, at most 700"),
    (code.functions_are_small, "agent/core/a.py", LONG_FUNCTION, "f has 61 lines"),
    (
        code.functions_are_small,
        "agent/_fastparse.pyx",
        LONG_FUNCTION.replace("def f():", "cdef int f(\n    int x,\n) noexcept nogil:"),
        "63 lines",
    ),
    (
        code.errors_are_not_swallowed,
        "agent/a.py",
        "try:\n  f()\nexcept Exception:\n  pass",
        "a.py:3",
    ),
    (code.errors_are_not_swallowed, "agent/a.py", "try:\n  f()\nexcept:\n  log()", "goes on"),
    (
        code.errors_are_not_swallowed,
        "agent/a.py",
        "try:\n  f()\nexcept (OSError, BaseException) as e:\n  log()",
        "goes on",
    ),
    (code.no_object_per_line, "agent/sinks/a.py", "table.to_pylist()", "work on columns"),
    (code.no_object_per_line, "agent/sinks/a.py", "x = [y.as_py() for y in z]", "work on columns"),
    (
        code.no_object_per_line,
        "agent/sinks/a.py",
        "for i in range(columns.rows): f(i)",
        "over rows",
    ),
    (code.no_object_per_line, "agent/sinks/a.py", "x = [i for i in range(0, rows)]", "over rows"),
    (code.no_object_per_line, "agent/sinks/a.py", "for i in c.column('flags'): f(i)", "over rows"),
    (
        code.disk_is_tagged,
        "agent/sinks/a.py",
        "async def f():\n    os.fsync(1)",
        "a.py:2: os.fsync",
    ),
    (code.words_are_the_glossarys, "agent/core/utils.py", "", "not utils"),
    (code.words_are_the_glossarys, "agent/core/a.py", "class RouteManager: ...", "not manager"),
    (code.words_are_the_glossarys, "agent/core/a.py", "def make_pipeline(): ...", "say Route"),
]

TYPE_OF_CONFIG = "if TYPE_CHECKING:\n    from agent.config import Config"

#: Files that look alike and are all right.
ACCEPTED: list[tuple[Rule, str, str]] = [
    (
        floors.imports_go_down,
        "agent/runtime/a.py",
        "from agent.sinks import b\nimport agent.core.c",
    ),
    (floors.imports_go_down, "agent/sinks/a.py", "from agent import __version__, _fastparse"),
    (floors.imports_go_down, "agent/_fastparse.pyi", "from agent.core.cursor import Cursor"),
    (floors.imports_go_down, "bench/a.py", "import agent.cli.main"),
    (floors.imports_go_down, "agent/runtime/agent.py", TYPE_OF_CONFIG),
    (floors.core_is_pure, "agent/core/a.py", "from agent.core import b\nb.time.x()"),
    (floors.core_is_pure, "agent/runtime/a.py", "import time\ntime.time()"),
    (floors.components_ask_the_host, "agent/sinks/a.py", "await host.clock.sleep(1)"),
    (floors.components_ask_the_host, "agent/sinks/a.py", "asyncio.sleep(0)"),
    (floors.only_runtime_starts_tasks, "agent/runtime/a.py", "asyncio.create_task(f())"),
    (floors.sdk_stays_in_its_module, "agent/runtime/aws.py", "import aiobotocore"),
    (floors.pyarrow_stays_out_of_the_agent, "agent/sinks/parquet_seal.py", "import pyarrow"),
    (floors.pyarrow_stays_out_of_the_agent, "agent/cli/a.py", "def f():\n    import pyarrow"),
    (
        code.functions_are_small,
        "agent/a.py",
        LONG_FUNCTION.replace(":\n", ':\n    """\n    D.\n    """\n', 1)[:-8],
    ),
    (code.errors_are_not_swallowed, "agent/a.py", "try:\n  f()\nexcept Exception:\n  g()\n  raise"),
    (
        code.errors_are_not_swallowed,
        "agent/a.py",
        "try:\n  f()\nexcept Exception:\n  # One bad.\n  g()",
    ),
    (code.errors_are_not_swallowed, "agent/a.py", "try:\n  f()\nexcept OSError:\n  g()"),
    (code.no_object_per_line, "agent/_reference.py", "for i in range(columns.rows): f(i)"),
    (code.no_object_per_line, "agent/sinks/a.py", "for segment in segments: f(segment.rows)"),
    (code.disk_is_tagged, "agent/sinks/a.py", "async def f():\n    os.fsync(1)  # disk"),
    (code.disk_is_tagged, "agent/sinks/a.py", "def f():\n    os.fsync(1)"),
]


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    return read_modules(REPOSITORY, ["agent", "bench", "demo", "tests"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps(rule: Rule, modules: list[Module]) -> None:
    """
    No finding; each says where, and what to do instead.
    """
    findings = list(rule(modules))
    assert not findings, "\n" + "\n".join(findings)


@pytest.mark.parametrize(("rule", "path", "source", "message"), REFUSED)
def test_a_rule_can_fail(rule: Rule, path: str, source: str, message: str) -> None:
    """
    A rule that never fails guards nothing.
    """
    findings = list(rule([Module(path, source)]))
    assert any(message in finding for finding in findings), findings


@pytest.mark.parametrize(("rule", "path", "source"), ACCEPTED)
def test_a_rule_lets_pass(rule: Rule, path: str, source: str) -> None:
    """
    A rule that fails on good code is switched off by the first person in a hurry.
    """
    assert not list(rule([Module(path, source)]))


def test_every_rule_is_shown_to_fail() -> None:
    """
    A new rule brings an example that it refuses.
    """
    shown = {rule for rule, *_ in REFUSED} | {code.nothing_is_dead}
    assert shown == set(RULES)


def test_a_dead_file_is_found() -> None:
    """
    A module that no other module of agent/ imports is dead, once there is a command.
    """
    main = Module("agent/cli/main.py", 'from agent.core.used import x\nadd("run")')
    used = Module("agent/core/used.py", "")
    dead = Module("agent/core/dead.py", "")
    run = Module("agent/cli/run.py", "")
    twin = Module("agent/_reference_encode.py", "")
    child = Module("agent/cli/child.py", "")
    starter = Module("agent/runtime/host.py", 'run("-m", "agent.cli.child")')
    findings = list(code.nothing_is_dead([main, used, dead, run, twin, child, starter]))
    assert findings == [
        "core/dead.py:1: nothing imports agent.core.dead: wire it or delete it",
        "runtime/host.py:1: nothing imports agent.runtime.host: wire it or delete it",
    ]
    assert not list(code.nothing_is_dead([used, dead]))


def test_what_imports_the_seal_child_brings_arrow_along() -> None:
    """
    Arrow is not let in through a module that imports it.
    """
    seal = Module("agent/sinks/parquet_seal.py", "import pyarrow")
    sink = Module("agent/sinks/parquet.py", "from agent.sinks.parquet_seal import seal")
    assert list(floors.pyarrow_stays_out_of_the_agent([seal, sink]))
