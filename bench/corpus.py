"""
A seeded corpus of container logs: `python -m bench.corpus --mib 256 OUT`.

Files in CRI form in a kubelet-shaped tree, of one kind:

| kind | lines |
|---|---|
| access | access-log lines of a web server, about 190 bytes with their CRI head |
| json | one JSON object a line, about 260 bytes |
| halves | one half of each of these two |
| pad-100 … pad-16000 | lines of that length |
| mixed | both, plain words, stack traces, and long lines in `P … F` pieces |

Every line differs (its time does, and most of its fields), because a repeated block flatters a
compressor.  The same seed, size and start give the same bytes.  The lines begin an hour ago unless
told otherwise: CloudWatch refuses what is older than 14 days.  `manifest.json` beside the tree says what
is in it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MIB = 1 << 20
NANOSECONDS = 1_000_000_000
PIECE_BYTES = 16_384
#: Lines that are made at a time: the random numbers of a block are drawn in few calls.
BLOCK_LINES = 4_096
#: About: so that a small file is a few blocks and not one that is too large.
LINE_BYTES = 200
#: An hour ago, and lines 200 µs apart on average: 256 MiB are less than five minutes.
AGE_S = 3_600
#: A time, a stream, a tag, and the blanks between them.
CRI_HEAD_BYTES = 40
PAD_SIZES = (100, 400, 1_600, 6_400, 16_000)
GAP_NS_MAX = 400_000

NAMESPACES = ("shop", "payments", "search", "kube-system", "observability")
WORKLOADS = ("web", "api", "cart", "ledger", "indexer", "gateway", "mailer", "auth")
METHODS = ("GET", "GET", "GET", "GET", "POST", "PUT", "DELETE")
PATHS = (
    "/home",
    "/cart",
    "/checkout",
    "/items",
    "/api/v1/orders",
    "/api/v2/users",
    "/static/js/app",
    "/search",
)
STATUSES = ("200", "200", "200", "200", "201", "204", "301", "304", "400", "404", "500", "503")
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15",
    "okhttp/5.1.0",
    "kube-probe/1.34",
)
LEVELS = ("debug", "info", "info", "info", "info", "warn", "error")
MESSAGES = (
    "request finished",
    "order placed",
    "payment accepted",
    "cache miss, loading from database",
    "connection to upstream reset, trying again",
    "user logged in",
    "在庫を確認しました",
    "Überweisung gebucht",
)
WORDS = [
    "the",
    "of",
    "queue",
    "worker",
    "timeout",
    "retry",
    "shard",
    "leader",
    "commit",
    "index",
    "segment",
    "replica",
    "lag",
    "flush",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """
    What a corpus holds.  `rows` are lines after joining the pieces.
    """

    kind: str
    seed: int
    start_ns: int
    bytes: int
    lines: int
    rows: int
    files: list[str]


def access_texts(chance: random.Random, count: int) -> Iterator[str]:
    """
    Make access-log lines.
    """
    many = chance.choices
    numbers = [chance.getrandbits(64) for _ in range(count)]
    fields = zip(
        numbers,
        many(METHODS, k=count),
        many(PATHS, k=count),
        many(STATUSES, k=count),
        many(AGENTS, k=count),
        strict=True,
    )
    for number, method, path, status, agent in fields:
        yield (
            f"10.{number & 255}.{number >> 8 & 255}.{number >> 16 & 255} - - "
            f'"{method} {path}/{number >> 24 & 0xFFFFF} HTTP/1.1" {status} {number >> 44 & 0x7FFF} '
            f'"https://www.example.com{path}" "{agent}" {(number >> 52) / 1000:.3f}'
        )


def json_texts(chance: random.Random, count: int) -> Iterator[str]:
    """
    Make JSON objects, as a structured logger writes them.
    """
    many = chance.choices
    numbers = [chance.getrandbits(128) for _ in range(count)]
    fields = zip(
        numbers,
        many(LEVELS, k=count),
        many(MESSAGES, k=count),
        many(WORKLOADS, k=count),
        strict=True,
    )
    for number, level, message, service in fields:
        yield (
            f'{{"level":"{level}","msg":"{message}","service":"{service}",'
            f'"trace_id":"{number:032x}","user_id":{number & 0xFFFFF},'
            f'"took_ms":{(number >> 20 & 0xFFFF) / 100},"ok":{"true" if number & 7 else "false"}}}'
        )


def wide_json_texts(chance: random.Random, count: int) -> Iterator[str]:
    """
    Make JSON objects of about 300 bytes, with a nested one.
    """
    for record, number in zip(
        json_texts(chance, count), [chance.getrandbits(64) for _ in range(count)], strict=True
    ):
        yield (
            f'{record[:-1]},"http":{{"method":"GET","route":"/api/v1/orders/{number & 0xFFFFF}",'
            f'"status":{(200, 201, 404, 503)[number >> 20 & 3]},"bytes":{number >> 22 & 0x3FFFF}}},'
            f'"span_id":"{number:016x}","host":"ip-10-0-{number & 255}-{number >> 8 & 255}.ec2.internal"}}'
        )


def halves_texts(chance: random.Random, count: int) -> Iterator[str]:
    """
    Make as many access-log lines as JSON objects, in no order.
    """
    plain = zip(access_texts(chance, count), wide_json_texts(chance, count), strict=True)
    for dice, (access, record) in zip(chance.choices((0, 1), k=count), plain, strict=True):
        yield record if dice else access


def mixed_texts(chance: random.Random, count: int) -> Iterator[str]:
    """
    Make a bit of everything that a node logs.
    """
    plain = zip(access_texts(chance, count), json_texts(chance, count), strict=True)
    for dice, (access, record) in zip(chance.choices(range(1_000), k=count), plain, strict=True):
        if dice < 450:
            yield access
        elif dice < 850:
            yield record
        elif dice < 960:
            yield f"{chance.choice(LEVELS).upper()} " + " ".join(
                chance.choices(WORDS, k=4 + dice % 20)
            )
        elif dice < 998:
            yield (
                f"\tat com.example.{chance.choice(WORDS)}.{chance.choice(WORDS).title()}"
                f".run({chance.choice(WORDS).title()}.java:{chance.randrange(2_000)})"
            )
        else:
            words = chance.choices(WORDS, k=chance.randrange(2_500, 8_000))
            yield "DEBUG dump " + " ".join(words)


def padded_texts(size: int, chance: random.Random, count: int) -> Iterator[str]:
    """
    Make lines of *size* bytes with their CRI head: access lines, followed by words.
    """
    wanted = size - CRI_HEAD_BYTES
    for text in access_texts(chance, count):
        missing = wanted - len(text)
        filled = " ".join(chance.choices(WORDS, k=missing // 5)) if missing > 0 else ""
        yield f"{text} {filled}".ljust(wanted, "=")[:wanted]


KINDS: Mapping[str, Callable[[random.Random, int], Iterator[str]]] = {
    "access": access_texts,
    "json": json_texts,
    "halves": halves_texts,
    "mixed": mixed_texts,
} | {f"pad-{size}": functools.partial(padded_texts, size) for size in PAD_SIZES}


class Clock:
    """
    Times that only go forward, as a container runtime writes them.
    """

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns
        self._second = -1
        self._prefix = ""

    def advance(self, gap_ns: int) -> str:
        """
        Go on by *gap_ns* and return the time: RFC3339Nano, trailing zeros trimmed.
        """
        self._now_ns += gap_ns
        second, fraction = divmod(self._now_ns, NANOSECONDS)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._prefix}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


def blocks(kind: str, *, count: int, seed: str, start_ns: int) -> Iterator[list[bytes]]:
    """
    Yield lists of physical lines for ever, each of *count* rows.
    """
    chance = random.Random(seed)
    clock = Clock(start_ns)
    streams = ("stdout",) * 9 + ("stderr",)
    while True:
        gaps = [1 + chance.getrandbits(32) % GAP_NS_MAX for _ in range(count)]
        texts = KINDS[kind](chance, count)
        lines: list[bytes] = []
        for gap, stream, text in zip(gaps, chance.choices(streams, k=count), texts, strict=True):
            content = text.encode()
            while len(content) > PIECE_BYTES:
                lines.append(f"{clock.advance(1)} {stream} P ".encode() + content[:PIECE_BYTES])
                content = content[PIECE_BYTES:]
            lines.append(f"{clock.advance(gap)} {stream} F ".encode() + content)
        yield lines


def log_path(root: str, index: int, seed: int) -> str:
    """
    Return the path of the *index*-th container below *root*.
    """
    namespace = NAMESPACES[index % len(NAMESPACES)]
    workload = WORKLOADS[index % len(WORKLOADS)]
    uid = uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}/{index}")
    pod = f"{workload}-{uid.hex[:9]}-{uid.hex[9:14]}"
    return os.path.join(root, "pods", f"{namespace}_{pod}_{uid}", workload, "0.log")


def write_file(
    path: str, kind: str, *, size: int, seed: str, start_ns: int
) -> tuple[int, int, int]:
    """
    Write at least *size* bytes; returns bytes, physical lines and rows.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    written = line_count = row_count = 0
    count = max(1, min(BLOCK_LINES, size // LINE_BYTES // 8))
    with open(path, "wb") as file:
        for lines in blocks(kind, count=count, seed=seed, start_ns=start_ns):
            block = b"\n".join(lines) + b"\n"
            file.write(block)
            written += len(block)
            line_count += len(lines)
            row_count += count
            if written >= size:
                return written, line_count, row_count
    raise AssertionError("blocks never end")


def write_corpus(
    root: str, *, kind: str, mib: float, files: int = 1, seed: int = 1, start_ns: int | None = None
) -> Manifest:
    """
    Write a tree of *files* files with at least *mib* MiB together below *root*.
    """
    start_ns = (int(time.time()) - AGE_S) * NANOSECONDS if start_ns is None else start_ns
    paths = [log_path(root, index, seed) for index in range(files)]
    totals = [
        write_file(
            path, kind, size=int(mib * MIB / files), seed=f"{seed}/{index}", start_ns=start_ns
        )
        for index, path in enumerate(paths)
    ]
    size, lines, rows = (sum(column) for column in zip(*totals, strict=True))
    manifest = Manifest(
        kind=kind, seed=seed, start_ns=start_ns, bytes=size, lines=lines, rows=rows, files=paths
    )
    with open(os.path.join(root, "manifest.json"), "w") as file:
        json.dump(asdict(manifest), file, indent=1)
    return manifest


def main() -> int:
    """
    Write a corpus and say what it holds.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("out", help="directory to write to")
    parser.add_argument("--kind", choices=sorted(KINDS), default="mixed")
    parser.add_argument("--mib", type=float, default=256)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--start", type=int, metavar="NS", help="time of the first line, ns since the epoch"
    )
    options = parser.parse_args()
    began = time.monotonic()
    manifest = write_corpus(
        options.out,
        kind=options.kind,
        mib=options.mib,
        files=options.files,
        seed=options.seed,
        start_ns=options.start,
    )
    took = time.monotonic() - began
    print(
        f"{manifest.bytes / MIB:.0f} MiB, {manifest.lines:,} lines, {manifest.rows:,} rows "
        f"in {options.files} files, {manifest.bytes / manifest.lines:.0f} bytes a line, {took:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
