"""
The text formats of `parse`: what Kubernetes, web servers and syslog write; and anything else.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _fastfields
from agent._fastfields import Wanted
from agent._fastpairs import extract_klog, extract_logfmt
from agent._reference_text import extract_klog as klog_meaning
from agent._reference_text import extract_logfmt as logfmt_meaning
from agent.config import parse as parse_config
from agent.config.problems import ConfigError
from agent.core import counters as metric
from agent.core.counters import Counters
from agent.transforms.stages import SinkColumn
from tests.transforms.kit import applied, columns_of, messages, stages

KLOG = (
    'I1122 19:00:01.123456       1 controller.go:116] "Pod status updated" pod="kube-system/kubedns" '
    'status="ready" err="say \\"no\\"\\n" count=3 ok=true'
)
KLOG_BLOCK = (
    'E1122 19:00:01.123456  4211 a/b.go:7] "Failed" out=<\n\t first\n\t second="x"\n > node="n-1"'
)
NGINX = '203.0.113.9 - - [22/Nov/2026:19:00:01 +0100] "GET /a?b=\\x22 HTTP/1.1" 200 612 "-" "curl/8.5" "10.0.0.1"'
ENVOY = (
    '[2026-11-22T19:00:01.123Z] "GET /v1/items HTTP/2" 503 UF 0 91 12 - "10.0.0.1" "curl/8.5" '
    '"5f1c7a1e-0000" "shop.local" "10.0.1.7:8080"'
)
SYSLOG = '<165>1 2026-11-22T19:00:01.003Z host app 7 ID47 [ex@32473 a="1\\]" b="]"][y z="2"] \ufeffthe message'


def fields_of(fmt: str, line: str, *names: str, **more: Any) -> tuple[list[bytes | None], int]:
    """
    Return the values of fields of one line, None for those that are absent or null, and its severity.
    """
    columns = [SinkColumn(name, "string", name) for name in names]
    made = stages({"parse": fmt} | more, sink_columns=columns, sink_uses_level=True)
    done = applied(made, columns_of([line.encode()]))
    assert messages(done) == [line.encode()]
    values = [_fastfields.field(done, made.indices[name])[0] for name in names]
    return [value if kind > 1 else None for kind, value in values], _fastfields.severities(done)[0]


@pytest.mark.parametrize(
    ("fmt", "line", "expected", "severity"),
    [
        (
            "klog",
            KLOG,
            {"msg": "Pod status updated", "pod": "kube-system/kubedns", "err": 'say "no"\n'},
            9,
        ),
        (
            "klog",
            KLOG,
            {"thread": "1", "file": "controller.go", "line": "116", "count": "3", "x": None},
            9,
        ),
        (
            "klog",
            KLOG_BLOCK,
            {"out": '<\n\t first\n\t second="x"\n >', "node": "n-1", "second": None},
            17,
        ),
        ("klog", "W0101 00:00:00.000000 12 x.go:1] plain [a] msg", {"msg": "plain [a] msg"}, 13),
        (
            "klog",
            '{"ts":1e3,"caller":"a.go:1","msg":"m","v":0}',
            {"msg": "m", "caller": "a.go:1"},
            9,
        ),
        ("klog", '{"ts":1e3,"msg":"m","err":"x"}', {"err": "x"}, 17),
        ("klog", '{"ts":1e3,"msg":"m"}', {"msg": "m"}, 17),
        (
            "logfmt",
            'time="2026-01-02" level=warning msg="a \\"b\\"" n=-1.5 flag',
            {"msg": 'a "b"', "n": "-1.5"},
            13,
        ),
        ("logfmt", "a=1 a=2 b= c", {"a": "2", "b": "", "c": "c"}, 0),
        (
            "nginx",
            NGINX,
            {"remote_addr": "203.0.113.9", "remote_user": None, "status": "200", "bytes": "612"},
            0,
        ),
        (
            "nginx",
            NGINX,
            {"request": "GET /a?b=\\x22 HTTP/1.1", "referer": None, "user_agent": "curl/8.5"},
            0,
        ),
        ("nginx", NGINX, {"forwarded_for": "10.0.0.1", "time": "22/Nov/2026:19:00:01 +0100"}, 0),
        (
            "envoy",
            ENVOY,
            {"method": "GET", "path": "/v1/items", "response_code": "503", "response_flags": "UF"},
            0,
        ),
        (
            "envoy",
            ENVOY,
            {"duration": "12", "upstream_service_time": None, "upstream_host": "10.0.1.7:8080"},
            0,
        ),
        (
            "envoy",
            '{"method":"GET","response_code":200}',
            {"method": "GET", "response_code": "200"},
            0,
        ),
        (
            "envoy",
            (
                '{"start_time":"2026-11-22T19:00:01.123Z","method":"POST","path":"/v1/items?a=b","protocol":"HTTP/2",'
                '"response_code":503,"response_flags":"UF,URX","duration":12,"upstream_host":"10.0.1.7:8080",'
                '"authority":"api.acme.example","request_id":"a-1","x_forwarded_for":null}'
            ),
            {
                "response_code": "503",
                "response_flags": "UF,URX",
                "upstream_host": "10.0.1.7:8080",
                "authority": "api.acme.example",
                "x_forwarded_for": None,
            },
            0,
        ),
        ("syslog", SYSLOG, {"hostname": "host", "msg_id": "ID47", "message": "the message"}, 10),
        (
            "syslog",
            SYSLOG,
            {"structured_data": '[ex@32473 a="1\\]" b="]"][y z="2"]', "priority": "165"},
            10,
        ),
        (
            "syslog",
            "<11>1 - - - - - -",
            {"hostname": None, "message": None, "structured_data": None},
            17,
        ),
        ("json", 'prefix {"a":{"b":"c"}}', {"a.b": "c", "a": '{"b":"c"}'}, 0),
    ],
)
def test_examples(fmt: str, line: str, expected: dict[str, str | None], severity: int) -> None:
    values, level = fields_of(fmt, line, *expected)
    assert dict(zip(expected, values, strict=True)) == {
        name: None if value is None else value.encode() for name, value in expected.items()
    }
    assert level == severity


@pytest.mark.parametrize(
    ("fmt", "line"),
    [
        ("klog", "I1122 19:00:01.123456 x controller.go:116] no thread"),
        ("klog", "I1122 19:00:01.123456 1 controller.go] no line"),
        ("klog", "X1122 19:00:01.123456 1 a.go:1] no level"),
        ("klog", '{"ts":1'),
        ("logfmt", "hello a=b"),
        ("logfmt", "=b"),
        ("nginx", '203.0.113.9 - - [22/Nov/2026:19:00:01 +0100] "GET /'),
        ("envoy", '[x] "GET /v1'),
        ("syslog", "<192>1 2026-11-22T19:00:01Z h a p m - x"),
        ("syslog", '<13>1 2026-11-22T19:00:01Z h a p m [x a="'),
        ("syslog", "<13>Nov 22 19:00:01 h a: old syslog"),
    ],
)
def test_other_lines(fmt: str, line: str) -> None:
    """
    A line of another format is counted, keeps its text and has no fields.
    """
    counters = Counters()
    made = stages(
        {"parse": fmt}, counters=counters, sink_columns=[SinkColumn("msg", "string", "msg")]
    )
    done = applied(made, columns_of([line.encode()]))
    assert messages(done) == [line.encode()]
    assert _fastfields.field(done, 0) == [(0, b"")]
    assert counters.get(metric.UNPARSED_ROWS, "r", fmt) == 1


NAMES = (b"level", b"time", b"thread", b"caller", b"file", b"line", b"msg", b"a", b"b", b"k.x")
tokens = st.sampled_from(
    [
        *(
            "a=1",
            'a="x y"',
            'b="\\n\\x41\\u00e4\\q\\"',
            "k.x=true",
            "b=<\n\t1\n >",
            "b=<",
            "a",
            "msg=no",
            "=",
            '"',
            " ",
        ),
        *("a==", "b=-1e3", "\x7f", "é=1", "a=é", "\t", "\n", '"M \\"q\\""', '"open', "x", 'a="\\'),
    ]
)
heads = st.sampled_from(
    ["I1122 19:00:01.123456       1 c.go:116] ", "E0101 00:00:00.000000 7 a:b.go:1]", ""]
)
lines = st.builds(
    lambda head, parts, glue: (head + glue.join(parts)).encode(),
    heads,
    st.lists(tokens, max_size=7),
    st.sampled_from(["", " "]),
) | st.binary(max_size=40)


@given(st.lists(lines, max_size=4))
def test_logfmt_against_the_specification(rows: list[bytes]) -> None:
    columns = columns_of(rows)
    expected = [logfmt_meaning(row) for row in rows]
    assert extract_logfmt(columns, Wanted(NAMES)) == expected.count(None)
    for index, name in enumerate(NAMES):
        assert _fastfields.field(columns, index) == [
            (item or {}).get(name, (0, b"")) for item in expected
        ]


@given(st.lists(lines, max_size=4))
def test_klog_against_the_specification(rows: list[bytes]) -> None:
    columns = columns_of(rows)
    expected = [klog_meaning(row) for row in rows]
    assert extract_klog(columns, Wanted(NAMES)) == expected.count(None)
    for index, name in enumerate(NAMES):
        wanted = [(item[0] if item else {}).get(name, (0, b"")) for item in expected]
        assert _fastfields.field(columns, index) == wanted
    assert list(_fastfields.severities(columns)) == [item[1] if item else 0 for item in expected]


@pytest.mark.parametrize(
    ("read", "line", "expected"),
    [
        ("2027-01-01T00:00:10", "1231 23:59:59.500000", "2026-12-31T23:59:59.5"),
        ("2026-12-31T23:59:50", "0101 00:00:01.000000", "2027-01-01T00:00:01"),
        ("2026-06-01T00:00:00", "0601 00:00:00.000001", "2026-06-01T00:00:00.000001"),
        ("2026-02-27T00:00:00", "0229 00:00:00.000000", None),
    ],
)
def test_klog_at_new_year(read: str, line: str, expected: str | None) -> None:
    """
    Klog writes no year: the one in which the line is nearest to when it was written counts.
    """
    epoch = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - both are UTC

    def ns(text: str) -> int:
        return (dt.datetime.fromisoformat(text) - epoch) // dt.timedelta(microseconds=1) * 1_000

    from agent import _fastparse

    data = f"I{line} 1 a.go:1] x".encode()
    rows = _fastparse.Columns.build(data, [(ns(read), 0, 0, 0, 0, len(data), 1)])
    done = applied(stages({"parse": "klog", "time_field": "time"}), rows)
    assert done.column("time_ns")[0] == ns(expected or read)


def test_time_of_an_access_log() -> None:
    done = applied(stages({"parse": "nginx", "time_field": "time"}), columns_of([NGINX.encode()]))
    assert done.column("time_ns")[0] == 1_795_370_401_000_000_000


def test_a_pattern() -> None:
    """
    Named groups are fields; what took no part is absent.
    """
    pattern = r"^(?P<ip>\S+) (?:(?P<n>\d+)|-) (\w+)"
    made = stages(
        {"parse": "regex", "pattern": pattern},
        sink_columns=[SinkColumn("ip", "string", "ip"), SinkColumn("n", "bigint", "n")],
    )
    done = applied(made, columns_of([b"1.2.3.4 17 x", b"h - y", b"nothing"]))
    assert _fastfields.field(done, 0) == [(5, b"1.2.3.4"), (5, b"h"), (0, b"")]
    assert _fastfields.field(done, 1) == [(4, b"17"), (0, b""), (0, b"")]


def test_several_formats_of_one_container() -> None:
    """
    A parse looks at the rows that none before it has recognised.
    """
    made = stages(
        {"parse": "json"}, {"parse": "klog"}, {"parse": "logfmt"}, {"where": "level >= error"}
    )
    rows = [
        b'{"level":"error"}',
        b"E1122 19:00:01.123456 1 a.go:1] x",
        b"level=fatal",
        b"level=info",
        b"-",
    ]
    assert messages(applied(made, columns_of(rows))) == rows[:3]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"parse": "regex"}, "is for regex, and regex needs one"),
        ({"parse": "json", "pattern": "(?P<a>x)"}, "is for regex"),
        ({"parse": "regex", "pattern": "(x)"}, "has no named group"),
        ({"parse": "regex", "pattern": "(?P<a>x"}, "a group without its closing"),
    ],
)
def test_configuration(settings: dict[str, Any], problem: str) -> None:
    route = {"name": "r", "sink": {"type": "blackhole"}, "transforms": [settings]}
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps({"routes": [route]}), name="t", environ={})
    assert problem in str(caught.value)


def test_an_access_log_of_envoy_in_both_formats() -> None:
    """
    Lines of the default format and of the JSON one in one file; the time of each is the event's.
    """
    json_line = '{"start_time":"2026-11-22T19:00:02.5Z","response_code":404}'
    made = stages(
        {"parse": "envoy", "time_field": "start_time"},
        {"where": "fields.response_code >= 400"},
    )
    done = applied(made, columns_of([ENVOY.encode(), json_line.encode(), b"other"]))
    assert messages(done) == [ENVOY.encode(), json_line.encode()]
    times = done.column("time_ns")
    assert times[1] == 1_795_374_002_500_000_000
    assert ENVOY.startswith("[2026-11-22T19:00:0")
    assert 0 < times[1] - times[0] < 10 * 10**9


def test_a_pattern_that_never_matches() -> None:
    """
    It is counted, takes linear time over a line of a megabyte, and the line is delivered without fields.
    """
    counters = Counters()
    made = stages(
        {"parse": "regex", "pattern": r"^(?P<a>(?:x+x+)+)y$"},
        {"where": "not exists fields.a"},
        counters=counters,
    )
    lines = [b"x" * 1_000_000, b"other"]
    assert messages(applied(made, columns_of(lines))) == lines
    assert counters.get(metric.UNPARSED_ROWS, "r", "regex") == 2
