"""
`where`: what an expression means, what is said about one that is none, and that nothing falls between two routes.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import _reference_fields
from agent._reference_fields import extract_json, number, severity
from agent.config import parse as parse_config
from agent.config.problems import ConfigError
from agent.core import counters as metric
from agent.core.counters import Counters
from agent.core.cursor import STREAM_NAMES
from agent.transforms import predicates
from agent.transforms.expression import ExpressionError, parse
from tests.transforms.kit import RESOURCE, applied, columns_of, messages, stages

FIELDS = ("s", "n", "b", "o.x")
texts = st.sampled_from(["", "a", "web", "7", "07", "7.0", "true", "b c", "ä"])


@st.composite
def rows(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 5)) == 0:
        return draw(st.binary(max_size=6))
    members: dict[str, Any] = {}
    if draw(st.booleans()):
        members["s"] = draw(st.none() | texts)
    if draw(st.booleans()):
        members["n"] = draw(st.integers(-8, 8) | st.floats(-8, 8) | texts)
    if draw(st.booleans()):
        members["b"] = draw(st.booleans())
    if draw(st.booleans()):
        members["o"] = {"x": draw(texts | st.integers(0, 9))}
    if draw(st.booleans()):
        members["level"] = draw(
            st.sampled_from(["trace", "info", "WARN", "error", "?", 30, "fatal"])
        )
    return json.dumps(members).encode()


quoted = texts.map(json.dumps)
fields = st.sampled_from([f"fields.{name}" for name in FIELDS])
plain_tests = st.one_of(
    st.builds(
        "level {} {}".format,
        st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        st.sampled_from([*predicates.LEVELS, '"warning"']),
    ),
    st.builds("level in [{}, {}]".format, *[st.sampled_from(list(predicates.LEVELS))] * 2),
    st.builds("exists {}".format, fields | st.sampled_from(["level", "stream", "message", "pod"])),
    st.builds("{} {} {}".format, fields, st.sampled_from(["==", "!="]), quoted | st.just("true")),
    st.builds(
        "{} {} {}".format,
        fields,
        st.sampled_from(["==", "<", "<=", ">", ">=", "!="]),
        st.integers(-9, 9),
    ),
    st.builds("{} not in [{}, {}]".format, fields, quoted, st.integers(0, 9)),
    st.builds(
        "{} {} {}".format,
        fields | st.sampled_from(["message", "pod", "labels.app"]),
        st.sampled_from(["contains", "not starts_with", "starts_with"]),
        quoted.filter(lambda text: text != '""'),
    ),
    st.builds("stream {} {}".format, st.sampled_from(["==", "!="]), st.sampled_from(STREAM_NAMES)),
    st.builds("pod == {}".format, st.sampled_from(['"web-1"', '"b"'])),
    st.sampled_from(["true", "false"]),
)
expressions = st.recursive(
    plain_tests,
    lambda inner: st.one_of(
        st.builds("not {}".format, inner.map("({})".format)),
        st.builds("({}) and {}".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
    ),
    max_leaves=6,
)


def holds(node: predicates.Predicate, line: bytes, stream: int) -> bool:
    """
    What an expression means for one row, in plain Python.
    """
    found = extract_json(line, tuple(name.encode() for name in (*FIELDS, "level"))) or {}

    def value(operand: predicates.Operand) -> bytes | None:
        if operand.root == "message":
            return line
        kind, text = found.get(operand.key.encode(), (0, b""))
        return text if kind > 1 else None

    match node:
        case predicates.Always(value=always):
            return always
        case predicates.Not(inner=inner):
            return not holds(inner, line, stream)
        case predicates.And(parts=parts):
            return all(holds(part, line, stream) for part in parts)
        case predicates.Or(parts=parts):
            return any(holds(part, line, stream) for part in parts)
        case predicates.Level(low=low, high=high):
            kind, text = found.get(b"level", (0, b""))
            level = severity(text) if kind in {4, 5} else 0
            return level > 0 and low <= level <= high
        case predicates.Stream(index=index):
            return stream == index
        case predicates.Number(operand=operand, sign=sign, value=limit):
            kind, text = found.get(operand.key.encode(), (0, b""))
            read = number(text) if kind in {4, 5} else None
            return (
                read is not None
                and {
                    "==": read == limit,
                    "<": read < limit,
                    "<=": read <= limit,
                    ">": read > limit,
                    ">=": read >= limit,
                }[sign]
            )
        case predicates.Text(operand=operand, word=word, text=wanted):
            shown = value(operand)
            if shown is None:
                return False
            raw = wanted.encode()
            return {
                "==": shown == raw,
                "contains": raw in shown,
                "starts_with": shown.startswith(raw),
                "exists": True,
            }[word]
        case predicates.Container(operand=operand):
            assert operand.root in {"pod", "labels"}
            return node.holds(RESOURCE)
    raise AssertionError(node)


@given(st.lists(rows(), max_size=10), expressions, st.sampled_from([0, 1, 2]))
def test_meaning(lines: list[bytes], expression: str, stream: int) -> None:
    """
    The columns say what the plain meaning says; an expression and its negation split the rows exactly.
    """
    node = parse(expression)
    expected = [line for line in lines if holds(node, line, stream)]
    others = [line for line in lines if not holds(node, line, stream)]
    parse_json = {"parse": "json"}
    counters = Counters()
    kept = applied(
        stages(parse_json, {"where": expression}, counters=counters),
        columns_of(lines, flags=stream),
    )
    dropped = applied(
        stages(parse_json, {"where": f"not ({expression})"}), columns_of(lines, flags=stream)
    )
    assert messages(kept) == expected
    assert messages(dropped) == others
    assert counters.total(metric.FILTERED_ROWS, "r") == len(others)


@pytest.mark.parametrize(
    ("expression", "problem", "column"),
    [
        ("level >> warn", "got >, expected a number", 7),
        ("level >= loud", "expected a level, one of trace", 9),
        ("pod = 3", "equality is ==", 4),
        ('message contains "x', "without its closing quote", 17),
        ("status == 3", "a field of the message is fields.status", 0),
        ("fields == 3", 'expected fields.KEY or fields["KEY"]', 0),
        ("pod.name == 'x'", "expected one of level", 0),
        ("(level == info", "a closing parenthesis", 14),
        ("pod == web", 'in quotes: "web"', 7),
        ("level == info and", "got the end", 17),
        ('level in [warn, "error"] x', "expected and, or, or the end", 25),
        ("fields.x in []", "got ]", 13),
        ("fields.x not == 3", "expected in, contains", 13),
        ("fields.x < 'b'", "texts have no order", 11),
        ("fields.x < true", "have no order", 11),
        ('level contains "x"', "level is compared", 0),
        ('pod contains ""', "in every text", 13),
        ("labels[app] == 'x'", "a key in quotes", 7),
        ("(" * 60 + "true" + ")" * 60, "at most 50", 50),
        ("level == info\n  && true", "'&' means nothing", 2),
        ("not", "got the end", 3),
        ("7 == fields.x", "got 7, expected one of level", 0),
    ],
)
def test_problems(expression: str, problem: str, column: int) -> None:
    """
    Who writes an expression that is none sees the place: a caret under the character.
    """
    with pytest.raises(ExpressionError) as caught:
        parse(expression)
    text = str(caught.value)
    assert problem in text
    assert text.splitlines()[-1] == " " * (4 + column) + "^"


def test_long_expression() -> None:
    with pytest.raises(ExpressionError, match="longer than 8192"):
        parse("true or " * 2_000 + "true")


@pytest.mark.parametrize(
    ("transforms", "problem"),
    [
        (
            [{"where": "level >= warn"}],
            r"transforms\[0\].where: uses level, but no parse stands before",
        ),
        (
            [{"where": "fields.a == 1"}, {"parse": "json"}],
            r"\[0\].where: uses fields.a, but no parse",
        ),
        ([{"prse": "json"}], r"transforms\[0\]: got prse.*did you mean parse"),
        (
            [{"parse": "json", "where": "true"}],
            "got parse and where, expected one transform an item",
        ),
        ([{"parse": "yaml"}], r"transforms\[0\].parse: got \"yaml\", expected one of json"),
        ([{"parse": "json", "time": "x"}], r"transforms\[0\].time: unknown key"),
        (["parse"], r"transforms\[0\]: got \"parse\", expected a mapping"),
        ({"parse": "json"}, "transforms: got a mapping, expected a list"),
        ([{"parse": "json"}, {"where": "level =! warn"}], r"\[1\].where: '=' means nothing"),
        ([{"parse": "json"}] * 33, "got 33 of them, expected a list of at most 32"),
    ],
)
def test_configuration(transforms: Any, problem: str) -> None:
    """
    Transforms that cannot be are refused with the path of the key.
    """
    route = {"name": "r", "sink": {"type": "blackhole"}, "transforms": transforms}
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps({"routes": [route]}), name="t", environ={})
    assert re.search(problem, str(caught.value)), caught.value


def test_only_what_is_used_is_extracted() -> None:
    """
    A level that nobody asks for costs no field.
    """
    assert stages({"parse": "json"}).wanted.names == ()
    made = stages(
        {"parse": "json", "time_field": "ts"}, {"where": "fields.a == 1 or fields.b == 2"}
    )
    assert made.wanted.names == (b"ts", b"a", b"b")
    assert b"level" in stages({"parse": "json"}, {"where": "level == info"}).wanted.names


def test_time_and_level_of_the_event() -> None:
    """
    The time in a field becomes the row's; a value that is none is counted and the row keeps its own.
    """
    counters = Counters()
    made = stages(
        {"parse": "json", "time_field": "ts"}, {"where": "exists level"}, counters=counters
    )
    lines = [
        b'{"ts":1700000000.5,"level":"info"}',
        b'{"ts":"soon","level":30}',
        b'{"ts":1,"level":"x"}',
    ]
    columns = applied(made, columns_of(lines))
    assert messages(columns) == lines[:2]
    assert columns.column("time_ns")[0] == 1_700_000_000_500_000_000
    assert columns.column("time_ns")[1] == _reference_fields.moment(b"1800000000000000001")
    assert counters.get(metric.MISFIT_VALUES, "r", "ts") == 1
    assert counters.get(metric.MISFIT_VALUES, "r", "level") == 1
