"""
A puller over a strict FilterLogEvents and a real spool, on a clock that runs as fast as it is waited for.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from contextlib import suppress
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from agent.config.values import Config, SourceConfig
from agent.core.counters import Counters
from agent.runtime.eks import Puller
from agent.runtime.producers import Pace, World
from agent.runtime.spool import Spool
from agent.runtime.state_disk import OsStateDisk
from agent.sources.eks_settings import EksControlPlaneSettings
from agent.sources.spooled import batch_file, spool_directory
from tests.fakes.cloudwatch_rules import RefusalError
from tests.fakes.filter_events import FilterEvents

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

START_S = 1_900_000_000.0
GROUP = "/aws/eks/c1/cluster"
HEAD = "I1128 10:15:00.123456      11 a.go:1] "
STREAMS = {
    "api": "kube-apiserver-0123456789abcdef0123456789abcdef",
    "audit": "kube-apiserver-audit-0123456789abcdef0123456789abcdef",
    "authenticator": "authenticator-0123456789abcdef0123456789abcdef",
    "controllerManager": "kube-controller-manager-0123456789abcdef0123456789abcdef",
    "scheduler": "kube-scheduler-0123456789abcdef0123456789abcdef",
}


class FastClock:
    """
    Moves to the next waiter when everybody waits; the wall clock can jump.
    """

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.jump_s = 0.0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    def now_ns(self) -> int:
        return int((START_S + self.seconds + self.jump_s) * 1e9)

    def monotonic(self) -> float:
        return self.seconds

    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self.seconds + max(0.0, seconds), next(self._count), future))
        await future

    async def run_until(self, at: float) -> None:
        """
        Let time pass up to *at*.
        """
        while True:
            for _ in range(12):
                await asyncio.sleep(0)
            while self._waiting and self._waiting[0][2].done():
                heapq.heappop(self._waiting)
            if not self._waiting or self._waiting[0][0] > at:
                self.seconds = max(self.seconds, at)
                return
            due, _, future = heapq.heappop(self._waiting)
            self.seconds = max(self.seconds, due)
            future.set_result(None)


class Answered(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Service:
    """
    One account's CloudWatch Logs, without a network.
    """

    def __init__(self, clock: FastClock) -> None:
        self.clock = clock
        self.filter = FilterEvents(cast("Any", self))
        self.requests: list[tuple[float, dict[str, Any]]] = []
        #: The Date of its answers is so far from the time.
        self.date_s = 0.0
        self.before: Callable[[], None] = lambda: None

    def now(self) -> float:
        return START_S + self.clock.seconds

    rate_now = now

    def client(self, _service: str, settings: Any) -> Service:
        self.region = settings.region
        return self

    async def request(
        self, *_: object, headers: Mapping[str, str], body: bytes = b"", **_rest: object
    ) -> Answered:
        fields = json.loads(body)
        answer_of = self.filter.describe
        if headers["x-amz-target"].endswith(".FilterLogEvents"):
            answer_of = self.filter.answer
            self.requests.append((self.clock.seconds, fields))
        self.before()
        await asyncio.sleep(0)
        date = {"date": formatdate(self.now() + self.date_s, usegmt=True), "x-amzn-requestid": "r"}
        try:
            answer, status = answer_of(fields), 200
        except RefusalError as error:
            answer = {"__type": f"x#{error.code}", "message": error.message}
            status = error.status
        return Answered(status, date, json.dumps(answer).encode())


class Host:
    def __init__(self, clock: FastClock) -> None:
        self.clock = clock
        self.state_disk = OsStateDisk()
        self.told: list[tuple[float, str, str]] = []

    def tell(self, event: str, text: str, /, **_: object) -> None:
        self.told.append((self.clock.seconds, event, text))

    async def run_blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)


class Node:
    """
    One agent's source, which can be killed and started again.
    """

    def __init__(self, directory: Path, service: Service, **settings: Any) -> None:
        self.directory = directory
        self.service = service
        self.clock = service.clock
        self.host = Host(self.clock)
        self.counters = Counters()
        self.settings = EksControlPlaneSettings(region="eu-central-1", election="none", **settings)
        self.task: asyncio.Task[None] | None = None
        self.puller: Puller | None = None
        self.paces: dict[str, Pace] = {}

    async def start(self, left: Mapping[str, int] | None = None) -> None:
        config = Config(cluster="c1", node="n1", state_dir=str(self.directory))
        world = World(
            config=config,
            host=cast("Any", self.host),
            counters=self.counters,
            aws=cast("Any", self.service),
            files={"eks": cast("Any", _NoFiles())},
            record_loss=cast("Any", None),
            paces=self.paces,
        )
        source = SourceConfig(name="eks", type="eks_control_plane", settings=self.settings)
        self.spool = Spool(
            spool_directory(config.state_dir, "eks"),
            source=source.name,
            bytes_max=self.settings.spool_bytes_max,
            host=cast("Any", self.host),
            counters=self.counters,
        )
        self.puller = Puller("eks", self.settings, self.spool, world)
        await self.puller.open(left or {})
        self.task = asyncio.create_task(self.puller.run())

    async def kill(self) -> None:
        assert self.task is not None
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def run(self, seconds: float) -> None:
        """
        Let time pass; an error of the puller is one of the test.
        """
        await self.clock.run_until(self.clock.seconds + seconds)
        if self.task is not None and self.task.done() and not self.task.cancelled():
            self.task.result()

    def records(self, component: str = "") -> list[dict[str, Any]]:
        """
        Return what is in the spool, in its order: of one component, or all.
        """
        directory = self.directory / "spool" / "eks"
        return [
            orjson.loads(line)
            for path in sorted(directory.iterdir())
            if (file := batch_file(path.name)) is not None and component in ("", file.component)
            for line in path.read_bytes().splitlines()
        ]

    def ids(self) -> list[str]:
        return [item["attrs"]["event_id"] for item in self.records()]


class _NoFiles:
    logs: Mapping[str, Any] = {}


def service() -> Service:
    return Service(FastClock())


def add(
    made: Service,
    kind: str,
    at_s: float,
    *,
    late_s: float = 0,
    group: str = GROUP,
    text: str = "",
) -> str:
    """
    Let an event happen *at_s* after the clock's zero, and arrive *late_s* later.
    """
    time_ms = int((START_S + at_s) * 1000)
    return made.filter.add(
        group,
        STREAMS.get(kind, kind),
        text or f"{HEAD}{kind} at {at_s}",
        time_ms=time_ms,
        arrival_ms=time_ms + int(late_s * 1000),
    )
