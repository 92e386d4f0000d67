"""
A Log that comes back while the checkpoint that forgets it is under way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from agent.core.checkpoint import RouteState
from agent.runtime.route import Route, RouteSettings
from agent.sinks.blackhole import BlackholeSettings, BlackholeSink
from agent.sources.files import FilesSettings
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

    def accept(self, segment: Segment) -> None:
        assert segment.columns is not None
        data = bytes(segment.columns.data)
        starts = segment.columns.column("message_start")
        lengths = segment.columns.column("message_len")
        self.texts += [data[a : a + n] for a, n in zip(starts, lengths, strict=True)]
        super().accept(segment)


async def test_log_comes_back_during_the_checkpoint_that_forgets_it(tmp_path: Path) -> None:
    """
    What is written then and later is read, and its cursor is in the store again.
    """
    log = tmp_path / "app.log"
    log.write_text("one\n")
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",), rotate_grace_s=1.0))
    await source.files.scan()
    store, texts = SlowStore(), list[bytes]()

    def make_sink(_state: object, resolve: Any, _tasks: object) -> ReadingSink:
        sink = ReadingSink(
            BlackholeSettings(),
            route="r",
            clock=source.host.clock,
            resolve=resolve,
            share=source.budget.shares["r"],
            counters=source.counters,
        )
        sink.texts = texts
        return sink

    route = Route(
        RouteSettings(
            name="r", sink_identity="", commit_interval_s=0.001, uncommitted_bytes_max=1 << 20
        ),
        host=cast("Any", source.host),
        files=source.files,
        store=cast("Any", store),
        share=source.budget.shares["r"],
        counters=source.counters,
        make_sink=make_sink,
    )
    running = asyncio.ensure_future(route.run())

    async def until(condition: Callable[[], bool]) -> None:
        for _ in range(TURNS_MAX):
            if condition():
                return
            await source.settle()
            source.host.clock.seconds += 0.2
            await asyncio.sleep(0)
        raise AssertionError("waited in vain")

    await until(lambda: texts == [b"one"])
    log.unlink()
    await until(store.forgetting.is_set)
    log.write_text("two\n")
    await until(lambda: texts == [b"one", b"two"])
    store.go_on.set()
    await until(lambda: str(log) in store.cursors)
    with log.open("a") as file:
        file.write("three\n")
    await until(lambda: texts == [b"one", b"two", b"three"])
    route.drain(1)
    await running
    assert store.cursors[str(log)][0].offset == len("two\nthree\n")
    source.close()
