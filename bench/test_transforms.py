"""
Throughput of the transforms on one core: `make bench`.

Every figure has what was asked of it in extra_info; nothing here fails on a slow machine.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent import _fastparse
from agent.core.batch import Resource
from agent.core.components import columns_of as columns_of_sets
from agent.core.counters import Counters
from agent.transforms.registry import KINDS
from agent.transforms.stages import SinkColumn, Stages
from bench.test_fast import access

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.components import ColumnSet

CHUNK_BYTES = 262_144
RESOURCE = Resource(path="/var/log/pods/a/b/0.log", namespace="shop", pod="web-1", container="app")
LEVELS = ("debug", "info", "info", "info", "warn", "error")
JSON_COLUMNS = [SinkColumn(name, "string", name) for name in ("level", "msg", "path")]

KLOG_COLUMNS = [SinkColumn(name, "string", name) for name in ("msg", "pod", "caller")]


def json_line(rng: random.Random) -> str:
    """
    Return a record of about 200 bytes.
    """
    return json.dumps(
        {
            "ts": "2026-11-22T19:00:01.123Z",
            "level": rng.choice(LEVELS),
            "msg": "request done",
            "id": rng.randrange(10**9),
            "http": {"status": rng.choice((200, 200, 404, 503)), "ms": rng.random()},
            "path": f"/api/v1/items/{rng.randrange(10**6)}",
            "user": "x" * 30,
        }
    )


def klog_line(rng: random.Random) -> str:
    """
    Return a structured line of klog.
    """
    return (
        f"{rng.choice('IIIWE')}1122 19:00:01.{rng.randrange(10**6):06}       1 controller.go:116] "
        f'"Pod status updated" pod="kube-system/pod-{rng.randrange(10**4)}" status="ready"'
    )


def klog_block(rng: random.Random) -> str:
    """
    Return a structured line of klog, one time in ten with an error of several lines.
    """
    line = klog_line(rng)
    if rng.randrange(10):
        return line
    return f'{line} err=<\n\trpc error: code = "Unavailable"\n\tdesc = transport is closing\n >'


def audit_line(rng: random.Random) -> str:
    """
    Return an audit event of about 900 bytes.
    """
    number = rng.randrange(10**9)
    return json.dumps(
        {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": f"5b0b1c0e-1111-4b0f-9d6e-{number:012}",
            "stage": "ResponseComplete",
            "requestURI": f"/api/v1/namespaces/shop/pods/web-{number}?timeout=30s",
            "verb": rng.choice(("get", "list", "watch", "update")),
            "user": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "6f2c1c0e-2222-4b0f-9d6e-000000000001",
                "groups": ["system:serviceaccounts", "system:authenticated"],
            },
            "sourceIPs": ["10.0.12.34"],
            "userAgent": "kube-controller-manager/v1.31.0 (linux/amd64) kubernetes/9edcffc",
            "objectRef": {"resource": "pods", "namespace": "shop", "name": f"web-{number}"},
            "responseStatus": {"metadata": {}, "code": 200},
            "requestReceivedTimestamp": f"2026-11-22T19:00:01.{number % 10**6:06}Z",
            "stageTimestamp": "2026-11-22T19:00:02.004500Z",
            "annotations": {
                "authorization.k8s.io/decision": "allow",
                "authorization.k8s.io/reason": "RBAC: allowed by ClusterRoleBinding",
            },
        },
        separators=(",", ":"),
    )


def syslog_line(rng: random.Random) -> str:
    """
    Return a line of a host's `secure`.
    """
    return f"Nov 22 19:00:01 ip-10-0-0-1 sshd[{rng.randrange(10**5)}]: Accepted publickey for ec2-user port 51234"


def logfmt_line(rng: random.Random) -> str:
    """
    Return a line of aws-iam-authenticator.
    """
    return (
        f'time="2026-11-22T19:00:01Z" level=info msg="access granted" client="127.0.0.1:{rng.randrange(65536)}" '
        'groups="[system:nodes]" method=POST path=/authenticate arn="arn:aws:iam::111122223333:role/node"'
    )


def java_line(rng: random.Random) -> str:
    """
    Return a trace of eight lines, one time in ten, else a line.
    """
    line = f"2026-11-22 19:00:01.{rng.randrange(1000):03} INFO [main] com.acme.Shop - order {rng.randrange(10**9)} done"
    if rng.randrange(10):
        return line
    frames = "".join(
        f"\n\tat com.acme.shop.Cart.method{rng.randrange(99)}(Cart.java:{rng.randrange(999)})"
        for _ in range(6)
    )
    return f"{line}\ncom.acme.shop.StockException: none left{frames}"


def columns_of(make: Any) -> tuple[bytes, list[tuple[int, int, int, int, int, int, int]]]:
    """
    Return the data and the rows of a chunk of lines.
    """
    rng = random.Random(7)
    data, rows = bytearray(), []
    while len(data) < CHUNK_BYTES:
        for line in make(rng).encode().split(b"\n"):
            rows.append((1_800_000_000_000_000_000, len(data), 0, 0, len(data), len(line), 1))
            data += line
    return bytes(data), rows


def run(
    benchmark: Any,
    make: Any,
    transforms: Sequence[dict[str, Any]],
    asked: str,
    container: str = "app",
    **more: Any,
) -> None:
    """
    Measure *transforms* over a chunk, and keep lines and bytes a second.
    """
    data, rows = columns_of(make)
    settings = []
    for item in transforms:
        name = next(name for name in item if name in KINDS)
        settings.append(KINDS[name].settings(**item))
    stages = Stages(settings, route="r", counters=Counters(), **more)
    resource = replace(RESOURCE, container=container)

    def fresh() -> Any:
        return (_fastparse.Columns.build(data, rows),), {}

    def work(columns: _fastparse.Columns) -> None:
        stages.begin().apply(columns, resource=resource, generation=0, now=0.0, release=True)

    benchmark.pedantic(work, setup=fresh, rounds=60, warmup_rounds=3)
    if benchmark.stats is not None:
        best = benchmark.stats.stats.min
        said = f"{len(rows) / best / 1e6:.2f} M lines/s, {len(data) / best / 1e6:.0f} MB/s"
        benchmark.extra_info.update(measured=said, asked=asked)
        print(f"\n{benchmark.name}: {said} (asked: {asked})")


CASES: dict[str, tuple[Any, list[dict[str, Any]], str]] = {
    "json": (json_line, [{"parse": "json", "level_fields": ()}], "1.5 M lines/s"),
    "klog": (klog_line, [{"parse": "klog"}], "2 M lines/s"),
    "multiline_java": (java_line, [{"multiline": "java"}], "200 MB/s"),
    "multiline_auto": (java_line, [{"multiline": "auto"}], ""),
    "where_level": (klog_line, [{"parse": "klog"}, {"where": "level >= warn"}], "500 MB/s more"),
    "redact_all": (access, [{"redact": ("all",)}], "150 MB/s"),
    "redact_none_found": (klog_line, [{"redact": ("all",)}], "150 MB/s"),
    "redact_pattern": (access, [{"redact": (), "patterns": {"a": r"items/\d+"}}], "40 MB/s"),
    "regex": (access, [{"parse": "regex", "pattern": r'"GET (?P<path>\S+) HTTP'}], ""),
    "nginx": (access, [{"parse": "nginx"}], ""),
    "logfmt": (
        lambda rng: f'level=info n={rng.randrange(10**9)} msg="a b c"',
        [{"parse": "logfmt"}],
        "",
    ),
    "sample": (klog_line, [{"sample": 0.1}], ""),
    "limit": (klog_line, [{"limit": "container", "lines_per_s_max": 100}], ""),
}


COMPONENT = {"parse": "component"}
RECORD = {
    "record": {
        "host": "fields.host",
        "ident": "fields.ident",
        "pid": "fields.pid",
        "message": "fields.message",
        "az": "zone",
    }
}
#: By name: container, its lines, transforms, columns of the sink.
COMPONENTS: dict[str, tuple[str, Any, list[dict[str, Any]], tuple[ColumnSet, ...]]] = {
    "audit": ("audit", audit_line, [COMPONENT], ("audit",)),
    "klog": ("kube-scheduler", klog_line, [COMPONENT], ("components",)),
    "klog_joined": (
        "kube-scheduler",
        klog_block,
        [{"multiline": "component"}, COMPONENT],
        ("components",),
    ),
    "authenticator": ("aws-iam-authenticator", logfmt_line, [COMPONENT], ("authenticator",)),
    "host": ("secure", syslog_line, [COMPONENT], ("host",)),
    "host_record": ("secure", syslog_line, [COMPONENT, RECORD], ()),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_component(benchmark: Any, name: str) -> None:
    """
    What a component writes, into all columns of its set.
    """
    container, make, transforms, sets = COMPONENTS[name]
    columns = [SinkColumn(item.name, item.type, item.field) for item in columns_of_sets(sets)]
    run(
        benchmark, make, transforms, "", container, sink_columns=columns, sink_uses_level=bool(sets)
    )


@pytest.mark.parametrize("name", CASES)
def test_transform(benchmark: Any, name: str) -> None:
    """
    One transform, or a chain of two.
    """
    make, transforms, asked = CASES[name]
    more: dict[str, Any] = {}
    if name == "json":
        more["sink_columns"] = JSON_COLUMNS
    elif name in {"klog", "where_level"}:
        more["sink_columns"] = KLOG_COLUMNS
    run(benchmark, make, transforms, asked, **more)
