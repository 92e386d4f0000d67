"""
Which containers a route reads: by path, by labels, by annotations per stream.
"""

from __future__ import annotations

import dataclasses

import pytest

from agent.core.kubelet_path import path_facts
from agent.core.pod_facts import Metadata
from agent.core.select import Decision, Select, SelectSettings, Streams

PATH = "/var/log/pods/shop_web-7d4b9c6f5-abcde_11111111-2222-3333-4444-555555555555/app/0.log"
DOCKER = f"/var/lib/docker/containers/{'a' * 64}/{'a' * 64}-json.log"
HOST = "/var/log/messages"
PLAIN = Metadata(
    version=1,
    namespace="shop",
    pod="web-7d4b9c6f5-abcde",
    pod_uid="11111111-2222-3333-4444-555555555555",
    container="app",
    container_id="",
    image="",
    image_id="",
    restart_count=0,
    node="",
    pod_ip="",
    labels=(),
    annotations=(),
    namespace_labels=(),
    owners=(),
    owner_kind="",
    owner_name="",
    deciding_labels=(),
    deciding_annotations=(),
)


def by_path(path: str, **settings) -> Decision:
    return Select(SelectSettings(**settings)).by_path(path_facts(path))


def streams(select: Select, *, labels=(), annotations=(), container="app") -> Streams:
    return select.by_metadata(
        dataclasses.replace(
            PLAIN,
            container=container,
            deciding_labels=tuple(labels),
            deciding_annotations=tuple(annotations),
        )
    )


@pytest.mark.parametrize(
    ("settings", "decision"),
    [
        ({}, Decision.YES),
        ({"namespaces": ("shop",)}, Decision.YES),
        ({"namespaces": ("sh*", "other")}, Decision.YES),
        ({"namespaces": ("sho",)}, Decision.NO),
        ({"namespaces": ("Shop",)}, Decision.NO),
        ({"exclude_namespaces": ("kube-*", "sh?p")}, Decision.NO),
        ({"namespaces": ("shop",), "exclude_namespaces": ("shop",)}, Decision.NO),
        ({"pods": ("web-*",)}, Decision.YES),
        ({"exclude_pods": ("web-*",)}, Decision.NO),
        ({"containers": ("[ab]pp",)}, Decision.YES),
        ({"exclude_containers": ("app", "istio-proxy")}, Decision.NO),
        ({"labels": "app=web"}, Decision.NEEDS_METADATA),
        ({"annotations": ("fluentbit",)}, Decision.NEEDS_METADATA),
        # What the path excludes is not even opened.
        ({"labels": "app=web", "exclude_pods": ("*",)}, Decision.NO),
    ],
)
def test_a_path_decides_alone_where_it_can(settings, decision):
    assert by_path(PATH, **settings) is decision


@pytest.mark.parametrize(
    ("settings", "decision"),
    [
        ({}, Decision.YES),
        ({"namespaces": ("shop",)}, Decision.NO),
        ({"exclude_namespaces": ("*",)}, Decision.YES),
        # There will never be labels, so nobody waits for them.
        ({"labels": "app=web"}, Decision.NO),
        ({"labels": "app!=web"}, Decision.YES),
        ({"annotations": ("tailrace",)}, Decision.YES),
    ],
)
def test_a_file_of_no_pod_never_waits(settings, decision):
    assert by_path(HOST, **settings) is decision


@pytest.mark.parametrize(
    ("settings", "decision"),
    [
        ({}, Decision.YES),
        ({"exclude_namespaces": ("secret",)}, Decision.NEEDS_METADATA),
        ({"containers": ("app",)}, Decision.NEEDS_METADATA),
        ({"labels": "app!=web"}, Decision.NEEDS_METADATA),
    ],
)
def test_an_id_alone_passes_no_selection(settings, decision):
    assert by_path(DOCKER, **settings) is decision


def test_labels_decide():
    select = Select(SelectSettings(labels="app=web,!secret"))
    assert streams(select, labels=[("app", "web")]) is Streams.BOTH
    assert streams(select, labels=[("app", "web"), ("secret", "")]) is Streams.NONE
    assert streams(select) is Streams.NONE
    assert select.label_keys == {"app", "secret"}


TAILRACE, FLUENT_BIT = "tailrace.io/exclude", "fluentbit.io/exclude"


@pytest.mark.parametrize(
    ("annotations", "selected"),
    [
        ({}, Streams.BOTH),
        ({TAILRACE: "true"}, Streams.NONE),
        ({TAILRACE: "True"}, Streams.NONE),
        ({TAILRACE: "false"}, Streams.BOTH),
        ({TAILRACE: "1"}, Streams.BOTH),
        ({f"{TAILRACE}-app": "true"}, Streams.NONE),
        ({f"{TAILRACE}-other": "true"}, Streams.BOTH),
        ({TAILRACE: "true", f"{TAILRACE}-app": "false"}, Streams.BOTH),
        ({FLUENT_BIT: "true"}, Streams.NONE),
        ({FLUENT_BIT: "on"}, Streams.NONE),
        ({f"{FLUENT_BIT}-app": "true"}, Streams.NONE),
        ({f"{FLUENT_BIT}-other": "true"}, Streams.BOTH),
        ({f"{FLUENT_BIT}_stdout": "true"}, Streams.STDERR),
        ({f"{FLUENT_BIT}_stderr": "true"}, Streams.STDOUT),
        ({f"{FLUENT_BIT}_stdout": "true", f"{FLUENT_BIT}_stderr": "true"}, Streams.NONE),
        ({f"{FLUENT_BIT}_stderr-app": "true"}, Streams.STDOUT),
        ({f"{FLUENT_BIT}_stderr-other": "true"}, Streams.BOTH),
        ({FLUENT_BIT: "true", f"{FLUENT_BIT}-app": "false"}, Streams.BOTH),
        ({FLUENT_BIT: "true", f"{FLUENT_BIT}_stderr-app": "false"}, Streams.STDERR),
        ({f"{FLUENT_BIT}-app": "true", f"{FLUENT_BIT}_stdout": "false"}, Streams.NONE),
        ({FLUENT_BIT: "false", TAILRACE: "true"}, Streams.NONE),
    ],
)
def test_annotations_exclude_pods_containers_and_streams(annotations, selected):
    select = Select(SelectSettings(annotations=("tailrace", "fluentbit")))
    assert streams(select, annotations=annotations.items()) is selected


def test_annotations_count_only_where_the_configuration_allows():
    both = [(TAILRACE, "true"), (FLUENT_BIT, "true")]
    assert streams(Select(SelectSettings()), annotations=both) is Streams.BOTH
    only = Select(SelectSettings(annotations=("fluentbit",)))
    assert streams(only, annotations=[(TAILRACE, "true")]) is Streams.BOTH
    assert streams(only, annotations=both) is Streams.NONE
    assert only.annotation_prefixes == (FLUENT_BIT,)


def test_globs_decide_again_where_only_metadata_knows_the_names():
    select = Select(SelectSettings(namespaces=("other",)))
    assert streams(select) is Streams.NONE


def test_only_a_route_that_could_exclude_by_metadata_needs_it():
    assert not Select(SelectSettings(namespaces=("a",))).needs_metadata
    assert Select(SelectSettings(labels="a")).needs_metadata
    assert Select(SelectSettings(annotations=("tailrace",))).needs_metadata


def test_settings_say_what_is_wrong_with_them():
    ((key, value, expected),) = SelectSettings(labels="a=b,c~d").problems()
    assert (key, value) == ("labels", "a=b,c~d")
    assert "at character 6" in expected
    assert SelectSettings(exclude_pods=("",)).problems()[0][0] == "exclude_pods"
    assert not SelectSettings(labels="a=b", pods=("x*",)).problems()
