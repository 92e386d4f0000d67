"""
What CloudWatch gets of a container's metadata: records, names, and their change at run time.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent import _fastencode, _fastparse
from agent._fastencode import MESSAGE_CONTAINER_INSIGHTS
from agent._fastparse import FORMAT_CRI
from agent.core import counters as metric
from agent.core.batch import Resource
from agent.core.kube_objects import NamespaceObject, PodObject, decoded
from agent.core.pod_facts import Wanted
from agent.core.pods import Pods
from agent.sinks.cloudwatch_names import Names
from agent.sinks.cloudwatch_settings import CloudWatchSettings
from tests.contract.sink import make_segment, resource
from tests.fakes.metadata import metadata
from tests.fast.support import parse_columns
from tests.fast.test_golden import GOLDEN, expected_record
from tests.sinks.cloudwatch_bench import GROUP, record
from tests.sinks.test_cloudwatch import deliver

METRIC = '{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"n"}]},"ms":12}'


def golden_resource() -> Resource:
    """
    Return what the agent knows of the container of the golden records, from the objects of the API server.
    """
    pods = Pods(Wanted(annotations=("*",)))
    namespace = decoded((GOLDEN / "namespace.json").read_bytes(), NamespaceObject)
    pod = decoded((GOLDEN / "pod.json").read_bytes(), PodObject)
    assert namespace is not None
    assert pod is not None
    pods.apply_namespace(namespace)
    pods.apply_pod(pod)
    known = Resource(
        path="/var/log/containers/x.log",
        cluster="c1",
        node="ip-10-0-0-1.ec2.internal",
        namespace="shop",
        pod="web-7d4b9c6f5-abcde",
        pod_uid="11111111-2222-3333-4444-555555555555",
        container="app",
        restart="0",
    )
    found = pods.find(
        known.pod_uid,
        known.container,
        namespace=known.namespace,
        pod=known.pod,
        restart=known.restart,
    )
    assert found is not None
    return replace(known, metadata=found)


@pytest.mark.parametrize("shown", [False, True], ids=["off", "on"])
def test_records_are_fluent_bits(shown):
    """
    From the API server's objects and the container's file to Fluent Bit's records; see the README beside them.
    """
    text = Path(GOLDEN, f"records-labels-{'on' if shown else 'off'}.jsonl").read_text()
    golden = [json.loads(line) for line in text.splitlines()]
    expected = [
        (event["timestamp"], expected_record(json.loads(event["message"]))) for event in golden
    ]
    expected.sort(key=lambda event: event[0])
    settings = CloudWatchSettings(labels=shown, annotations=shown, owner_references=shown)
    rendered = Names(settings, absent=lambda *_: None).json(golden_resource())
    parser = _fastparse.Parser(format=FORMAT_CRI, line_bytes_max=1 << 20)
    parts = [parse_columns(parser, Path(GOLDEN, "input.log").read_bytes())]
    body = _fastencode.Body()
    body.encode(
        b'{"logEvents":[',
        parts,
        [rendered],
        _fastencode.order_rows(parts),
        0,
        format=MESSAGE_CONTAINER_INSIGHTS,
        valid_from_ms=0,
        valid_until_ms=2**62,
    )
    written = [
        (event["timestamp"], json.loads(event["message"]))
        for event in json.loads(bytes(body))["logEvents"]
    ]
    assert written == expected
    # Keys in their order, too, at every depth.
    assert [json.dumps(event["kubernetes"]) for _, event in written] == [
        json.dumps(event["kubernetes"]) for _, event in expected
    ]


async def test_a_record_of_opentelemetry_names_its_pod(make_cloudwatch, fake):
    bench = make_cloudwatch(format="otel", labels=True)
    known = replace(resource("web-0"), metadata=metadata(labels=(("app", "web"),), image="web:1"))
    await deliver(bench, make_segment(bench.share, ["hello", '{"level":"info"}'], of=known))
    (_, first), (_, second) = fake.events(GROUP, "web-0")
    assert (record(first)["body"], record(second)["body"]) == ("hello", {"level": "info"})
    attributes = record(first)["resource"]["attributes"]
    assert attributes["k8s.pod.name"] == "web-0"
    assert attributes["k8s.pod.label.app"] == "web"
    assert attributes["container.image.tags"] == ["1"]


@pytest.mark.parametrize("message_format", ["container_insights", "otel"])
async def test_metrics_pass_where_the_route_lets_them(make_cloudwatch, fake, message_format):
    bench = make_cloudwatch(format=message_format, emf="passthrough")
    await deliver(bench, make_segment(bench.share, [METRIC, "hello"], of=resource("web-0")))
    (_, first), (_, second) = fake.events(GROUP, "web-0")
    assert first == METRIC
    assert "web-0" in second


async def test_metrics_are_wrapped_by_default(make_cloudwatch, fake):
    bench = make_cloudwatch(format="container_insights")
    await deliver(bench, make_segment(bench.share, [METRIC], of=resource("web-0")))
    ((_, message),) = fake.events(GROUP, "web-0")
    assert record(message)["log"] == METRIC
    assert "_aws" not in record(message)


async def test_a_label_that_is_edited_shows_in_the_next_segment(make_cloudwatch, fake):
    """
    One Log, two resources: the segment's decides about record and stream.
    """
    bench = make_cloudwatch(
        format="container_insights", stream="{labels.team|none}", labels=True, linger_s=300
    )
    of = [
        replace(resource("web-0"), metadata=metadata(labels=(("team", team),)))
        for team in ("a", "b")
    ]
    segments = [
        make_segment(bench.share, ["1"], log="l", of=of[0]),
        make_segment(bench.share, ["2"], log="l", start=1, of=of[1]),
        make_segment(bench.share, ["3"], log="l", start=2, of=resource("web-0")),
    ]
    await deliver(bench, *segments)
    assert set(fake.groups[GROUP].streams) == {"a", "b", "none"}
    for stream, log in (("a", "1"), ("b", "2")):
        ((_, message),) = fake.events(GROUP, stream)
        assert record(message)["log"] == log
        assert record(message)["kubernetes"]["labels"] == {"team": stream}


async def test_an_absent_label_is_counted_and_said_once(make_cloudwatch, fake):
    bench = make_cloudwatch(stream="{labels.team}-{pod}")
    await deliver(
        bench,
        *(
            make_segment(bench.share, ["x"] * 5, log=pod, of=resource(pod))
            for pod in ("web-0", "web-1")
        ),
    )
    assert set(fake.groups[GROUP].streams) == {"unknown-web-0", "unknown-web-1"}
    assert bench.counters.get(metric.NAME_FALLBACKS, "r", "labels.team") == 2
    said = [text for event, text in bench.told if event == "name_fallback"]
    assert len(said) == 1
    assert "stream: {labels.team} is not known of /var/log/pods/shop_web-0" in said[0]


def test_a_resource_is_rendered_once():
    names = Names(CloudWatchSettings(stream="{pod}", labels=True), absent=lambda *_: None)
    first = resource("web-0")
    assert names.of(first) is names.of(first)
    assert names.of(first).stream == "web-0"
    assert names.of(resource("web-1")).stream == "web-1"
