"""
Rendered resources: Fluent Bit's and OpenTelemetry's words for the same facts.
"""

from __future__ import annotations

import json

import pytest

from agent.core.batch import Resource
from agent.core.pod_facts import Owner
from agent.core.render import RenderOptions, container_insights_resource, otel_resource
from tests.fakes.metadata import metadata

NOTHING = RenderOptions()
EVERYTHING = RenderOptions(
    labels=True, annotations=True, owner_references=True, namespace_labels=True
)
PATH_ONLY = Resource(
    path="/p/0.log",
    cluster="c1",
    node="n1",
    namespace="shop",
    pod="web-7d4-abc",
    pod_uid="u-1",
    container="app",
    restart="2",
)
KNOWN = Resource(
    path="/p/0.log",
    cluster="c1",
    node="n1",
    namespace="shop",
    pod="web-7d4-abc",
    pod_uid="hash-of-a-static-pod",
    container="app",
    restart="2",
    region="eu-central-1",
    zone="eu-central-1a",
    instance_id="i-0abc",
    metadata=metadata(
        pod_uid="u-1",
        container_id="c" * 64,
        image="registry:5000/acme/web:1.2",
        image_id="registry:5000/acme/web@sha256:aa",
        pod_ip="10.0.0.9",
        labels=(("app", "web"), ("empty", "")),
        annotations=(("note", "grüße"),),
        namespace_labels=(("team", "a"),),
        owners=(
            Owner("apps/v1", "ReplicaSet", "web-7d4", "r-1", True, None),
            Owner("acme/v1", "Thing", "t", "t-1", None, None),
        ),
        owner_kind="Deployment",
        owner_name="web",
    ),
)


def kubernetes(resource, options=NOTHING):
    return json.loads(b'{"x":0' + container_insights_resource(resource, options) + b"}")


def attributes(resource, options=NOTHING):
    rendered = json.loads(b'{"x":0' + otel_resource(resource, options) + b"}")
    assert rendered.keys() == {"x", "resource"}
    assert rendered["resource"].keys() == {"attributes"}
    return rendered["resource"]["attributes"]


def test_what_the_path_says_is_always_there():
    assert list(kubernetes(PATH_ONLY)["kubernetes"].items()) == [
        ("pod_name", "web-7d4-abc"),
        ("namespace_name", "shop"),
        ("pod_id", "u-1"),
        ("host", "n1"),
        ("container_name", "app"),
    ]
    assert attributes(PATH_ONLY, EVERYTHING) == {
        "k8s.cluster.name": "c1",
        "k8s.node.name": "n1",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "web-7d4-abc",
        "k8s.pod.uid": "u-1",
        "k8s.container.name": "app",
        "k8s.container.restart_count": 2,
    }


def test_fluent_bits_keys_are_in_its_order():
    assert list(kubernetes(KNOWN, EVERYTHING)["kubernetes"]) == [
        *("pod_name", "namespace_name", "pod_id", "labels", "annotations", "ownerReferences"),
        *("host", "pod_ip", "container_name", "docker_id", "container_hash", "container_image"),
    ]
    assert (
        kubernetes(KNOWN)["kubernetes"]
        .keys()
        .isdisjoint({"labels", "annotations", "ownerReferences"})
    )
    assert "kubernetes_namespace" not in kubernetes(KNOWN)


def test_fluent_bits_values():
    rendered = kubernetes(KNOWN, EVERYTHING)
    assert rendered["kubernetes"]["pod_id"] == "u-1"
    assert rendered["kubernetes"]["labels"] == {"app": "web", "empty": ""}
    assert rendered["kubernetes"]["ownerReferences"] == [
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": "web-7d4",
            "uid": "r-1",
            "controller": True,
        },
        {"apiVersion": "acme/v1", "kind": "Thing", "name": "t", "uid": "t-1"},
    ]
    assert rendered["kubernetes_namespace"] == {"name": "shop", "labels": {"team": "a"}}


def test_opentelemetrys_names():
    assert attributes(KNOWN) == {
        "k8s.cluster.name": "c1",
        "k8s.node.name": "n1",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "web-7d4-abc",
        "k8s.pod.uid": "u-1",
        "k8s.pod.ip": "10.0.0.9",
        "k8s.container.name": "app",
        "k8s.container.restart_count": 2,
        "container.id": "c" * 64,
        "container.image.id": "registry:5000/acme/web@sha256:aa",
        "container.image.name": "registry:5000/acme/web",
        "container.image.tags": ["1.2"],
        "container.image.repo_digests": ["registry:5000/acme/web@sha256:aa"],
        "k8s.replicaset.name": "web-7d4",
        "k8s.replicaset.uid": "r-1",
        "k8s.deployment.name": "web",
        "cloud.provider": "aws",
        "cloud.region": "eu-central-1",
        "cloud.availability_zone": "eu-central-1a",
        "host.id": "i-0abc",
    }
    shown = {
        "k8s.pod.label.app": "web",
        "k8s.pod.label.empty": "",
        "k8s.pod.annotation.note": "grüße",
        "k8s.namespace.label.team": "a",
    }
    assert attributes(KNOWN, EVERYTHING) == attributes(KNOWN) | shown


@pytest.mark.parametrize(
    ("image", "name", "tags"),
    [
        ("web", "web", None),
        ("acme/web:1", "acme/web", ["1"]),
        ("registry:5000/web", "registry:5000/web", None),
        ("acme/web:1@sha256:aa", "acme/web", ["1"]),
        ("sha256:aa", None, None),
    ],
)
def test_an_image_is_a_name_and_a_tag(image, name, tags):
    known = attributes(Resource(path="/p", pod="p", metadata=metadata(image=image)))
    assert known.get("container.image.name") == name
    assert known.get("container.image.tags") == tags


def test_a_file_of_no_container_is_known_by_its_path():
    file = Resource(path="/var/log/nginx/access.log", node="n1", cluster="c1")
    assert container_insights_resource(file, EVERYTHING) == b""
    assert attributes(file) == {"host.name": "n1", "log.file.path": "/var/log/nginx/access.log"}
    assert otel_resource(Resource(path=""), EVERYTHING) == b""


def test_a_path_that_is_not_utf8_is_no_error():
    file = Resource(path="/l/\udcff.log", container="c\udcff")
    assert kubernetes(file)["kubernetes"] == {"container_name": "c?"}
    assert attributes(Resource(path="/l/\udcff.log"))["log.file.path"] == "/l/?.log"
