"""
What the components of a control plane write, in any form: the kernels against their references, and whole routes.
"""

from __future__ import annotations

import json
from dataclasses import replace

from agent import _fastfields, _fastparse, _reference_fields, _reference_text
from agent._fastfields import Wanted
from agent._fastobject import extract_json
from agent._fastpairs import extract_klog, extract_logfmt
from agent.core.components import COLUMN_SETS, COMPONENTS, columns_of
from agent.transforms.stages import SinkColumn
from tests.fuzz.registry import Fuzzer
from tests.transforms.kit import RESOURCE, applied, messages, parsed, stages
from tests.transforms.kit import columns_of as rows_of

#: The reference takes a hundred times as long.
REFERENCE_BYTES_MAX = 1000
CONTAINERS = (*sorted(COMPONENTS), "kubelet", "containerd", "unknown")
COLUMNS = [SinkColumn(item.name, item.type, item.field) for item in columns_of(COLUMN_SETS)]
NAMES = (b"level", b"time", b"msg", b"caller", b"err", b"user.groups", b"v", b"a.b")
STAGES = {
    "rows": stages({"parse": "component"}, sink_columns=COLUMNS, sink_uses_level=True),
    "joined": stages({"multiline": "component"}, {"parse": "component"}, sink_columns=COLUMNS),
    "records": stages(
        {"parse": "component"},
        {
            "record": {
                "m": "fields.message",
                "a": "fields.a",
                "t": "time",
                "s": "stream",
                "p": "pod",
            }
        },
    ),
}
KLOG = (
    b'E1122 19:00:01.123456       1 status.go:71] "failed \\"x\\"" err=<\n\tone\n\ttwo\n > logger="a" n=1 ok\n'
    b"W1231 23:59:59.999999 1234567 b.go:2] plain\nmore\n"
    b'{"ts":1795374001123.456,"caller":"a.go:1","msg":"x","v":2,"err":"y"}\n'
)
AUDIT = (
    b'{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"i","stage":"ResponseComplete",'
    b'"user":{"username":"u","groups":["a"]},"objectRef":{"resource":"pods"},"responseStatus":{"code":403},'
    b'"requestObject":{"a":[{"b":null}]},"requestReceivedTimestamp":"2026-11-22T19:00:01.000001Z",'
    b'"stageTimestamp":"2026-11-22T19:00:02.5Z","annotations":{"authorization.k8s.io/decision":"allow"}}\n'
)
AUTHENTICATOR = (
    b'time="2026-11-22T19:00:01Z" level=warning msg="access \\u00e9 denied" groups="[]" x=true\n'
)
ETCD = (
    b'{"level":"warn","ts":"2026-11-22T19:00:01.5Z","caller":"a.go:1","msg":"slow"}\n'
    b"2026-11-22 19:00:01.500000 C | etcdserver: x\nraft 2026/11/22 19:00:01 INFO: y\n"
)
HOST = b"Nov  2 19:00:01 n sshd[42]: Accepted\n2026-11-22T19:00:01Z n su: x\n[    1.5] Linux\n"
TOKENS = (
    *(
        b"\n",
        b"\t",
        b" >",
        b"=<\n",
        b'="',
        b'\\"',
        b"\\x4",
        b"\\ud800",
        b"=",
        b"] ",
        b":",
        b" | ",
        b"raft",
    ),
    *(
        b"0229 ",
        b"1231 23:59:60",
        b"1795374001123.4567",
        b"99999999999999999999",
        b"1e400",
        b"-",
        b".",
    ),
    *(
        b"null",
        b"{",
        b"}",
        b"[",
        b'"level":"',
        b'"ts":',
        b'"user":{"groups":',
        b"\xff",
        b"\xe2\x80",
    ),
)


def kernels(data: bytes) -> None:
    """
    Fields of a line are those of the reference.
    """
    line = data[:REFERENCE_BYTES_MAX]
    columns = rows_of([line])
    klog = _reference_text.extract_klog(line)
    assert extract_klog(columns, Wanted(NAMES)) == (klog is None)
    _compare(columns, klog[0] if klog else {})
    assert _fastfields.severities(columns)[0] == (klog[1] if klog else 0)
    for kernel, expected in (
        (extract_logfmt, _reference_text.extract_logfmt(line)),
        (extract_json, _reference_fields.extract_json(line, NAMES)),
    ):
        columns = rows_of([line])
        assert kernel(columns, Wanted(NAMES)) == (expected is None), kernel
        _compare(columns, expected or {})


def _compare(columns: _fastparse.Columns, expected: dict[bytes, tuple[int, bytes]]) -> None:
    for index, name in enumerate(NAMES):
        ((kind, value),) = _fastfields.field(columns, index)
        wanted = expected.get(name, (0, b""))
        # Of what is true, false or null only the kind is looked at.
        assert kind == wanted[0], (name, kind, value, wanted)
        assert kind <= _fastfields.FIELD_NULL or value == wanted[1] or kind in _WORDS, (name, value)


_WORDS = (_fastfields.FIELD_TRUE, _fastfields.FIELD_FALSE)


def route(data: bytes) -> None:
    """
    A route keeps every line of any component as it is, joins them without losing a byte, and makes valid records.
    """
    resource = replace(RESOURCE, container=CONTAINERS[data[0] % len(CONTAINERS)] if data else "")
    text = data[1:] + b"\n"

    def rows() -> _fastparse.Columns:
        return parsed(text, format=_fastparse.FORMAT_RAW)

    before = messages(rows())
    assert messages(applied(STAGES["rows"], rows(), resource=resource)) == before
    joined = messages(applied(STAGES["joined"], rows(), resource=resource))
    assert b"\n".join(joined) == b"\n".join(before)
    records = messages(applied(STAGES["records"], rows(), resource=resource))
    assert len(records) == len(before)
    for record in records:
        json.loads(record.decode(errors="replace"), strict=True)


SEEDS = (KLOG, AUDIT, AUTHENTICATOR, ETCD, HOST)
FUZZERS = (
    Fuzzer("component-kernels", kernels, SEEDS, TOKENS, cost=5),
    Fuzzer(
        "component-route",
        route,
        tuple(
            bytes([CONTAINERS.index(name)]) + seed
            for name in (
                "kube-apiserver",
                "audit",
                "aws-iam-authenticator",
                "etcd",
                "messages",
                "dmesg",
            )
            for seed in SEEDS
        ),
        TOKENS,
        cost=10,
    ),
)
