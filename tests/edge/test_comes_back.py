"""
A Log that comes back while the checkpoint that forgets it is under way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from agent.core.checkpoint import RouteState
from agent.runtime.route import Route, RouteSettings
from agent.sinks.blackhole import BlackholeSettings, BlackholeSink
from agent.sources.settings import FilesSettings
from tests.fakes.source_host import Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.core.batch import Segment
    from agent.core.checkpoint import Transaction
    from agent.core.cursor import Cursor

TURNS_MAX = 20_000


class SlowStore:
    """
    A store whose commits wait where a test wants them to.
    """

    def __init__(self) -> None:
        self.cursors: dict[str, Cursor] = {}
        self.forgetting = asyncio.Event()
        self.go_on = asyncio.Event()

    async def load_route(self, _route: str, _identity: str) -> RouteState:
        return RouteState(cursors=dict(self.cursors), first_start=False)

    async def commit(self, transaction: Transaction) -> None:
        for log in transaction.forgotten:
            self.cursors.pop(log, None)
        self.cursors |= transaction.cursors
        if transaction.forgotten and not self.forgetting.is_set():
            self.forgetting.set()
            await self.go_on.wait()


class ReadingSink(BlackholeSink):
    """
    A sink that remembers the messages.
    """

    texts: list[bytes]
    failing = False

    def accept(self, segment: Segment) -> None:
        if self.failing:
            raise ValueError("made to fail")
        assert segment.columns is not None
        data = bytes(segment.columns.data)
        starts = segment.columns.column("message_start")
        lengths = segment.columns.column("message_len")
        self.texts += [data[a : a + n] for a, n in zip(starts, lengths, strict=True)]
        super().accept(segment)


class Life:
    """
    One route over one log file.
    """

    def __init__(self, directory: Path, *, commit_interval_s: float) -> None:
        self.log = directory / "app.log"
        self.log.write_text("one\n")
        settings = FilesSettings(paths=(f"{directory}/*.log",), rotate_grace_s=1.0)
        source = self.source = Source(settings)
        self.store, self.texts = SlowStore(), list[bytes]()

        def make_sink(_state: object, resolve: Any, _tasks: object) -> ReadingSink:
            sink = ReadingSink(
                BlackholeSettings(),
                route="r",
                clock=source.host.clock,
                resolve=resolve,
                share=source.budget.shares["r"],
                counters=source.counters,
            )
            sink.texts = self.texts
            return sink

        self.route = Route(
            RouteSettings(
                name="r",
                sink_identity="",
                commit_interval_s=commit_interval_s,
                uncommitted_bytes_max=1 << 20,
            ),
            host=cast("Any", source.host),
            files=source.files,
            store=cast("Any", self.store),
            share=source.budget.shares["r"],
            counters=source.counters,
            make_gate=source.gate,
            make_sink=make_sink,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """
        Let ticks pass until *condition*.
        """
        for _ in range(TURNS_MAX):
            if condition():
                return
            await self.source.settle()
            self.source.host.clock.seconds += 0.2
            await asyncio.sleep(0)
        raise AssertionError("waited in vain")


async def test_log_comes_back_during_the_checkpoint_that_forgets_it(tmp_path: Path) -> None:
    """
    What is written then and later is read, and its cursor is in the store again.
    """
    life = Life(tmp_path, commit_interval_s=0.001)
    log, store = life.log, life.store
    await life.source.files.scan()
    running = asyncio.ensure_future(life.route.run())
    await life.until(lambda: life.texts == [b"one"])
    log.unlink()
    await life.until(store.forgetting.is_set)
    log.write_text("two\n")
    await life.until(lambda: life.texts == [b"one", b"two"])
    store.go_on.set()
    await life.until(lambda: str(log) in store.cursors)
    with log.open("a") as file:
        file.write("three\n")
    await life.until(lambda: life.texts == [b"one", b"two", b"three"])
    life.route.drain(1)
    await running
    assert store.cursors[str(log)][0].offset == len("two\nthree\n")
    life.source.close()


async def test_a_stop_forgets_no_log(tmp_path: Path) -> None:
    """
    Routes stop one after the other: the first must not give up a cursor whose Log the store still knows.
    """
    life = Life(tmp_path, commit_interval_s=1000)
    await life.source.files.scan()
    running = asyncio.ensure_future(life.route.run())
    await life.until(lambda: life.texts == [b"one"])
    life.log.unlink()
    reader = life.route.reader
    assert reader is not None
    await life.until(lambda: bool(reader.finished()))
    life.route.drain(1)
    await running
    assert str(life.log) in life.store.cursors
    life.source.close()


async def test_memory_of_a_segment_that_the_sink_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The run ends, and the next one has the whole budget.
    """
    monkeypatch.setattr(ReadingSink, "failing", True)
    life = Life(tmp_path, commit_interval_s=1000)
    await life.source.files.scan()
    with pytest.raises(ExceptionGroup):
        await life.route.run()
    assert life.source.budget.held == 0
    life.source.close()
