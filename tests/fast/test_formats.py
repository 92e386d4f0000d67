"""
The records of each format: their fields, what is left out of one that is too long, and lines of metrics.
"""

from __future__ import annotations

import json

import pytest

from agent._fastencode import MESSAGE_BARE, MESSAGE_CONTAINER_INSIGHTS, MESSAGE_OTEL
from agent._fastparse import FLAG_PARTIAL, FLAG_READ_TIME, FLAG_SEVERITY_SHIFT, FLAG_TRUNCATED
from tests.fast.test_encode import ENCODERS, RESOURCE, TIME_NS, messages_of

OTEL_RESOURCE = b',"resource":{"attributes":{"k8s.pod.name":"web-0"}}'
METRIC = b'{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"n"}]},"ms":12}'


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_record_that_is_too_long_loses_the_copy_first(encoder):
    """
    log_processed goes, then the end of the log, then the resource.
    """
    message = b'{"a":"%s"}' % (b"x" * 200)
    options = {"resource": RESOURCE}

    def record(limit):
        text = messages_of(
            encoder, [message], MESSAGE_CONTAINER_INSIGHTS, event_bytes_max=limit, **options
        )[0]
        assert len(text.encode()) <= limit
        return json.loads(text)

    assert list(record(1_000)) == ["time", "stream", "_p", "log", "log_processed", "kubernetes"]
    assert list(record(500)) == ["time", "stream", "_p", "log", "kubernetes"]
    assert record(500)["log"] == message.decode()
    assert record(300)["log"].endswith("x [truncated]")
    assert record(300)["kubernetes"]["pod_name"] == 'a"b'
    options["resource"] = b',"kubernetes":{"note":"%s"}' % (b"y" * 250)
    assert "kubernetes" not in record(256)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_row_without_a_time_gets_one(encoder):
    """
    The read time, as RFC 3339; Container Insights knows only stdout and stderr.
    """
    options = {"flags": FLAG_READ_TIME, "timed": False, "time_ns": 951_782_400_000_000_001}
    record = json.loads(messages_of(encoder, [b"x"], MESSAGE_CONTAINER_INSIGHTS, **options)[0])
    assert record["time"] == "2000-02-29T00:00:00.000000001Z"
    assert record["stream"] == "stdout"


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(
    ("line", "flags", "message"),
    [
        (
            b'a "b"',
            1,
            (
                '{"timeUnixNano":"1795374001500000000","body":"a \\"b\\"",'
                '"attributes":{"log.iostream":"stdout"}'
            ),
        ),
        (
            b' {"a":1.0} ',
            2,
            (
                '{"timeUnixNano":"1795374001500000000","body":{"a":1.0},'
                '"attributes":{"log.iostream":"stderr"}'
            ),
        ),
        (
            b"",
            1 | FLAG_PARTIAL,
            (
                '{"timeUnixNano":"1795374001500000000","body":"",'
                '"attributes":{"log.iostream":"stdout","logtag":"P"}'
            ),
        ),
        (
            b"x",
            17 << FLAG_SEVERITY_SHIFT | FLAG_READ_TIME,
            (
                '{"observedTimeUnixNano":"1795374001500000000","severityNumber":17,'
                '"severityText":"ERROR","body":"x"'
            ),
        ),
        (
            b"{}",
            10 << FLAG_SEVERITY_SHIFT,
            (
                '{"timeUnixNano":"1795374001500000000","severityNumber":10,'
                '"severityText":"INFO2","body":"{}"'
            ),
        ),
        (b"{}", 0, '{"timeUnixNano":"1795374001500000000","body":"{}"'),
        (b"x", FLAG_READ_TIME, '{"observedTimeUnixNano":"1795374001500000000","body":"x"'),
        (
            b'{"a":1}',
            FLAG_TRUNCATED,
            ('{"timeUnixNano":"1795374001500000000","body":"{\\"a\\":1} [truncated]"'),
        ),
    ],
    ids=["text", "object", "partial", "error", "notice", "empty object", "no time", "truncated"],
)
def test_a_record_of_opentelemetry(encoder, line, flags, message):
    """
    The golden records: fields in their order, an object as it was written.
    """
    written = messages_of(encoder, [line], MESSAGE_OTEL, flags=flags, resource=OTEL_RESOURCE)
    assert written == [message + OTEL_RESOURCE.decode() + "}"]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_record_of_opentelemetry_that_is_too_long_loses_its_end_then_its_resource(encoder):
    """
    The body is a string as soon as it is cut: half an object is none.
    """

    def record(line, limit, resource=OTEL_RESOURCE):
        (text,) = messages_of(
            encoder, [line], MESSAGE_OTEL, event_bytes_max=limit, resource=resource
        )
        assert len(text.encode()) <= limit
        return json.loads(text)

    line = b'{"a":"%s"}' % (b"x" * 300)
    assert record(line, 600)["body"] == json.loads(line)
    cut = record(line, 300)
    assert cut["body"].startswith('{"a":"xx')
    assert cut["body"].endswith("x [truncated]")
    assert cut["resource"]["attributes"] == {"k8s.pod.name": "web-0"}
    large = b',"resource":{"attributes":{"k8s.pod.label.a":"%s"}}' % (b"y" * 250)
    assert record(line, 256, large).keys() == {"timeUnixNano", "body", "attributes"}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("message_format", [MESSAGE_CONTAINER_INSIGHTS, MESSAGE_OTEL, MESSAGE_BARE])
def test_a_line_of_metrics_is_bare_where_it_may_be(encoder, message_format):
    """
    Only with metrics_bare, and between other lines.
    """
    lines = [b"before", METRIC, b'{"_aws":1}']
    bare = messages_of(encoder, lines, message_format, resource=RESOURCE, metrics_bare=True)
    assert bare[1] == METRIC.decode()
    wrapped = messages_of(encoder, lines, message_format, resource=RESOURCE)
    assert (bare[0], bare[2]) == (wrapped[0], wrapped[2])
    if message_format != MESSAGE_BARE:
        assert "_aws" not in json.loads(wrapped[1])
        assert json.loads(bare[2]).keys() >= {"kubernetes"}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(
    "line",
    [
        b'{"x":{"_aws":{"CloudWatchMetrics":[]}}}',
        b'{"_aws":{"x":{"CloudWatchMetrics":[]}}}',
        b'{"_aws":{"CloudWatchMetrics":{}}}',
        b'{"_aws":["CloudWatchMetrics"]}',
        b'{"_aws":{"CloudWatchMetrics":[]}} tail',
        b'["_aws",{"CloudWatchMetrics":[]}]',
        b'{"_aws":{"CloudWatchMetrics":[]},"n":"%s"}' % (b"x" * 300),
    ],
)
def test_what_is_not_metrics_is_wrapped(encoder, line):
    """
    A name that is not at the root, a value of another kind, text around it, a line that would be split.
    """
    options = {"resource": RESOURCE, "event_bytes_max": 300}
    assert messages_of(
        encoder, [line], MESSAGE_CONTAINER_INSIGHTS, metrics_bare=True, **options
    ) == messages_of(encoder, [line], MESSAGE_CONTAINER_INSIGHTS, **options)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_truncated_line_of_metrics_is_wrapped(encoder):
    """
    It says that it was cut, which metrics cannot.
    """
    (message,) = messages_of(
        encoder, [METRIC], MESSAGE_OTEL, flags=1 | FLAG_TRUNCATED, metrics_bare=True
    )
    assert json.loads(message)["timeUnixNano"] == str(TIME_NS)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_severities_are_opentelemetrys(encoder):
    """
    All numbers that there are have a name, and no other has a member.
    """
    found = []
    for number in range(32):
        flags = number << FLAG_SEVERITY_SHIFT
        (text,) = messages_of(encoder, [b"x"], MESSAGE_OTEL, flags=flags)
        record = json.loads(text)
        found.append((record.get("severityNumber"), record.get("severityText")))
    names = [
        f"{name}{step or ''}"
        for name in ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
        for step in (0, 2, 3, 4)
    ]
    assert found == [(None, None), *enumerate(names, 1), *[(None, None)] * 7]
