"""
The encoders: compiled and reference write the same bytes, within CloudWatch's limits.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _fastencode, _faststage, _reference_encode
from agent._fastencode import MESSAGE_BARE, MESSAGE_CONTAINER_INSIGHTS, MESSAGE_OTEL
from agent._fastparse import (
    FLAG_PARTIAL,
    FLAG_READ_TIME,
    FLAG_SEVERITY_SHIFT,
    FLAG_TRUNCATED,
    Columns,
)

HEAD = b'{"logGroupName":"g","logStreamName":"s","logEvents":['
RESOURCE = ',"kubernetes":{"pod_name":"a\\"b","host":"grüße"}'.encode()
TIME = b"2026-11-22T19:00:01.5+02:00"
TIME_NS = 1_795_374_001_500_000_000
ENCODERS = [
    pytest.param(_fastencode, id="compiled"),
    pytest.param(_reference_encode, id="reference"),
]
FORMATS = [MESSAGE_BARE, MESSAGE_CONTAINER_INSIGHTS, MESSAGE_OTEL]
ALWAYS = {"valid_from_ms": 0, "valid_until_ms": 2**62}


def columns(messages, *, flags=1, time_ns=TIME_NS, step_ns=1_000_000, timed=True):
    """
    Rows of *messages*, one millisecond apart.
    """
    data = b"".join(messages) + TIME
    time_start = len(data) - len(TIME)
    time_len = len(TIME) if timed else 0
    rows = []
    start = 0
    for index, message in enumerate(messages):
        time = time_ns + index * step_ns
        rows.append((time, index * 100, time_start, time_len, start, len(message), flags))
        start += len(message)
    return Columns.build(data, rows)


def encode_all(encoder, parts, resources, message_format, **limits):
    """
    Encode all rows into as many bodies as it takes: the events of each, and what encode said.
    """
    body = encoder.Body()
    order = encoder.order_rows(parts)
    start = start_byte = 0
    bodies = []
    while start < len(order):
        said = body.encode(
            HEAD,
            parts,
            resources,
            order,
            start,
            start_byte=start_byte,
            format=message_format,
            **(ALWAYS | limits),
        )
        assert said.events > 0
        assert (said.stop, said.stop_byte) > (start, start_byte)
        start, start_byte = said.stop, said.stop_byte
        bodies.append((bytes(body), said))
    return bodies


def events_of(text):
    return [(event["timestamp"], event["message"]) for event in json.loads(text)["logEvents"]]


def messages_of(encoder, messages, message_format=MESSAGE_BARE, **options):
    limits = {name: options.pop(name) for name in list(options) if name.endswith("_max")}
    limits |= {"metrics_bare": options.pop("metrics_bare", False)}
    resource = options.pop("resource", b"")
    parts = [columns(messages, **options)]
    bodies = encode_all(encoder, parts, [resource], message_format, **limits)
    return [message for text, _ in bodies for _, message in events_of(text)]


_TEXT = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=40).map(str.encode),
    st.text(alphabet='ab"\\\n\x01é日🚀', max_size=400).map(str.encode),
    st.sampled_from(
        [b'{"a":1}', b'  {"a":"\xff\\n"} \t', b"{}", b'{"a":[1,2', b'{"a":01}', b"[1]"]
    ),
    st.integers(250, 2_000).map(lambda size: b"x" * size),
)
_METRICS = st.sampled_from(
    [
        b'{"_aws":{"CloudWatchMetrics":[{"Namespace":"n"}],"Timestamp":1},"n":1}',
        b' {"x":{"_aws":1} , "_aws" : { "Timestamp":1, "CloudWatchMetrics" : [] } }\t',
        b'{"x":{"_aws":{"CloudWatchMetrics":[]}}}',
        b'{"_aws":{"a":{"CloudWatchMetrics":[]}}}',
        b'{"_aws":{"CloudWatchMetrics":{}}}',
        b'{"_aws":["CloudWatchMetrics"]}',
        b'{"_aws":{"CloudWatchMetrics":[]},"_aws":1}',
        b'{"_aws":{"CloudWatchMetrics":[]}} x',
        b'"_aws" {"CloudWatchMetrics":[]}',
        b'{"_aws":{"CloudWatchMetrics":[]},"n":"' + b"\xff" * 80 + b'"}',
        b'{"_aws":{"CloudWatchMetrics":[]},"n":"' + b"x" * 300 + b'"}',
    ]
)
_FLAGS = st.sampled_from(
    [0, 1, 2, 3, 1 | FLAG_PARTIAL, 2 | FLAG_TRUNCATED, FLAG_READ_TIME, FLAG_PARTIAL]
).flatmap(
    lambda flags: st.sampled_from([0, 0, 1, 10, 24, 25, 31]).map(
        lambda severity: flags | severity << FLAG_SEVERITY_SHIFT
    )
)
_TIMES = st.one_of(
    st.integers(0, 2**63 - 1),
    st.integers(TIME_NS - 10**9, TIME_NS + 10**9),
    st.integers(TIME_NS - 10**15, TIME_NS + 10**15),
)


@st.composite
def tables(draw):
    """
    Columns of any rows.
    """
    data, rows = TIME, []
    for index in range(draw(st.integers(0, 6))):
        message = draw(st.one_of(_TEXT, _METRICS))
        time_len = draw(st.sampled_from([0, len(TIME)]))
        rows.append((draw(_TIMES), index, 0, time_len, len(data), len(message), draw(_FLAGS)))
        data += message
    return Columns.build(data, rows)


@given(
    st.lists(tables(), min_size=1, max_size=4),
    st.sampled_from(FORMATS),
    st.integers(1, 8),
    st.sampled_from([256, 300, 700, 1_048_550]),
    st.sampled_from([0, 100, 10_000_000]),
    st.sampled_from([1, 1_000, 86_400_000]),
    st.sampled_from([b"", RESOURCE, b',"kubernetes":{"note":"%s"}' % (b"long" * 80)]),
    st.booleans(),
)
def test_both_write_the_same(
    parts,
    message_format,
    events_max,
    event_bytes_max,
    batch_more,
    span_ms_max,
    resource,
    metrics_bare,
):
    """
    Any rows under any limits: the same bodies, and the same said of them.
    """
    resources = [resource if index % 2 else RESOURCE for index in range(len(parts))]
    written = [
        encode_all(
            encoder,
            parts,
            resources,
            message_format,
            metrics_bare=metrics_bare,
            events_max=events_max,
            event_bytes_max=event_bytes_max,
            batch_bytes_max=event_bytes_max + 26 + batch_more,
            span_ms_max=span_ms_max,
            valid_from_ms=TIME_NS // 10**6 - 10,
            valid_until_ms=TIME_NS // 10**6 + 10,
        )
        for encoder in (_fastencode, _reference_encode)
    ]
    assert written[0] == written[1]
    for text, said in written[0]:
        events = events_of(text)
        sizes = [len(message.encode()) for _, message in events]
        times = [time for time, _ in events]
        assert min(sizes) >= 1
        assert max(sizes) <= event_bytes_max
        assert sum(sizes) + 26 * len(sizes) == said.event_bytes <= event_bytes_max + 26 + batch_more
        assert len(events) == said.events <= events_max
        assert times == sorted(times)
        assert (times[0], times[-1]) == (said.time_first_ms, said.time_last_ms)
        assert times[-1] - times[0] < span_ms_max


@given(tables())
def test_both_stage_the_same(table):
    """
    Staged buffers are those of the reference, and valid UTF-8.
    """
    staged = _faststage.staging_buffers(table)
    assert staged == _reference_encode.staging_buffers(table)
    staged.messages.decode()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_invalid_utf8_becomes_replacement_characters(encoder):
    """
    Per maximal ill-formed part, as Python decodes; and the event's size counts it.
    """
    message = b"a\xff\xe2\x82b\xc0\xaf\xed\xa0\x80\xf0\x9f\x9a"
    expected = message.decode(errors="replace")
    assert messages_of(encoder, [message]) == [expected]
    _, said = encode_all(encoder, [columns([message])], [b""], MESSAGE_BARE)[0]
    assert said.event_bytes == len(expected.encode()) + 26


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_empty_message_is_one_space(encoder):
    """
    CloudWatch takes no empty message.
    """
    assert messages_of(encoder, [b"", b"a"]) == [" ", "a"]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_long_row_is_split_between_characters(encoder):
    """
    No part is over the limit, none begins within a character, and together they are the row.
    """
    message = ("日" * 200 + "x").encode()
    parts = messages_of(encoder, [message], event_bytes_max=256)
    assert "".join(parts).encode() == message
    assert [len(part.encode()) for part in parts] == [255, 255, 91]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_split_row_goes_on_in_the_next_body(encoder):
    """
    Two parts of which only one fits: the row counts once, with its last part.
    """
    parts = [columns([b"a" * 500, b"b"])]
    bodies = encode_all(
        encoder, parts, [b""], MESSAGE_BARE, event_bytes_max=400, batch_bytes_max=430
    )
    assert [(said.stop, said.stop_byte, said.split, said.part_rows) for _, said in bodies] == [
        (0, 400, 0, [0]),
        (2, 0, 1, [2]),
    ]
    assert [message for text, _ in bodies for _, message in events_of(text)] == [
        "a" * 400,
        "a" * 100,
        "b",
    ]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_truncated_row_says_so(encoder):
    """
    The mark stands behind the text, alone if it must.
    """
    options = {"flags": 1 | FLAG_TRUNCATED, "event_bytes_max": 256}
    assert messages_of(encoder, [b"abc"], **options) == ["abc [truncated]"]
    assert messages_of(encoder, [b"a" * 250], **options) == ["a" * 250, " [truncated]"]
    record = json.loads(
        messages_of(encoder, [b'{"a":1}'], MESSAGE_CONTAINER_INSIGHTS, **options)[0]
    )
    assert record["log"] == '{"a":1} [truncated]'
    assert "log_processed" not in record


@pytest.mark.parametrize("encoder", ENCODERS)
def test_old_and_new_events_do_not_travel_with_valid_ones(encoder):
    """
    What the service refuses takes nothing along: before, inside and after are requests of their own.
    """
    first = TIME_NS // 10**6
    bodies = encode_all(
        encoder,
        [columns([b"x"] * 6)],
        [b""],
        MESSAGE_BARE,
        valid_from_ms=first + 1,
        valid_until_ms=first + 3,
    )
    assert [said.events for _, said in bodies] == [1, 3, 2]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_body_spans_less_than_a_day(encoder):
    """
    The last event is less than 24 hours behind the first.
    """
    hour = 3_600 * 10**9
    bodies = encode_all(encoder, [columns([b"x"] * 30, step_ns=hour)], [b""], MESSAGE_BARE)
    assert [said.events for _, said in bodies] == [24, 6]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_last_time_is_that_of_the_last_event(encoder):
    """
    Not that of the event that did not fit any more.
    """
    parts = [columns([b"x" * 300] * 2)]
    limits = {"event_bytes_max": 300, "batch_bytes_max": 330}
    (_, first), _ = encode_all(encoder, parts, [b""], MESSAGE_BARE, **limits)
    assert first.time_last_ms == first.time_first_ms == TIME_NS // 10**6


@pytest.mark.parametrize("encoder", ENCODERS)
def test_cloudwatch_limits_are_reached_exactly(encoder):
    """
    1,048,576 bytes with 26 an event, and 10,000 events.
    """
    fits = columns(
        [b"x" * 1_048_522, b"", b"y"]
    )  # two events: 1,048,522 + 1 + 1 + 2 × 26 > the limit
    bodies = encode_all(encoder, [fits], [b""], MESSAGE_BARE)
    assert [(said.events, said.event_bytes) for _, said in bodies] == [(2, 1_048_575), (1, 27)]
    bodies = encode_all(encoder, [columns([b"z"] * 10_001)], [b""], MESSAGE_BARE)
    assert [said.events for _, said in bodies] == [10_000, 1]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_rows_are_ordered_by_time_and_stable(encoder):
    """
    Rows of several parts interleave; equal milliseconds keep their order.
    """
    one = columns([b"0", b"2", b"4"], step_ns=2_000_000)
    two = columns([b"1", b"3", b"5"], time_ns=TIME_NS + 1_000_000, step_ns=2_000_000)
    same = columns([b"a", b"b", b"c"], step_ns=0)
    order = encoder.order_rows([one, two, same])
    assert len(order) == 9
    bodies = encode_all(encoder, [one, two, same], [b""] * 3, MESSAGE_BARE)
    assert "".join(message for _, message in events_of(bodies[0][0])) == "0abc12345"


def test_a_body_that_is_being_sent_is_not_overwritten():
    """
    The buffer is reused, but not while it is exported.
    """
    body = _fastencode.Body()
    parts = [columns([b"x"])]
    order = _fastencode.order_rows(parts)

    def encode():
        body.encode(
            HEAD, parts, [b""], order, 0, format=MESSAGE_BARE, valid_from_ms=0, valid_until_ms=1
        )

    encode()
    with memoryview(body) as view:
        assert view.readonly
        assert len(view) == len(body)
        with pytest.raises(BufferError):
            encode()
    encode()


def test_wrong_arguments_are_refused():
    """
    Limits that cannot hold one event, an order of other parts, a start behind the end.
    """
    body = _fastencode.Body()
    parts = [columns([b"x"])]
    order = _fastencode.order_rows(parts)

    def encode(parts=parts, resources=(b"",), start=0, **options):
        options = {"format": MESSAGE_BARE} | ALWAYS | options
        body.encode(HEAD, parts, resources, order, start, **options)

    wrongs: list[dict[str, Any]] = [
        {"start": 1},
        {"start": -1},
        {"start_byte": 1},
        {"format": 7},
        {"resources": []},
        {"parts": parts * 2, "resources": [b""] * 2},
        {"event_bytes_max": 100},
        {"events_max": 0},
        {"batch_bytes_max": 1_000},
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError):
            encode(**wrong)
    with pytest.raises(TypeError):
        encode(parts=[object()])
