"""
What zstd's levels make of the pages of a Parquet file: `python -m bench.levels FILE…`; without files of the corpus.

Every file is cut into pieces of a page, each compressed by itself, as Parquet does with the messages.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import pyarrow as pa

from bench.beside import scratch
from bench.corpus import MIB, write_corpus
from bench.tables import markdown

LEVELS = (-1, 1, 2, 3, 4, 5, 7)
PAGE_BYTES = MIB
ROUNDS = 5


def measured(data: bytes, level: int) -> tuple[int, float]:
    """
    Return (compressed bytes, CPU seconds) of *data*, the shortest of ROUNDS.
    """
    codec = pa.Codec("zstd", compression_level=level)
    pieces = [data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)]
    spent = []
    for _ in range(ROUNDS):
        started = time.process_time()
        size = sum(len(codec.compress(piece)) for piece in pieces)
        spent.append(time.process_time() - started)
    return size, min(spent)


def row(name: str, data: bytes) -> list[str]:
    """
    Return a file's row: its bytes, and for each level what is left of them and MiB a second.
    """
    cells = []
    for level in LEVELS:
        size, seconds = measured(data, level)
        speed = len(data) / MIB / max(seconds, 1e-6)
        cells.append(f"{size / len(data):.2%}, {speed:,.0f}")
    return [name, f"{len(data):,}", *cells]


def main() -> int:
    """
    Measure, show.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("files", nargs="*", metavar="FILE")
    options = parser.parse_args()
    if options.files:
        rows = [row(os.path.basename(path), Path(path).read_bytes()) for path in options.files]
    else:
        with scratch() as directory:
            (path,) = write_corpus(directory, kind="halves", mib=16).files
            rows = [row("halves", Path(path).read_bytes())]
    print("What is left, and MiB a second, by level of zstd\n")
    print(markdown(["file", "bytes", *map(str, LEVELS)], rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
