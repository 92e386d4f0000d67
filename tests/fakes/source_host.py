"""
A host with the real disk and a clock that a test moves, and a route that only reads.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any, TypeVar

from agent.core.budget import Budget
from agent.core.counters import Counters
from agent.core.cursor import Cursor, cursor_at
from agent.core.ledger import Ledger
from agent.core.select import Select, SelectSettings
from agent.runtime.disk import OsDisk
from agent.sources.files import Files
from agent.sources.gate import Gate
from agent.sources.resources import Resources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.core.batch import Loss, Segment
    from agent.core.checkpoint import GenerationRow
    from agent.core.host import FileStat, Watches
    from agent.core.pods import Pods
    from agent.sources.gate import OnMissing
    from agent.sources.reader import Reader
    from agent.sources.settings import FilesSettings

T = TypeVar("T")
START_NS = 1_800_000_000_000_000_000


class HandClock:
    """
    A clock that only `advance` moves.  Wall time starts far ahead of the files' own times.
    """

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now_ns(self) -> int:
        return START_NS + int(self.seconds * 1e9)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)

    def random(self) -> float:
        return 0.5


class TestDisk(OsDisk):
    """
    The real disk, with errors on demand and a count of what was read.
    """

    __test__ = False

    def __init__(self) -> None:
        super().__init__()
        self.fail_open: dict[str, int] = {}  # end of the path → errno
        self.fail_list: dict[str, int] = {}
        self.open_max: int | None = None
        self.opened: set[int] = set()
        self.bytes_read = 0
        self.warm = True

    def list(self, directory: str) -> list[tuple[str, FileStat]]:  # type: ignore[override]
        if directory in self.fail_list:
            raise OSError(self.fail_list[directory], "made to fail", directory)
        return OsDisk.list(directory)

    def open(self, path: str) -> int:
        for end, number in self.fail_open.items():
            if path.endswith(end):
                raise OSError(number, "made to fail", path)
        if self.open_max is not None and len(self.opened) >= self.open_max:
            raise OSError(errno.EMFILE, "Too many open files", path)
        fd = super().open(path)
        self.opened.add(fd)
        return fd

    def close(self, fd: int) -> None:
        self.opened.discard(fd)
        OsDisk.close(fd)

    def read_warm(self, fd: int, chunk: Any, length: int, offset: int) -> int | None:  # type: ignore[override]
        if not self.warm:
            return None
        read = OsDisk.read_warm(fd, chunk, length, offset)
        self.bytes_read += read or 0
        return read


class NoWatches:
    """
    A machine without inotify events: rescans alone.
    """

    def __init__(self) -> None:
        self.directories: set[str] = set()
        self.files: list[str] = []
        self.pending: list[tuple[str, str | None]] = []
        self.error: int | None = None

    def watch_directory(self, path: str) -> None:
        if self.error is not None:
            raise OSError(self.error, "no watches left")
        self.directories.add(path)

    def forget_directory(self, path: str) -> None:
        self.directories.discard(path)

    def watch_file_once(self, path: str) -> None:
        if self.error is not None:
            raise OSError(self.error, "no watches left")
        self.files.append(path)

    def drain(self) -> list[tuple[str, str | None]]:
        pending, self.pending = self.pending, []
        return pending


class SourceHost:
    """
    The Host of the source's tests.
    """

    def __init__(self, seconds: float = 1000.0, *, watches: Watches | None = None) -> None:
        self.clock = HandClock()
        self.clock.seconds = seconds
        self.disk = TestDisk()
        self.watches: Any = watches or NoWatches()
        self.new_watches = lambda: self.watches
        self.told: list[tuple[str, str]] = []

    def tell(self, event: str, text: str, /, *, level: str = "info", **fields: object) -> None:
        self.told.append((event, text))

    async def run_blocking(self, function: Callable[..., T], *args: Any) -> T:
        await asyncio.sleep(0)
        return function(*args)

    async def run_reading(self, function: Callable[..., T], *args: Any) -> T:
        return await self.run_blocking(function, *args)


class Source:
    """
    One life of a source and of a route that reads it: what it has seen, and what it has committed.
    """

    def __init__(
        self,
        settings: FilesSettings,
        *,
        host: SourceHost | None = None,
        rows: Iterable[GenerationRow] = (),
        rebooted: bool = False,
        finite: bool = False,
        budget_bytes: int = 64 << 20,
        routes: tuple[str, ...] = ("r",),
        pods: Pods | None = None,
    ) -> None:
        self.host = host or SourceHost()
        self.counters = Counters()
        self.budget = Budget(budget_bytes, routes)
        self.files = Files(
            settings,
            host=self.host,  # type: ignore[arg-type]
            counters=self.counters,
            resources=Resources(cluster="c1", node="n1", pods=pods),
            generations=list(rows),
            routes=routes,
            rebooted=rebooted,
            finite=finite,
        )
        self.routes: dict[str, RouteModel] = {}

    async def start(
        self,
        route: str = "r",
        *,
        cursors: dict[str, Cursor] | None = None,
        first_start: bool = True,
        select: SelectSettings | None = None,
        on_missing: OnMissing = "deliver",
        **options: Any,
    ) -> RouteModel:
        """
        Scan if that was not done, and start a route.
        """
        if not self.routes:
            await self.files.scan()
        reader = self.files.reader(
            route,
            cursors=cursors or {},
            first_start=first_start,
            share=self.budget.shares[route],
            gate=self.gate(route, select or SelectSettings(), on_missing),
            **options,
        )
        self.routes[route] = RouteModel(reader, cursors or {})
        return self.routes[route]

    def gate(
        self,
        route: str = "r",
        select: SelectSettings = SelectSettings(),  # noqa: B008 - frozen
        on_missing: OnMissing = "deliver",
    ) -> Gate:
        """
        Return the gate of one run of *route*.
        """
        return Gate(
            route,
            select=Select(select),
            pods=self.files.resources.pods,
            wait_s=5.0,
            on_missing=on_missing,
            counters=self.counters,
        )

    async def settle(self, seconds: float = 0.0, *, step_s: float = 0.2) -> None:
        """
        Let time pass in ticks, and every route read all there is.
        """
        until = self.host.clock.seconds + seconds
        while True:
            self.host.watches.pending.extend((path, None) for path in self.host.watches.directories)
            await self.files.tick()
            for route in self.routes.values():
                await route.read_all()
            if self.host.clock.seconds >= until:
                return
            self.host.clock.seconds += step_s

    def close(self) -> None:
        """
        End this life.
        """
        for route in self.routes.values():
            route.reader.close()
        self.files.close()
        assert not self.host.disk.opened, "descriptors leaked"


class RouteModel:
    """
    A route that delivers at once and commits when told.
    """

    def __init__(self, reader: Reader, cursors: dict[str, Cursor]) -> None:
        self.reader = reader
        self.ledgers = {log: Ledger(cursor) for log, cursor in cursors.items()}
        self.segments: list[Segment] = []
        self.messages: dict[str, list[bytes]] = {}
        self.flags: dict[str, list[int]] = {}
        self.losses: list[Loss] = []
        self.order: list[str] = []

    async def read_all(self) -> None:
        """
        Read until the reader would wait.
        """
        while not self.reader.exhausted():
            waiting = asyncio.ensure_future(self.reader.next())
            for _ in range(50):
                await asyncio.sleep(0)
                if waiting.done() or self.reader.exhausted():
                    break
            if not waiting.done():
                waiting.cancel()
                try:
                    await waiting
                except asyncio.CancelledError:
                    if not self.reader._ready and not self.reader._urgent:
                        return
                    continue
            self.take(waiting.result())

    def take(self, segment: Segment) -> None:
        """
        Deliver one segment.
        """
        ledger = self.ledgers.get(segment.log)
        if ledger is None:
            ledger = self.ledgers[segment.log] = Ledger(
                cursor_at(segment.generation, segment.start)
            )
        ledger.track(segment)
        self.segments.append(segment)
        self.order.append(segment.log)
        if segment.loss is not None:
            self.losses.append(segment.loss)
        if segment.columns is not None:
            data = bytes(segment.columns.data)
            starts = segment.columns.column("message_start")
            lengths = segment.columns.column("message_len")
            self.messages.setdefault(segment.log, []).extend(
                data[start : start + length] for start, length in zip(starts, lengths, strict=True)
            )
            self.flags.setdefault(segment.log, []).extend(segment.columns.column("flags"))
        segment.charge.release()
        ledger.settle(segment, segment.rows)

    def commit(self) -> tuple[dict[str, Cursor], list[GenerationRow]]:
        """
        Commit everything; return what the store would hold.
        """
        cursors = {log: ledger.committed for log, ledger in self.ledgers.items()}
        cursors |= {
            log: cursor
            for log, cursor in self.reader.first_cursors().items()
            if log not in cursors or not self.ledgers[log].dirty
        }
        rows = self.reader.generation_rows(cursors)
        for log, cursor in cursors.items():
            self.reader.release_generations(log, cursor)
        for log in self.reader.forgettable(self.reader.finished()):
            cursors.pop(log, None)
            self.ledgers.pop(log, None)
            self.reader.forget(log)
        return cursors, rows

    def texts(self, log: object) -> list[bytes]:
        """
        Return the messages of one Log.
        """
        return self.messages.get(str(log), [])
