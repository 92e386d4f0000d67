"""
What every sink does.  A test module subclasses `SinkContract` and provides the fixture `bench`.

Also what tests of sinks are made of: segments from lines, a clock that runs as fast as it is asked, and
a resolve stage that refuses to settle a row twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from agent._fastparse import Columns
from agent.core.batch import Loss, Resource, Segment
from agent.core.budget import Budget, Share
from agent.core.cursor import cursor_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from agent.sinks.protocol import Sink

FLAG_STDOUT = 1
#: Far more than any schedule of retries, in virtual seconds.
LONG_S = 1e9


class FastClock:
    """
    Time that passes as fast as somebody sleeps; the wall clock is the real one.
    """

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.sleeps: list[float] = []
        #: While something real is under way (a request), time stands still.
        self.holds = 0
        #: Called at every sleep: where a test may cancel.
        self.on_sleep: Callable[[], None] = lambda: None

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return self.seconds

    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.on_sleep()
        self.sleeps.append(seconds)
        if not self.holds:
            self.seconds += seconds
        await asyncio.sleep(0)


class GroupTasks:
    """
    Tasks of a TaskGroup, as the runtime has them.
    """

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.group = group
        self.started: list[asyncio.Task[None]] = []

    def start(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        task = self.group.create_task(coroutine, name=name)
        self.started.append(task)
        return task


class RecordingResolve:
    """
    The last stage: what was settled, and a complaint about what is settled twice.
    """

    def __init__(self) -> None:
        self.delivered_rows: Counter[str] = Counter()
        self.rejected_rows: Counter[str] = Counter()
        self.losses: list[Loss] = []
        self._changed = asyncio.Event()

    def delivered(self, segment: Segment, rows: int) -> None:
        assert rows > 0
        self._settle(segment, rows)
        self.delivered_rows[segment.log] += rows

    def checkpoint_wanted(self) -> None:
        pass

    def rejected(self, segment: Segment, rows: int, loss: Loss) -> None:
        self._settle(segment, rows)
        self.rejected_rows[segment.log] += rows
        self.losses.append(loss)

    @property
    def settled(self) -> int:
        return self.delivered_rows.total() + self.rejected_rows.total()

    async def until(self, rows: int) -> None:
        """
        Wait until *rows* rows are settled.
        """
        async with asyncio.timeout(20):
            while self.settled < rows:
                self._changed.clear()
                await self._changed.wait()

    def _settle(self, segment: Segment, rows: int) -> None:
        assert rows <= segment.rows_open, f"{rows} of {segment.rows_open} open rows settled"
        segment.rows_open -= rows
        self._changed.set()


def resource(pod: str = "web-0", **fields: Any) -> Resource:
    known: dict[str, Any] = {
        "namespace": "shop",
        "container": "app",
        "cluster": "c1",
        "node": "n1",
    } | fields
    return Resource(path=f"/var/log/pods/shop_{pod}_u/app/0.log", pod=pod, **known)


def make_segment(
    share: Share,
    lines: Sequence[bytes | str],
    *,
    log: str = "a",
    of: Resource | None = None,
    start: int = 0,
    times_ns: Sequence[int] | None = None,
) -> Segment:
    """
    Return a segment of raw lines, each with a newline behind it; a millisecond apart, until now.
    """
    encoded = [line.encode() if isinstance(line, str) else line for line in lines]
    data = b"".join(line + b"\n" for line in encoded)
    first = time.time_ns() - len(lines) * 1_000_000
    rows, place = [], 0
    for index, line in enumerate(encoded):
        stamp = times_ns[index] if times_ns is not None else first + index * 1_000_000
        rows.append((stamp, start + place, 0, 0, place, len(line), FLAG_STDOUT))
        place += len(line) + 1
    columns = Columns.build(data, rows)
    charge = share.take(columns.nbytes)
    assert charge is not None
    segment = Segment(
        log=log,
        generation=0,
        file_id=f"{log:0>32}",
        start=start,
        stop=start + len(data),
        resource=of or resource(log),
        columns=columns,
        cursor_after=cursor_at(0, start + len(data)),
        read_ns=time.time_ns(),
        charge=charge,
        rows=len(lines),
    )
    segment.rows_open = segment.rows
    return segment


def make_share(size: int = 64 << 20) -> Share:
    return Budget(size, ("r",)).shares["r"]


class Bench(Protocol):
    """
    A sink under test and its destination.
    """

    clock: FastClock
    resolve: RecordingResolve
    share: Share

    def make(self, tasks: GroupTasks) -> Sink:
        """A new sink on the same destination and share."""

    def lines(self, log: str) -> list[str]:
        """What the destination holds of *log*, in its order, duplicates included."""

    def set_reachable(self, *, reachable: bool) -> None:
        """Let the destination work, or fail whatever is asked."""


@contextlib.asynccontextmanager
async def running(
    bench: Bench,
) -> AsyncIterator[tuple[Any, asyncio.Task[None], GroupTasks]]:
    """
    A sink with `run` beside, closed at the end as a route closes it.
    """
    sink: Sink | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = GroupTasks(group)
            sink = bench.make(tasks)
            await sink.open()
            run = group.create_task(sink.run(), name="run")
            yield sink, run, tasks
            run.cancel()
    finally:
        if sink is not None:
            await sink.close()


async def checkpoint(sink: Sink) -> None:
    rows = await sink.confirm()
    if rows is not None:
        sink.committed(rows)


class SinkContract:
    """
    The checks.
    """

    LINES = tuple(f"line {index}" for index in range(300))

    async def test_every_row_is_settled_once_and_is_at_the_destination(self, bench: Bench) -> None:
        async with running(bench) as (sink, _, _):
            for log in "abc":
                sink.accept(make_segment(bench.share, self.LINES, log=log))
            await sink.drain(LONG_S)
            await checkpoint(sink)
            await sink.finish(LONG_S)
            await checkpoint(sink)
            assert bench.resolve.delivered_rows == dict.fromkeys("abc", len(self.LINES))
        for log in "abc":
            assert bench.lines(log) == list(self.LINES)
        assert not bench.resolve.losses

    async def test_memory_is_given_back_and_columns_are_dropped(self, bench: Bench) -> None:
        segments = [make_segment(bench.share, self.LINES, log=log) for log in "ab"]
        assert bench.share.held > 0
        async with running(bench) as (sink, _, _):
            for segment in segments:
                sink.accept(segment)
            await sink.drain(LONG_S)
            await checkpoint(sink)
            assert all(segment.columns is None for segment in segments)
            assert bench.share.held == 0
            await sink.finish(LONG_S)

    async def test_a_log_keeps_its_order(self, bench: Bench) -> None:
        async with running(bench) as (sink, _, _):
            place = 0
            first = time.time_ns() - 1_000_000_000
            for number in range(20):
                segment = make_segment(
                    bench.share,
                    [f"{number}.{i}" for i in range(20)],
                    start=place,
                    times_ns=[first + (number * 20 + i) * 1_000_000 for i in range(20)],
                )
                place = segment.stop
                sink.accept(segment)
            await sink.drain(LONG_S)
            await checkpoint(sink)
            await sink.finish(LONG_S)
        assert bench.lines("a") == [f"{number}.{i}" for number in range(20) for i in range(20)]

    async def test_rows_are_delivered_without_a_drain(self, bench: Bench) -> None:
        async with running(bench) as (sink, _, _):
            sink.accept(make_segment(bench.share, self.LINES))
            async with asyncio.timeout(20):
                while bench.resolve.settled < len(self.LINES):
                    await checkpoint(sink)
                    await asyncio.sleep(0)

    async def test_closing_gives_back_memory_and_settles_nothing(self, bench: Bench) -> None:
        bench.set_reachable(reachable=False)
        segments = [make_segment(bench.share, self.LINES, log=log) for log in "ab"]
        async with running(bench) as (sink, _, _):
            for segment in segments:
                sink.accept(segment)
            await asyncio.sleep(0)
        assert bench.share.held == 0
        # A run that ended may be held until the next begins, and by the garbage collector.
        assert all(segment.columns is None for segment in segments)
        assert bench.resolve.settled == 0

    @pytest.mark.parametrize("sleeps", [1, 2, 3, 5, 8, 13])
    async def test_a_run_cut_anywhere_settles_only_what_arrived(
        self, bench: Bench, sleeps: int
    ) -> None:
        left = sleeps

        with contextlib.suppress(asyncio.CancelledError):
            async with running(bench) as (sink, run, _):

                def cut() -> None:
                    nonlocal left
                    left -= 1
                    if left == 0:
                        run.cancel()

                bench.clock.on_sleep = cut
                for log in "abc":
                    sink.accept(make_segment(bench.share, self.LINES, log=log))
                await asyncio.wait((run,), timeout=20)
        bench.clock.on_sleep = lambda: None
        assert bench.share.held == 0
        for log in "abc":
            assert len(bench.lines(log)) >= bench.resolve.delivered_rows[log]
        # The next run begins from what is settled, and nothing is missing in the end.
        before = bench.resolve.settled
        async with running(bench) as (sink, _, _):
            for log in "abc":
                if not bench.resolve.delivered_rows[log]:
                    sink.accept(make_segment(bench.share, self.LINES, log=log))
            await sink.drain(LONG_S)
            await checkpoint(sink)
            await sink.finish(LONG_S)
        assert bench.resolve.settled >= before
        for log in "abc":
            assert set(bench.lines(log)) == set(self.LINES)
