"""
What an API server says, and watches that have heard it.
"""

from __future__ import annotations

import json
from typing import Any

from agent.core.kube_objects import PodObject
from agent.core.watch import Watch

SELECTOR = "spec.nodeName=node-1"


def item(uid: str, version: int, **fields) -> dict[str, Any]:
    return {
        "metadata": {"name": f"pod-{uid}", "uid": uid, "resourceVersion": str(version), **fields}
    }


def frame(kind: str, what: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": what}).encode() + b"\n"


def bookmark(version: int, *, end: bool = False) -> bytes:
    meta: dict[str, Any] = {"resourceVersion": str(version)}
    if end:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return frame("BOOKMARK", {"metadata": meta})


def error(code: int, reason: str = "") -> bytes:
    return frame("ERROR", {"kind": "Status", "code": code, "reason": reason})


def page(items, version: int, more: str = "") -> bytes:
    meta = {"resourceVersion": str(version), "continue": more}
    return json.dumps({"metadata": meta, "items": items}).encode()


def make(**options) -> Watch[PodObject]:
    return Watch(PodObject, field_selector=SELECTOR, **options)


def keys(changes) -> list[str]:
    return [("+" if change.object is not None else "-") + change.key for change in changes]


def listed(*uids: str, version: int = 10) -> Watch[PodObject]:
    """
    A watch that has listed in pages and watches now.
    """
    watch = make(streaming=False)
    watch.begin(0)
    watch.page(page([item(uid, 1) for uid in uids], version))
    watch.ended(0, 0)
    watch.begin(0)
    watch.opened(0)
    return watch


def streamed(*uids: str) -> Watch[PodObject]:
    watch = make()
    watch.begin(0)
    watch.opened(0)
    for uid in uids:
        watch.feed(frame("ADDED", item(uid, 1)))
    watch.feed(bookmark(10, end=True))
    return watch
