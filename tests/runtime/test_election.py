"""
Two agents, one Lease: never two that fetch, and nothing is missing, whatever happens to the network and the clocks.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest
import yaml

from agent.config.values import Config, SourceConfig
from agent.core import counters as metric
from agent.core.errors import StopError
from agent.runtime import eks, election
from agent.runtime.election import ANNOTATION, lease_place, positions_of
from agent.runtime.kubernetes_config import KubernetesSettings
from agent.runtime.producers import World
from agent.runtime.spool import Spool
from agent.sources.spooled import spool_directory
from tests.fakes.kube_api import FakeKubeApi
from tests.runtime.eks_kit import GROUP, START_S, Answered, Node, Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = pytest.mark.tls
DEADLINE_S = 60.0
NAME = ("kube-system", "tailrace-eks-control-plane")


class JumpingClock:
    """
    Real time; the wall clock is where the test puts it.
    """

    def __init__(self) -> None:
        self.jump_s = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic()

    def now_ns(self) -> int:
        return int((START_S + time.monotonic() + self.jump_s) * 1e9)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def random(self) -> float:
        return random.random()


class Log:
    """
    Who asked when: the account's service, seen by all agents.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    @property
    def holders(self) -> list[str]:
        """
        Return who fetched, in turn.
        """
        names = [name for name, _ in self.asked]
        return [name for index, name in enumerate(names) if names[index - 1 : index] != [name]]


class Asked(Service):
    """
    What one agent sees of the service.
    """

    def __init__(self, clock: Any, shared: Service, name: str, log: Log) -> None:
        super().__init__(clock)
        self.filter = shared.filter
        self._name, self._log = name, log

    async def request(self, *args: object, body: bytes = b"", **rest: Any) -> Answered:
        self._log.asked.append((self._name, time.monotonic()))
        await asyncio.sleep(0.01)
        return await super().request(*args, body=body, **rest)


class Candidate(Node):
    """
    An agent in the election.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        api: FakeKubeApi,
        shared: Service,
        log: Log,
        *,
        lease_s: int,
    ) -> None:
        directory.mkdir()
        self.name = name
        clock = cast("Any", JumpingClock())
        super().__init__(
            directory,
            Asked(clock, shared, name, log),
            lease_namespace=NAME[0],
            lease_duration_s=lease_s,
            poll_interval_s=0.05,
            overlap_s=3,
            lag_s=0,
            history_s=3600,
            requests_per_s_max=50,
            log_types=("audit",),
        )
        self.kubeconfig = directory / "kubeconfig"
        self.token = f"token-{name}"
        api.tokens.add(self.token)
        cluster = {"server": api.url, "certificate-authority": str(api.authority.path)}
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"token": self.token}}],
                }
            )
        )

    async def start(self, left: Any = None) -> None:
        object.__setattr__(self.settings, "election", "lease")
        config = Config(
            cluster="c1",
            node=self.name,
            state_dir=str(self.directory),
            kubernetes=KubernetesSettings(kubeconfig=str(self.kubeconfig)),
        )
        world = World(
            config=config,
            host=cast("Any", self.host),
            counters=self.counters,
            aws=cast("Any", self.service),
            files={"eks": cast("Any", _Files())},
            record_loss=cast("Any", None),
        )
        self.spool = Spool(
            spool_directory(config.state_dir, "eks"),
            source="eks",
            bytes_max=1 << 30,
            host=cast("Any", self.host),
            counters=self.counters,
        )
        source = SourceConfig(name="eks", type="eks_control_plane", settings=self.settings)
        self.task = asyncio.create_task(eks.produce(source, self.spool, world))


class _Files:
    logs: ClassVar[dict[str, Any]] = {}


class Pair:
    """
    The world of a test.
    """

    def __init__(
        self, api: FakeKubeApi, shared: Service, log: Log, agents: list[Candidate]
    ) -> None:
        self.api = api
        self.shared = shared
        self.log = log
        self.agents = agents
        self.expected: list[str] = []

    def happen(self) -> str:
        """
        Let an event happen now.
        """
        now_ms = int(self.shared.now() * 1000)
        stream = "kube-apiserver-audit-0123456789abcdef0123456789abcdef"
        self.expected.append(self.shared.filter.add(GROUP, stream, "x", time_ms=now_ms))
        return self.expected[-1]

    def named(self, name: str) -> Candidate:
        return next(agent for agent in self.agents if agent.name == name)

    async def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            for agent in self.agents:
                if agent.task is not None and agent.task.done() and not agent.task.cancelled():
                    agent.task.result()
            await asyncio.sleep(0.01)

    async def fetched(self, event_id: str) -> None:
        await self.until(
            lambda: any(event_id in agent.ids() for agent in self.agents if agent.spool.number)
        )

    async def goes_on(self) -> None:
        """
        Wait for some more requests.
        """
        wanted = len(self.log.asked) + 10
        await self.until(lambda: len(self.log.asked) > wanted)

    @property
    def holder(self) -> str:
        lease = self.api.leases.items.get(NAME)
        return str(lease["spec"]["holderIdentity"]).partition("_")[0] if lease else ""

    def sound(self) -> None:
        """
        Check that no agent has an event twice, and that the API server had nothing to object to.
        """
        for agent in self.agents:
            assert len(agent.ids()) == len(set(agent.ids())), "twice in one agent"
        assert not self.api.leases.problems


@pytest.fixture
async def pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Pair]:
    """
    Two agents that run, with a Lease of one second, or of so many as the parameter says.
    """
    monkeypatch.setattr(eks, "BATCH_AGE_S", 0.05)
    # Every route has everything at once.
    monkeypatch.setattr(
        eks, "passed_by_all", lambda _files, spool: dict.fromkeys(spool.components, 1 << 40)
    )
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    async with FakeKubeApi(tmp_path) as api:
        shared, log = Service(cast("Any", JumpingClock())), Log()
        lease_s = getattr(request, "param", 1)
        agents = [
            Candidate(name, tmp_path / name, api, shared, log, lease_s=lease_s)
            for name in ("a", "b")
        ]
        made = Pair(api, shared, log, agents)
        made.happen()
        for agent in agents:
            await agent.start()
        try:
            yield made
        finally:
            for agent in agents:
                if agent.task is not None and not agent.task.done():
                    agent.task.cancel()
                    with suppress(asyncio.CancelledError):
                        await agent.task


async def test_one_fetches_and_the_other_waits(pair: Pair) -> None:
    """
    Exactly once while the Lease stays; how far it is stands on the Lease.
    """
    for _ in range(5):
        await pair.fetched(pair.happen())
    first = pair.holder
    assert pair.log.holders == [first]
    await pair.until(
        lambda: positions_of(
            pair.api.leases.items[NAME]["metadata"].get("annotations", {}).get(ANNOTATION, "")
        )
    )
    assert pair.named(first).ids() == pair.expected
    pair.sound()


@pytest.mark.parametrize("kind", ["cut", "hanging", "deaf"])
async def test_a_holder_that_is_cut_off(kind: str, pair: Pair) -> None:
    """
    It stops by itself before the other one begins; nothing is missing, and it may come back.
    """
    await pair.fetched(pair.happen())
    first = pair.holder
    getattr(pair.api.leases, kind).add(pair.named(first).token)
    pair.api.cut()
    await pair.until(lambda: pair.holder != first and pair.log.holders[-1] != first)
    await pair.fetched(pair.happen())
    getattr(pair.api.leases, kind).clear()
    second = pair.holder
    pair.api.leases.cut.add(pair.named(second).token)
    await pair.until(lambda: pair.holder == first)
    await pair.fetched(pair.happen())
    assert pair.log.holders == [first, second, first]
    found = {event_id for agent in pair.agents for event_id in agent.ids()}
    assert found == set(pair.expected)
    pair.sound()


async def test_clocks_that_jump(pair: Pair) -> None:
    """
    Wall clocks an hour apart, forwards and back, change nothing.
    """
    await pair.fetched(pair.happen())
    first = pair.holder
    for jump_s in (3600.0, -3600.0, 86400.0, 0.0):
        for agent, sign in zip(pair.agents, (1, -1), strict=True):
            agent.clock.jump_s = jump_s * sign
        await pair.fetched(pair.happen())
        await pair.goes_on()
    assert pair.log.holders == [first]
    assert pair.named(first).ids() == pair.expected


async def test_a_stop_hands_over_and_a_restart_goes_on(pair: Pair) -> None:
    """
    A holder that stops gives the Lease back; one that is killed and comes back in time still is the holder.
    """
    await pair.fetched(pair.happen())
    first = pair.named(pair.holder)
    await first.kill()
    second = next(agent for agent in pair.agents if agent is not first)
    await pair.until(lambda: pair.log.holders[-1] == second.name)
    await pair.fetched(pair.happen())
    lease = pair.api.leases.items[NAME]
    assert lease["spec"]["leaseTransitions"] >= 1
    await first.start()
    await pair.fetched(pair.happen())
    assert {event_id for agent in pair.agents for event_id in agent.ids()} == set(pair.expected)
    pair.sound()


@pytest.mark.parametrize("pair", [60], indirect=True)
async def test_a_holder_that_is_killed_and_comes_back_in_time(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It still is the holder: every event once, without the other one.
    """

    async def killed(*_: object) -> None:
        pass

    monkeypatch.setattr(election.Candidate, "_give_back", killed)
    await pair.fetched(pair.happen())
    first = pair.named(pair.holder)
    for _ in range(3):
        await first.kill()
        event_id = pair.happen()
        await first.start()
        await pair.fetched(event_id)
    assert pair.log.holders == [first.name]
    assert first.ids() == pair.expected
    pair.sound()


async def test_without_the_permission_it_says_what_is_missing(
    pair: Pair,
) -> None:
    """
    Nobody fetches, and both say why.
    """
    await pair.fetched(pair.happen())
    pair.api.leases.denied = True
    await pair.until(
        lambda: any(
            "get, create and update of leases" in text
            for agent in pair.agents
            for _, event, text in agent.host.told
            if event == "lease_unreachable"
        )
    )
    await pair.until(
        lambda: not any(agent.counters.get(metric.LEASE_HELD, "eks") for agent in pair.agents)
    )


def test_where_no_lease_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It is an error at the start, with what to do.
    """
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    settings = Node(tmp_path, Service(cast("Any", JumpingClock()))).settings
    with pytest.raises(StopError, match="election: none"):
        lease_place(settings, Config(), source="eks")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    with pytest.raises(StopError, match="lease_namespace"):
        lease_place(settings, Config(), source="eks")
    assert os.environ["KUBERNETES_SERVICE_HOST"]
