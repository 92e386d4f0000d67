"""
Runs the fuzzers: `python -m tests.fuzz --runs 1000000`.

Every input follows from a seed, a fuzzer's name and a number, so that a finding is found again on any machine; it is
made smaller and written to `tests/fuzz/found/`.  Put it into `tests/fuzz/corpus/<fuzzer>/` with the fix: it is a test
from then on.  A crash of the process itself (of compiled code) is a finding as well: every fuzzer runs in children.

    python -m tests.fuzz --runs 1000 --fuzzer s3          # one fuzzer
    python -m tests.fuzz --fuzzer s3 --input FILE         # one input, with its traceback
"""

from __future__ import annotations

import argparse
import faulthandler
import mmap
import os
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.mutate import mutated, smaller
from tests.fuzz.registry import CANARY, Fuzzer, fuzzers

FOUND = Path(__file__).resolve().parent / "found"
#: An input that a fuzzer thinks about for longer is a finding.
HANG_S = 20
_NUMBER = struct.Struct("<q")


class Finding(NamedTuple):
    """
    An input that got the better of a fuzzer.
    """

    fuzzer: str
    data: bytes
    error: str


def input_of(fuzzer: Fuzzer, seed: int, number: int, corpus: tuple[bytes, ...] = ()) -> bytes:
    """
    Return input *number*: first the corpus as it is, then what becomes of it.
    """
    corpus = corpus or fuzzer.corpus
    if number < len(corpus):
        return corpus[number]
    rng = random.Random(f"{seed}/{fuzzer.name}/{number}")
    return mutated(rng, corpus, fuzzer.tokens)


def shares(chosen: dict[str, Fuzzer], runs: int) -> dict[str, int]:
    """
    Return how many of *runs* inputs each fuzzer gets: the dearer, the fewer; the canary a thousandth.
    """
    weights = {name: 1 / item.cost for name, item in chosen.items() if name != CANARY}
    total = sum(weights.values()) or 1.0
    counts = {name: max(20, round(runs * weight / total)) for name, weight in weights.items()}
    if CANARY in chosen:
        counts[CANARY] = max(1000, runs // 1000)
    return counts


def run_share(fuzzer: Fuzzer, seed: int, numbers: range, place: mmap.mmap) -> str:
    """
    Run inputs until one fails; *place* always holds the number of the one under way.
    """
    corpus = fuzzer.corpus
    for number in numbers:
        place[:8] = _NUMBER.pack(number)
        signal.alarm(HANG_S)
        try:
            fuzzer.run(input_of(fuzzer, seed, number, corpus))
        except Exception:
            # Whatever it is, it is the finding.
            return traceback.format_exc()
    signal.alarm(0)
    place[:8] = _NUMBER.pack(-1)
    return ""


def child(fuzzer: Fuzzer, seed: int, numbers: range) -> tuple[int, str]:
    """
    Run inputs in a process of their own.

    Returns:
        The number of the input that failed, or -1, and how.
    """
    with mmap.mmap(-1, 8) as place, tempfile.TemporaryFile() as said:
        place[:8] = _NUMBER.pack(numbers.start)
        pid = os.fork()
        if not pid:
            try:
                faulthandler.disable()  # Of a test runner: the finding says it.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                error = run_share(fuzzer, seed, numbers, place)
                said.write(error.encode("utf-8", "replace"))
                said.flush()
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        number = _NUMBER.unpack(place[:8])[0]
        said.seek(0)
        error = said.read().decode()
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        error = f"hangs: no end within {HANG_S} s" if name == "SIGALRM" else f"killed by {name}"
    return number, error


def fuzz(fuzzer: Fuzzer, seed: int, numbers: range) -> list[Finding]:
    """
    Run *numbers* of a fuzzer; the first finding of each kind, made smaller.
    """
    number, error = child(fuzzer, seed, numbers)
    if number < 0:
        return []
    data = input_of(fuzzer, seed, number)
    if "killed by" not in error and "hangs" not in error:
        data = smaller(data, lambda shorter: _fails(fuzzer, shorter))
    return [Finding(fuzzer.name, data, error.strip())]


def _fails(fuzzer: Fuzzer, data: bytes) -> bool:
    try:
        fuzzer.run(data)
    except Exception:
        # Another failure is as good.
        return True
    return False


def run_all(chosen: dict[str, Fuzzer], *, runs: int, seed: int, jobs: int) -> list[Finding]:
    """
    Run *runs* inputs of all fuzzers, *jobs* at a time.
    """
    counts = shares(chosen, runs)
    step = max(50, runs // 200)
    stretches = [
        (name, range(start, min(start + step, count)))
        for name, count in counts.items()
        for start in range(0, count, step)
    ]
    random.Random(seed).shuffle(stretches)
    found: dict[str, Finding] = {}
    workers = [_Worker(chosen, seed, stretches[job::jobs]) for job in range(jobs)]
    for worker in workers:
        for finding in worker.findings():
            found.setdefault(finding.fuzzer, finding)
    return list(found.values())


class _Worker:
    """
    A process that runs stretches one after the other, and sends what it found through a pipe.
    """

    def __init__(
        self, chosen: dict[str, Fuzzer], seed: int, stretches: list[tuple[str, range]]
    ) -> None:
        self._said, write = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(write)
            return
        try:
            with os.fdopen(write, "wb") as pipe:
                failed: set[str] = set()
                for name, numbers in stretches:
                    for finding in fuzz(chosen[name], seed, numbers) if name not in failed else ():
                        failed.add(name)
                        pipe.write(repr(tuple(finding)).encode() + b"\n")
                        pipe.flush()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def findings(self) -> list[Finding]:
        """
        Wait for the end of the worker.
        """
        import ast

        with os.fdopen(self._said, "rb") as pipe:
            lines = pipe.read().splitlines()
        _, status = os.waitpid(self._pid, 0)
        assert status == 0, f"a worker ended with {status}"
        return [Finding(*ast.literal_eval(line.decode())) for line in lines]


def report(found: list[Finding]) -> bool:
    """
    Print what was found; return whether all is well: the canary is dead, and nothing else.
    """
    for finding in found:
        if finding.fuzzer == CANARY:
            continue
        FOUND.mkdir(exist_ok=True)
        path = FOUND / f"{finding.fuzzer}-{abs(hash(finding.data)) % 10**8:08d}"
        path.write_bytes(finding.data)
        print(f"FOUND by {finding.fuzzer}: {finding.data[:200]!r}\n{finding.error}")
        print(f"again: python -m tests.fuzz --fuzzer {finding.fuzzer} --input {path}\n")
    if not any(finding.fuzzer == CANARY for finding in found):
        print("the canary lives: the fuzzers do not find what is there")
        return False
    return len(found) == 1


def main() -> int:
    """
    Fuzz.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--runs", type=int, default=100_000, help="inputs, all fuzzers together")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--fuzzer", choices=sorted(fuzzers()), help="only this one")
    parser.add_argument("--input", type=Path, help="run this file through the fuzzer")
    args = parser.parse_args()
    known = fuzzers()
    if args.input:
        known[args.fuzzer].run(args.input.read_bytes())
        return 0
    chosen = {name: item for name, item in known.items() if args.fuzzer in (None, name)}
    chosen[CANARY] = known[CANARY]
    began = time.monotonic()
    found = run_all(chosen, runs=args.runs, seed=args.seed, jobs=args.jobs)
    counts = shares(chosen, args.runs)
    took_s = time.monotonic() - began
    well = report(found)
    for name, count in sorted(counts.items()):
        print(f"{name:14}{count:10,}")
    print(
        f"{sum(counts.values()):,} inputs, {len(found) - 1} findings, {took_s:.0f} s, seed {args.seed}"
    )
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
