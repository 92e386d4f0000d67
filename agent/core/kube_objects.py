"""
The fields of Kubernetes objects that are used; everything else of an object, which can be 1 MB, is skipped unread.

| object | fields |
|---|---|
| any | `metadata.{name,namespace,uid,resourceVersion,labels,annotations,ownerReferences}` |
| Pod | `spec.nodeName`, names and images of its containers, `status.podIP`, statuses of its containers |
| Node | labels, `spec.providerID` |
| list | `metadata.{resourceVersion,continue}`, `items` undecoded |
| watch event | `type`, `object` undecoded |
| Status | `code`, `reason`, `message`, `details.retryAfterSeconds` |

Go writes an absent map or list as null as well, so each may be None.  No I/O.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec


class OwnerReference(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """
    Who made an object.
    """

    kind: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(msgspec.Struct, rename="camel"):
    """
    What every object has.
    """

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None


class ContainerSpec(msgspec.Struct):
    """
    A container as it was asked for.
    """

    name: str = ""
    image: str = ""


class Terminated(msgspec.Struct, rename={"container_id": "containerID"}):
    """
    How a container ended.
    """

    container_id: str = ""


class ContainerState(msgspec.Struct):
    """
    What a container did before it was restarted.
    """

    terminated: Terminated | None = None


class ContainerStatus(
    msgspec.Struct,
    rename={
        "image_id": "imageID",
        "container_id": "containerID",
        "restart_count": "restartCount",
        "last_state": "lastState",
    },
):
    """
    A container as it runs.
    """

    name: str = ""
    image: str = ""
    image_id: str = ""
    container_id: str = ""
    restart_count: int = 0
    last_state: ContainerState | None = None


class PodSpec(msgspec.Struct, rename="camel"):
    """
    The pod as it was asked for.
    """

    node_name: str = ""
    containers: list[ContainerSpec] | None = None
    init_containers: list[ContainerSpec] | None = None
    ephemeral_containers: list[ContainerSpec] | None = None


class PodStatus(
    msgspec.Struct,
    rename={
        "pod_ip": "podIP",
        "container_statuses": "containerStatuses",
        "init_container_statuses": "initContainerStatuses",
        "ephemeral_container_statuses": "ephemeralContainerStatuses",
    },
):
    """
    The pod as it runs.
    """

    pod_ip: str = ""
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    ephemeral_container_statuses: list[ContainerStatus] | None = None


class PodObject(msgspec.Struct):
    """
    A Pod.
    """

    metadata: ObjectMeta
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @property
    def key(self) -> str:
        """
        A pod that replaces another under its name is another pod.
        """
        return self.metadata.uid


class NamespaceObject(msgspec.Struct):
    """
    A Namespace.
    """

    metadata: ObjectMeta

    @property
    def key(self) -> str:
        """
        A namespace is what pods call it.
        """
        return self.metadata.name


class NodeSpec(msgspec.Struct, rename={"provider_id": "providerID"}):
    """
    The machine behind a node.
    """

    provider_id: str = ""


class NodeObject(msgspec.Struct):
    """
    A Node.
    """

    metadata: ObjectMeta
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)


class ListMeta(msgspec.Struct, rename={"resource_version": "resourceVersion", "more": "continue"}):
    """
    Where a list stands.
    """

    resource_version: str = ""
    more: str = ""


class ObjectList(msgspec.Struct):
    """
    A page of a list.
    """

    metadata: ListMeta
    items: list[msgspec.Raw] | None = None


class WatchEvent(msgspec.Struct):
    """
    One frame of a watch.
    """

    type: str
    object: msgspec.Raw


class MetaOnly(msgspec.Struct):
    """
    The object of a bookmark.
    """

    metadata: ObjectMeta


class StatusDetails(msgspec.Struct, rename="camel"):
    """
    More about a refusal.
    """

    retry_after_seconds: int = 0


class Status(msgspec.Struct):
    """
    A refusal, as a body or as the object of an ERROR event.
    """

    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None


T = TypeVar("T")


def decoded(raw: bytes | bytearray | memoryview | msgspec.Raw, kind: type[T]) -> T | None:
    """
    Return *raw* as a *kind*; None where it is none.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
