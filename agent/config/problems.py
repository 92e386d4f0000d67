"""
What is wrong with a configuration: one message per problem, all of them at once.

    config/tailrace.yaml: routes[0].sink.linger_s: got "5 sec", expected seconds as a number, e.g. 5
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.errors import VALUE_SHOWN_MAX, StopError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EXIT_CONFIGURATION = 78


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing that is wrong: the key's path and what about it.
    """

    path: str
    text: str


class ConfigError(StopError):
    """
    A configuration that nothing is started with.
    """

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [
            f"{name}: {problem.path}: {problem.text}" if problem.path else f"{name}: {problem.text}"
            for problem in self.problems
        ]
        super().__init__("\n".join(lines), exit_code=EXIT_CONFIGURATION)


def wrong(path: str, value: str, expectation: str) -> Problem:
    """
    Return the problem of a value that is shown as *value* where *expectation* was expected.
    """
    return Problem(path, f"got {value}, expected {expectation}")


def shortened(text: str) -> str:
    """
    Return *text* as it appears in a message, at most 40 characters.
    """
    line = text.replace("\n", "\\n").replace("\t", "\\t")
    return line if len(line) <= VALUE_SHOWN_MAX else line[: VALUE_SHOWN_MAX - 1] + "…"


def quoted(text: str) -> str:
    """
    Return *text* shortened and in quotes.
    """
    return f'"{shortened(text)}"'


def nearest(word: str, known: Iterable[str]) -> str:
    """
    Return ` (did you mean …?)` for the known word that is most like *word*; empty where none is.
    """
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {found[0]}?)" if found else ""


def child(path: str, key: str) -> str:
    """
    Return the path of *key* in the mapping at *path*.
    """
    return f"{path}.{key}" if path else key
