"""
A short run of the fuzzers, what they once found, and the canary that they must find.

The long one is `make fuzz RUNS=1000000`.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.fuzz import __main__ as runner
from tests.fuzz.registry import CANARY, CORPUS, Fuzzer, fuzzers

KNOWN = fuzzers()
RUNS = 3000
CASES = [
    pytest.param(name, path.read_bytes(), id=f"{name}/{path.name}")
    for name in KNOWN
    for path in sorted((CORPUS / name).glob("*"))
]


def test_some_inputs() -> None:
    """
    Another seed every time: none but the canary fails.
    """
    seed = int(os.environ.get("TAILRACE_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    chosen = {name: item for name, item in KNOWN.items() if name != CANARY}
    found = runner.run_all(chosen, runs=RUNS, seed=seed, jobs=1)
    assert not found, f"{found}\nagain: python -m tests.fuzz --runs {RUNS} --seed {seed}"


@pytest.mark.parametrize("name", sorted(set(KNOWN) - {CANARY}))
def test_the_seeds_are_good(name: str) -> None:
    """
    What is changed is what the fuzzer takes.
    """
    for data in KNOWN[name].seeds:
        KNOWN[name].run(data)


@pytest.mark.parametrize(("name", "data"), CASES)
def test_what_was_found(name: str, data: bytes) -> None:
    """
    A case that was found is mended.
    """
    KNOWN[name].run(data)


def test_every_case_has_a_fuzzer() -> None:
    """
    A renamed fuzzer does not leave its cases behind.
    """
    assert {path.name for path in CORPUS.iterdir()} <= set(KNOWN)


def test_the_canary_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """
    The registry finds what is there, small; and where it does not, it says so.
    """
    (finding,) = runner.run_all({CANARY: KNOWN[CANARY]}, runs=1000, seed=1, jobs=1)
    assert finding.data == b"sing\xff"
    assert "CanaryError" in finding.error
    assert runner.report([finding])
    assert not runner.report([])
    assert "the canary lives" in capsys.readouterr().out


def test_a_crash_of_the_process_is_found() -> None:
    """
    Compiled code does not raise: it takes the process with it.
    """

    def run(data: bytes) -> None:
        if b"!" in data:
            os.abort()

    fuzzer = Fuzzer("crash", run, (b"abc",), (b"!",))
    (finding,) = runner.fuzz(fuzzer, 1, range(200))
    assert b"!" in finding.data
    assert finding.error == "killed by SIGABRT"


def test_a_hang_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    So does a loop that does not end.
    """

    def run(data: bytes) -> None:
        while data:
            pass

    monkeypatch.setattr(runner, "HANG_S", 1)
    (finding,) = runner.fuzz(Fuzzer("hang", run, (b"abc",)), 1, range(1))
    assert "hangs" in finding.error


def test_an_input_follows_from_its_number() -> None:
    """
    The same on every machine.
    """
    fuzzer = KNOWN["s3"]
    assert runner.input_of(fuzzer, 1, 500) == runner.input_of(fuzzer, 1, 500)
    assert len({runner.input_of(fuzzer, 1, number) for number in range(200)}) > 150
