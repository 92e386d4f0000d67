"""
The pods that a corpus belongs to, as an API server describes them.

Objects are as large as those of a real cluster (managed fields and all), so that reading them costs what it costs.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

NODE = "bench-node"
LABELS = 8
#: What a Deployment's pod has, before labels of its own.
LABEL_NAMES = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
    "pod-template-hash",
    "team",
)
ANNOTATIONS = {
    "kubernetes.io/config.seen": "2026-11-22T19:00:01.000000000Z",
    "prometheus.io/scrape": "true",
    "prometheus.io/port": "9090",
}


def parts_of(path: str) -> tuple[str, str, str, str]:
    """
    Return namespace, pod, uid and container of a log's *path*.
    """
    directory, container = os.path.split(os.path.dirname(path))
    namespace, pod, uid = os.path.basename(directory).split("_")
    return namespace, pod, uid, container


def container_id(path: str) -> str:
    """
    Return the runtime's id of the container that writes *path*.
    """
    return hashlib.sha256(path.rpartition("/pods/")[2].encode()).hexdigest()


def labels_of(pod: str, count: int) -> dict[str, str]:
    """
    Return *count* labels of a pod.
    """
    names = [
        *LABEL_NAMES[:count],
        *(f"example.com/label-{n}" for n in range(len(LABEL_NAMES), count)),
    ]
    return {name: f"{pod.partition('-')[0]}-{index}" for index, name in enumerate(names)}


def _metadata(path: str, labels: int) -> dict[str, Any]:
    namespace, name, uid, _ = parts_of(path)
    replica_set = name.rpartition("-")[0]
    fields: dict[str, Any] = {
        f"f:{key}": {"f:a": {}, "f:b": {}} for key in ("spec", "metadata", "status")
    }
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": replica_set}
    return {
        "name": name,
        "generateName": f"{replica_set}-",
        "namespace": namespace,
        "uid": uid,
        "resourceVersion": "1000",
        "creationTimestamp": "2026-11-22T19:00:01Z",
        "labels": labels_of(name, labels),
        "annotations": ANNOTATIONS,
        "ownerReferences": [
            owner | {"uid": f"{uid[:-1]}0", "controller": True, "blockOwnerDeletion": True}
        ],
        "managedFields": [
            {"manager": manager, "operation": "Update", "fieldsV1": fields}
            for manager in ("kube-controller-manager", "kubelet", "kubectl", "helm") * 3
        ],
    }


def pod_object(path: str, *, labels: int = LABELS) -> dict[str, Any]:
    """
    Return the Pod whose container writes *path*.
    """
    namespace, name, _, container = parts_of(path)
    workload = name.partition("-")[0]
    identifier = container_id(path)
    image = f"registry.example.com/{namespace}/{workload}:1.2.3"
    spec = {
        "name": container,
        "image": image,
        "env": [{"name": f"VARIABLE_{n}", "value": "x" * 40} for n in range(20)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/config"}],
    }
    status = {
        "name": container,
        "image": image,
        "imageID": f"registry.example.com/{workload}@sha256:{identifier}",
        "containerID": f"containerd://{identifier}",
        "restartCount": 0,
        "ready": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(path, labels),
        "spec": {"nodeName": NODE, "serviceAccountName": "default", "containers": [spec]},
        "status": {
            "phase": "Running",
            "podIP": f"10.1.{int(identifier[:2], 16)}.{int(identifier[2:4], 16)}",
            "hostIP": "10.0.0.1",
            "containerStatuses": [status],
        },
    }


def namespace_object(name: str) -> dict[str, Any]:
    """
    Return a Namespace.
    """
    labels = {"kubernetes.io/metadata.name": name, "team": f"{name}-team"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": "1000",
            "labels": labels,
        },
    }


def node_object() -> dict[str, Any]:
    """
    Return the Node itself.
    """
    labels = {
        "kubernetes.io/hostname": NODE,
        "topology.kubernetes.io/region": "us-east-1",
        "topology.kubernetes.io/zone": "us-east-1a",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "uid": "uid-node", "resourceVersion": "1000", "labels": labels},
        "spec": {"providerID": "aws:///us-east-1a/i-0123456789abcdef0"},
    }


def link_containers(root: str, paths: list[str]) -> str:
    """
    Link the logs as the kubelet does in /var/log/containers; returns the directory.

    Agents that know a pod by the name of its file read them there.
    """
    directory = os.path.join(root, "containers")
    os.makedirs(directory, exist_ok=True)
    for path in paths:
        namespace, pod, _, container = parts_of(path)
        link = os.path.join(directory, f"{pod}_{namespace}_{container}-{container_id(path)}.log")
        if not os.path.lexists(link):
            os.symlink(path, link)
    return directory
