"""
A route in miniature around the Parquet sink: rows with known numbers, checkpoints, crashes.

`Kit` survives a crash: state directory, store and destination.  `Kit.run` is one life of the agent.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds

from agent._fastparse import Columns
from agent._fastsplit import split
from agent.cli import seal, seal_window
from agent.core import faults
from agent.core.aws import AwsSettings
from agent.core.batch import Resource, Segment
from agent.core.budget import Budget, Charge
from agent.core.checkpoint import Transaction
from agent.core.counters import Counters
from agent.core.cursor import cursor_at
from agent.core.generations import Generation
from agent.runtime.aws import Aws
from agent.runtime.host import run_to_its_end
from agent.runtime.state_disk import OsStateDisk
from agent.sinks.parquet import ParquetSink
from agent.sinks.parquet_settings import ParquetSettings
from tests.fakes.memory_store import MemoryStore
from tests.fakes.metadata import metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from agent.core.host import AwsClient
    from tests.fakes.s3 import FakeS3

ROUTE, NODE, CLUSTER = "archive", "ip-10-0-0-1", "prod"
#: 2026-11-22 09:59:55 UTC: a segment of ten rows a second apart crosses the hour.
LOG = "/var/log/pods/shop/0.log"
GENERATION = Generation(
    number=0, head=b"\x01" * 16, head_length=90, file_id="0f" * 16, name="0.log", size=10**6
)
START_NS = 1_795_341_595 * 10**9
ROW_BYTES = 100
ROWS = 200
PARTS = 4
_EXECUTOR = ThreadPoolExecutor(4)


class Crash(Exception):  # noqa: N818 - not an error of the product
    """
    The end of the process, simulated.
    """


class TestClock:
    """
    Sleeping takes no time, but time passes.
    """

    __test__ = False

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic() + sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    def random(self) -> float:
        return 0.5


class TestHost:
    """
    The part of `Host` that sinks use; the child runs in the executor.
    """

    __test__ = False

    def __init__(self) -> None:
        self.clock = TestClock()
        self.state_disk = OsStateDisk()
        self.told: list[tuple[str, str]] = []
        self.children = 0
        self.child_exits: list[int] = []  # exit codes of the next children, instead of running them

    def tell(self, event: str, text: str, /, *, level: str = "info", **fields: object) -> None:
        self.told.append((event, text))

    async def run_blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        return await run_to_its_end(_EXECUTOR, function, *args)

    async def run_child(self, arguments: Sequence[str], *, name: str) -> tuple[int, str]:
        self.children += 1
        # Imported with this file: in the first window's child it would be half a second of a test's time.
        assert (arguments[0], seal_window.__name__) == ("seal", "agent.cli.seal_window")
        if self.child_exits:
            return self.child_exits.pop(0), "scripted"
        code = await self.run_blocking(seal.main, argparse.Namespace(specs=arguments[1:]))
        return code, ""

    @property
    def events(self) -> set[str]:
        return {event for event, _ in self.told}


class GroupTasks:
    """
    Implements `Tasks` with a TaskGroup.
    """

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group

    def start(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        return self._group.create_task(coroutine, name=name)


def message_of(number: int) -> str:
    """
    Return the text of row *number*.
    """
    return f"row {number} é " + "x" * (number % 7)


def columns_of(
    numbers: range, *, flags: int = 1, step_ns: int = 10**9, start_ns: int = START_NS
) -> Columns:
    """
    Return rows *numbers*, a second apart, each at offset ROW_BYTES × number.
    """
    data = b""
    rows = []
    for number in numbers:
        message = message_of(number).encode()
        at = start_ns + number * step_ns
        rows.append((at, ROW_BYTES * number, 0, 0, len(data), len(message), flags))
        data += message
    return Columns.build(data, rows)


class Resolve:
    """
    The resolve stage: the longest prefix of delivered segments.
    """

    def __init__(self, stop: int) -> None:
        self.stop = stop
        self.rows = 0

    def delivered(self, segment: Segment, rows: int) -> None:
        assert segment.start == self.stop * ROW_BYTES, "segments were settled out of order"
        assert rows == segment.rows
        self.stop = segment.stop // ROW_BYTES
        self.rows += rows

    def checkpoint_wanted(self) -> None:
        pass

    def rejected(self, segment: Segment, rows: int, loss: object) -> None:
        raise AssertionError("the Parquet sink rejects nothing")


class Kit:
    """
    What survives a crash, and how to start again.
    """

    def __init__(self, tmp_path: Path, s3: FakeS3 | None = None, **settings: Any) -> None:
        self.state_dir = tmp_path / "state"
        self.target = tmp_path / "target"
        self.s3 = s3
        self.store = MemoryStore()
        self.counters = Counters()
        self.host = TestHost()
        defaults: dict[str, Any] = {"frame_age_s": 0.005, "frame_bytes": 4096}
        if s3 is not None:
            defaults |= {"endpoint_url": s3.url, "region": "eu-central-1"}
        url = f"s3://{s3.bucket}/logs" if s3 is not None else f"file://{self.target}"
        self.settings = ParquetSettings(**({"url": url} | defaults | settings))
        self.share = Budget(1 << 24, (ROUTE,)).shares[ROUTE]

    def segment(self, numbers: range) -> Segment:
        """
        Return rows *numbers* as the segment that the reader would make of them.

        Where the prefix is made of a field, its rows take turns to have one of PARTS values.
        """
        segment = self._segment(numbers)
        if self.settings.name_fields:
            assert segment.columns is not None
            turns = array("i", [number % PARTS for number in numbers]).tobytes()
            offsets = bytes(segment.columns.column("offset"))
            segment.parts = tuple(
                replace(
                    segment,
                    columns=columns,
                    charge=Charge(self.share, 0),
                    rows=columns.rows,
                    values=tuple(
                        f"v{turn}" if name == "n" else "" for name in self.settings.name_fields
                    ),
                    whole=segment,
                    offsets=offsets,
                )
                for turn, columns in split(segment.columns, turns, fields=False)
            )
            segment.columns = None
            segment.charge.release()
            for part in segment.parts:
                part.charge.resize(1000)
        return segment

    def _segment(self, numbers: range) -> Segment:
        charge = self.share.take(1000)
        assert charge is not None
        pod = f"web-{numbers.start % 3}"
        return Segment(
            log=LOG,
            generation=0,
            file_id=GENERATION.file_id,
            start=numbers.start * ROW_BYTES,
            stop=numbers.stop * ROW_BYTES,
            resource=Resource(
                path="/var/log/pods/shop/0.log",
                cluster=CLUSTER,
                node=NODE,
                namespace="shop",
                pod=pod,
                pod_uid="u-1",
                container="web",
                metadata=metadata(labels=(("app", "web"), ("pod", pod))),
            ),
            columns=columns_of(numbers),
            cursor_after=cursor_at(0, numbers.stop * ROW_BYTES),
            read_ns=0,
            charge=charge,
            generations=(GENERATION,),
            rows=len(numbers),
        )

    def sink(self, resolve: Resolve, tasks: GroupTasks, client: AwsClient | None) -> ParquetSink:
        return ParquetSink(
            self.settings,
            route=ROUTE,
            node=NODE,
            share=self.share,
            resolve=resolve,
            host=self.host,  # type: ignore[arg-type]
            tasks=tasks,
            counters=self.counters,
            store=self.store,  # type: ignore[arg-type]
            state=self.store.state,
            state_dir=str(self.state_dir),
            client=client,
        )

    async def checkpoint(self, sink: ParquetSink, resolve: Resolve) -> None:
        """
        One checkpoint, as runtime/route.py makes it.
        """
        rows = await sink.confirm()
        cursors = {"log": cursor_at(0, resolve.stop)}
        faults.point("commit_before")
        await self.store.commit(Transaction(ROUTE, 0, cursors=cursors, sink=rows))
        faults.point("commit_after")
        if rows is not None:
            sink.committed(rows)

    async def run(
        self,
        rows: int,
        *,
        segment_rows: int = 10,
        checkpoint_every: int = 3,
        finish_s: float = 20.0,
    ) -> ParquetSink:
        """
        Live once: read from the committed cursor to row *rows*, deliver, drain.
        """
        at = self.store.state.cursors.get("log", cursor_at(0, 0))[0].offset
        resolve = Resolve(at)
        aws = Aws(clock=self.host.clock)
        client: AwsClient | None = None
        if self.s3 is not None:
            client = aws.client("s3", AwsSettings(endpoint_url=self.s3.url, region="eu-central-1"))
        try:
            async with asyncio.TaskGroup() as group:
                sink = self.sink(resolve, GroupTasks(group), client)
                try:
                    await sink.open()
                    running = group.create_task(sink.run())
                    for count, first in enumerate(range(at, rows, segment_rows), start=1):
                        sink.accept(self.segment(range(first, min(rows, first + segment_rows))))
                        await asyncio.sleep(0)
                        if count % checkpoint_every == 0:
                            await sink.drain(20.0)
                            await self.checkpoint(sink, resolve)
                    await sink.drain(20.0)
                    await self.checkpoint(sink, resolve)
                    await sink.finish(finish_s)
                    running.cancel()
                    with suppress(asyncio.CancelledError):
                        await running
                finally:
                    await sink.close()
        finally:
            await aws.close()
        return sink

    def delivered(self) -> list[int]:
        """
        Return the numbers of all rows at the destination, sorted, after checking each row.
        """
        self.export()
        # A directory comes before its first file.
        if not any(path.is_file() for path in self.target.rglob("*.parquet")):
            return []
        found = ds.dataset(
            self.target, format="parquet", partitioning="hive", exclude_invalid_files=True
        ).to_table()
        numbers = [offset // ROW_BYTES for offset in found.column("offset").to_pylist()]
        for number, row in zip(numbers, found.to_pylist(), strict=True):
            assert row["message"] == message_of(number)
            assert row["time_ns"] == START_NS + number * 10**9
        return sorted(numbers)

    def export(self) -> None:
        """
        Write the fake bucket's objects below the target directory.
        """
        if self.s3 is None:
            return
        for key, found in self.s3.objects.items():
            path = self.target / key.removeprefix("logs/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found.body)

    def files(self) -> list[str]:
        """
        Return the files that are left in the state directory.
        """
        return sorted(
            str(path.relative_to(self.state_dir))
            for path in self.state_dir.rglob("*")
            if path.is_file()
        )


def read_parquet(directory: Path) -> pa.Table:
    """
    Return all rows below *directory*, with their partition columns.
    """
    return ds.dataset(
        directory, format="parquet", partitioning="hive", exclude_invalid_files=True
    ).to_table()


def small_windows(kit: Kit) -> Kit:
    """
    Make *kit* close a window at every checkpoint that finds something in it.
    """
    object.__setattr__(kit.settings, "window_bytes_max", 1)
    return kit


def behind_first(kit: Kit, rows: int) -> Callable[..., Coroutine[Any, Any, tuple[int, str]]]:
    """
    Let windows pile up behind the first seal child: children begin when *rows* rows are committed.

    Returns what runs them, for who wants to be in between.
    """
    whole = kit.host.run_child

    async def late(arguments: Sequence[str], *, name: str) -> tuple[int, str]:
        while kit.store.state.cursors["log"][0].offset < rows:
            await asyncio.sleep(0.002)
        return await whole(arguments, name=name)

    kit.host.run_child = late  # type: ignore[method-assign]
    return late
