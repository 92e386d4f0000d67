"""
What is kept of an object: the fields of records, owners, containers, and how much memory.
"""

from __future__ import annotations

import gc
import json
import tracemalloc

import pytest

from agent.core.kube_objects import NamespaceObject, PodObject, decoded
from agent.core.pod_facts import Wanted
from agent.core.pods import Pods
from agent.core.select import Select, SelectSettings, Streams
from tests.core.pods_kit import MIRROR, find, namespace, pod, pod_json, status


def test_a_real_pod_is_what_fluent_bit_makes_of_it(shared_data):
    """
    The same fields as in the golden records, from the same objects.
    """
    directory = shared_data / "container-insights"
    index = Pods(Wanted(annotations=("*",)))
    item = decoded((directory / "pod.json").read_bytes(), PodObject)
    space = decoded((directory / "namespace.json").read_bytes(), NamespaceObject)
    assert item is not None
    assert space is not None
    index.apply_pod(item)
    index.apply_namespace(space)
    found = find(index, name="web-7d4b9c6f5-abcde")
    first = (directory / "records-labels-on.jsonl").read_text().splitlines()[0]
    golden = json.loads(json.loads(first)["message"])["kubernetes"]
    assert golden == {
        "pod_name": found.pod,
        "namespace_name": found.namespace,
        "pod_id": found.pod_uid,
        "labels": dict(found.labels),
        "annotations": dict(found.annotations),
        "ownerReferences": [
            {
                "apiVersion": owner.api_version,
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": owner.controller,
                "blockOwnerDeletion": owner.block_owner_deletion,
            }
            for owner in found.owners
        ],
        "host": found.node,
        "pod_ip": found.pod_ip,
        "container_name": found.container,
        "docker_id": found.container_id,
        "container_hash": found.image_id,
        "container_image": found.image,
    }
    assert dict(found.namespace_labels) == {"team": "web", "kubernetes.io/metadata.name": "shop"}
    assert (found.owner_kind, found.owner_name) == ("Deployment", "web")


@pytest.mark.parametrize(
    ("kind", "name", "labels", "resolved"),
    [
        ("ReplicaSet", "web-7d4b9c6f5", {"pod-template-hash": "7d4b9c6f5"}, ("Deployment", "web")),
        # Made by hand, or by something else than a Deployment.
        ("ReplicaSet", "web-7d4b9c6f5", {}, ("ReplicaSet", "web-7d4b9c6f5")),
        ("ReplicaSet", "web-other", {"pod-template-hash": "x"}, ("ReplicaSet", "web-other")),
        ("ReplicaSet", "-x", {"pod-template-hash": "x"}, ("ReplicaSet", "-x")),
        ("Job", "backup-29386080", {}, ("CronJob", "backup")),
        ("Job", "backup-1600000020", {}, ("CronJob", "backup")),
        ("Job", "backup-20251103", {}, ("Job", "backup-20251103")),
        ("Job", "migrate-7", {}, ("Job", "migrate-7")),
        ("StatefulSet", "db", {}, ("StatefulSet", "db")),
        ("Node", "node-1", {}, ("Node", "node-1")),
    ],
)
def test_owners_are_resolved_without_a_request(kind, name, labels, resolved):
    index = Pods()
    owners = [
        {"apiVersion": "v1", "kind": "Other", "name": "other", "uid": "o"},
        {"apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": True},
    ]
    index.apply_pod(pod(metadata__ownerReferences=owners, metadata__labels=labels))
    found = find(index)
    assert (found.owner_kind, found.owner_name) == resolved
    assert [owner.kind for owner in found.owners] == ["Other", kind]


def test_a_pod_without_owner_has_none():
    index = Pods()
    index.apply_pod(pod())
    assert (find(index).owner_kind, find(index).owner_name, find(index).owners) == ("", "", ())


def test_containers_of_all_kinds_are_found():
    index = Pods()
    index.apply_pod(
        pod(
            spec__initContainers=[{"name": "setup", "image": "init:1"}],
            spec__ephemeralContainers=[{"name": "debug", "image": "busybox"}],
            status__containerStatuses=[status("app", 1)],
            status__initContainerStatuses=[status("setup", 2)],
            status__ephemeralContainerStatuses=[
                status(
                    "debug", 3, containerID="docker://abc", imageID="docker-pullable://b@sha256:c"
                )
            ],
        )
    )
    assert find(index, container="app").container_id == f"{1:064x}"
    assert find(index, container="setup").image == "docker.io/acme/setup:1"
    debug = find(index, container="debug")
    assert (debug.container_id, debug.image_id) == ("abc", "b@sha256:c")
    unknown = find(index, container="unknown")
    assert (unknown.container, unknown.image, unknown.complete) == ("unknown", "", False)


def test_before_its_status_a_container_has_the_image_of_its_spec():
    index = Pods()
    index.apply_pod(pod())
    assert find(index).image == "acme/web:1"
    assert not find(index).complete
    index.apply_pod(pod(status__containerStatuses=[status()]))
    assert find(index).image == "docker.io/acme/app:1"
    assert find(index).complete


def test_each_run_of_a_container_has_its_own_id():
    index = Pods()
    ended = {"terminated": {"containerID": "containerd://before"}}
    index.apply_pod(pod(status__containerStatuses=[status("app", 7, lastState=ended)]))
    assert find(index, restart="7").container_id == f"{7:064x}"
    before = find(index, restart="6")
    assert (before.container_id, before.restart_count) == ("before", 6)
    for other in ("5", "8"):
        assert find(index, restart=other).container_id == ""
        assert not find(index, restart=other).complete
    assert find(index).restart_count == 7


def test_null_maps_and_lists_are_empty_ones():
    item = pod(
        metadata__labels=None,
        metadata__annotations=None,
        metadata__ownerReferences=None,
        spec__containers=None,
        status__containerStatuses=None,
    )
    index = Pods()
    assert index.apply_pod(item)
    assert find(index).labels == ()


def test_only_what_is_wanted_is_kept():
    index = Pods(
        Wanted(labels=("app.*", "team"), annotations=("example.com/*",), namespace_labels=())
    )
    index.apply_namespace(namespace(team="a"))
    index.apply_pod(
        pod(
            metadata__labels={"app.kubernetes.io/name": "web", "team": "a", "teams": "b"},
            metadata__annotations={"example.com/owner": "a", "kubectl/last": "x"},
        )
    )
    found = find(index)
    assert dict(found.labels) == {"app.kubernetes.io/name": "web", "team": "a"}
    assert dict(found.annotations) == {"example.com/owner": "a"}
    assert found.namespace_labels == ()


def test_what_decides_is_kept_although_nothing_is_shown():
    select = Select(SelectSettings(labels="secret!=yes", annotations=("fluentbit",)))
    wanted = Wanted(
        labels=(),
        deciding_labels=select.label_keys,
        deciding_annotations=select.annotation_prefixes,
    )
    index = Pods(wanted)
    filler = {f"l{number}": "x" * 63 for number in range(500)}
    index.apply_pod(pod(metadata__labels={**filler, "secret": "yes"}))
    assert find(index).labels == ()
    assert select.by_metadata(find(index)) is Streams.NONE
    noise = {f"fluentbit.io/exclude-none-{number}": "true" for number in range(500)}
    annotations = {**noise, "fluentbit.io/exclude_stderr-app": "true", "fluentbit.io/parser": "x"}
    index.apply_pod(pod(metadata__annotations=annotations))
    assert select.by_metadata(find(index)) is Streams.STDOUT
    assert len(find(index).deciding_annotations) == 1


def large_pod(uid: str):
    return pod(
        uid=uid,
        metadata__labels={f"example.com/label-{number}": "v" * 63 for number in range(2000)},
        metadata__annotations={
            **{f"note-{number}": "a" * 1000 for number in range(400)},
            "huge": "h" * 200_000,
            MIRROR: "0" * 300,
        },
        metadata__managedFields=[{"fieldsV1": {"f:x": "y" * 200_000}}],
        spec__containers=[
            {
                "name": f"c{number}",
                "image": f"{number:03d}" + "i" * 900,
                "env": [{"name": "e", "value": "x" * 500}],
            }
            for number in range(200)
        ],
    )


def test_of_a_pod_of_1_mb_only_what_is_used_is_kept():
    body = json.dumps(
        pod_json(
            metadata__annotations={"huge": "h" * 500_000, "kept": "yes"},
            metadata__labels={"app": "web"},
            metadata__managedFields=[{"fieldsV1": "x" * 500_000}],
        )
    ).encode()
    assert len(body) > 1_000_000
    item = decoded(body, PodObject)
    assert item is not None
    index = Pods(Wanted(annotations=("*",)))
    index.apply_pod(item)
    assert dict(find(index).annotations) == {"kept": "yes"}
    assert index.dropped == 1


def bytes_a_pod(count: int, make) -> float:
    index = Pods(Wanted(annotations=("*",)))
    index.apply_namespace(namespace(team="a"))
    gc.collect()
    tracemalloc.start()
    for number in range(count):
        item = make(number)
        assert item.spec.containers
        index.apply_pod(item)
        for container in item.spec.containers[:2]:
            find(index, item.key, container.name, name=item.metadata.name)
    del item
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / count


def ordinary_pod(number: int) -> PodObject:
    """
    Like a pod of a Deployment on EKS with a sidecar.
    """
    uid = f"{number:08x}-2222-3333-4444-555555555555"
    return pod(
        f"checkout-service-{number // 10}-7d4b9c6f5-{number:05x}",
        uid,
        metadata__labels={
            "app.kubernetes.io/name": "checkout",
            "app.kubernetes.io/instance": f"checkout-{number // 10}",
            "app.kubernetes.io/version": "1.2.3",
            "app.kubernetes.io/component": "api",
            "app.kubernetes.io/managed-by": "Helm",
            "pod-template-hash": "7d4b9c6f5",
            "team": "payments",
        },
        metadata__annotations={"prometheus.io/scrape": "true", "checksum/config": f"{number:064x}"},
        metadata__ownerReferences=[
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": f"checkout-service-{number // 10}-7d4b9c6f5",
                "uid": f"{number // 10:08x}-9999-3333-4444-555555555555",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
        metadata__managedFields=[{"fieldsV1": "x" * 4000}],
        spec__containers=[{"name": "app"}, {"name": "sidecar"}],
        status__podIP=f"10.0.{number // 250}.{number % 250}",
        status__containerStatuses=[status("app", number), status("sidecar", 10_000 + number)],
    )


def test_500_pods_take_less_than_10_kb_each():
    size = bytes_a_pod(500, ordinary_pod)
    print(f"{size:.0f} bytes a pod")
    assert size < 10_000


def test_the_worst_pods_are_bounded():
    """
    Objects of more than 1 MB that fill every limit.
    """
    # Twice: what else happens in the process meanwhile counts, such as an import in another thread.
    size = min(bytes_a_pod(12, lambda number: large_pod(f"u{number}")) for _ in range(2))
    print(f"{size:.0f} bytes a pod")
    assert size < 28_500
