"""
`record`: messages that become objects; the kernel against its specification.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _fastcompose, _fastfields, _fastparse
from agent._fastfields import Wanted
from agent._fastobject import extract_json
from agent._reference_compose import compose
from agent._reference_records import decode, rows_of
from agent.config import parse as parse_config
from agent.config.problems import ConfigError
from tests.transforms.kit import RESOURCE, applied, columns_of, messages, parsed, stages

NAMES = (b"a", b"b", b"c.d")
values = (
    st.text(max_size=8)
    | st.integers()
    | st.booleans()
    | st.none()
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.sampled_from(["d", "e"]), st.text(max_size=3), max_size=2)
)
lines = st.dictionaries(st.sampled_from(["a", "b", "c", "z"]), values).map(
    lambda item: json.dumps(item, ensure_ascii=False).encode()
) | st.binary(max_size=40)
members = st.lists(
    st.tuples(
        st.sampled_from([b'"x":', b'"a \\"name\\"":']),
        st.sampled_from(range(5)),
        st.sampled_from(range(len(NAMES))),
    ),
    max_size=5,
).map(tuple)


@given(st.lists(lines, max_size=4), members, st.sampled_from([b"", b'"az":"b"']), st.booleans())
def test_against_the_specification(
    rows: list[bytes], wanted: tuple[tuple[bytes, int, int], ...], tail: bytes, fields: bool
) -> None:
    columns = columns_of(rows, flags=1)
    if fields:
        extract_json(columns, Wanted(NAMES))
    found = [_fastfields.field(columns, index) for index in range(len(NAMES))] if fields else []
    expected = [
        compose(row, [item[index] for item in found] or [(0, b"")] * len(NAMES), wanted, tail)
        for index, row in enumerate(rows_of(columns))
    ]
    _fastcompose.compose(columns, wanted, tail)
    assert [decode(message) for message in messages(columns)] == expected
    assert columns.message_bytes == sum(map(len, messages(columns)))


def test_a_record_of_container_insights() -> None:
    """
    What has no value is left out; what is no line of syslog is kept whole.
    """
    made = stages(
        {"parse": "component"},
        {
            "record": {
                "host": "fields.host",
                "ident": "fields.ident",
                "pid": "fields.pid",
                "message": "fields.message",
                "az": "zone",
                "ec2_instance_id": "instance_id",
            }
        },
    )
    rows = columns_of(
        [b'2026-11-22T19:00:01Z n sshd[7]: say "no"', b"2026-11-22T19:00:01Z n su: x", b"?"]
    )
    resource = replace(RESOURCE, container="secure", zone="eu-central-1a", instance_id="i-1")
    found = [json.loads(text) for text in messages(applied(made, rows, resource=resource))]
    where = {"az": "eu-central-1a", "ec2_instance_id": "i-1"}
    assert found == [
        {"host": "n", "ident": "sshd", "pid": "7", "message": 'say "no"'} | where,
        {"host": "n", "ident": "su", "message": "x"} | where,
        {"log": "?"} | where,
    ]


def test_what_the_runtime_wrote() -> None:
    """
    Time, stream and tag of a line, and a line whose time is its own.
    """
    record = {"log": "message", "time": "time", "stream": "stream", "_p": "tag"}
    text = b"2026-11-22T19:00:01.5+01:00 stderr F caf\xc3\xa9 \x01\xff\n"
    (found,) = messages(applied(stages({"record": record}), parsed(text)))
    assert json.loads(found) == {
        "log": "café \x01\ufffd",
        "time": "2026-11-22T19:00:01.5+01:00",
        "stream": "stderr",
        "_p": "F",
    }
    rows = parsed(b"x\n", format=_fastparse.FORMAT_RAW)
    (found,) = messages(applied(stages({"record": record}), rows))
    assert json.loads(found) == {"log": "x", "time": "2027-01-15T08:00:00.000000000Z", "_p": "F"}


@pytest.mark.parametrize(
    ("transforms", "problem"),
    [
        (
            [{"record": {"a": "massage"}}],
            "record: a: got 'massage', expected fields.NAME or one of",
        ),
        ([{"record": {"a": "fields."}}], "expected fields.NAME"),
        ([{"record": {"a": "fields.b"}}], "uses fields.b, but no parse stands before it"),
        ([{"record": {}}], "record"),
        ([{"record": "message"}], "expected a mapping"),
    ],
)
def test_configuration(transforms: list[dict[str, Any]], problem: str) -> None:
    route = {"name": "r", "sink": {"type": "blackhole"}, "transforms": transforms}
    with pytest.raises(ConfigError) as refused:
        parse_config(json.dumps({"routes": [route]}), name="t.yaml", environ={})
    assert problem in str(refused.value)
