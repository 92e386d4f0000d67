"""
The fuzzers: for everything that takes bytes from outside, one function that such bytes must not get the better of.

A fuzzer takes bytes and returns; what it raises is a finding.  It says what it may expect by asserting it: that two
implementations agree, that nothing is read twice, that an error is of the kind that a caller handles.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

CORPUS = Path(__file__).resolve().parent / "corpus"


class Fuzzer(NamedTuple):
    """
    One target.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    tokens: tuple[bytes, ...] = ()
    #: What one input costs, beside others: a dear one gets fewer.
    cost: int = 1

    @property
    def corpus(self) -> tuple[bytes, ...]:
        """
        The seeds, and what was found once.
        """
        found = sorted((CORPUS / self.name).glob("*")) if (CORPUS / self.name).is_dir() else []
        return (*self.seeds, *(path.read_bytes() for path in found))


#: Modules of this folder with a tuple FUZZERS; each imports what it fuzzes.
MODULES = ("lines", "rows", "components", "answers", "wires", "files", "texts", "pulled")
CANARY = "canary"


class CanaryError(AssertionError):
    """
    The canary was found, as it must be.
    """


def _canary(data: bytes) -> None:
    # Behind what a few changes to the seed reach: a registry that runs nothing does not find it.
    if data.startswith(b"sing") and b"\xff" in data:
        raise CanaryError(data)


def fuzzers() -> dict[str, Fuzzer]:
    """
    Return all fuzzers by name; the canary among them, which must fail.
    """
    found = {CANARY: Fuzzer(CANARY, _canary, (b"sing a song",))}
    for module in MODULES:
        for fuzzer in importlib.import_module(f"tests.fuzz.{module}").FUZZERS:
            assert fuzzer.name not in found, fuzzer.name
            found[fuzzer.name] = fuzzer
    return found


def scratch(name: str) -> str:
    """
    Return a path for a file of this process, in memory where there is such a directory.
    """
    root = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
    return f"{root}/tailrace-fuzz-{os.getpid()}-{name}"
