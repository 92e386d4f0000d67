"""
What is known about a container as JSON, in the words of two conventions.

A message format puts these bytes behind the fields of every line, so they begin with a comma, and are made once
for a Resource object.  What is not known is left out; where nothing is, there are no bytes.

`container_insights_resource` is `,"kubernetes":{…}` as Fluent Bit writes it with AWS's configuration, its keys in
this order:

| key | value |
|---|---|
| `pod_name` `namespace_name` | of the pod |
| `pod_id` | uid of the API's object: of a static pod not the one in its path |
| `labels` `annotations` | objects, by option |
| `ownerReferences` | as they stand in the object, by option |
| `host` `pod_ip` | name of the node, address of the pod |
| `container_name` `docker_id` | name and id of the container |
| `container_hash` `container_image` | image with its digest, image with its tag |

and, by option, `,"kubernetes_namespace":{"name":…,"labels":{…}}`.

`otel_resource` is `,"resource":{"attributes":{…}}` with the names of OpenTelemetry's semantic conventions 1.44:

| attribute | value |
|---|---|
| `k8s.cluster.name` `k8s.node.name` `k8s.namespace.name` | of a container |
| `k8s.pod.name` `k8s.pod.uid` `k8s.pod.ip` | of the pod |
| `k8s.pod.label.<key>` `k8s.pod.annotation.<key>` `k8s.namespace.label.<key>` | by option |
| `k8s.container.name` `k8s.container.restart_count` | name; a number |
| `k8s.<kind>.name` `k8s.<kind>.uid` | by owner: replicaset, deployment, statefulset, daemonset, job, cronjob |
| `container.id` `container.image.id` | of this run |
| `container.image.name` `container.image.tags` `container.image.repo_digests` | the latter two are arrays |
| `cloud.provider` | `aws` for an EC2 instance; `cloud.platform` is not known here |
| `cloud.region` `cloud.availability_zone` | where the node is |
| `host.id` `host.name` | instance id; the node, of a file that belongs to no container |
| `log.file.path` | of a file that belongs to no container |

The uid of an owner is that of the reference: a Deployment or CronJob, resolved by name, has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.core.batch import Resource
    from agent.core.pod_facts import Metadata, Owner

#: Kinds of owners that have names in the semantic conventions.
_OWNER_KINDS = frozenset({"ReplicaSet", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"})
_EC2_INSTANCE_PREFIX = "i-"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """
    What is shown besides the names: each can be many bytes on every line.
    """

    labels: bool = False
    annotations: bool = False
    owner_references: bool = False
    namespace_labels: bool = False


def container_insights_resource(resource: Resource, options: RenderOptions) -> bytes:
    """
    Return `,"kubernetes":{…}` and what belongs beside it, or b"" for a file that belongs to no pod.
    """
    if not _has_container(resource):
        return b""
    metadata = resource.metadata
    known: dict[str, Any] = {
        "pod_name": resource.pod,
        "namespace_name": resource.namespace,
        "pod_id": _pod_uid(resource),
    }
    if options.labels:
        known["labels"] = dict(resource.labels)
    if options.annotations:
        known["annotations"] = dict(resource.annotations)
    if options.owner_references and metadata is not None:
        known["ownerReferences"] = [_owner_reference(owner) for owner in metadata.owners]
    known |= {
        "host": _node(resource),
        "pod_ip": resource.pod_ip,
        "container_name": resource.container,
        "docker_id": resource.container_id,
        "container_hash": metadata.image_id if metadata is not None else "",
        "container_image": resource.image,
    }
    made = b',"kubernetes":' + _json(_known(known))
    if options.namespace_labels and resource.namespace_labels:
        namespace = {"name": resource.namespace, "labels": dict(resource.namespace_labels)}
        made += b',"kubernetes_namespace":' + _json(namespace)
    return made


def otel_resource(resource: Resource, options: RenderOptions) -> bytes:
    """
    Return `,"resource":{"attributes":{…}}`, or b"" where nothing is known.
    """
    attributes = (
        _container_attributes(resource)
        if _has_container(resource)
        else {"host.name": _node(resource), "log.file.path": resource.path}
    )
    instance = resource.instance_id
    attributes |= {
        "cloud.provider": "aws" if instance.startswith(_EC2_INSTANCE_PREFIX) else "",
        "cloud.region": resource.region,
        "cloud.availability_zone": resource.zone,
        "host.id": instance,
    }
    attributes = _known(attributes) | _shown(resource, options)
    return b',"resource":{"attributes":' + _json(attributes) + b"}" if attributes else b""


def _container_attributes(resource: Resource) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "k8s.cluster.name": resource.cluster,
        "k8s.node.name": _node(resource),
        "k8s.namespace.name": resource.namespace,
        "k8s.pod.name": resource.pod,
        "k8s.pod.uid": _pod_uid(resource),
        "k8s.pod.ip": resource.pod_ip,
        "k8s.container.name": resource.container,
        "k8s.container.restart_count": _restart_count(resource),
        "container.id": resource.container_id,
    }
    metadata = resource.metadata
    if metadata is not None:
        attributes |= _image_attributes(metadata) | _owner_attributes(metadata)
    return attributes


def _shown(resource: Resource, options: RenderOptions) -> dict[str, str]:
    # A label without a value says something, too: these are not left out.
    shown: dict[str, str] = {}
    if options.labels:
        shown |= _prefixed("k8s.pod.label.", resource.labels)
    if options.annotations:
        shown |= _prefixed("k8s.pod.annotation.", resource.annotations)
    if options.namespace_labels:
        shown |= _prefixed("k8s.namespace.label.", resource.namespace_labels)
    return shown


def _image_attributes(metadata: Metadata) -> dict[str, Any]:
    # registry:5000/team/web:1.2@sha256:…
    reference, _, _ = metadata.image.partition("@")
    path, slash, last = reference.rpartition("/")
    name, _, tag = last.partition(":")
    return {
        "container.image.id": metadata.image_id,
        # A runtime that has forgotten the name says only the digest.
        "container.image.name": "" if reference.startswith("sha256:") else f"{path}{slash}{name}",
        "container.image.tags": [tag] if tag and not reference.startswith("sha256:") else [],
        "container.image.repo_digests": [metadata.image_id] if "@" in metadata.image_id else [],
    }


def _owner_attributes(metadata: Metadata) -> dict[str, Any]:
    attributes = {}
    for owner in metadata.owners:
        if owner.kind in _OWNER_KINDS:
            attributes[f"k8s.{owner.kind.lower()}.name"] = owner.name
            attributes[f"k8s.{owner.kind.lower()}.uid"] = owner.uid
    if metadata.owner_kind in _OWNER_KINDS:
        attributes[f"k8s.{metadata.owner_kind.lower()}.name"] = metadata.owner_name
    return attributes


def _owner_reference(owner: Owner) -> dict[str, Any]:
    reference = {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": owner.controller,
        "blockOwnerDeletion": owner.block_owner_deletion,
    }
    return {key: value for key, value in reference.items() if value is not None}


def _has_container(resource: Resource) -> bool:
    return bool(resource.pod or resource.namespace or resource.container)


def _node(resource: Resource) -> str:
    metadata = resource.metadata
    return resource.node or (metadata.node if metadata is not None else "")


def _pod_uid(resource: Resource) -> str:
    metadata = resource.metadata
    return (metadata.pod_uid if metadata is not None else "") or resource.pod_uid


def _restart_count(resource: Resource) -> int | str:
    if resource.restart.isdecimal():
        return int(resource.restart)
    return resource.metadata.restart_count if resource.metadata is not None else ""


def _prefixed(prefix: str, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {prefix + key: value for key, value in pairs}


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value not in ("", [], {})}


def _json(fields: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields)
    except orjson.JSONEncodeError:
        # A path can hold bytes that are not UTF-8; they come as lone surrogates, which JSON has no place for.
        return orjson.dumps({key: _utf8(value) for key, value in fields.items()})


def _utf8(value: Any) -> Any:
    return value.encode(errors="replace").decode() if isinstance(value, str) else value
