"""
Hot functions are white: no line of theirs calls into Python.

Cython writes every line of a .pyx as a comment above the C that it became, and its annotated HTML colours a line by
the calls in there; this reads the same C.  Left out are raw memory and what is under `with gil:`, which says itself
that it is not hot.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import agent

AGENT = Path(agent.__file__).parent
#: What runs once a line or once a row.  A new one belongs here; one that is renamed is noticed.
HOT = {
    "_fastparse": {"discard_line", "parse_bytes", "parse_line", "piece", "row_add", "whole"},
    "_fastline": {"cri_read", "cri_read_usual", "digits_write", "docker_read", "time_read"},
    "_fastjson": {"escape_write", "json_string_end", "json_unescape", "json_value_end"},
    "_fastrecord": {"member", "object_start"},
    "_fastfields": {"klog_read", "moment_read", "number_read", "severity_read", "span_write"},
    "_fastlayout": {"layout_read", "priority_severity", "text_set"},
    "_fastobject": {"found_write", "member_take"},
    "_fastwhere": {"number_satisfies", "target_text", "text_satisfies"},
    "_fastpairs": {"klog_head", "pairs_read", "quoted_end", "unquote", "value_set"},
    "_fastcompose": {"row_bytes", "row_write", "value_of", "value_write"},
    "_fastsplit": {"find", "key_write", "row_copy", "row_bytes"},
    "_fastencode": {"bare_write", "otel_write", "record_write"},
}
MODULES = sorted(path.stem for path in AGENT.glob("_fast*.pyx"))
FIELD_LOOP = "for row in range(fields.rows):\n        place = index * fields.stride"
LOOP = re.compile(r"^(?P<indent> *)for row in range\(")
#: `/* "agent/_fastparse.pyx":438`, the lines around it, and behind the comment what it became.
MARK = re.compile(r'/\* "agent/(?P<module>\w+)\.p[yx][xd]":(?P<line>\d+)\n(?: \*[^\n]*\n)*\s*\*/')
CALL = re.compile(r"\b((?:_?Py[A-Z]|__Pyx_)\w*)\s*\(")
RAW_MEMORY = re.compile(r"PyMem_Raw\w+")
#: The end of a function, and what follows it, belong to no line.
NO_LINE = re.compile(r"/\* function exit code \*/|/\* Python wrapper \*/|^\}", re.MULTILINE)
HEAD = re.compile(r"^(?P<indent> *)cdef (?:inline )?[^=(]*?(?P<name>\w+)\(")


def functions(text: str) -> dict[str, tuple[range, bool]]:
    """
    Return the lines of every cdef function's body, and whether it runs without the GIL.
    """
    found: dict[str, tuple[range, bool]] = {}
    lines = text.split("\n")
    for start, line in enumerate(lines):
        head = HEAD.match(line)
        if head is None:
            continue
        begin = start
        while begin < len(lines) and not lines[begin].split("#")[0].rstrip().endswith(":"):
            begin += 1
        signature = " ".join(lines[start : begin + 1])
        end = begin + 1
        while end < len(lines) and (
            not lines[end].strip() or lines[end].startswith(head["indent"] + " ")
        ):
            end += 1
        # Lines are counted from one.
        found[head["name"]] = (range(begin + 2, end + 1), "nogil" in signature)
    return found


def under_gil(text: str) -> set[int]:
    """
    Return the numbers of the lines in a `with gil:` block, its head included.
    """
    found: set[int] = set()
    indent = -1
    for number, line in enumerate(text.split("\n"), 1):
        depth = len(line) - len(line.lstrip())
        if indent >= 0 and line.strip() and depth <= indent:
            indent = -1
        if line.strip().startswith("with gil"):
            indent = depth
        if indent >= 0:
            found.add(number)
    return found


def calls(module: str, c_text: str) -> dict[int, set[str]]:
    """
    Return which functions of Python the C of every line calls.
    """
    found: dict[int, set[str]] = {}
    marks = list(MARK.finditer(c_text))
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        if mark["module"] == module:
            code = c_text[mark.end() : after.start() if after else len(c_text)]
            code = NO_LINE.split(code, maxsplit=1)[0]
            names = {name for name in CALL.findall(code) if not RAW_MEMORY.fullmatch(name)}
            found.setdefault(int(mark["line"]), set()).update(names)
    return found


def yellow(module: str, text: str, c_text: str, hot: set[str]) -> list[str]:
    """
    Return a finding for every line of a hot function that calls into Python.
    """
    bodies = functions(text)
    found = [
        f"{module}.pyx: no function {name}: update HOT" for name in sorted(hot - bodies.keys())
    ]
    lines, cold, called = text.split("\n"), under_gil(text), calls(module, c_text)
    for name, (body, without_gil) in bodies.items():
        if name not in hot and not without_gil:
            continue
        found += [
            f"{module}.pyx:{number}: {name} calls {', '.join(sorted(called[number]))}: "
            f"{lines[number - 1].strip()}"
            for number in body
            if number not in cold and called.get(number)
        ]
    return found


def loops(text: str) -> set[int]:
    """
    Return the numbers of the lines in a loop over rows.
    """
    found: set[int] = set()
    lines = text.split("\n")
    for start, line in enumerate(lines):
        head = LOOP.match(line)
        if head is None:
            continue
        end = start + 1
        while end < len(lines) and (
            not lines[end].strip() or lines[end].startswith(head["indent"] + " ")
        ):
            end += 1
        found |= set(range(start + 2, end + 1))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_no_loop_over_rows_is_yellow(module: str) -> None:
    """
    Whatever function it stands in; what an error costs, and whether there was one, is left out.
    """
    text, made = (AGENT / f"{module}.pyx").read_text(), AGENT / f"{module}.c"
    if not made.exists():
        pytest.skip(f"{made.name} is not there: `make build` writes it")
    c_text = made.read_text(errors="replace")
    if "__Pyx_TraceLine" in c_text:
        pytest.skip("built by `make debug`: every line is traced")
    # `field` is for tests and commands alone: its loop makes objects.
    text = text.replace(FIELD_LOOP, FIELD_LOOP.replace("for row in", "for each"))
    lines, called = text.split("\n"), calls(module, c_text)
    findings = [
        f"{module}.pyx:{number}: {', '.join(sorted(names))}: {lines[number - 1].strip()}"
        for number in sorted(loops(text))
        if (names := called.get(number, set()) - {"PyErr_Occurred"})
        and not lines[number - 1].strip().startswith("raise ")
    ]
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize("module", MODULES)
def test_no_hot_line_is_yellow(module: str) -> None:
    source, made = AGENT / f"{module}.pyx", AGENT / f"{module}.c"
    if not made.exists():
        pytest.skip(f"{made.name} is not there: `make build` writes it")
    c_text = made.read_text(errors="replace")
    if "__Pyx_TraceLine" in c_text:
        pytest.skip("built by `make debug`: every line is traced")
    text = source.read_text()
    assert len(calls(module, c_text)) > 20, "the comments of Cython look different now"
    assert any(without_gil for _, without_gil in functions(text).values()) or loops(text)
    hot = HOT.get(module, set())
    assert not (findings := yellow(module, text, c_text, hot)), "\n".join(findings)


SAMPLE = """\
cdef int fast(int value) noexcept nogil:
    return value + 1


cdef int slow(
    list values,
) except -1:
    cdef int total = 0
    total += values[0]
    return fast(total)


cdef int careful(int value) except -1 nogil:
    if value < 0:
        with gil:
            raise ValueError(value)
    return value
"""


def test_a_yellow_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of a function that is hot and touches an object; the others are white.
    """
    from Cython.Compiler.Main import compile_single
    from Cython.Compiler.Options import CompilationOptions, default_options

    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "__init__.py").write_text("")
    (tmp_path / "agent" / "sample.pyx").write_text(SAMPLE)
    monkeypatch.chdir(tmp_path)
    options = CompilationOptions(default_options, compiler_directives={"language_level": 3})
    compile_single("agent/sample.pyx", options, "agent.sample")
    c_text = (tmp_path / "agent" / "sample.c").read_text()
    assert not yellow("sample", SAMPLE, c_text, {"fast", "careful"})
    (first, *others) = yellow("sample", SAMPLE, c_text, {"slow"})
    assert first.startswith("sample.pyx:9: slow calls ")
    assert first.endswith(": total += values[0]")
    assert not others
    assert loops("def a():\n    for row in range(3):\n        x\n\n        y\n    z\n") == {3, 4, 5}
    assert yellow("sample", SAMPLE, c_text, {"gone"}) == [
        "sample.pyx: no function gone: update HOT"
    ]
