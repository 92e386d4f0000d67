r"""
Which lines are one event, in plain Python: the specification of `_fasttrace` and `_fastjoin`.

A group is the rows of one stream that follow one another and belong together.  It has a state: plain, record
(its line looks as a logger begins one), or a language and what the trace has come to.

A row that does not go on with the group's trace begins a trace, or goes on with a group that has none, or is a
group of its own.  A *frame* is `at …` behind an indent; *indented* is a line that is not blank.

java
    begins: `pkg.SomeException: …`, also behind `Exception in thread "…" ` †
    goes on: indented; `Caused by: `, `Suppressed: `; a frame or a cause behind any line
python
    begins: `Traceback (most recent call last)` †
    goes on: indented; the line behind those; then a blank one and `During handling of the above exception, ` or
    `The above exception was the direct `, a blank one and a traceback
go
    begins: `panic: `, `fatal error: `, `SIGQUIT: `, `goroutine 1 […]:`
    goes on: blank; goroutines; indented; `created by `; `exit status `; in a goroutine what ends with a parenthesis;
    `[signal ` behind the head
ruby
    begins: `file.rb:3:in … (Error)`
    goes on: the same; frames `file.rb:3:in '…'`, `from …` behind an indent; a frame behind any line
dotnet
    begins: `Unhandled exception. `, `fail: Category[0]`, `Ns.SomeException: …` †
    goes on: indented; a frame behind any line
node
    begins: `SomeError: …` †, `Uncaught …` †, `/app/x.js:3`
    goes on: indented; `}`; blank and `SomeError: …` behind the source line; blank and `Node.js v…` behind the
    frames; a frame behind any line

† goes on with a group that is a record: the logger's line, and the trace behind it.

Lines are joined with a newline.  The group has the time, the offset and the flags of its first row, and those
flags of the others that say that something is missing (truncated, unterminated).  A row that would make the group
longer than lines_max or bytes_max begins a new group, in the state that it would have had.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LANGUAGES = ("java", "python", "go", "ruby", "dotnet", "node")

_RECORD = re.compile(
    rb"[0-9\[]|[IWEF][0-9]{4}|[A-Z], \["
    rb"|(?i:trace|debug|info|warn|warning|error|fatal|critical|severe|notice)(?![A-Za-z0-9_$])"
)
_FRAME = re.compile(rb"[ \t]+at ")
_CAUSE = re.compile(rb"Caused by: |Suppressed: ")
_DOTTED = re.compile(rb"(?=[\w$]*\.)(?![0-9.])([\w$.]*)(?::|\Z)", re.ASCII | re.DOTALL)
_SIMPLE = re.compile(rb"(?![0-9])([\w$]*)(?::| \[|\Z)", re.ASCII)
_JAVA = re.compile(rb'Exception in thread "[^"]*"', re.DOTALL)
_GOROUTINE = re.compile(rb"goroutine [0-9](?=.* \[).*:\Z", re.DOTALL)
_GO = re.compile(rb"panic: |fatal error: |SIGQUIT: ")
_RUBY = re.compile(rb".*?\.rb:(.*)", re.DOTALL)
_NET = re.compile(rb"(trce|dbug|info|warn|fail|crit): .*\]\Z", re.DOTALL)
_SOURCE = re.compile(rb"[^ ]*[jt]s:[0-9]+\Z", re.DOTALL)


class State(NamedTuple):
    """
    What a group is: a language and what its trace has come to, or "" and plain or record.
    """

    language: str
    part: str


PLAIN, RECORD = State("", "plain"), State("", "record")


def _named(line: bytes, pattern: re.Pattern[bytes]) -> bool:
    match = pattern.match(line)
    endings = (b"Error", b"Exception", b"Throwable")
    return match is not None and match[1].endswith(endings)


def _ruby(line: bytes) -> tuple[bool, bool]:
    """
    Return whether a line is a frame, and whether it is a head.
    """
    if re.match(rb"[ \t]+from ", line):
        return True, False
    match = _RUBY.match(line)
    # Only the first `.rb:` is looked at.
    placed = match is not None and match[1][:1].isdigit() and b":in " in match[1]
    return placed and line.endswith(b"'"), placed and line.endswith(b")") and line[:1] not in b" \t"


def goes_on(state: State, line: bytes) -> State | None:
    """
    Return the state behind a line that goes on with the trace of *state*, or None.
    """
    language = state.language
    blank = not line.strip(b" \t")
    indented = not blank and line[:1] in b" \t"
    if language == "java":
        if indented:
            return State("java", "frames") if _FRAME.match(line) else state
        return State("java", "head") if _CAUSE.match(line) else None
    if language == "python":
        return _python_goes_on(state, line, blank=blank, indented=indented)
    if language == "go":
        return _go_goes_on(state, line, blank=blank, indented=indented)
    if language == "ruby":
        return State("ruby", "frames") if any(_ruby(line)) else None
    if language == "dotnet":
        return State("dotnet", "frames") if indented else None
    return _node_goes_on(state, line, blank=blank, indented=indented)


def _go_goes_on(state: State, line: bytes, *, blank: bool, indented: bool) -> State | None:
    part = state.part
    if blank:
        return State("go", "blank")
    if _GOROUTINE.match(line):
        return State("go", "frames")
    goes_on = indented or line.startswith((b"created by ", b"exit status "))
    if part == "frames":
        goes_on |= line.endswith(b")") or line.startswith(b"...additional frames ")
    if part == "head":
        goes_on |= line.startswith((b"[signal ", b"panic: "))
    if goes_on:
        return state
    return State("go", "frames") if part == "blank" and line.startswith(b"runtime stack:") else None


def _python_goes_on(state: State, line: bytes, *, blank: bool, indented: bool) -> State | None:
    part = state.part
    if part == "frames":
        return state if indented else None if blank else State("python", "done")
    if part == "done":
        return State("python", "blank") if blank else None
    if part == "blank":
        chains = (
            b"During handling of the above exception, ",
            b"The above exception was the direct ",
        )
        return State("python", "chain") if line.startswith(chains) else None
    if blank:
        return state
    return (
        State("python", "frames") if line.startswith(b"Traceback (most recent call last)") else None
    )


def _node_goes_on(state: State, line: bytes, *, blank: bool, indented: bool) -> State | None:
    part = state.part
    if indented:
        return state if part == "source" else State("node", "frames")
    if blank:
        return State("node", "blank") if part in {"source", "frames"} else None
    if part == "blank":
        if line.startswith(b"Node.js v"):
            return State("node", "done")
        return State("node", "head") if _named(line, _SIMPLE) else None
    return state if part == "frames" and line.startswith(b"}") else None


def begins(languages: tuple[str, ...], line: bytes, *, record: bool) -> tuple[State, bool] | None:
    """
    Return the state behind a line with which a trace begins, and whether it goes on with the group before it.
    """
    frame = _FRAME.match(line) is not None
    ruby_frame, ruby_head = _ruby(line)
    goroutine = _GOROUTINE.match(line) is not None
    table: dict[str, list[tuple[object, str, bool]]] = {
        "java": [
            (frame, "frames", True),
            (_CAUSE.match(line), "head", True),
            (_JAVA.match(line) or _named(line, _DOTTED), "head", record),
        ],
        "python": [(line.startswith(b"Traceback (most recent call last)"), "frames", record)],
        "go": [(goroutine, "frames", False), (_GO.match(line), "head", False)],
        "ruby": [(ruby_frame, "frames", True), (ruby_head, "head", False)],
        "dotnet": [
            (frame, "frames", True),
            (_NET.match(line) or line.startswith(b"Unhandled exception. "), "head", False),
            (_named(line, _DOTTED), "head", record),
        ],
        "node": [
            (frame, "frames", True),
            (_SOURCE.match(line), "source", False),
            (_named(line, _SIMPLE) or line.startswith(b"Uncaught "), "head", record),
        ],
    }
    for language in LANGUAGES:
        for holds, part, joins in table[language] if language in languages else ():
            if holds:
                return State(language, part), joins
    return None


def step(languages: tuple[str, ...], state: State | None, line: bytes) -> tuple[State, bool]:
    """
    Return the state of the group that *line* belongs to, and whether it is the open one, whose state is *state*.
    """
    if state is not None and state.language:
        following = goes_on(state, line)
        if following is not None:
            return following, True
    found = begins(languages, line, record=state == RECORD)
    if found is not None:
        return found[0], found[1] and state is not None
    return (RECORD if _RECORD.match(line) else PLAIN), False


def groups(
    languages: tuple[str, ...], lines: list[bytes], *, lines_max: int, bytes_max: int
) -> list[tuple[int, bytes]]:
    """
    Return the groups of the lines of one stream: the index of the first line, and the text.
    """
    found: list[tuple[int, bytes]] = []
    state: State | None = None
    size = 0
    for index, line in enumerate(lines):
        state, joins = step(languages, state, line)
        if joins and (size >= lines_max or len(found[-1][1]) + 1 + len(line) > bytes_max):
            joins = False
        if joins:
            found[-1] = (found[-1][0], found[-1][1] + b"\n" + line)
            size += 1
        else:
            found.append((index, line))
            size = 1
    return found
