"""
`parse: component`: etcd in its two formats, and the logs of a host.
"""

from __future__ import annotations

import datetime as dt

import pytest

from agent import _fastfields
from agent.core import counters as metric
from agent.core.counters import Counters
from tests.transforms.component_kit import NOV_22_19_00_01, of_set, read


def test_etcd() -> None:
    line = '{"level":"warn","ts":"2026-11-22T19:00:01.5Z","caller":"v3/util.go:170","msg":"slow","took":"2s"}'
    done, values, said = read("etcd", [line], ("msg", "string", "msg"))
    assert values == [["slow"]]
    assert list(_fastfields.severities(done)) == [13]
    assert done.column("time_ns")[0] == NOV_22_19_00_01 * 10**9 + 500_000_000
    assert not said


def test_etcd_before_3_5() -> None:
    """
    The text of capnslog, of the raft library, and what etcd says of its own flags, which is none of them.
    """
    slow = (
        'read-only range request "key:\\"/registry/pods/\\" " with result "range_response_count:1 size:565" took too '
        "long (2.530284737s) to execute"
    )
    lines = [
        f"2026-11-22 19:00:01.500000 W | etcdserver: {slow}",
        "raft 2026/11/22 19:00:01 INFO: ac4ec652f10e5b49 became follower at term 3",
        "raft2026/11/22 19:00:01 WARN: x [logterm: 2, index: 342] sent MsgVote",
        "2026-11-22 19:00:01.500000 N | etcdserver/membership: updated the cluster version from 3.3 to 3.4",
        "2026-11-22 19:00:01.500000 C | etcdmain: two",
        "\tlines",
        "[WARNING] Deprecated '--logger=capnslog' flag is set; use '--logger=zap' flag instead",
        "2026-11-22 19:00:01.500000 I | bind: address already in use",
    ]
    counters = Counters()
    columns = [(name, "string", name) for name in ("logger", "msg")]
    done, values, said = read("etcd", lines, *columns, counters=counters)
    assert values == [
        ["etcdserver", slow],
        [None, "ac4ec652f10e5b49 became follower at term 3"],
        [None, "x [logterm: 2, index: 342] sent MsgVote"],
        ["etcdserver/membership", "updated the cluster version from 3.3 to 3.4"],
        ["etcdmain", "two\n\tlines"],
        [None, None],
        ["bind", "address already in use"],
    ]
    assert list(_fastfields.severities(done)) == [13, 9, 13, 10, 21, 0, 9]
    times = [time_ns - NOV_22_19_00_01 * 10**9 for time_ns in done.column("time_ns")]
    assert times[:5] == [500_000_000, 0, 0, 500_000_000, 500_000_000]
    assert counters.get(metric.UNPARSED_ROWS, "r", "component") == 1
    assert len(said) == 1


@pytest.mark.parametrize(
    ("container", "line", "expected"),
    [
        (
            "secure",
            "Nov  2 19:00:01 ip-10-0-0-1 sshd[4211]: Accepted publickey for ec2-user",
            {
                "host": "ip-10-0-0-1",
                "ident": "sshd",
                "pid": "4211",
                "text": "Accepted publickey for ec2-user",
            },
        ),
        (
            "messages",
            "2026-11-22T19:00:01.5+00:00 node systemd: Started session",
            {"host": "node", "ident": "systemd", "text": "Started session"},
        ),
        ("dmesg", "[    1.234567] Linux version 6.1", {"text": "Linux version 6.1"}),
        ("dmesg", "[    1.234567][    T0] Linux version 6.1", {"text": "Linux version 6.1"}),
        (
            "secure",
            "2026-11-22T19:00:01.123456+00:00 node (sd-pam)[7]: pam_unix: session closed",
            {"host": "node", "ident": "(sd-pam)", "pid": "7", "text": "pam_unix: session closed"},
        ),
    ],
)
def test_host_logs(container: str, line: str, expected: dict[str, str]) -> None:
    assert of_set("host", line, container) == expected


def test_time_of_a_host_log() -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    stamp = now.strftime("%b %e %H:%M:%S")
    done, _, _ = read("messages", [f"{stamp} node systemd[1]: x"])
    assert done.column("time_ns")[0] == int(now.timestamp()) * 10**9
