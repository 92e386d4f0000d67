"""
Leases of a strict API server: versions are compared, specs are checked, and the way to it can be cut for one client.

| knob | effect |
|---|---|
| `cut` | tokens whose requests are cut off before they have an effect |
| `deaf` | tokens whose requests have their effect, and are cut off without an answer |
| `hanging` | tokens whose requests are never answered |
| `denied` | every request answers 403 |
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from aiohttp import web

LEASES = "/apis/coordination.k8s.io/v1/namespaces/"
_PATH = re.compile(re.escape(LEASES) + r"([a-z0-9-]+)/leases(?:/([a-z0-9.-]+))?")
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
ANNOTATIONS_BYTES_MAX = 256 * 1024


class Leases:
    def __init__(self) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}
        self.cut: set[str] = set()
        self.deaf: set[str] = set()
        self.hanging: set[str] = set()
        self.denied = False
        self.problems: list[str] = []

    async def answer(self, request: web.BaseRequest, token: str, version: int) -> web.Response:
        assert request.transport is not None
        if token in self.hanging:
            await asyncio.Event().wait()
        if token in self.cut:
            request.transport.abort()
            return web.Response()
        if self.denied:
            return self._refused(403, "Forbidden", "leases.coordination.k8s.io is forbidden")
        answer = self._do(request.method, request.path, await request.read(), version)
        if token in self.deaf:
            request.transport.abort()
        return answer

    def _do(self, method: str, path: str, raw: bytes, version: int) -> web.Response:
        found = _PATH.fullmatch(path)
        if found is None:
            return self._refused(404, "NotFound", path)
        namespace, name = found[1], found[2] or ""
        if method == "GET":
            item = self.items.get((namespace, name))
            return web.json_response(item) if item else self._refused(404, "NotFound", name)
        body = json.loads(raw)
        meta = body["metadata"]
        if problem := self._problem(body, namespace):
            self.problems.append(problem)
            return self._refused(422, "Invalid", problem)
        if method == "POST":
            if name or meta.get("resourceVersion"):
                return self._refused(400, "BadRequest", "resourceVersion should not be set")
            if (namespace, meta["name"]) in self.items:
                return self._refused(409, "AlreadyExists", meta["name"])
            return self._store(body, namespace, version, 201)
        known = self.items.get((namespace, name))
        if known is None:
            return self._refused(404, "NotFound", name)
        if meta.get("resourceVersion") != known["metadata"]["resourceVersion"]:
            return self._refused(409, "Conflict", "the object has been modified")
        return self._store(body, namespace, version, 200)

    def _store(
        self, body: dict[str, Any], namespace: str, version: int, status: int
    ) -> web.Response:
        body["metadata"] |= {"resourceVersion": str(version), "namespace": namespace}
        self.items[namespace, body["metadata"]["name"]] = body
        return web.json_response(body, status=status)

    @staticmethod
    def _problem(body: dict[str, Any], namespace: str) -> str:
        spec, meta = body["spec"], body["metadata"]
        if body.get("kind") != "Lease" or body.get("apiVersion") != "coordination.k8s.io/v1":
            return "kind"
        if meta.get("namespace", namespace) != namespace:
            return "namespace"
        if spec["leaseDurationSeconds"] <= 0 or spec["leaseTransitions"] < 0:
            return "spec"
        if not all(_MICRO_TIME.fullmatch(spec[key]) for key in ("renewTime", "acquireTime")):
            return "time"
        size = sum(len(key) + len(value) for key, value in (meta.get("annotations") or {}).items())
        return "annotations" if size > ANNOTATIONS_BYTES_MAX else ""

    @staticmethod
    def _refused(code: int, reason: str, message: str) -> web.Response:
        status = {"kind": "Status", "code": code, "reason": reason, "message": message}
        return web.json_response(status, status=code)
