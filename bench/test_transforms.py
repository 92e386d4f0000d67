"""
Throughput of the transforms on one core: `make bench`.

Every figure has what was asked of it in extra_info; nothing here fails on a slow machine.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from agent import _fastparse
from agent.core.batch import Resource
from agent.core.counters import Counters
from agent.transforms.registry import KINDS
from agent.transforms.stages import SinkColumn, Stages
from bench.test_fast import access

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK_BYTES = 262_144
RESOURCE = Resource(path="/var/log/pods/a/b/0.log", namespace="shop", pod="web-1", container="app")
LEVELS = ("debug", "info", "info", "info", "warn", "error")
JSON_COLUMNS = [SinkColumn(name, "string", name) for name in ("level", "msg", "path")]

KLOG_COLUMNS = [SinkColumn(name, "string", name) for name in ("msg", "pod", "caller")]


def json_line(rng: random.Random) -> str:
    """
    Return a record of about 200 bytes.
    """
    return json.dumps(
        {
            "ts": "2026-11-22T19:00:01.123Z",
            "level": rng.choice(LEVELS),
            "msg": "request done",
            "id": rng.randrange(10**9),
            "http": {"status": rng.choice((200, 200, 404, 503)), "ms": rng.random()},
            "path": f"/api/v1/items/{rng.randrange(10**6)}",
            "user": "x" * 30,
        }
    )


def klog_line(rng: random.Random) -> str:
    """
    Return a structured line of klog.
    """
    return (
        f"{rng.choice('IIIWE')}1122 19:00:01.{rng.randrange(10**6):06}       1 controller.go:116] "
        f'"Pod status updated" pod="kube-system/pod-{rng.randrange(10**4)}" status="ready"'
    )


def java_line(rng: random.Random) -> str:
    """
    Return a trace of eight lines, one time in ten, else a line.
    """
    line = f"2026-11-22 19:00:01.{rng.randrange(1000):03} INFO [main] com.acme.Shop - order {rng.randrange(10**9)} done"
    if rng.randrange(10):
        return line
    frames = "".join(
        f"\n\tat com.acme.shop.Cart.method{rng.randrange(99)}(Cart.java:{rng.randrange(999)})"
        for _ in range(6)
    )
    return f"{line}\ncom.acme.shop.StockException: none left{frames}"


def columns_of(make: Any) -> tuple[bytes, list[tuple[int, int, int, int, int, int, int]]]:
    """
    Return the data and the rows of a chunk of lines.
    """
    rng = random.Random(7)
    data, rows = bytearray(), []
    while len(data) < CHUNK_BYTES:
        for line in make(rng).encode().split(b"\n"):
            rows.append((1_800_000_000_000_000_000, len(data), 0, 0, len(data), len(line), 1))
            data += line
    return bytes(data), rows


def run(
    benchmark: Any,
    make: Any,
    transforms: Sequence[dict[str, Any]],
    asked: str,
    **more: Any,
) -> None:
    """
    Measure *transforms* over a chunk, and keep lines and bytes a second.
    """
    data, rows = columns_of(make)
    settings = []
    for item in transforms:
        name = next(name for name in item if name in KINDS)
        settings.append(KINDS[name].settings(**item))
    stages = Stages(settings, route="r", counters=Counters(), **more)

    def fresh() -> Any:
        return (_fastparse.Columns.build(data, rows),), {}

    def work(columns: _fastparse.Columns) -> None:
        stages.begin().apply(columns, resource=RESOURCE, generation=0, now=0.0, release=True)

    benchmark.pedantic(work, setup=fresh, rounds=60, warmup_rounds=3)
    if benchmark.stats is not None:
        best = benchmark.stats.stats.min
        said = f"{len(rows) / best / 1e6:.2f} M lines/s, {len(data) / best / 1e6:.0f} MB/s"
        benchmark.extra_info.update(measured=said, asked=asked)
        print(f"\n{benchmark.name}: {said} (asked: {asked})")


CASES: dict[str, tuple[Any, list[dict[str, Any]], str]] = {
    "json": (json_line, [{"parse": "json", "level_fields": ()}], "1.5 M lines/s"),
    "klog": (klog_line, [{"parse": "klog"}], "2 M lines/s"),
    "multiline_java": (java_line, [{"multiline": "java"}], "200 MB/s"),
    "multiline_auto": (java_line, [{"multiline": "auto"}], ""),
    "where_level": (klog_line, [{"parse": "klog"}, {"where": "level >= warn"}], "500 MB/s more"),
    "redact_all": (access, [{"redact": ("all",)}], "150 MB/s"),
    "redact_none_found": (klog_line, [{"redact": ("all",)}], "150 MB/s"),
    "redact_pattern": (access, [{"redact": (), "patterns": {"a": r"items/\d+"}}], "40 MB/s"),
    "regex": (access, [{"parse": "regex", "pattern": r'"GET (?P<path>\S+) HTTP'}], ""),
    "nginx": (access, [{"parse": "nginx"}], ""),
    "logfmt": (
        lambda rng: f'level=info n={rng.randrange(10**9)} msg="a b c"',
        [{"parse": "logfmt"}],
        "",
    ),
    "sample": (klog_line, [{"sample": 0.1}], ""),
    "limit": (klog_line, [{"limit": "container", "lines_per_s_max": 100}], ""),
}


@pytest.mark.parametrize("name", CASES)
def test_transform(benchmark: Any, name: str) -> None:
    """
    One transform, or a chain of two.
    """
    make, transforms, asked = CASES[name]
    more: dict[str, Any] = {}
    if name == "json":
        more["sink_columns"] = JSON_COLUMNS
    elif name in {"klog", "where_level"}:
        more["sink_columns"] = KLOG_COLUMNS
    run(benchmark, make, transforms, asked, **more)
