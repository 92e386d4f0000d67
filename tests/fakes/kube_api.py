"""
A strict Kubernetes API server, as far as lists and watches of pods and namespaces go.

HTTPS with a certificate of a cluster authority; a bearer token or a client certificate is checked.  Versions are those
of one counter, history can be compacted, and what the real server refuses is refused (facts: Kubernetes API watch).

| knob | effect |
|---|---|
| `streaming` | `on`; `off`: 422 as without the feature gate; `ignored`: as a server that never heard of it |
| `limit_ignored` | a list with resourceVersion=0 comes whole, as out of the cache of older servers |
| `gone_in_stream` | 410 comes as an ERROR event instead of a status |
| `answers` | statuses to answer next, with headers: throttling, outages |
| `silent` | watches are accepted and nothing more is sent: a half-dead connection |
| `hang` | requests are accepted and never answered |
| `piece` | bytes a chunk at most, cut at random |
| `garbage` | sent once at the head of every watch |
"""

from __future__ import annotations

import asyncio
import base64
import bisect
import json
import random
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from aiohttp import web

from tests.fakes.kube_certificates import Authority
from tests.fakes.kube_leases import LEASES, Leases

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KINDS = {"pods": "Pod", "namespaces": "Namespace", "nodes": "Node"}
PARAMETERS = {
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
}


class Change(NamedTuple):
    version: int
    kind: str
    type: str
    object: dict[str, Any]


class Request(NamedTuple):
    kind: str
    query: Mapping[str, str]
    token: str

    @property
    def watch(self) -> bool:
        return "watch" in self.query


class Refused(Exception):  # noqa: N818 - an answer
    def __init__(self, code: int, reason: str, message: str = "") -> None:
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message or reason,
        }
        self.code = code
        super().__init__(message)


class FakeKubeApi:
    def __init__(self, directory: Path, *, seed: int = 1) -> None:
        self.authority = Authority(directory)
        self.certificate = self.authority.issue("server", "127.0.0.1", "localhost")
        self.tokens = {"token-1"}
        self.streaming = "on"
        self.limit_ignored = False
        self.gone_in_stream = False
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.silent = False
        self.hang = False
        self.piece = 0
        self.garbage = b""
        self.requests: list[Request] = []
        self.problems: list[str] = []
        self.version = 1000
        self.port = 0
        self.watchers = 0
        self.leases = Leases()
        self._random = random.Random(seed)
        self._objects: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS}
        self._history: list[Change] = []
        self._compacted = self.version
        self._bookmark = 0
        self._ending = 0
        self._changed = asyncio.Event()
        self._runner: web.ServerRunner | None = None
        self._transports: set[asyncio.BaseTransport] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """
        Connections that wait for an answer, or for more of it.
        """
        return sum(not transport.is_closing() for transport in self._transports)

    async def start(self) -> None:
        """
        Listen, on the same port as before.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate.certificate, self.certificate.key)
        context.load_verify_locations(self.authority.path)
        context.verify_mode = ssl.CERT_OPTIONAL
        server = web.Server(self._serve, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """
        Go away, connections and all.
        """
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def cut(self) -> None:
        """
        Break every connection.
        """
        for transport in list(self._transports):
            transport.abort()  # type: ignore[attr-defined]

    # -- objects ------------------------------------------------------------------------------

    def put(self, kind: str, item: dict[str, Any]) -> None:
        """
        Add an object, or change it.
        """
        meta = item["metadata"]
        key = f"{meta.get('namespace', '')}/{meta['name']}"
        known = key in self._objects[kind]
        if known:
            uid = self._objects[kind][key]["metadata"].get("uid")
            assert uid == meta.get("uid"), "another uid is another object: delete the old one first"
        self._log(kind, "MODIFIED" if known else "ADDED", item)
        self._objects[kind][key] = self._history[-1].object

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        item = self._objects[kind].pop(f"{namespace}/{name}")
        self._log(kind, "DELETED", item)

    def compact(self) -> None:
        """
        Forget the history.
        """
        self._compacted = self.version
        self._history.clear()
        self._changed.set()

    def bookmark(self) -> None:
        """
        Tell every watch how far it is.
        """
        self._bookmark += 1
        self._changed.set()

    def end_watches(self) -> None:
        """
        End every watch as its time-out does.
        """
        self._ending += 1
        self._changed.set()

    def _log(self, kind: str, type_: str, item: dict[str, Any]) -> None:
        self.version += 1
        meta = {**item["metadata"], "resourceVersion": str(self.version)}
        self._history.append(Change(self.version, kind, type_, {**item, "metadata": meta}))
        self._changed.set()

    # -- requests -----------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        self._transports.add(transport)
        try:
            return await self._answer(request)
        except Refused as refused:
            return web.json_response(refused.status, status=refused.code)
        finally:
            self._transports.discard(transport)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        query = dict(request.query)
        kind, _, name = request.path.removeprefix("/api/v1/").partition("/")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.requests.append(Request(kind, query, token))
        if self.hang:
            await asyncio.Event().wait()
        if self.answers:
            status, headers = self.answers.pop(0)
            return web.Response(status=status, headers=headers)
        assert request.transport is not None
        if token not in self.tokens and not request.transport.get_extra_info("peercert"):
            raise Refused(401, "Unauthorized")
        if request.path.startswith(LEASES):
            self.version += 1
            return await self.leases.answer(request, token, self.version)
        if kind not in KINDS or not request.path.startswith("/api/v1/"):
            raise Refused(404, "NotFound", request.path)
        if unknown := query.keys() - PARAMETERS:
            self._problem(f"unknown parameters {unknown}")
        if name:
            item = self._objects[kind].get(f"/{name}")
            if item is None:
                raise Refused(404, "NotFound", name)
            return web.json_response(item)
        if query.get("watch") == "1":
            return await self._watch(request, kind, query)
        return web.json_response(self._list(kind, query))

    def _problem(self, text: str) -> None:
        self.problems.append(text)
        raise Refused(400, "BadRequest", text)

    def _matches(self, item: dict[str, Any], query: Mapping[str, str]) -> bool:
        selector = query.get("fieldSelector", "")
        if not selector:
            return True
        field, _, value = selector.partition("=")
        if field != "spec.nodeName":
            self._problem(f"field selector {selector!r}")
        return bool(item.get("spec", {}).get("nodeName") == value)

    def _list(self, kind: str, query: Mapping[str, str]) -> dict[str, Any]:
        items = [item for item in self._objects[kind].values() if self._matches(item, query)]
        version, offset = self.version, 0
        if "continue" in query:
            if "resourceVersion" in query:
                self._problem("resourceVersion is forbidden with continue")
            version, offset = json.loads(base64.b64decode(query["continue"]))
            if version < self._compacted:
                raise Refused(410, "Expired", "The provided continue parameter is too old")
        elif int(query.get("resourceVersion") or "0") > self.version:
            raise Refused(504, "Timeout", "Too large resource version")
        limit = int(query.get("limit", "0")) or len(items)
        if self.limit_ignored and query.get("resourceVersion") == "0":
            limit = len(items)
        meta = {"resourceVersion": str(version)}
        if offset + limit < len(items):
            token = json.dumps([version, offset + limit]).encode()
            meta["continue"] = base64.b64encode(token).decode()
        return {
            "kind": f"{KINDS[kind]}List",
            "apiVersion": "v1",
            "metadata": meta,
            "items": items[offset : offset + limit],
        }

    async def _watch(
        self, request: web.BaseRequest, kind: str, query: Mapping[str, str]
    ) -> web.StreamResponse:
        initial = query.get("sendInitialEvents") == "true" and self.streaming != "ignored"
        matched = "resourceVersionMatch" in query
        if (initial or matched) and self.streaming == "off":
            raise Refused(422, "Invalid", "sendInitialEvents is forbidden for watch")
        if initial and query.get("resourceVersionMatch") != "NotOlderThan":
            raise Refused(422, "Invalid", "resourceVersionMatch must be NotOlderThan")
        if initial and query.get("allowWatchBookmarks") != "true":
            self._problem("initial events end with a bookmark")
        version = int(query.get("resourceVersion") or "0") or self.version
        gone = Refused(410, "Expired", f"too old resource version: {version}")
        if version < self._compacted and not initial and not self.gone_in_stream:
            raise gone
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        self.watchers += 1
        try:
            if version < self._compacted and not initial:
                await self._send(response, [{"type": "ERROR", "object": gone.status}])
                return response
            await self._follow(response, kind, query, version, initial=initial)
        finally:
            self.watchers -= 1
        return response

    async def _follow(
        self,
        response: web.StreamResponse,
        kind: str,
        query: Mapping[str, str],
        version: int,
        *,
        initial: bool,
    ) -> None:
        if self.garbage:
            await response.write(self.garbage)
        if initial or not query.get("resourceVersion"):
            version = self.version
            items = [item for item in self._objects[kind].values() if self._matches(item, query)]
            events = [{"type": "ADDED", "object": item} for item in items]
            if initial:
                events.append(self._mark(kind, {"k8s.io/initial-events-end": "true"}))
            await self._send(response, events)
        marked, ending = self._bookmark, self._ending
        while ending == self._ending:
            if version < self._compacted and self.gone_in_stream:
                status = Refused(410, "Expired", "too old").status
                await self._send(response, [{"type": "ERROR", "object": status}])
                return
            events = [
                {"type": change.type, "object": change.object}
                for change in self._history[
                    bisect.bisect_right(self._history, version, key=lambda item: item.version) :
                ]
                if change.kind == kind and self._matches(change.object, query)
            ]
            version = self.version
            if marked != self._bookmark:
                marked = self._bookmark
                events.append(self._mark(kind, None))
            if events:
                await self._send(response, events)
            self._changed.clear()
            # Whoever waits is woken by every change; a short wait covers those that cleared it.
            try:
                async with asyncio.timeout(0.02):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _mark(self, kind: str, annotations: dict[str, str] | None) -> dict[str, Any]:
        meta: dict[str, Any] = {"resourceVersion": str(self.version), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        return {"type": "BOOKMARK", "object": {"kind": KINDS[kind], "metadata": meta}}

    async def _send(self, response: web.StreamResponse, events: list[dict[str, Any]]) -> None:
        while self.silent:
            await asyncio.sleep(0.01)
        data = b"".join(json.dumps(event).encode() + b"\n" for event in events)
        start = 0
        while start < len(data):
            size = self._random.randint(1, self.piece) if self.piece else len(data)
            await response.write(data[start : start + size])
            start += size
