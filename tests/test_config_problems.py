"""
The configuration: what is said about what is wrong.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.convert import bytes_from, bytes_text
from tests.fakes.probe_sink import install, problems, sink_problems


@pytest.fixture(autouse=True)
def _probe(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "linger_s: 5 sec",
            'linger_s: got "5 sec", expected seconds as a number at least 0, e.g. 5',
        ),
        ("linger_s: -1", "linger_s: got -1, expected seconds as a number at least 0, e.g. 5"),
        ("linger_s: .inf", 'linger_s: got ".inf", expected seconds as a number at least 0, e.g. 5'),
        ("linger_s:", "linger_s: got nothing, expected seconds as a number at least 0, e.g. 5"),
        ("count: 65", "count: got 65, expected a whole number from 1 to 64"),
        ("count: 1.5", "count: got 1.5, expected a whole number from 1 to 64"),
        ("count: '5'", 'count: got "5", expected a whole number from 1 to 64'),
        ("count: true", "count: got true, expected a whole number from 1 to 64"),
        ("count: " + "9" * 50, f'count: got "{"9" * 39}…", expected a whole number from 1 to 64'),
        ("count: ${REGION}", 'count: got "eu-west-1", expected a whole number from 1 to 64'),
        ("share: 1", "share: got 1, expected a number above 0 and below 1"),
        ("on: yes", 'on: got "yes", expected true or false'),
        ("on: 1", "on: got 1, expected true or false"),
        ("mode: fas", 'mode: got "fas", expected one of fast, careful (did you mean fast?)'),
        ("mode: [fast]", "mode: got a list, expected one of fast, careful"),
        ("text: 0123", 'text: got 0123, expected text (in quotes: "0123")'),
        ("text: true", 'text: got true, expected text (in quotes: "true")'),
        ("text:", "text: got nothing, expected text"),
        ("text: {a: b}", "text: got a mapping, expected text"),
        ("names: a", 'names: got "a", expected a list, each text'),
        ("names: [a, 1]", 'names[1]: got 1, expected text (in quotes: "1")'),
        ("names: [a, b, c]", "names: got a list, expected a list, each text"),
        ("tags: [a]", "tags: got a list, expected a mapping"),
        ("tags: {a: 1}", 'tags.a: got 1, expected text (in quotes: "1")'),
        ("limit: x", 'limit: got "x", expected a whole number'),
        ("nested: 5", "nested: got 5, expected a mapping"),
        ("nested: {deep: 0}", "nested.deep: got 0, expected a whole number at least 1"),
        ("nested: {dep: 0}", "nested.dep: unknown key (did you mean deep?)"),
        (
            "many: [{deep: 1}, {deep: x}]",
            'many[1].deep: got "x", expected a whole number at least 1',
        ),
        ("lingers: 5", "lingers: unknown key (did you mean linger_s?)"),
        (
            "text: ${NONE}",
            "text: environment variable NONE is not set: set it, or write ${NONE:-default}",
        ),
        (
            "text: a ${1X}",
            'text: got "${1X}", expected ${NAME} or ${NAME:-default} (a literal $ is written $$)',
        ),
        (
            "text: ${A-b}",
            'text: got "${A-b}", expected ${NAME} or ${NAME:-default} (a literal $ is written $$)',
        ),
        ("text: ${A:-${B}}", None),
        ("text: !secret x", 'text: line 6: tag "!secret" is not supported: leave it out'),
        ("text: !!binary aGk=", 'text: line 6: tag "!!binary" is not supported: leave it out'),
        ("text: a\ntext: b", "text: line 7: given twice, first on line 6: keep one"),
        ("<<: {text: a}", "<<: line 6: merge keys are not supported: write the keys out"),
        ("url: http://x", None),
    ],
)
def test_wrong_values(text: str, expected: str | None) -> None:
    """
    Key path, value, expectation: one line each.
    """
    found = sink_problems(text)
    if expected is not None:
        assert found == [expected]
    else:
        assert found


SIZE = "expected bytes at least 1KiB, as a whole number or with KiB, MiB or GiB, e.g. 1MiB"


@pytest.mark.parametrize(
    "text",
    ["5MB", "32Mi", "1.0001KiB", "-5", "1,5MiB", "MiB", "5 5MiB", "1KiB2", "1e3", "true", "²MiB"],
)
def test_wrong_sizes(text: str) -> None:
    """
    A size has a binary unit or none.
    """
    (found,) = sink_problems(f"window_bytes_max: {text}")
    assert found.startswith("window_bytes_max: got ")
    assert found.endswith(SIZE)


@given(st.integers(0, 2**59))
def test_sizes_read_as_they_are_written(size: int) -> None:
    """
    What is printed as a size is understood as that size.
    """
    text = bytes_text(size) if size < 2**40 or size % 2**40 == 0 else str(size)
    if "e" not in text:
        assert bytes_from(text) == size


def test_all_problems_at_once() -> None:
    """
    One run says everything, in order of the file's parts, and nothing twice.
    """
    found = problems(
        "clustr: x\nmemory_budget_bytes: 1KiB\nadmin: {listen: localhost}\nlog: {level: warn}\n"
        "sources: [{name: a, pathes: [x]}, {name: a, paths: [5]}, {type: file}]\n"
        "routes:\n- {name: r, source: b, sink: {type: probe, count: x}}\n- {name: r, sink: {type: prob}}\n"
        "- {name: ../x, sink: {}}\n- {sink: blackhole}\n- r\n- {name: s, extra: 1, sink: {type: blackhole}}\n"
        "- {name: t}\n"
    )
    types = "files, control_plane, eks_control_plane, journal"
    assert found == [
        "clustr: unknown key (did you mean cluster?)",
        f'memory_budget_bytes: got "1KiB", {SIZE.replace("1KiB", "4MiB").replace("1MiB", "32MiB")}',
        'admin.listen: got "localhost", expected address and port, e.g. "127.0.0.1:2020", or ""',
        'log.level: got "warn", expected one of debug, info, warning, error (did you mean warning?)',
        "sources[0].pathes: unknown key (did you mean paths?)",
        'sources[1].paths[0]: got 5, expected text (in quotes: "5")',
        f'sources[2].type: got "file", expected one of {types} (did you mean files?)',
        'sources[1].name: "a" is the name of sources[0] as well: give each its own',
        'routes[0].source: got "b", expected the name of a source: a, containers',
        "routes[0].sink.url: is missing, expected text: Where to",
        'routes[0].sink.count: got "x", expected a whole number from 1 to 64',
        'routes[1].sink.type: got "prob", expected one of cloudwatch, parquet, blackhole, probe (did you mean probe?)',
        'routes[2].name: got "../x", expected a name of letters, digits, `.`, `_` and `-`, at most 63, e.g. archive',
        "routes[2].sink.type: is missing, expected one of cloudwatch, parquet, blackhole, probe",
        "routes[3].name: is missing, expected a name of letters, digits, `.`, `_` and `-`, at most 63, e.g. archive",
        'routes[3].sink: got "blackhole", expected a mapping with type, one of cloudwatch, parquet, blackhole, probe',
        'routes[4]: got "r", expected a mapping with name and sink',
        "routes[5].extra: unknown key: expected one of name, source, sink, transforms, select, on_missing_metadata",
        "routes[6].sink: is missing, expected a mapping with type, one of cloudwatch, parquet, blackhole, probe",
        'routes[1].name: "r" is the name of routes[0] as well: give each its own',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "routes: no routes, expected a list of routes, each with a name and a sink"),
        ("routes:", "routes: no routes, expected a list of routes, each with a name and a sink"),
        ("routes: []", "routes: no routes, expected a list of routes, each with a name and a sink"),
        (
            "routes: {a: b}",
            "routes: got a mapping, expected a list of routes, each with a name and a sink",
        ),
        ("- a", "got a list, expected a mapping with the key routes"),
        ("just text", 'got "just text", expected a mapping with the key routes'),
        (
            "sources: []\nroutes: [{name: r, sink: {type: blackhole}}]",
            "sources: got an empty list, expected a list of sources, each with paths",
        ),
        (
            "sources: [5]\nroutes: [{name: r, sink: {type: blackhole}}]",
            "sources[0]: got 5, expected a mapping with name, type and paths",
        ),
        (
            "admin:\nroutes: [{name: r, sink: {type: blackhole}}]",
            "admin: got nothing, expected a mapping",
        ),
        (
            "state_dir: ''\nroutes: [{name: r, sink: {type: blackhole}}]",
            'state_dir: got "", expected a directory, e.g. /var/lib/tailrace',
        ),
    ],
)
def test_shapes(text: str, expected: str) -> None:
    """
    What is no configuration at all says so once.
    """
    assert problems(text) == [expected]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("a: [1, 2\nb: c", "line 2, column 2", "flow sequence"),
        ("a: b\n\tc: d", "line 2, column 1", "tab character"),
        ("a: 'b", "line 1", "quoted scalar"),
        ("a: @b", "line 1, column 4", "needs quotes"),
        ("a: *b", "line 1, column 4", "alias"),
        ("a: b\n---\nc: d", "line 2, column 1", "document"),
        (
            "routes: [{name: r, sink: {delay_s: ${X}}}]",
            "line 1, column 37",
            'a variable needs quotes: "${NAME}"',
        ),
        ("a: \x07", "", "not YAML"),
    ],
)
def test_syntax(text: str, place: str, what: str) -> None:
    """
    What YAML cannot read is named by line and column.
    """
    (found,) = problems(text)
    assert place in found
    assert "is not YAML" in found
    assert what in found


#: Every value is nine times the one before.
BOMB = [(",".join([f"*{name}"] * 9), chr(ord(name) + 1)) for name in "abcdefgh"]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "\n".join(["a: &a [x]", *(f"{b}: &{b} [{a}]" for a, b in BOMB)]),
        "a: " + "[" * 500 + "]" * 500,
    ],
)
def test_bombs(text: str) -> None:
    """
    Aliases that multiply or contain themselves, and depth without end, are refused once.
    """
    assert sum("too many values or levels" in line for line in problems(text)) == 1


def test_keys_that_are_no_text() -> None:
    """
    A mapping as a key is refused with its line.
    """
    assert "line 1: a key must be text" in problems("? {a: b}\n: c")[0]


def test_real_components_say_the_key() -> None:
    """
    What a component refuses as a whole still names the key: templates, URLs, retention.
    """
    found = problems(
        "routes:\n"
        "- {name: a, sink: {type: cloudwatch, group: '/x/{podd}'}}\n"
        "- {name: b, sink: {type: cloudwatch, retention_days: 4}}\n"
        "- {name: c, sink: {type: parquet, url: 'http://x'}}\n"
        "- {name: d, sink: {type: cloudwatch, stream: '{'}}\n"
    )
    assert [line.split(": ")[0] for line in found] == [
        "routes[0].sink.group",
        "routes[1].sink.retention_days",
        "routes[2].sink.url",
        "routes[3].sink.stream",
    ]
    assert "did you mean {pod}?" in found[0]
    assert "expected s3://bucket/prefix (a bucket has 3 to 63" in found[2]
