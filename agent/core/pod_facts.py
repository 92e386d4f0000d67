"""
What is kept of a Pod or Namespace object, and what the API server is known to say about one container.

Owners are resolved without a request: a ReplicaSet whose name ends in the pod's `pod-template-hash` belongs to
a Deployment, a Job whose name ends in the scheduled minute (Kubernetes 1.21 and later; seconds before) to a CronJob.

Memory is bounded per pod by the limits below.  Labels and annotations that decide what is excluded are kept apart
from those that are shown, and always.

No I/O.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from sys import intern
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from agent.core.kube_objects import (
        ContainerSpec,
        ContainerStatus,
        ObjectMeta,
        OwnerReference,
        PodObject,
    )

Pairs = tuple[tuple[str, str], ...]

#: Per pod: bytes of keys and values.  An object can have 256 KiB of annotations, and labels up to its own limit.
LABEL_BYTES_MAX = 3072
ANNOTATION_BYTES_MAX = 3072
CONTAINERS_MAX = 32
OWNERS_MAX = 4
#: An image reference; a longer one is cut.
TEXT_LENGTH_MAX = 512
#: `true` or `false`, and blanks.
SWITCH_LENGTH_MAX = 16

MIRROR_ANNOTATIONS = ("kubernetes.io/config.mirror", "kubernetes.io/config.hash")
TEMPLATE_HASH_LABEL = "pod-template-hash"
_JOB_OF_CRON = re.compile(r"(?P<name>.+)-(?P<time>[0-9]{8}|[0-9]{10})")
#: Minutes since the epoch from 2019 to 2046, seconds from 2015 to 2033: a date written as digits is neither.
_CRON_MINUTES = range(26_000_000, 40_000_000)
_CRON_SECONDS = range(1_420_000_000, 2_000_000_000)


class Owner(NamedTuple):
    """
    An owner reference as it stands in the object.
    """

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None
    block_owner_deletion: bool | None


class Container(NamedTuple):
    """
    A container of a pod: of its spec, and of its status where there is one.
    """

    name: str
    image: str
    image_id: str  # name@sha256:… or sha256:…
    id: str  # without containerd://
    restart_count: int
    id_before: str  # before the last restart


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """
    Everything that the API server says about one container.  Empty stands for what is not known.
    """

    version: int
    namespace: str
    pod: str
    pod_uid: str
    container: str
    container_id: str
    image: str
    image_id: str
    restart_count: int
    node: str
    pod_ip: str
    labels: Pairs
    annotations: Pairs
    namespace_labels: Pairs
    owners: tuple[Owner, ...]
    owner_kind: str
    owner_name: str
    #: What decides about exclusions; not for records.
    deciding_labels: Pairs
    deciding_annotations: Pairs

    @property
    def complete(self) -> bool:
        """
        Whether the status of this run of the container is known: it follows its first line by moments.
        """
        return bool(self.container_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    What to keep of labels and annotations: globs of keys.
    """

    labels: tuple[str, ...] = ("*",)
    annotations: tuple[str, ...] = ()
    namespace_labels: tuple[str, ...] = ("*",)
    #: Of the routes' selectors: exact keys of labels, prefixes of annotations.
    deciding_labels: frozenset[str] = frozenset()
    deciding_annotations: tuple[str, ...] = ()


class PodFacts(NamedTuple):
    """
    What is kept of a pod: two objects with equal facts say the same.
    """

    uid: str
    name: str
    namespace: str
    node: str
    ip: str
    labels: Pairs
    annotations: Pairs
    owners: tuple[Owner, ...]
    owner: tuple[str, str]
    containers: tuple[Container, ...]
    deciding_labels: Pairs
    deciding_annotations: Pairs
    aliases: tuple[str, ...]


class Keep:
    """
    Takes from objects what is wanted.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._take_label = _matcher(wanted.labels)
        self._take_annotation = _matcher(wanted.annotations)
        self._take_namespace_label = _matcher(wanted.namespace_labels)
        #: Parts of objects that were not kept because of a limit.
        self.dropped = 0

    def of_namespace(self, meta: ObjectMeta) -> Pairs:
        """
        Return the labels of a namespace.
        """
        return self._pairs(meta.labels, self._take_namespace_label, LABEL_BYTES_MAX)

    def of_pod(self, pod: PodObject) -> PodFacts:
        """
        Return the facts of a pod.
        """
        meta = pod.metadata
        labels, annotations = meta.labels or {}, meta.annotations or {}
        owners = _owners(meta)
        return PodFacts(
            uid=meta.uid,
            name=meta.name,
            namespace=intern(meta.namespace),
            node=intern(pod.spec.node_name),
            ip=pod.status.pod_ip,
            labels=self._pairs(labels, self._take_label, LABEL_BYTES_MAX),
            annotations=self._pairs(annotations, self._take_annotation, ANNOTATION_BYTES_MAX),
            owners=owners,
            owner=_resolved(owners, labels),
            containers=self._containers(pod),
            deciding_labels=_kept(
                (key, labels[key]) for key in sorted(self._wanted.deciding_labels & labels.keys())
            ),
            deciding_annotations=self._deciding(pod, annotations),
            aliases=tuple(
                sorted({annotations[key] for key in MIRROR_ANNOTATIONS if annotations.get(key)})
            ),
        )

    def _deciding(self, pod: PodObject, annotations: Mapping[str, str]) -> Pairs:
        # <prefix>[_stdout|_stderr][-<container>], and only of containers that there are: bounded by the spec.
        names = {""} | {f"-{spec.name}" for spec in _specs(pod)}
        return _kept(
            (key, annotations[key][:SWITCH_LENGTH_MAX])
            for prefix in self._wanted.deciding_annotations
            for stream in ("", "_stdout", "_stderr")
            for key in sorted(annotations.keys() & {f"{prefix}{stream}{name}" for name in names})
        )

    def _pairs(
        self, items: Mapping[str, str] | None, take: Callable[[str], bool], bytes_max: int
    ) -> Pairs:
        # In the order of the object, which the API server sorts by key.
        kept: list[tuple[str, str]] = []
        size = 0
        for key, value in (items or {}).items():
            if not take(key):
                continue
            size += len(key) + len(value)
            if size > bytes_max:
                self.dropped += 1
                size -= len(key) + len(value)
                continue
            kept.append((key, value))
        return _kept(kept)

    def _containers(self, pod: PodObject) -> tuple[Container, ...]:
        spec, status = pod.spec, pod.status
        made = [
            *_merged(spec.containers, status.container_statuses),
            *_merged(spec.init_containers, status.init_container_statuses),
            *_merged(spec.ephemeral_containers, status.ephemeral_container_statuses),
        ]
        self.dropped += max(0, len(made) - CONTAINERS_MAX)
        return tuple(made[:CONTAINERS_MAX])


def _matcher(globs: tuple[str, ...]) -> Callable[[str], bool]:
    if "*" in globs:
        return lambda _: True
    if not globs:
        return lambda _: False
    pattern = re.compile("|".join(f"(?:{fnmatch.translate(glob)})" for glob in globs))
    return lambda key: pattern.match(key) is not None


def _kept(items: Iterable[tuple[str, str]]) -> Pairs:
    return tuple((intern(key), intern(value)) for key, value in items)


def _text(value: str) -> str:
    return intern(value[:TEXT_LENGTH_MAX])


def _bare(identity: str) -> str:
    # containerd://<id>, docker-pullable://<image>@sha256:…
    return identity.rpartition("://")[2][:TEXT_LENGTH_MAX]


def _merged(
    specs: list[ContainerSpec] | None, statuses: list[ContainerStatus] | None
) -> Iterator[Container]:
    by_name = {status.name: status for status in statuses or ()}
    for spec in specs or ():
        status = by_name.get(spec.name)
        if status is None:
            yield Container(_text(spec.name), _text(spec.image), "", "", 0, "")
            continue
        ended = status.last_state.terminated if status.last_state is not None else None
        yield Container(
            _text(spec.name),
            _text(status.image or spec.image),
            intern(_bare(status.image_id)),
            _bare(status.container_id),
            status.restart_count,
            _bare(ended.container_id) if ended is not None else "",
        )


def _specs(pod: PodObject) -> Iterator[ContainerSpec]:
    for specs in (pod.spec.containers, pod.spec.init_containers, pod.spec.ephemeral_containers):
        yield from specs or ()


def _owners(meta: ObjectMeta) -> tuple[Owner, ...]:
    references: list[OwnerReference] = meta.owner_references or []
    return tuple(
        Owner(
            _text(item.api_version),
            _text(item.kind),
            _text(item.name),
            _text(item.uid),
            item.controller,
            item.block_owner_deletion,
        )
        for item in references[:OWNERS_MAX]
    )


def _resolved(owners: tuple[Owner, ...], labels: Mapping[str, str]) -> tuple[str, str]:
    """
    Return kind and name of what a person would call the owner; empty without one.
    """
    owner = next((item for item in owners if item.controller), owners[0] if owners else None)
    if owner is None:
        return "", ""
    if owner.kind == "ReplicaSet":
        tail = f"-{labels.get(TEMPLATE_HASH_LABEL, '')}"
        if len(tail) > 1 and owner.name.endswith(tail) and len(owner.name) > len(tail):
            return "Deployment", intern(owner.name.removesuffix(tail))
    found = _JOB_OF_CRON.fullmatch(owner.name) if owner.kind == "Job" else None
    if found and int(found["time"]) in (
        _CRON_MINUTES if len(found["time"]) == 8 else _CRON_SECONDS
    ):
        return "CronJob", intern(found["name"])
    return owner.kind, owner.name
