"""
Memory stays under `memory_budget_bytes` and a fixed overhead, whatever the sinks and the files do.

The agent is a process, and what is measured is the most that it ever had in memory (VmHWM: code, heap, everything).
`TAILRACE_SLOW=1 python -m pytest tests/edge/test_memory.py -rP -k fixed` runs the full sizes and prints the table
of the README.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.pods import rfc3339
from tests.e2e.world import World, sample
from tests.fakes.cloudwatch import UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1 << 20
FULL = bool(os.environ.get("TAILRACE_SLOW"))
BUDGET_BYTES = 8 * MIB
#: Interpreter, SDK, code, buffers that are reused, and what a heap keeps of its peaks: one CloudWatch route.
FIXED_BYTES = 80 * MIB
#: What a Log costs beside its rows.
LOG_BYTES = 8 << 10
HELD = sample("tailrace_budget_held_bytes", route="cloudwatch")
DELIVERED = sample("tailrace_delivered_rows_total", route="cloudwatch")
PEAK = re.compile(r"(?m)^VmHWM:\s+(\d+) kB$")


@pytest.fixture
async def world(tmp_path: Path, free_port: int) -> AsyncIterator[World]:
    """
    One CloudWatch route with a small budget.
    """
    async with World(tmp_path) as made:
        made.only("cloudwatch")
        made.settings["memory_budget_bytes"] = BUDGET_BYTES
        made.settings["admin"] = {"listen": f"127.0.0.1:{free_port}"}
        yield made


def peak_bytes(world: World) -> int:
    """
    Return the most that the agent ever had in memory.
    """
    assert world.agent is not None
    found = PEAK.search(Path(f"/proc/{world.agent.pid}/status").read_text())
    assert found
    return int(found[1]) << 10


async def assert_fits(world: World, what: str, *, logs: int = 0) -> None:
    """
    Compare the peak with what was promised.
    """
    held = (await world.metrics())[HELD]
    peak = peak_bytes(world)
    print(
        f"| {what} | budget {BUDGET_BYTES / MIB:.0f} MiB | held {held / MIB:.1f} MiB "
        f"| peak {peak / MIB:.0f} MiB | beside the budget {(peak - BUDGET_BYTES) / MIB:.0f} MiB |"
    )
    assert held <= BUDGET_BYTES + 4 * MIB
    assert peak <= BUDGET_BYTES + FIXED_BYTES + logs * LOG_BYTES, what


def fill(world: World, count: int, size: int, *, line_bytes: int = 200) -> int:
    """
    Write *count* Logs of *size* bytes; return the number of lines.
    """
    head = f"{rfc3339(datetime.now(UTC))} stdout F ".encode()
    lines = size // line_bytes
    for number in range(count):
        # Half of it is left by gzip.
        text = os.urandom(lines * (line_bytes - len(head) - 1) // 2 + 1).hex().encode()
        step = line_bytes - len(head) - 1
        world.pod(f"web-{number}").raw(
            b"".join(
                head + text[start * step : start * step + step] + b"\n" for start in range(lines)
            )
        )
    return count * lines


@pytest.mark.parametrize("gzip", [True, False])
async def test_fixed_overhead_with_a_dead_sink(gzip: bool, world: World) -> None:
    """
    Nothing is taken: the reader stops at the budget, also where bodies may not be compressed on the wire.
    """
    world.sink("cloudwatch")["gzip"] = gzip
    fill(world, 40, MIB)
    world.cloudwatch.script(*[UNAVAILABLE] * 10_000)
    await world.start()
    await world.started()
    await world.until_metrics(
        lambda found: (
            found.get(sample("tailrace_retries_total", route="cloudwatch", reason="outage"), 0) > 8
            and found.get(HELD, 0) > BUDGET_BYTES / 2
        ),
        "the budget is used",
    )
    await assert_fits(world, f"dead sink, gzip {gzip}", logs=40)


async def test_fixed_overhead_with_twice_the_load(world: World) -> None:
    """
    There always is more than the sink takes; what it takes arrives in full requests.
    """
    lines = fill(world, 40, MIB)
    world.cloudwatch.tps = 4
    await world.start()
    await world.started()
    await world.until_metrics(
        lambda found: found.get(DELIVERED, 0) > lines / 20, "a part of it is delivered"
    )
    assert sum(map(len, world.cloudwatch.messages())) < 40 * MIB / 2
    await assert_fits(world, "more than the sink takes", logs=40)


async def test_fixed_overhead_with_both_routes(tmp_path: Path, free_port: int) -> None:
    """
    A backlog for CloudWatch and for Parquet on S3: windows are sealed in children and uploaded whole.
    """
    count = 80 if FULL else 20
    async with World(tmp_path) as world:
        world.settings["memory_budget_bytes"] = BUDGET_BYTES
        world.settings["admin"] = {"listen": f"127.0.0.1:{free_port}"}
        world.sink("archive")["window_age_s"] = 2
        lines = fill(world, count, MIB)
        await world.start()
        await world.started()
        await world.until_metrics(
            lambda found: found.get(DELIVERED, 0) == lines, "all is in CloudWatch"
        )
        await world.until(lambda: sum(world.rows().values()) == lines, "all is in S3")
        await assert_fits(world, f"{count} MiB to both", logs=count)


async def test_fixed_overhead_with_many_files(world: World) -> None:
    """
    A dead sink and thousands of Logs, a few lines each; when it heals everything arrives.
    """
    count = 5000 if FULL else 600
    lines = fill(world, count, 1000)
    # Streams are created at the pace of the account's quota, which is not the question here.
    world.cloudwatch.create("/test/shop", *(f"web-{number}" for number in range(count)))
    # A service that is down is asked on one schedule for all: these take about 8 s.
    world.cloudwatch.script(*[UNAVAILABLE] * 5)
    await world.start()
    await world.started()
    await world.until_metrics(lambda found: found.get(DELIVERED, 0) == lines, "all is delivered")
    await assert_fits(world, f"{count} files", logs=count)


async def test_fixed_overhead_with_long_lines(world: World) -> None:
    """
    Lines of 50 MB, one with an end and one without: cut, counted, and never in memory.
    """
    size = 50_000_000
    head = f"{rfc3339(datetime.now(UTC))} stdout F ".encode()
    ended, open_, neighbour = world.pod("ended"), world.pod("open"), world.pod("neighbour")
    ended.raw(head + b"y" * size + b"\n" + head + b"behind it\n")
    ended.expect("behind it")
    open_.raw(head + b"y" * size)
    neighbour.lines(10)
    await world.start()
    await world.started()
    await world.until_metrics(
        lambda found: (
            found.get(sample("tailrace_read_bytes_total", route="cloudwatch"), 0) > size * 2
        ),
        "both are read",
    )
    await world.delivered(ended, neighbour)
    await assert_fits(world, "lines of 50 MB")


async def test_fixed_overhead_with_open_rows(world: World) -> None:
    """
    Rows of 900 KiB are open in many Logs at once; their ends come, and every row is whole.
    """
    count = 400 if FULL else 50
    ended = 40
    piece = b"z" * 16_000
    head = rfc3339(datetime.now(UTC)).encode() + b" stdout "
    row = (head + b"P " + piece + b"\n") * 57
    for number in range(count):
        world.pod(f"web-{number}").raw(row)
    await world.start()
    await world.started()
    read = sample("tailrace_read_bytes_total", route="cloudwatch")
    # What is not in memory is not read to its end either: a part of every Log is.
    await world.until_metrics(
        lambda found: found.get(read, 0) >= count * (256 << 10), "a part of every row is read"
    )
    await assert_fits(world, f"{count} open rows of 900 KiB", logs=count)
    for number in range(ended):
        world.pod(f"web-{number}").raw(head + b"F end\n")
    whole = len(piece) * 57 + len("end")
    await world.until(
        lambda: [len(text) for _, _, text in world.events()] == [whole] * ended,
        "rows arrived whole",
    )
    await assert_fits(world, f"{ended} of them ended", logs=count)
