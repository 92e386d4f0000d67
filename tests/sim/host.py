"""
The host of one life of the simulated agent: everything outside, on virtual time.

A life ends by being drained, or by a crash at any step of the loop or before any change of the state disk.
After a crash nothing that it still does reaches the world: its tasks are cancelled and run out against a
dead host.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from agent.runtime.sinks import AwsOnce
from tests.sim.disk import SimDisk, SimStateDisk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from tests.sim.node import Node

T = TypeVar("T")


class Killed(BaseException):
    """
    The process is gone in the middle of a system call.
    """


class SimClock:
    """
    Implements `Clock`: the loop's time, and a wall clock that an NTP step can move.
    """

    def __init__(self, world: Node, random: Random) -> None:
        self._world = world
        self._random = random

    def now_ns(self) -> int:
        return self._world.now_ns()

    def monotonic(self) -> float:
        return self._world.loop.now - self._world.booted_at

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def random(self) -> float:
        return self._random.random()


class SimWatches:
    """
    Implements `Watches`: inotify that can overflow.
    """

    def __init__(self, world: Node) -> None:
        self._world = world
        self._directories: set[str] = set()
        self._files: dict[int, str] = {}
        self.pending: list[tuple[str, str | None]] = []
        self._happened = asyncio.Event()

    def watch_directory(self, path: str) -> None:
        self._world.tree.find(path)
        self._directories.add(path)

    def forget_directory(self, path: str) -> None:
        self._directories.discard(path)

    def watch_file_once(self, path: str) -> None:
        self._files[id(self._world.tree.find(path))] = path

    def drain(self) -> list[tuple[str, str | None]]:
        pending, self.pending = self.pending, []
        return pending

    async def wait(self, timeout_s: float) -> None:
        self._happened = asyncio.Event()
        if self.pending:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._happened.wait()

    def _note(self, path: str, name: str | None) -> None:
        self.pending.append((path, name))
        self._happened.set()

    def changed(self, directory: str, name: str) -> None:
        """
        Take note of a change in a directory.
        """
        if directory in self._directories:
            self._note(directory, name)

    def written(self, inode: object) -> None:
        """
        Take note of a write to a file.
        """
        path = self._files.pop(id(inode), None)
        if path is not None:
            self._note(path, None)


class SimAws(AwsOnce):
    """
    Hands out clients of the simulated services.
    """

    def __init__(self, host: SimHost) -> None:
        super().__init__(host.clock)
        self._host = host

    def client(self, service: str, settings: Any) -> Any:
        return SimClient(self._host, self._host.world.services[service])

    async def close(self) -> None:
        return


class SimClient:
    """
    Implements `AwsClient`.
    """

    def __init__(self, host: SimHost, service: Any) -> None:
        self._host = host
        self._service = service

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Any = None,
        headers: Any = None,
        body: bytes | memoryview = b"",
        timeout_s: float,
    ) -> Any:
        host = self._host
        host.check()
        asked = (method, path, dict(query or {}), dict(headers or {}), bytes(body))
        return await self._service.begin(host, asked, timeout_s)


class SimHost:
    """
    Implements `Host` for one life.
    """

    def __init__(self, world: Node, number: int, random: Random) -> None:
        self.world = world
        self.number = number
        self.alive = True
        self.started_at = world.loop.now
        self.clock = SimClock(world, random)
        self._random = random
        self.disk = SimDisk(world.tree, cold=self._is_cold)
        self.state_disk = SimStateDisk(world.tree, fault=self._before_change)
        self.watches = SimWatches(world)
        self.new_watches = lambda: self.watches
        self.aws = SimAws(self)
        #: Changes of the state disk until the process is gone; None: it stays.
        self.changes_left: int | None = None

    def check(self) -> None:
        """
        End whatever a dead process still does.
        """
        if not self.alive:
            raise asyncio.CancelledError

    def tell(self, event: str, text: str, /, *, level: str = "info", **fields: object) -> None:
        if self.alive:
            self.world.told(event, text, level, fields)

    async def run_blocking(self, function: Callable[..., T], *args: Any) -> T:
        self.check()
        loop = self.world.loop
        done: asyncio.Future[T] = loop.create_future()
        loop.call_later(self._random.random() * 0.002, self._call, done, function, args)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            while not done.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((done,))
            raise

    async def run_reading(self, function: Callable[..., T], *args: Any) -> T:
        return await self.run_blocking(function, *args)

    def _call(self, done: asyncio.Future[Any], function: Callable[..., Any], args: Any) -> None:
        if not self.alive:
            done.cancel()
            return
        try:
            result = function(*args)
        except Killed:
            done.cancel()
            self.world.kill()
            return
        except Exception as error:
            if not done.done():
                done.set_exception(error)
            return
        # The loop of a busy machine comes back to it later: what was seen is old by then.
        late_s = 0.05 * self._random.random() if self._random.random() < 0.3 else 0.0
        self.world.loop.call_later(late_s, self._deliver, done, result)

    def _deliver(self, done: asyncio.Future[Any], result: Any) -> None:
        if not self.alive:
            done.cancel()
        elif not done.done():
            done.set_result(result)

    async def run_child(self, arguments: Sequence[str], *, name: str) -> tuple[int, str]:
        self.check()
        assert arguments[0] == "seal"
        return await self.world.children.start(arguments[1:])

    def _before_change(self, operation: str, path: str) -> None:
        if self.changes_left is not None:
            self.changes_left -= 1
            if self.changes_left < 0:
                raise Killed
        self.world.disk_fault(operation, path)

    def _is_cold(self) -> bool:
        return self._random.random() < 0.1
