"""
`redact`: what is a secret, against the specification; nothing of it is left in messages or fields.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent import _fastfields
from agent._reference_redact import KINDS, redact
from agent.config import parse as parse_config
from agent.config.problems import ConfigError
from agent.core import counters as metric
from agent.core.counters import Counters
from tests.transforms.kit import RESOURCE, applied, columns_of, messages, stages

KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "MIIEpAIBAAKCAQEA7v\n" * 3
    + "-----END RSA PRIVATE KEY-----"
)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_1"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mail from joe.doe+x@mail.example.com.", "mail from <email>."),
        ("joe@localhost", "joe@localhost"),
        ("from 10.0.0.1:8080 to 256.1.1.1", "from <ipv4>:8080 to 256.1.1.1"),
        ("version 1.2.3.4.5 and v1.2.3.4", "version 1.2.3.4.5 and v1.2.3.4"),
        ("at fe80::1%eth0 or 2001:db8:0:0:0:0:2:1", "at <ipv6>%eth0 or <ipv6>"),
        ("time 19:00:01 std::string a::b", "time 19:00:01 std::string a::b"),
        ("card 4111 1111 1111 1111, 4111111111111112", "card <credit_card>, 4111111111111112"),
        ("5500-0000-0000-0004", "<credit_card>"),
        ("key AKIAIOSFODNN7EXAMPLE.", "key <aws_access_key>."),
        (f'"SecretAccessKey": "{SECRET}"', '"SecretAccessKey": "<aws_secret_key>"'),
        (f"aws_secret_access_key={SECRET}", "aws_secret_access_key=<aws_secret_key>"),
        (f"token {JWT} ok", "token <jwt> ok"),
        ("Authorization: Bearer abcdef012345==", "Authorization: Bearer <bearer>"),
        (f"x {KEY} y", "x <private_key> y"),
        ("x -----BEGIN PRIVATE KEY-----MIIE", "x <private_key>"),
        ("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----"),
        ("order 1234567890123 took 12.5ms", "order 1234567890123 took 12.5ms"),
    ],
)
def test_what_is_one(line: str, expected: str) -> None:
    made = stages({"redact": ("all",), "replacement": "<{kind}>"})
    assert messages(applied(made, columns_of([line.encode()]))) == [expected.encode()]


pieces = st.sampled_from(
    [
        *(
            "joe@x.io",
            "@",
            "a.b@c.d.ef",
            "1.2.3.4",
            "255.255.255.255",
            "300.1.1.1",
            "fe80::1",
            "::",
            "1::2",
            ":",
        ),
        *(
            "2001:db8:0:0:0:0:2:1",
            "12:34:56",
            "4111111111111111",
            "4111 1111 1111 1111",
            "5500-0000-0000-0004",
        ),
        *(
            "AKIAIOSFODNN7EXAMPLE",
            JWT,
            "eyJ",
            "Bearer abcdefgh",
            "bearer ",
            f"secret_access_key='{SECRET}'",
        ),
        *(
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "-----",
            "PRIVATE KEY-----",
            SECRET,
            "secret ",
        ),
        *(" ", "a", "1", ".", "-", "_", "é", "=", "x9", "ffff", "\n", "12345678901234567890"),
    ]
)
texts = st.lists(pieces, max_size=7).map("".join).map(str.encode) | st.binary(max_size=12)


@example([b":fe80::1", b"::1", b"a ::1 :2::3"], frozenset({"ipv6"}))
@given(st.lists(texts, max_size=4), st.frozensets(st.sampled_from(KINDS), min_size=1))
def test_against_the_specification(lines: list[bytes], kinds: frozenset[str]) -> None:
    """
    The same text as the specification makes, and what is beside it stays where it is.
    """
    made = stages({"redact": tuple(kinds), "replacement": "<{kind}>"})
    expected = [redact(kinds, line, lambda kind: b"<%s>" % kind.encode()) for line in lines]
    # A key that is open takes the lines behind it: see below.  Here each line is a Log of its own.
    for line, wanted in zip(lines, expected, strict=True):
        columns = applied(made, columns_of([line]))
        assert messages(columns) == [wanted]
        assert columns.message_bytes == len(wanted)


def test_a_key_over_several_lines() -> None:
    """
    Its lines are replaced until it ends, over a read boundary too; other streams and what is no key stay.
    """
    log = stages({"redact": ("private_key",), "replacement": "*"}).begin()
    lines = [line.encode() for line in KEY.split("\n")]
    first = log.apply(
        columns_of(lines[:2]), resource=RESOURCE, generation=0, now=0.0, release=False
    )
    other = log.apply(
        columns_of([b"abc"], flags=2), resource=RESOURCE, generation=0, now=0.0, release=False
    )
    second = log.apply(
        columns_of([*lines[2:], b"abc"]), resource=RESOURCE, generation=0, now=0.0, release=False
    )
    assert messages(first.columns) == [b"*", b"*"]
    assert messages(other.columns) == [b"abc"]
    assert messages(second.columns) == [b"*", b"*", b"*", b"abc"]


def test_fields_and_patterns() -> None:
    """
    What was extracted before is replaced as well; patterns of one's own have a name; all is counted.
    """
    counters = Counters()
    made = stages(
        {"parse": "json"},
        {"where": "exists fields.to and exists fields.n and exists fields.ok"},
        {"redact": ("email",), "patterns": {"ssn": r"\b\d{3}-\d{2}-\d{4}\b", "empty": "q*"}},
        counters=counters,
    )
    line = b'{"to":"joe@x.io","n":"123-45-6789 987-65-4321","ok":true,"x":"a\\u0040b"}'
    columns = applied(made, columns_of([line, line]))
    wanted = line.replace(b"joe@x.io", b"[redacted:email]")
    wanted = wanted.replace(b"123-45-6789", b"[redacted:ssn]").replace(
        b"987-65-4321", b"[redacted:ssn]"
    )
    assert messages(columns) == [wanted, wanted]
    values = [_fastfields.field(columns, index)[0][1] for index in range(3)]
    assert values == [b"true", b"[redacted:ssn] [redacted:ssn]", b"[redacted:email]"] or set(
        values
    ) == {
        b"true",
        b"[redacted:ssn] [redacted:ssn]",
        b"[redacted:email]",
    }
    assert counters.get(metric.REDACTED, "r", "email") == 2
    assert counters.get(metric.REDACTED, "r", "ssn") == 4


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"redact": ["emial"]}, 'got "emial", expected some of email, ipv4'),
        ({"redact": []}, "is empty, and there are no patterns"),
        ({"redact": ["all"], "patterns": {"a": "(x"}}, "patterns: a: a group without its closing"),
        ({"redact": "email"}, "expected a list"),
    ],
)
def test_configuration(settings: dict[str, Any], problem: str) -> None:
    route = {"name": "r", "sink": {"type": "blackhole"}, "transforms": [settings]}
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps({"routes": [route]}), name="t", environ={})
    assert problem in str(caught.value)
