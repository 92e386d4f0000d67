"""
The physical lines of a log file, read the slow way: the specification of `_fastline` and `_fastjson`.

A **physical line** ends with LF.  All bytes but LF are content: NUL and invalid UTF-8 are kept.

CRI (containerd, CRI-O):

| field | bytes |
|---|---|
| time | `2026-11-22T19:00:01.123456789Z`: no fraction or 1 to 9 digits, `Z` or `±hh:mm` |
| SP stream SP | `stdout` or `stderr` |
| tags | `P` (a piece, more follows) or `F` (whole, or the last piece); unknown ones behind a `:` each |
| SP content | both may be missing; what is before the content is at most 1,000 bytes |

The written year is 1970 to 2262 and the instant fits into int64 nanoseconds since 1970; a day that the
calendar has not is no time; second 60 is the first second of the next minute.

docker json-file: one JSON object, strictly RFC 8259 but that bytes above 0x7F in strings pass as they
are, and that at most 100 values are nested; names compared as written, the last of equal names counts:

| name | value |
|---|---|
| `log` | the content; a final LF is the line's end; without it this is a piece (`P`) |
| `stream` | `"stdout"` or `"stderr"` |
| `time` | as in CRI, without escapes |
| others | any |
"""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import NamedTuple

from agent.core.cursor import STREAM_STDERR, STREAM_STDOUT

HEAD_BYTES_MAX = 1_000
JSON_DEPTH_MAX = 100
TIME_NS_MAX = 2**63 - 1

_TIME = (
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})"
    rb"(?:\.([0-9]{1,9}))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_TIME_PATTERN = re.compile(_TIME)
_CRI_PATTERN = re.compile(rb"(" + _TIME + rb") (stdout|stderr) ([PF])(?::[^ ]*)?(?: |\Z)")
_STREAMS = {b"stdout": STREAM_STDOUT, b"stderr": STREAM_STDERR}
_SPACE_PATTERN = re.compile(r"[ \t\n\r]*")
_ESCAPE_PATTERN = re.compile(
    rb"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\(.)"
)
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f"}


class Line(NamedTuple):
    """
    A valid line of a container.
    """

    time_ns: int
    time: bytes
    stream: int
    partial: bool
    content: bytes


def read_time(text: bytes) -> int | None:
    """
    Return the nanoseconds since the epoch of exactly *text*, or None.
    """
    match = _TIME_PATTERN.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    fraction = int((match[7] or b"").ljust(9, b"0"))
    zone_hour, zone_minute = int(match[9] or 0), int(match[10] or 0)
    if not 1970 <= year <= 2262 or hour > 23 or minute > 59 or second > 60:
        return None
    if zone_hour > 23 or zone_minute > 59:
        return None
    try:
        days = dt.date(year, month, day).toordinal() - dt.date(1970, 1, 1).toordinal()
    except ValueError:
        return None
    zone = (zone_hour * 3600 + zone_minute * 60) * (-1 if match[8] == b"-" else 1)
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - zone
    time_ns = seconds * 10**9 + fraction
    return time_ns if 0 <= time_ns <= TIME_NS_MAX else None


def read_cri(line: bytes) -> Line | None:
    """
    Return the parts of a CRI line, or None.
    """
    match = _CRI_PATTERN.match(line)
    if match is None or match.end() > HEAD_BYTES_MAX:
        return None
    time_ns = read_time(match[1])
    if time_ns is None:
        return None
    return Line(time_ns, match[1], _STREAMS[match[12]], match[13] == b"P", line[match.end() :])


def _refuse(constant: str) -> object:
    raise ValueError(constant)


_DECODER = json.JSONDecoder(
    parse_constant=_refuse,
    parse_int=str,
    parse_float=str,
    object_pairs_hook=lambda pairs: [value for _, value in pairs],
)


def _depth(value: object) -> int:
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def json_end(text: str, start: int) -> int | None:
    """
    Return the end of the strictly valid JSON value at *start*, or None.

    *text* is bytes decoded as Latin-1, so that positions are those of the bytes.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
        return end if _depth(value) <= JSON_DEPTH_MAX else None
    except (ValueError, RecursionError):
        return None


def json_space(text: str, start: int) -> int:
    """
    Return the end of the white space at *start*.
    """
    match = _SPACE_PATTERN.match(text, start)
    assert match is not None
    return match.end()


def unescape(text: bytes) -> bytes:
    """
    Return what the inside of a valid JSON string stands for; a lone surrogate is U+FFFD.
    """

    def one(match: re.Match[bytes]) -> bytes:
        if match[1]:
            return bytes.fromhex((match[1] + match[2]).decode()).decode("utf-16-be").encode()
        if match[3]:
            point = int(match[3], 16)
            return (chr(point) if not 0xD800 <= point < 0xE000 else "\ufffd").encode()
        return _ESCAPES.get(match[4], match[4])

    return _ESCAPE_PATTERN.sub(one, text)


def _members(line: bytes) -> dict[bytes, list[bytes]] | None:
    """
    Return the values of a JSON object by name, all as written, or None.
    """
    text = line.decode("latin-1")
    members: dict[bytes, list[bytes]] = {}
    position = json_space(text, 0)
    follows = "{"
    while text[position : position + 1] == follows:
        name = json_space(text, position + 1)
        name_end = json_end(text, name) if text[name : name + 1] == '"' else None
        if name_end is None:
            return None
        colon = json_space(text, name_end)
        value = json_space(text, colon + 1)
        value_end = json_end(text, value) if text[colon : colon + 1] == ":" else None
        if value_end is None:
            return None
        members.setdefault(line[name + 1 : name_end - 1], []).append(line[value:value_end])
        position = json_space(text, value_end)
        follows = ","
    end = json_space(text, position + 1)
    return (
        members if members and text[position : position + 1] == "}" and end == len(text) else None
    )


def read_docker(line: bytes) -> Line | None:
    """
    Return the parts of a line of docker's json-file, or None.
    """
    members = _members(line) or {}
    logs, streams, times = (members.get(name, []) for name in (b"log", b"stream", b"time"))
    if not logs or not streams or not times:
        return None
    parsed = [read_time(time[1:-1]) if time[:1] == b'"' else None for time in times]
    time_ns = parsed[-1]
    known = all(stream in {b'"stdout"', b'"stderr"'} for stream in streams)
    if time_ns is None or None in parsed or not known or any(log[:1] != b'"' for log in logs):
        return None
    content = unescape(logs[-1][1:-1])
    partial = not content.endswith(b"\n")
    stream = _STREAMS[streams[-1][1:-1]]
    return Line(time_ns, times[-1][1:-1], stream, partial, content.removesuffix(b"\n"))
