"""
No Python object is made per line between a file and what a sink sends: reader → sink → encoder, in one process.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from agent.core.budget import Budget
from agent.core.counters import Counters
from agent.core.select import Select, SelectSettings
from agent.runtime.host import SystemHost
from agent.runtime.own_log import OwnLog
from agent.sinks.blackhole import BlackholeSettings, BlackholeSink
from agent.sinks.cloudwatch_payloads import FORMATS, Encoder
from agent.sources.files import Files
from agent.sources.gate import Gate
from agent.sources.resources import Resources
from agent.sources.settings import FilesSettings

if TYPE_CHECKING:
    from pathlib import Path

LINE = b"2026-11-22T19:00:01.%09dZ stdout F GET /index.html 200 %d\n"
MIB = 1 << 20


class Nothing:
    """
    Counts what is resolved, as a route's Resolver does.
    """

    def __init__(self) -> None:
        self.rows = 0

    def delivered(self, segment, rows):
        self.rows += rows

    def checkpoint_wanted(self):
        pass

    def rejected(self, segment, rows, loss):
        raise AssertionError(loss)


async def run_route(path: Path, budget: Budget, file_format: str, lines: int) -> tuple[int, int]:
    """
    Read *path* to its end through the blackhole and the CloudWatch encoder; (rows, peak of Python objects).
    """
    counters = Counters()
    host = SystemHost(OwnLog())
    settings = FilesSettings(paths=(str(path),), chunk_bytes=4 * MIB)
    files = Files(settings, host=host, counters=counters, resources=Resources(), generations=[])
    select = Select(SelectSettings())
    gate = Gate("r", select=select, pods=None, wait_s=0, on_missing="deliver", counters=counters)
    resolve = Nothing()
    share = budget.shares["r"]
    sink = BlackholeSink(
        BlackholeSettings(),
        route="r",
        clock=host.clock,
        resolve=resolve,
        share=share,
        counters=counters,
    )
    encoder = Encoder(format=file_format, share=share)
    await files.scan()
    files.freeze()
    reader = files.reader("r", cursors={}, first_start=True, share=share, gate=gate)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        events = 0
        while events < lines:
            segment = await asyncio.wait_for(reader.next(), 5)
            for payload in encoder.encode(b'{"logEvents":[', [segment], [b"{}"], now_ms=NOW_MS):
                events += payload.events
                payload.charge.release()
            sink.accept(segment)
        blocks = sum(trace.count for trace in tracemalloc.take_snapshot().statistics("filename"))
    finally:
        tracemalloc.stop()
        gc.enable()
        files.close()
        host.close()
    return events, blocks


#: A moment after the lines, so that CloudWatch takes them.
NOW_MS = 1_795_374_100_000


@pytest.mark.parametrize("file_format", sorted(FORMATS))
async def test_no_python_object_is_made_per_line_of_a_route(tmp_path, file_format):
    """
    A segment of 10,000 lines costs as many allocations as one of 10.
    """
    found = {}
    for lines in (10, 10, 10_000):  # The first one warms caches up.
        path = tmp_path / f"{lines}" / "0.log"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(LINE % (index, index) for index in range(lines)))
        found[lines] = await run_route(path, Budget(64 * MIB, ("r",)), file_format, lines)
    assert (found[10][0], found[10_000][0]) == (10, 10_000)
    assert abs(found[10_000][1] - found[10][1]) <= 40, found
