"""
Containers that log at a steady rate: `python -m bench.writer --rate 100 --seconds 60 FILE…`.

Each line is a write of its own, as a container runtime does it, with the time at which it is written.  At the end the
number of lines is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from typing import TYPE_CHECKING

from bench.corpus import NANOSECONDS, Clock, halves_texts, log_path

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The writer wakes this often; every wake-up writes its part of the lines.
TICK_S = 0.01
TEXT_COUNT = 10_000
AGE_S = 3_600


def write_lines(files: Sequence[str], rate: float, seconds: float) -> int:
    """
    Append *rate* lines a second to each file for *seconds*; returns how many there are.
    """
    texts = list(halves_texts(random.Random(7), TEXT_COUNT))
    descriptors = [os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) for path in files]
    last_ns = time.time_ns()
    clock = Clock(last_ns)
    began = time.monotonic()
    written = 0
    while (elapsed := time.monotonic() - began) < seconds:
        due = int(elapsed * rate * len(descriptors))
        for number in range(written, due):
            now_ns = time.time_ns()
            line = f"{clock.advance(now_ns - last_ns)} stdout F {texts[number % TEXT_COUNT]}\n"
            last_ns = now_ns
            os.write(descriptors[number % len(descriptors)], line.encode())
        written = due
        time.sleep(TICK_S)
    for descriptor in descriptors:
        os.close(descriptor)
    return written


def make_files(root: str, count: int, *, seed: int, lines: int) -> list[str]:
    """
    Make *count* files of *lines* lines each.
    """
    made = [log_path(root, index, seed) for index in range(count)]
    clock = Clock((int(time.time()) - AGE_S) * NANOSECONDS)
    for path in made:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.writelines(
                f"{clock.advance(1_000)} stdout F line {number}\n" for number in range(lines)
            )
    return made


def main() -> int:
    """
    Write.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--rate", type=float, required=True, help="lines a second and file")
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    print(write_lines(options.files, options.rate, options.seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
