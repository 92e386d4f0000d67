"""
`parse: component` and `multiline: component`: what the parts of a control plane write.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest

from agent import _fastfields
from agent.config import parse as parse_config
from agent.config.problems import ConfigError
from agent.core import counters as metric
from agent.core.components import COLUMN_SETS, ComponentPaths
from agent.core.counters import Counters
from agent.sources.resources import Resources
from agent.sources.settings import ControlPlaneSettings
from tests.refusals import refusal
from tests.transforms.component_kit import NOV_22_19_00_01, of_set, read
from tests.transforms.kit import RESOURCE, columns_of, messages, parsed, stages

AUDIT = {
    "kind": "Event",
    "apiVersion": "audit.k8s.io/v1",
    "level": "RequestResponse",
    "auditID": "5b0b1c0e-1111-4b0f-9d6e-1f2b5f2f7a01",
    "stage": "ResponseComplete",
    "requestURI": "/api/v1/namespaces/shop/pods/web-1/exec?command=sh",
    "verb": "create",
    "user": {"username": "alice", "groups": ["system:masters", "system:authenticated"]},
    "impersonatedUser": {"username": "bob"},
    "sourceIPs": ["203.0.113.9", "10.0.0.1"],
    "userAgent": "kubectl/v1.31.0",
    "objectRef": {
        "resource": "pods",
        "namespace": "shop",
        "name": "web-1",
        "apiVersion": "v1",
        "subresource": "exec",
    },
    "responseStatus": {"metadata": {}, "code": 101},
    "requestObject": [{"op": "replace", "path": "/spec", "value": '"quoted" é\u2028'}],
    "responseObject": {"kind": "Status"},
    "requestReceivedTimestamp": "2026-11-22T19:00:01.123456Z",
    "stageTimestamp": "2026-11-22T19:00:01.373456Z",
    "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
}
KLOG_BLOCK = (
    'E1122 19:00:01.123456       1 status.go:71] "apiserver received an error" err=<\n'
    '\trpc error: code = "Unavailable"\n\tdesc = transport is closing\n > logger="UnhandledError"'
)
KLOG_JSON = (
    '{"ts":1795374001123.456,"caller":"app/server.go:42","msg":"Serving","v":2,"addr":"[::]:6443"}'
)
AUTHENTICATOR = (
    'time="2026-11-22T19:00:01Z" level=warning msg="access denied" client="127.0.0.1:40000" '
    'error="ARN is not mapped" arn="arn:aws:iam::111122223333:role/dev" method=POST path=/authenticate'
)


def test_an_audit_event() -> None:
    found = of_set("audit", json.dumps(AUDIT, ensure_ascii=False), "audit")
    assert json.loads(found.pop("request_object")) == AUDIT["requestObject"]
    assert json.loads(found.pop("response_object")) == AUDIT["responseObject"]
    assert json.loads(found.pop("groups")) == ["system:masters", "system:authenticated"]
    assert json.loads(found.pop("source_ips")) == ["203.0.113.9", "10.0.0.1"]
    assert found == {
        "audit_id": AUDIT["auditID"],
        "stage": "ResponseComplete",
        "audit_level": "RequestResponse",
        "verb": "create",
        "username": "alice",
        "impersonated_user": "bob",
        "user_agent": "kubectl/v1.31.0",
        "request_uri": AUDIT["requestURI"],
        "resource": "pods",
        "object_namespace": "shop",
        "object_name": "web-1",
        "subresource": "exec",
        "code": "101",
        "latency_ms": "250.000000",
        "decision": "allow",
        "decision_reason": "",
    }


def test_time_and_level_of_an_audit_event() -> None:
    """
    A file has no time but that of the event; a level of audit is none of logging.
    """
    done, _, _ = read("audit", [json.dumps(AUDIT)])
    assert done.column("time_ns")[0] == NOV_22_19_00_01 * 10**9 + 373_456_000
    assert list(_fastfields.severities(done)) == [0]


def test_a_truncated_audit_event() -> None:
    """
    The API server takes the objects out of an event that is too large, and says so in an annotation.
    """
    event = {key: value for key, value in AUDIT.items() if not key.endswith("Object")}
    event["annotations"] = {"audit.k8s.io/truncated": "true"}
    found = of_set("audit", json.dumps(event), "audit")
    assert found["event_truncated"] == "true"
    assert "request_object" not in found


def test_an_event_that_was_cut_is_said(counters: Counters) -> None:
    """
    Half an event is no JSON: it is kept, counted, said with what can be done, and its neighbours are read.
    """
    text = json.dumps(AUDIT)
    columns = ("verb", "string", "verb")
    done, values, said = read("audit", [text, text[:200], text], columns, counters=counters)
    assert messages(done)[1] == text[:200].encode()
    assert values == [["create"], [None], ["create"]]
    assert counters.get(metric.UNPARSED_ROWS, "r", "component") == 1
    (line,) = said
    assert line.startswith("unparsed_lines: route r: 1 rows of audit (")
    assert "tailrace explain" in line


@pytest.fixture
def counters() -> Counters:
    return Counters()


def test_an_unknown_component_is_said(counters: Counters) -> None:
    done, _, said = read("kube-vip", ["anything", "else"], counters=counters)
    assert messages(done) == [b"anything", b"else"]
    assert counters.get(metric.UNKNOWN_COMPONENT_ROWS, "r") == 2
    assert counters.total(metric.UNPARSED_ROWS, "r") == 0
    (line,) = said
    assert line.startswith("unknown_component: route r: nobody knows what kube-vip of ")
    assert "select other containers" in line


def test_klog_over_several_lines() -> None:
    """
    Text, structured text with a block, and JSON, each an event of its own; so is a panic.
    """
    lines = [
        'I1122 19:00:00.000001       1 a.go:1] "One" x="1"',
        *KLOG_BLOCK.split("\n"),
        "W1122 19:00:02.000000       1 b.go:2] plain, then",
        "more of it",
        "",
        "\teven more",
        KLOG_JSON,
        "panic: runtime error: index out of range",
        "",
        "goroutine 1 [running]:",
    ]
    columns = [(name, "string", name) for name in ("msg", "caller", "err", "logger")]
    done, values, _ = read("kube-apiserver", lines, *columns)
    assert messages(done) == [
        lines[0].encode(),
        KLOG_BLOCK.encode(),
        b"W1122 19:00:02.000000       1 b.go:2] plain, then\nmore of it\n\n\teven more",
        KLOG_JSON.encode(),
        "\n".join(lines[-3:]).encode(),
    ]
    error = '<\n\trpc error: code = "Unavailable"\n\tdesc = transport is closing\n >'
    assert values[0] == ["One", "a.go:1", None, None]
    assert values[1] == ["apiserver received an error", "status.go:71", error, "UnhandledError"]
    assert values[2][0] == "plain, then\nmore of it\n\n\teven more"
    assert values[3] == ["Serving", "app/server.go:42", None, None]
    assert list(_fastfields.severities(done)) == [9, 17, 13, 9, 0]


def test_times_of_a_raw_file() -> None:
    """
    The header of klog, and the milliseconds of its JSON.
    """
    stamp = dt.datetime.now(dt.UTC).strftime("%m%d %H:%M:%S.123456")
    done, _, _ = read("kube-scheduler", [f"I{stamp}       1 a.go:1] x", KLOG_JSON])
    times = done.column("time_ns")
    moment = dt.datetime.fromtimestamp(times[0] // 10**9, dt.UTC)
    assert moment.strftime("%m%d %H:%M:%S") + f".{times[0] % 10**9 // 1000:06}" == stamp
    assert times[1] == 1_795_374_001_123_456_000


def test_the_runtime_s_time_counts() -> None:
    """
    A container runtime writes a time with nanoseconds and zone: klog's header has neither.
    """
    made = stages({"parse": "component"})
    text = b"2026-11-22T19:00:01.987654321Z stderr F I1122 18:00:01.987000       1 a.go:1] x\n"
    resource = replace(RESOURCE, container="kube-scheduler")
    done = made.begin().apply(parsed(text), resource=resource, generation=0, now=0.0, release=True)
    assert done.columns.column("time_ns")[0] == NOV_22_19_00_01 * 10**9 + 987_654_321


def test_audit_on_stdout_of_the_api_server() -> None:
    """
    `--audit-log-path=-`: events among lines of klog have their columns, and no level of klog's.
    """
    lines = ["I1122 19:00:00.000001       1 a.go:1] x", json.dumps(AUDIT)]
    columns = [("verb", "string", "verb"), ("latency_ms", "double", "latency_ms")]
    done, values, said = read("kube-apiserver", lines, *columns)
    assert values == [[None, None], ["create", "250.000000"]]
    assert list(_fastfields.severities(done)) == [9, 0]
    assert not said


def test_the_authenticator() -> None:
    found = of_set("authenticator", AUTHENTICATOR, "aws-iam-authenticator")
    assert found == {
        "msg": "access denied",
        "client": "127.0.0.1:40000",
        "error": "ARN is not mapped",
        "arn": "arn:aws:iam::111122223333:role/dev",
    }
    mixed = [
        AUTHENTICATOR,
        '{"level":"error","msg":"x"}',
        "I1122 19:00:00.000001       1 a.go:1] x",
    ]
    done, _, said = read("aws-iam-authenticator", mixed)
    assert list(_fastfields.severities(done)) == [13, 17, 9]
    assert done.column("time_ns")[0] == NOV_22_19_00_01 * 10**9
    assert not said


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        ("2026-11-22T19:00:01Z", "2026-11-22T19:00:01Z", b"0.000000"),
        ("2026-11-22T19:00:01.000001Z", "2026-11-22T19:00:01.000002Z", b"0.001000"),
        ("2026-11-22T19:00:01Z", "2026-11-23T19:00:01Z", b"86400000.000000"),
        ("2026-11-22T19:00:02Z", "2026-11-22T19:00:01.5Z", b"-500.000000"),
        ("2026-11-22T19:00:02Z", "soon", b""),
        ("1700-01-01T00:00:00Z", "2200-01-01T00:00:00Z", None),
    ],
)
def test_latency(start: str, stop: str, expected: bytes | None) -> None:
    """
    Milliseconds between two times, to the nanosecond, also where a clock went back.
    """
    wanted = _fastfields.Wanted((b"a", b"b", b"c"))
    from agent._fastobject import extract_json

    columns = columns_of([json.dumps({"a": start, "b": stop}).encode()])
    extract_json(columns, wanted)
    _fastfields.take_spans(columns, 0, 1, 2)
    ((_, value),) = _fastfields.field(columns, 2)
    assert expected is None or value == expected


def test_paths() -> None:
    """
    A file's component: its pod's container, the glob that it matches, or its name where it was copied.
    """
    settings = ControlPlaneSettings(more_paths={"audit": ("/srv/a/*.json",)})
    assert settings.paths[0] == "/srv/a/*.json"
    resources = Resources(components=settings.components_by_path)
    pod = "/var/log/pods/kube-system_kube-apiserver-node-1_0a1b2c/kube-apiserver/0.log"
    for path, component in (
        (pod, "kube-apiserver"),
        ("/srv/a/x.json", "audit"),
        ("/var/log/kubernetes/audit/audit.log", "audit"),
        ("/backup/audit-2026-11-22T20-41-02.677.log", "audit"),
        ("/backup/kube-scheduler.log", "kube-scheduler"),
        ("/var/log/messages", "messages"),
        ("/var/log/syslog", "messages"),
        ("/var/log/auth.log", "secure"),
        ("/backup/auth.log.2.gz", "secure"),
        ("/backup/audit-2026-11-22T20-41-02.677.log.gz", "audit"),
        ("/backup/secure-20261122", "secure"),
        ("/var/log/other.log", ""),
    ):
        assert resources.of(path, path).container == component, path
        assert resources.facts(path).container == component, path
    assert Resources().of("/var/log/messages", "").container == ""
    assert ComponentPaths(()).find("/a") == ""


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"components": ["kube-apiservr"]}, "kube-apiserver"),
        ({"more_paths": {"audot": ["/a"]}}, 'more_paths.audot: got "audot", expected a component'),
        ({"more_paths": {"audit": ["a"]}}, "expected globs of files, absolute"),
        ({"component": ["audit"]}, "unknown key (did you mean components?)"),
    ],
)
def test_configuration(source: dict[str, Any], problem: str) -> None:
    assert problem in refusal({"type": "control_plane"} | source)


def test_column_sets() -> None:
    """
    Sets need a parse, do not clash with one another, and refuse a name that they have.
    """
    sink: dict[str, Any] = {"type": "parquet", "region": "eu-central-1", "url": "s3://bucket/x"}
    sink["column_sets"] = list(COLUMN_SETS)
    route: dict[str, Any] = {"name": "r", "sink": sink}
    with pytest.raises(ConfigError, match=r"sink.column_sets.*put one among the transforms"):
        parse_config(json.dumps({"routes": [route]}), name="t.yaml", environ={})
    route["transforms"] = [{"parse": "component"}]
    config = parse_config(json.dumps({"routes": [route]}), name="t.yaml", environ={})
    names = [item.name for item in config.routes[0].sink.promoted]
    assert len(names) == len(set(names))
    sink["columns"] = [{"name": "verb"}]
    with pytest.raises(ConfigError, match='"verb" is there already'):
        parse_config(json.dumps({"routes": [route]}), name="t.yaml", environ={})
