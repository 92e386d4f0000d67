"""
Pods and namespaces as the API server sends them, and what an index says about them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.core.kube_objects import NamespaceObject, PodObject, decoded

if TYPE_CHECKING:
    from agent.core.pod_facts import Metadata
    from agent.core.pods import Pods

UID = "11111111-2222-3333-4444-555555555555"
MIRROR = "kubernetes.io/config.mirror"
HASH = "kubernetes.io/config.hash"


def pod_json(name="web", uid=UID, **fields):
    made = {
        "metadata": {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": "1"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "app", "image": "acme/web:1"}]},
        "status": {"podIP": "10.0.0.9"},
    }
    for path, value in fields.items():
        part = made
        *above, last = path.split("__")
        for key in above:
            part = part.setdefault(key, {})
        part[last] = value
    return made


def pod(*args, **fields) -> PodObject:
    made = decoded(json.dumps(pod_json(*args, **fields)).encode(), PodObject)
    assert made is not None
    return made


def namespace(name="shop", **labels) -> NamespaceObject:
    body = json.dumps({"metadata": {"name": name, "labels": labels or None}})
    made = decoded(body.encode(), NamespaceObject)
    assert made is not None
    return made


def find(index: Pods, uid=UID, container="app", *, name="web", restart="") -> Metadata:
    found = index.find(uid, container, namespace="shop", pod=name, restart=restart)
    assert found is not None
    return found


def status(name="app", number=0, **fields):
    return {
        "name": name,
        "image": f"docker.io/acme/{name}:1",
        "imageID": f"docker.io/acme/{name}@sha256:{'a' * 64}",
        "containerID": f"containerd://{number:064x}",
        "restartCount": number,
        **fields,
    }
