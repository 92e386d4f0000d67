"""
An agent's view of a fake API server.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agent.core.counters import Counters
from agent.core.pods import Pods
from agent.runtime.kubernetes import Kubernetes
from agent.runtime.kubernetes_config import Access, KubernetesSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.fakes.kube_api import FakeKubeApi

NODE = "node-1"
DEADLINE_S = 20.0


class Clock:
    """
    Real time; waits are a tenth of what was asked for, and no dice.
    """

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(min(seconds / 10, 0.2))

    def random(self) -> float:
        return 0.5


def pod(name: str, uid: str = "", *, node: str = NODE, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": uid or f"uid-{name}",
            "labels": labels,
        },
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "acme/web:1"}]},
        "status": {"podIP": "10.0.0.9"},
    }


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "labels": labels}}


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.005)


class World:
    """
    A fake API server and what runs against it.
    """

    def __init__(self, api: FakeKubeApi, token_file: Path) -> None:
        self.api = api
        self.token_file = token_file
        self.clock = Clock()
        self.counters = Counters()
        self.told: list[str] = []
        self.kubernetes: Kubernetes

    @property
    def pods(self) -> Pods:
        return self.kubernetes.pods

    def access(self, **fields) -> Access:
        values = {
            "url": self.api.url,
            "ca_file": str(self.api.authority.path),
            "token_file": str(self.token_file),
        }
        return Access(**{**values, **fields})

    def make(self, access: Access | None = None, **settings) -> Kubernetes:
        values = {"request_timeout_s": 5.0, "idle_timeout_s": 5.0, **settings}
        self.kubernetes = Kubernetes(
            KubernetesSettings(**values),
            access or self.access(),
            node=NODE,
            pods=Pods(),
            clock=self.clock,
            counters=self.counters,
            tell=lambda event, text, **_: self.told.append(f"{event}: {text}"),
        )
        return self.kubernetes

    @asynccontextmanager
    async def running(self, access: Access | None = None, **settings) -> AsyncIterator[Kubernetes]:
        kubernetes = self.make(access, **settings)
        task = asyncio.ensure_future(kubernetes.run())
        try:
            yield kubernetes
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and task.exception() is not None:
                raise task.exception()  # type: ignore[misc]

    def labels(self, name: str, uid: str = "") -> dict[str, str] | None:
        found = self.pods.find(uid or f"uid-{name}", "app", namespace="shop", pod=name)
        return dict(found.labels) if found is not None else None

    def requests(self, kind: str = "pods") -> list[dict[str, str]]:
        return [dict(item.query) for item in self.api.requests if item.kind == kind]
