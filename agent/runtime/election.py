"""
One agent of many: a candidate of an election by a Kubernetes Lease (core/lease.py decides, this asks the API server).

While it is the holder, the puller runs under it and is cancelled when the deadline of the last renewal has passed,
whether or not the API server can be reached.  Each renewal carries how far every route has what was fetched, in the
annotation `tailrace.io/eks-control-plane`: JSON, milliseconds by query.  On the way out the Lease is given back.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import orjson

from agent.core import counters as metric
from agent.core.errors import RetryError, StopError
from agent.core.kube_objects import decoded
from agent.core.lease import Election, Lease
from agent.core.sayings import Sayings
from agent.runtime.kubernetes_config import SERVICE_ACCOUNT, find_access
from agent.runtime.kubernetes_http import Connection

if TYPE_CHECKING:
    from agent.config.values import Config
    from agent.runtime.eks import Puller
    from agent.runtime.http_connection import HttpStream
    from agent.runtime.kubernetes_config import Access
    from agent.runtime.producers import World
    from agent.sources.eks_settings import EksControlPlaneSettings

ANNOTATION = "tailrace.io/eks-control-plane"
#: A Lease is 1 KB, and its annotations at most 256 KiB.
LEASE_BYTES_MAX = 512 * 1024
#: Seconds to give the Lease back when the agent stops.
RELEASE_S = 2.0


class Place(NamedTuple):
    """
    Where the Lease is.
    """

    access: Access
    namespace: str


def lease_place(settings: EksControlPlaneSettings, config: Config, *, source: str) -> Place:
    """
    Return where the Lease is; raises StopError (78) where there is no API server to ask.
    """
    # Whoever wants no metadata of pods can have a Lease all the same.
    access = find_access(replace(config.kubernetes, enabled="auto"), os.environ)
    if access is None:
        raise StopError(
            f"source {source}: election: lease needs the Kubernetes API server: run in a pod, set "
            "kubernetes.kubeconfig, or set election: none where no other agent has this source",
            exit_code=78,
        )
    namespace = settings.lease_namespace
    if not namespace:
        with suppress(OSError), open(f"{SERVICE_ACCOUNT}/namespace", encoding="utf-8") as file:
            namespace = file.read().strip()
    if not namespace:
        raise StopError(
            f"source {source}: lease_namespace: is empty, and this is no pod that has one: set it",
            exit_code=78,
        )
    return Place(access, namespace)


class Candidate:
    """
    One agent's part in the election for one source.
    """

    def __init__(
        self, settings: EksControlPlaneSettings, world: World, *, identity: str, source: str
    ) -> None:
        place = lease_place(settings, world.config, source=source)
        self._name = settings.lease_name
        self._namespace = place.namespace
        self._connection = Connection(place.access)
        self._election = Election(identity, duration_s=settings.lease_duration_s)
        self._host = world.host
        self._clock = world.host.clock
        self._counters = world.counters
        self._source = source
        self._sayings = Sayings(clock=self._clock, tell=self._host.tell, source=self._source)

    async def run(self, puller: Puller) -> None:
        """
        Stand for election until cancelled, and let *puller* run while it is won.
        """
        election, clock = self._election, self._clock
        puller.may = lambda: election.holds(clock.monotonic())
        self._measure()
        try:
            while True:
                await self._stand({})
                if election.holds(clock.monotonic()):
                    await self._hold(puller)
                await clock.sleep(election.renew_s * (0.5 + clock.random()))
        finally:
            if election.holds(clock.monotonic()):
                await self._give_back(puller.published())
            election.resign()
            self._measure()
            await self._connection.close()

    async def _hold(self, puller: Puller) -> None:
        self._measure()
        left = positions_of(self._election.annotations.get(ANNOTATION, ""))
        self._host.tell(
            "lease_acquired",
            f"source {self._source}: this agent is the one that fetches (Lease {self._namespace}/{self._name})",
        )
        await puller.open(left)
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(puller.run(), name=f"eks.{self._source}")
                await self._renew(puller)
                work.cancel()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        self._measure()
        self._host.tell(
            "lease_lost",
            f"source {self._source}: the Lease {self._namespace}/{self._name} could not be renewed in time, or "
            f"is held by {self._election.holder or 'nobody'}: another agent goes on",
            level="warning",
        )

    async def _renew(self, puller: Puller) -> None:
        """
        Renew until that has failed for too long.
        """
        election, clock = self._election, self._clock
        while election.holds(clock.monotonic()):
            await clock.sleep(min(election.renew_s, election.left_s(clock.monotonic())))
            if election.holds(clock.monotonic()):
                await self._stand(puller.published())

    async def _stand(self, published: dict[str, int]) -> None:
        """
        Look at the Lease where that is needed, and take or renew it where that is allowed.
        """
        election, clock = self._election, self._clock
        try:
            if election.must_look:
                election.saw(await self._look(), clock.monotonic())
            if election.may_write(clock.monotonic()):
                await self._write(self._body(published))
        except RetryError as error:
            self._say(str(error))

    def _body(self, published: dict[str, int]) -> bytes:
        annotations = {}
        if published:
            left = positions_of(self._election.annotations.get(ANNOTATION, ""))
            annotations[ANNOTATION] = orjson.dumps(left | published).decode()
        now = datetime.fromtimestamp(self._clock.now_ns() / 1e9, tz=UTC)
        return self._election.body(
            name=self._name,
            namespace=self._namespace,
            stamp=now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            annotations=annotations,
        )

    async def _look(self) -> Lease | None:  # network op
        status, lease = await self._send("GET", self._path(self._name), b"")
        if status == 200 and lease is not None:
            return lease
        if status == 404:
            return None
        raise RetryError(f"reading it answered {status}{_remedy(status)}")

    async def _write(self, body: bytes) -> None:  # network op
        election = self._election
        exists = election.lease is not None
        sent_at = self._clock.monotonic()
        try:
            status, lease = await self._send(
                "PUT" if exists else "POST", self._path(self._name if exists else ""), body
            )
        except RetryError:
            election.refused()
            raise
        if status in (200, 201) and lease is not None:
            election.wrote(lease, sent_at=sent_at, now=self._clock.monotonic())
            return
        election.refused()
        if status not in (404, 409):
            raise RetryError(f"writing it answered {status}{_remedy(status)}")

    async def _give_back(self, published: dict[str, int]) -> None:
        election = self._election
        if election.lease is None:
            return
        body = election.released(self._body(published))
        with suppress(RetryError):
            await self._send("PUT", self._path(self._name), body, deadline_s=RELEASE_S)

    async def _send(
        self, method: str, path: str, body: bytes, *, deadline_s: float | None = None
    ) -> tuple[int, Lease | None]:
        election = self._election
        left_s = election.left_s(self._clock.monotonic())
        # A holder must know in time; whoever is none has time until the next look.
        limit_s = deadline_s or min(election.renew_s, left_s or election.renew_s)
        found: dict[str, Any] = {}

        async def answered(response: HttpStream) -> None:
            self._counters.add(metric.KUBERNETES_REQUESTS, 1, "leases", str(response.status))
            found["status"] = response.status
            found["body"] = await response.read(LEASE_BYTES_MAX) or b""

        await self._connection.send(
            method, path, {}, answered, body=body, deadline_s=limit_s, timeout_s=limit_s
        )
        return found["status"], decoded(found["body"], Lease)

    def _path(self, name: str) -> str:
        base = f"/apis/coordination.k8s.io/v1/namespaces/{quote(self._namespace, safe='')}/leases"
        return f"{base}/{quote(name, safe='')}" if name else base

    def _measure(self) -> None:
        held = self._election.holds(self._clock.monotonic())
        self._counters.set(metric.LEASE_HELD, int(held), self._source)

    def _say(self, text: str) -> None:
        self._sayings.say(
            "lease_unreachable",
            f"source {self._source}: the Lease {self._namespace}/{self._name}: {text}; without it this agent "
            "does not fetch",
        )


def positions_of(text: str) -> dict[str, int]:
    """
    Return the milliseconds by query that an annotation holds; what is not readable is left out.
    """
    try:
        found = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        found = {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {str(key): value for key, value in pairs if type(value) is int}


def _remedy(status: int) -> str:
    if status in (401, 403):
        return (
            "; the service account needs get, create and update of leases "
            "(config/kubernetes/components/eks-control-plane)"
        )
    return ""
