"""
Rows on their way through transforms: every kernel, in routes that use it, over whatever a container writes.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from agent.core import regex
from agent.core.batch import Resource
from agent.core.counters import Counters
from agent.core.transform import BUFFERS
from agent.transforms.expression import parse
from agent.transforms.registry import KINDS
from agent.transforms.stages import SinkColumn, Stages
from tests.fuzz.registry import Fuzzer
from tests.fuzz.texts import said
from tests.transforms.kit import columns_of, messages, parsed

if TYPE_CHECKING:
    from agent._fastparse import Columns

RESOURCE = Resource(path="/l/a.log", namespace="shop", pod="web-1", container="kube-apiserver")
EXPRESSION = 'level >= warn or fields.a > 1 or fields.a matches "^b*c" or message contains "x"'
COLUMNS = [
    SinkColumn("a", "string", "a"),
    SinkColumn("b", "bigint", "a"),
    SinkColumn("c", "double", "a"),
    SinkColumn("d", "boolean", "a"),
    SinkColumn("e", "timestamp", "time"),
]
#: Each behind a multiline, and before everything that looks at fields.
PARSES: tuple[dict[str, Any], ...] = (
    *({"parse": name, "time_field": "time"} for name in ("json", "logfmt", "klog", "nginx")),
    {"parse": "envoy", "time_field": "start_time"},
    {"parse": "syslog", "time_field": "timestamp"},
    {"parse": "component"},
    {"parse": "attrs"},
    {"parse": "regex", "pattern": r"(?P<a>\w+)=(?P<time>[^ ]*)|(?P<b>x+)y*$"},
)
MULTILINES: tuple[dict[str, Any], ...] = (
    *({"multiline": name} for name in ("auto", "java", "python", "go", "ruby", "dotnet", "node")),
    {"multiline": "component"},
    {"multiline": "custom", "start": r"^\S", "continue_with": r"^\s", "end": ";$"},
)
BEHIND: tuple[dict[str, Any], ...] = (
    {"redact": ("all",), "patterns": {"x": "x+y"}},
    {"sample": 0.5, "by": "trace_id"},
    {"limit": "container", "lines_per_s_max": 1, "burst_lines": 2},
    {"metric": "m", "histogram_of": "a", "labels": ("level",)},
    {"record": {"m": "message", "a": "fields.a", "t": "time", "s": "stream", "n": "namespace"}},
)
SEEDS = (
    b'{"a":1,"level":"warn","time":"2026-11-22T19:00:01Z","b":{"c":[1,2.5e3]}}\nx {"a":"\\ud83d\\ude80"} \n{"a":',
    b'level=info a="b c" time=2026-11-22 b= c\nE1122 19:00:01.123456       1 a.go:7] "msg" a="b" err="x"\n',
    b'203.0.113.9 - - [22/Nov/2026:19:00:01 +0000] "GET /a HTTP/1.1" 200 612 "-" "curl" "-"\n',
    b'[2026-11-22T19:00:01.1Z] "GET /v1 HTTP/2" 503 UF 0 91 12 - "-" "curl" "5f" "shop" "10.0.1.7:80"\n',
    b'<165>1 2026-11-22T19:00:01.003Z host app 7 ID47 [ex@1 a="1\\]"] text\n',
    b"java.lang.Error: x\n\tat a.b(C.java:1)\nCaused by: d.E\n\t... 2 more\n",
    b"Traceback (most recent call last):\n  File\nValueError: x\n\nDuring handling of the above\n",
    b"goroutine 1 [running]:\nmain.main()\n\t/a.go:1 +0x1\npanic: x\n\n",
    b"joe@example.com 10.0.0.1 4111 1111 1111 1111 AKIAIOSFODNN7EXAMPLE\n",
    b"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
    b"Bearer abcdef0123 eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.abc\n",
)
TOKENS = (
    *(
        b'{"a":',
        b'"level":"error"',
        b'"a":"b"',
        b"}",
        b"]",
        b'\\"',
        b"\\ud83d",
        b"\\u0000",
        b"[" * 70,
    ),
    *(
        b"\n",
        b"\r\n",
        b"\tat a.b(C.java:1)\n",
        b"Caused by: ",
        b"  File ",
        b"\x00",
        b"\xff",
        b"\xf0\x9f",
    ),
    *(
        b"a=",
        b'"',
        b"1e999",
        b"-",
        b"99999999999999999999",
        b"true",
        b"null",
        b"2026-11-22T19:00:01Z",
    ),
    *(
        b"@",
        b"a.bc",
        b"::",
        b"1.2.3.4",
        b"4111111111111111",
        b"Bearer ",
        b"eyJ",
        b"-----BEGIN ",
        b"KEY-----",
    ),
)
APPLY: dict[str, Any] = {"resource": RESOURCE, "generation": 0, "now": 0.0}


def _stages(*transforms: dict[str, Any], **more: Any) -> Stages:
    made = []
    for item in transforms:
        name = next(name for name in item if name in KINDS)
        made.append(KINDS[name].settings(**item))
    return Stages(made, route="r", counters=Counters(), **more)


def _checked(columns: Columns) -> list[bytes]:
    """
    Return the messages of *columns*, whose places are all within the data.
    """
    found = messages(columns)
    assert columns.message_bytes == sum(map(len, found))
    assert list(map(len, found)) == list(columns.column("message_len"))
    return found


def join(data: bytes) -> None:
    """
    Multiline loses no byte and invents none, in one read or in many.
    """
    mark = zlib.crc32(data)
    made = _stages(MULTILINES[mark % len(MULTILINES)])
    lines = data.split(b"\n")
    log = made.begin()
    whole = _checked(log.apply(columns_of(lines), release=True, **APPLY).columns)
    assert b"\n".join(whole) == data
    log = made.begin()
    rows: list[bytes] = []
    step = 1 + (mark >> 8) % 5
    for start in range(0, len(lines), step):
        release = start + step >= len(lines)
        part = columns_of(lines[start : start + step])
        rows += _checked(log.apply(part, release=release, **APPLY).columns)
    assert rows == whole, "split"


def transforms(data: bytes) -> None:
    """
    A route of a multiline, two parses and all the rest: rows stay whole, by name as well, and columns fit Arrow.
    """
    mark = zlib.crc32(data)
    chosen = [item for index, item in enumerate(BEHIND) if mark >> index & 1]
    parses = (PARSES[(mark >> 5) % len(PARSES)], PARSES[(mark >> 9) % len(PARSES)])
    named = bool(mark >> 13 & 1)
    made = _stages(
        MULTILINES[(mark >> 14) % len(MULTILINES)],
        *parses,
        *chosen,
        sink_columns=COLUMNS,
        sink_uses_level=True,
        sink_flags_level=bool(mark >> 18 & 1),
        name_fields=("a", "level") if named else (),
        name_values_max=20,
    )
    rows = parsed(data, format=mark >> 19 & 1)
    applied = made.begin().apply(rows, release=True, **APPLY)
    _checked(applied.columns)
    parts = [(item.columns, item.typed) for item in applied.named]
    assert sum(columns.rows for columns, _ in parts) == (applied.columns.rows if named else 0)
    for columns, typed in parts or [(applied.columns, applied.typed)]:
        _checked(columns)
        if typed is None:
            assert not columns.rows
            continue
        buffers = iter(typed.buffers)
        for name, kind in typed.columns:
            sizes = [len(next(buffers)) for _ in range(BUFFERS[kind])]
            bits, count = (columns.rows + 7) // 8, columns.rows
            expected = {"level": [count], "string": [bits, 4 * count + 4], "boolean": [bits, bits]}
            assert sizes[:2] == expected.get(kind, [bits, 8 * count]), name


def where(data: bytes) -> None:
    """
    An expression and its negation split the rows exactly.
    """
    mark = zlib.crc32(data)
    kept = []
    for expression in (EXPRESSION, f"not ({EXPRESSION})"):
        made = _stages(PARSES[mark % len(PARSES)], {"where": expression})
        applied = made.begin().apply(parsed(data, format=0), release=True, **APPLY)
        _checked(applied.columns)
        kept.append(list(applied.columns.column("offset")))
    assert sorted(kept[0] + kept[1]) == list(parsed(data, format=0).column("offset"))


def expression(data: bytes) -> None:
    """
    What a person writes as an expression is one, or an error that says where.
    """
    try:
        found = parse(data.decode("utf-8", "replace"))
    except ValueError as error:
        said(error)
        return
    list(found.operands())


def pattern(data: bytes) -> None:
    """
    A pattern, and behind a newline what it looks at: it is refused, or it runs.
    """
    text, _, rest = data.partition(b"\n")
    try:
        regex.compile_pattern(text.decode("utf-8", "replace"))
    except ValueError as error:
        said(error)
        return
    made = _stages({"redact": (), "patterns": {"p": text.decode("utf-8", "replace")}})
    _checked(made.begin().apply(columns_of([rest, rest * 2]), release=True, **APPLY).columns)


FUZZERS = (
    Fuzzer("join", join, SEEDS, TOKENS, cost=3),
    Fuzzer("transforms", transforms, SEEDS, TOKENS, cost=3),
    Fuzzer("where", where, SEEDS, TOKENS, cost=3),
    Fuzzer(
        "expression",
        expression,
        (
            EXPRESSION.encode(),
            b'not (pod in ["a", "b"] and exists fields["x y"]) and stream == stderr',
        ),
        (b"(", b")", b" and ", b"not ", b'"', b"fields.", b" in [", b">=", b"level", b"(" * 200),
    ),
    Fuzzer(
        "pattern",
        pattern,
        (
            b"(?P<a>[a-z]+)(x|y){2,5}\\b\nabc xyxy",
            b"^a*?b+$|\\d{3}\naaab 123",
            b"(?i)[^a-c\\w]+?\\.\nABC.",
        ),
        (
            b"(",
            b")",
            b"[",
            b"]",
            b"{1000}",
            b"*",
            b"+?",
            b"|",
            b"\\b",
            b"\\x",
            b"(?P<n>",
            b"(?:",
            b"^",
            b"$",
            b"((a*)*)*",
        ),
    ),
)
