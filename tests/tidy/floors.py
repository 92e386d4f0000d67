"""
Rules about who may use what: floors, and names that are banned on a floor.

A rule is a function from the modules of the repository to findings; every finding says where it is
and what to do instead.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tests.tidy.model import dotted_name, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.tidy.model import Module

#: The floors, bottom up: a module imports from its own package and from lower floors.
FLOORS = {
    "_fast*": 0,  # with _reference, their twin
    "core": 1,
    "sources": 2,
    "transforms": 2,
    "sinks": 2,
    "runtime": 3,
    "config": 4,
    "cli": 5,
    "__main__": 6,
}
#: Plain values that the extensions hand out: the one look upwards, and it has no imports of its own.
VALUES_OF_FLOOR_0 = "agent.core.cursor"

#: Modules that core/ never imports, and what to do instead.
BANNED_IN_CORE = {
    "asyncio": "return a decision and let runtime/ wait",
    "time": "take now as an argument",
    "datetime": "take now as an argument, in ns",
    "os": "take a Disk as an argument (core/host.py)",
    "pathlib": "take a Disk as an argument (core/host.py)",
    "random": "take a float in [0, 1) as an argument",
    "secrets": "take a float in [0, 1) as an argument",
    "socket": "take an AwsClient as an argument (core/host.py)",
    "logging": "return what happened and let the host tell it",
    "threading": "return a decision and let runtime/ carry it out",
    "pyarrow": "staging buffers come from agent._fastencode",
    "aiobotocore": "take an AwsClient as an argument (core/host.py)",
    "aiohttp": "take an AwsClient as an argument (core/host.py)",
    "httptools": "take an AwsClient as an argument (core/host.py)",
}
#: Names that sources, transforms and sinks never use, and what to do instead.
BANNED_IN_COMPONENTS = {
    "time.time": "use host.clock.now_ns()",
    "time.time_ns": "use host.clock.now_ns()",
    "time.monotonic": "use host.clock.monotonic()",
    "time.sleep": "use await host.clock.sleep()",
    "asyncio.sleep": "use await host.clock.sleep()",
    "random.random": "use host.clock.random()",
    "random.uniform": "use host.clock.random()",
    "datetime.now": "use host.clock.now_ns()",
    "datetime.datetime.now": "use host.clock.now_ns()",
}
TASK_STARTERS = {"create_task", "ensure_future", "TaskGroup", "gather", "run_coroutine_threadsafe"}
AWS_SDKS = {"aiobotocore", "botocore", "boto3", "s3transfer"}
AWS_HOME = "agent/runtime/aws"


def imports_go_down(modules: Sequence[Module]) -> Iterator[str]:
    """
    Imports go down: cli → config → runtime → {sources | transforms | sinks} → core → _fast*.
    """
    for module in modules:
        if not module.in_agent or not module.part:
            continue
        floor = _floor(module.part)
        if floor is None:
            yield module.at(1, f"agent/{module.part} has no floor: give it one in tests/tidy.py")
            continue
        for item in module.imports:
            names = item.name.split(".")
            if names[0] in {"tests", "bench", "demo"}:
                yield module.at(item.line, f"agent/ does not import {names[0]}/")
            if names[0] != "agent" or len(names) < 2 or names[1] in {module.part, "__version__"}:
                continue
            if floor == 0 and item.name.startswith(VALUES_OF_FLOOR_0):
                continue
            # runtime/ is handed the configuration, so it names the type of it; it never imports it.
            if module.part == "runtime" and names[1] == "config" and item.types_only:
                continue
            if (other := _floor(names[1])) is None or other < floor or floor == other == 0:
                continue
            hint = (
                "sources, transforms and sinks never import one another: put what they share into core/"
                if other == floor
                else "imports go down only: take it as an argument, or move it down"
            )
            yield module.at(item.line, f"{module.part} imports {item.name}; {hint}")


def _floor(part: str) -> int | None:
    return FLOORS["_fast*"] if part.startswith(("_fast", "_reference")) else FLOORS.get(part)


def core_is_pure(modules: Sequence[Module]) -> Iterator[str]:
    """
    No I/O, no clock, no randomness in core/.
    """
    for module in modules:
        if module.part != "core":
            continue
        names = {item.name.split(".")[0] for item in module.imports if not item.types_only}
        banned = names & BANNED_IN_CORE.keys()
        for item in module.imports:
            root = item.name.split(".")[0]
            if root in banned and not item.types_only:
                yield module.at(
                    item.line, f"{item.name} is banned in core/, {BANNED_IN_CORE[root]}"
                )
        for node, _ in walk(module.tree):
            if isinstance(node, ast.Attribute):
                name = dotted_name(node)
                root = name.split(".")[0]
                if root in banned:
                    hint = BANNED_IN_CORE[root]
                    yield module.at(node.lineno, f"{name} is banned in core/, {hint}")
            if isinstance(node, ast.Call) and dotted_name(node.func) == "open":
                yield module.at(node.lineno, f"open is banned in core/, {BANNED_IN_CORE['os']}")


def components_ask_the_host(modules: Sequence[Module]) -> Iterator[str]:
    """
    Sources, transforms and sinks have no clock and no dice of their own.
    """
    for module in modules:
        if module.part not in {"sources", "transforms", "sinks"}:
            continue
        for node, parents in walk(module.tree):
            # `await asyncio.sleep(0)` waits for no clock: it lets others run.
            if not isinstance(node, ast.Attribute) or ast.unparse(parents[-1]).endswith("(0)"):
                continue
            if hint := BANNED_IN_COMPONENTS.get(dotted_name(node)):
                yield module.at(
                    node.lineno, f"{dotted_name(node)} is banned in {module.part}/, {hint}"
                )


def only_runtime_starts_tasks(modules: Sequence[Module]) -> Iterator[str]:
    """
    A task has a supervisor, so only runtime/ starts one.
    """
    for module in modules:
        if not module.in_agent or module.part == "runtime":
            continue
        for node, _ in walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            name = dotted_name(node.func)
            if name.split(".")[-1] in TASK_STARTERS:
                yield module.at(
                    node.lineno,
                    f"{name} is banned outside runtime/, take a Tasks as an argument (core/host.py)",
                )


def sdk_stays_in_its_module(modules: Sequence[Module]) -> Iterator[str]:
    """
    Only runtime/aws.py knows the AWS SDK.
    """
    for module in modules:
        if not module.in_agent or module.path.startswith(AWS_HOME):
            continue
        for item in module.imports:
            if item.name.split(".")[0] in AWS_SDKS:
                yield module.at(
                    item.line,
                    f"{item.name} is banned outside runtime/aws.py, "
                    "take an AwsClient as an argument (core/host.py)",
                )


def pyarrow_stays_out_of_the_agent(modules: Sequence[Module]) -> Iterator[str]:
    """
    Arrow costs 38 to 75 MB for ever: it lives in the seal child and in commands that read Parquet.

    What imports it is imported late, by a command.
    """
    homes = {module.dotted for module in modules if _is_arrow_home(module)}
    for module in modules:
        if not module.in_agent or _is_arrow_home(module):
            continue
        late_allowed = module.part == "cli"
        for item in module.imports:
            if item.types_only or (late_allowed and not item.top_level):
                continue
            arrow = item.name.split(".")[0] == "pyarrow"
            if arrow or item.name in homes or item.name.rpartition(".")[0] in homes:
                yield module.at(
                    item.line,
                    f"{item.name} brings pyarrow into the running agent, "
                    "run it in the seal child (host.run_child) or import it inside a command",
                )


def _is_arrow_home(module: Module) -> bool:
    return module.in_agent and "seal" in module.dotted.split(".")[-1] and "pyarrow" in module.text


RULES = (
    imports_go_down,
    core_is_pure,
    components_ask_the_host,
    only_runtime_starts_tasks,
    sdk_stays_in_its_module,
    pyarrow_stays_out_of_the_agent,
)
