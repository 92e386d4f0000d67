"""
The pods of this node and the namespaces of the cluster, kept up to date by two watches.

`run` lists and watches for ever; what it learns is in `pods`, which a reader asks without waiting.  There is never
a request per file.  With the API server away, `pods` goes on answering with what it knew.

What it does on the wire (core/watch.py decides what to ask):

- one connection for each kind; the server's certificate and name are verified;
- the token is read from its file for every request; after 401 the next request follows at once if it has changed;
- connecting, the first answer and every list have a hard time-out, and a watch that is silent for
  `idle_timeout_s` is left;
- a page and a frame are bounded, and a stream is read no faster than it is understood.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from agent.core import counters as metric
from agent.core.errors import RetryError
from agent.core.kube_objects import NamespaceObject, NodeObject, PodObject, Status, decoded
from agent.core.watch import Watch
from agent.core.watch_frames import PAGE_BYTES_MAX
from agent.runtime.kubernetes_http import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.core.counters import Counters
    from agent.core.host import Clock
    from agent.core.pods import Pods
    from agent.core.watch_frames import Change
    from agent.runtime.http_connection import HttpStream
    from agent.runtime.kubernetes_config import Access, KubernetesSettings

    Tell = Callable[..., None]

ERROR_BODY_BYTES_MAX = 4096
NODE_BYTES_MAX = 1024 * 1024


@dataclass(slots=True, eq=False)
class _Kind:
    name: str
    watch: Watch[Any]
    apply: Callable[[Sequence[Change[Any]]], None]
    heard_at: float = 0.0
    #: Events, bad frames and views made anew that are counted already.
    counted: tuple[int, int, int] = (0, 0, 0)


class Kubernetes:
    """
    Keeps `pods` up to date.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        access: Access,
        *,
        node: str,
        pods: Pods,
        clock: Clock,
        counters: Counters,
        tell: Tell,
    ) -> None:
        self.pods = pods
        self._settings = settings
        self._access = access
        self._node = settings.node_name or node
        self._clock = clock
        self._counters = counters
        self._tell = tell
        self._told_empty = False
        selector = f"spec.nodeName={self._node}"
        self._pods = _Kind("pods", self._watch(PodObject, selector), self._apply_pods)
        self._namespaces = _Kind(
            "namespaces", self._watch(NamespaceObject, ""), self._apply_namespaces
        )
        #: Namespaces are only asked for where their labels are wanted.
        self._kinds = [self._pods, self._namespaces][: 2 if settings.namespace_labels else 1]

    @property
    def synced(self) -> bool:
        """
        Whether all pods of the node were seen once: from then on, one that is not known is new or gone.
        """
        return self._pods.watch.synced

    @property
    def namespaces_synced(self) -> bool:
        """
        Whether all namespaces were seen once, or nobody asks for them.
        """
        return self._namespaces not in self._kinds or self._namespaces.watch.synced

    async def run(self) -> None:
        """
        List and watch until cancelled.
        """
        async with asyncio.TaskGroup() as group:
            for kind in self._kinds:
                group.create_task(self._follow(kind), name=f"kubernetes.{kind.name}")

    async def node(self) -> NodeObject | None:  # network op
        """
        Ask once for the Node itself; None where it cannot be had (its permission is optional).
        """
        body = bytearray()

        async def answered(response: HttpStream) -> None:
            self._counters.add(metric.KUBERNETES_REQUESTS, 1, "nodes", str(response.status))
            if response.status == 200:
                body.extend(await response.read(NODE_BYTES_MAX) or b"")

        connection = Connection(self._access)
        timeout_s = self._settings.request_timeout_s
        try:
            await connection.get(
                f"/api/v1/nodes/{quote(self._node, safe='')}",
                {},
                answered,
                deadline_s=timeout_s,
                timeout_s=timeout_s,
            )
        except RetryError:
            return None
        finally:
            await connection.close()
        return decoded(body, NodeObject)

    def refresh(self) -> None:
        """
        Set the gauges.
        """
        self._counters.set(metric.KUBERNETES_PODS, self.pods.live, "live")
        self._counters.set(metric.KUBERNETES_PODS, self.pods.deleted, "deleted")
        self._counters.set(metric.KUBERNETES_DROPPED, self.pods.dropped)
        now = self._clock.monotonic()
        for kind in self._kinds:
            if kind.heard_at:
                self._counters.set(metric.KUBERNETES_HEARD_SECONDS, now - kind.heard_at, kind.name)

    # -- changes ------------------------------------------------------------------------------

    def _apply_pods(self, changes: Sequence[Change[PodObject]]) -> None:
        for key, pod in changes:
            if pod is None:
                self.pods.delete_pod(key)
            elif pod.spec.node_name == self._node:
                self.pods.apply_pod(pod)

    def _apply_namespaces(self, changes: Sequence[Change[NamespaceObject]]) -> None:
        for key, namespace in changes:
            if namespace is None:
                self.pods.delete_namespace(key)
            else:
                self.pods.apply_namespace(namespace)

    # -- one watch ----------------------------------------------------------------------------

    def _watch(self, kind: Any, selector: str) -> Watch[Any]:
        return Watch(
            kind,
            field_selector=selector,
            streaming=self._settings.streaming_list,
            request_timeout_s=self._settings.request_timeout_s,
        )

    async def _follow(self, kind: _Kind) -> None:
        connection = Connection(self._access)
        kind.heard_at = self._clock.monotonic()
        try:
            while True:
                await self._exchange(kind, connection)
                await self._clock.sleep(kind.watch.delay_s)
        finally:
            await connection.close()

    async def _exchange(self, kind: _Kind, connection: Connection) -> None:
        watch, clock = kind.watch, self._clock
        request = watch.begin(clock.random())
        refused = False

        async def answered(response: HttpStream) -> None:
            nonlocal refused
            self._counters.add(metric.KUBERNETES_REQUESTS, 1, kind.name, str(response.status))
            kind.heard_at = clock.monotonic()
            if response.status != 200:
                refused = True
                await self._refused(kind, response, connection)
            elif request.stream:
                await self._stream(kind, response)
            else:
                await self._page(kind, response)

        failed = False
        try:
            await connection.get(
                f"/api/v1/{kind.name}",
                dict(request.query),
                answered,
                deadline_s=request.deadline_s,
                timeout_s=self._settings.request_timeout_s,
            )
        except RetryError as error:
            failed = True
            if error.code != "timeout":
                self._counters.add(metric.KUBERNETES_REQUESTS, 1, kind.name, "0")
            self._say(kind, str(error))
        if not refused:
            watch.ended(clock.monotonic(), clock.random(), failed=failed)
        self._took(kind, [])

    async def _stream(self, kind: _Kind, response: HttpStream) -> None:
        watch, clock = kind.watch, self._clock
        watch.opened(clock.monotonic())
        idle_s = self._settings.idle_timeout_s
        while not watch.over:
            async with asyncio.timeout(watch.patience_s(clock.monotonic(), idle_s)):
                chunk = await response.chunk()
            if not chunk:
                return
            kind.heard_at = clock.monotonic()
            self._took(kind, watch.feed(chunk))

    async def _page(self, kind: _Kind, response: HttpStream) -> None:
        body = await response.read(PAGE_BYTES_MAX)
        if body is None:
            kind.watch.page_too_large()
        else:
            self._took(kind, kind.watch.page(body))

    def _took(self, kind: _Kind, changes: Sequence[Change[Any]]) -> None:
        watch, before = kind.watch, kind.counted
        kind.apply(changes)
        kind.counted = (watch.events, watch.frames_bad, watch.relists)
        for name, old, new in zip(
            (metric.KUBERNETES_EVENTS, metric.KUBERNETES_BAD_FRAMES, metric.KUBERNETES_RELISTS),
            before,
            kind.counted,
            strict=True,
        ):
            if new != old:
                self._counters.add(name, new - old, kind.name)
        if kind is self._pods and watch.synced and not self._told_empty:
            # Said once: in a DaemonSet there is at least the agent's own pod.
            self._told_empty = True
            if not self.pods.live:
                self._tell(
                    "kubernetes_no_pods",
                    f"the API server knows no pod on node {self._node}: check kubernetes.node_name",
                    level="warning",
                )

    async def _refused(self, kind: _Kind, response: HttpStream, connection: Connection) -> None:
        body = await response.read(ERROR_BODY_BYTES_MAX)
        status = decoded(body, Status) if body else None
        retry_after = response.headers.get("retry-after", "")
        retry_after_s = float(retry_after) if retry_after.isdigit() else None
        if retry_after_s is None and status is not None and status.details is not None:
            retry_after_s = float(status.details.retry_after_seconds) or None
        kind.watch.refused(
            response.status,
            self._clock.random(),
            retry_after_s=retry_after_s,
            again=response.status == 401 and connection.token_changed,
        )
        if response.status not in (400, 410, 422):
            reason = status.message if status is not None else response.reason
            hint = {
                401: "; check the service account's token",
                403: "; the agent's ClusterRole must allow list and watch",
            }.get(response.status, "")
            self._say(kind, f"answered {response.status} {reason[:200]}{hint}")

    def _say(self, kind: _Kind, text: str) -> None:
        self._tell(
            "kubernetes_unreachable",
            f"API server, {kind.name}: {text}; going on with the metadata that is known",
            level="warning",
            kind=kind.name,
        )
