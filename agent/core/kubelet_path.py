"""
What the path of a container's log file says about the container.

| path | says |
|---|---|
| `…/pods/<namespace>_<pod>_<uid>/<container>/<restart>.log` | all five |
| the same with the suffix of a rotation, or `.gz`: a file that is replayed by itself | all five |
| `…/containers/<pod>_<namespace>_<container>-<id>.log` | pod, namespace, container |
| `…/containers/<id>/<id>-json.log` | the container's id, as `container`'s first 12 digits |

Namespace, pod, uid and container contain no `_`, so splitting at it gives exactly the fields.  The
name of a link under `containers` is cut at 255 bytes, so its id may be short or missing.  Only the
last components decide, because the root is configurable (kubelet `podLogsDir`, mounts into the agent).

No I/O.  Source: kubelet `pkg/kubelet/kuberuntime/helpers.go` and `legacy.go`.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NamedTuple

from agent.core.batch import Resource

_POD_FILE = re.compile(
    r"/(?P<namespace>[a-z0-9.-]+)_(?P<pod>[a-z0-9.-]+)_(?P<uid>[0-9a-zA-Z-]+)"
    r"/(?P<container>[a-z0-9.-]+)/(?P<restart>[0-9]+)\.log(?:\.[0-9]{8}-[0-9]{6})?(?:\.gz)?$"
)
_LINK = re.compile(
    r"/(?P<pod>[a-z0-9.-]+)_(?P<namespace>[a-z0-9.-]+)_(?P<container>[a-z0-9.-]+?)(?:-(?P<id>[0-9a-f]{0,64}))?\.log$"
)
_DOCKER = re.compile(r"/(?P<id>[0-9a-f]{64})/(?P=id)-json\.log$")

#: Digits of a container id that people read: `docker ps` shows as many.
CONTAINER_ID_SHOWN = 12


class Shape(Enum):
    """
    Who names files like this.
    """

    POD_FILE = auto()
    CONTAINER_LINK = auto()
    DOCKER_FILE = auto()
    OTHER = auto()


class PathFacts(NamedTuple):
    """
    The fields of a path; empty where it does not tell.
    """

    shape: Shape
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    container: str = ""
    restart: str = ""

    @property
    def kubelet(self) -> bool:
        """
        Whether the kubelet made the path, so that the lines are CRI unless docker wrote them.
        """
        return self.shape in (Shape.POD_FILE, Shape.CONTAINER_LINK)


def path_facts(path: str) -> PathFacts:
    """
    Return what *path* (of the live file) says.
    """
    if found := _POD_FILE.search(path):
        return PathFacts(
            Shape.POD_FILE,
            found["namespace"],
            found["pod"],
            found["uid"],
            found["container"],
            found["restart"],
        )
    if found := _DOCKER.search(path):
        return PathFacts(Shape.DOCKER_FILE, container=found["id"][:CONTAINER_ID_SHOWN])
    if found := _LINK.search(path):
        return PathFacts(
            Shape.CONTAINER_LINK, found["namespace"], found["pod"], "", found["container"]
        )
    return PathFacts(Shape.OTHER)


def resource_of(path: str, *, cluster: str, node: str) -> Resource:
    """
    Return the Resource of the Log whose live file is *path*.
    """
    facts = path_facts(path)
    return Resource(
        path=path,
        cluster=cluster,
        node=node,
        namespace=facts.namespace,
        pod=facts.pod,
        pod_uid=facts.pod_uid,
        container=facts.container,
        restart=facts.restart,
    )


def identity_seed(path: str) -> str:
    """
    Return what makes two files with the same content different files: pod, container and restart, or the path.
    """
    facts = path_facts(path)
    if facts.pod_uid:
        return f"{facts.pod_uid}/{facts.container}/{facts.restart}"
    return path
