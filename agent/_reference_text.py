r"""
The text formats of `parse` in plain Python: the specification of `_fastpairs` and `_fastlayout`.

A *pair* is `key=value`: a key is of bytes above space but `=`, `"` and DEL; a value is in quotes, or a block (`<`,
a newline, …, ` >` at the beginning of a line), or goes on to the next byte that is not above space.  A key without
`=` is true.  The last of several counts.  In quotes `\n \t \r \" \\ \xHH \uHHHH` are what Go means by them; a quote
that does not end goes on to the end of the text.
"""

from __future__ import annotations

import re

from agent._fastfields import FIELD_FALSE, FIELD_NULL, FIELD_NUMBER, FIELD_TEXT, FIELD_TRUE
from agent._reference_fields import Value, number

_KEY = rb'[^\x00-\x20="\x7f]+'
_PAIR = re.compile(
    rb"(?P<key>" + _KEY + rb')(?:(?P<sign>=)(?:"(?P<quoted>(?:[^"\\]|\\.)*(?:\\\Z)?)(?:"|\Z)'
    rb"|(?P<block><\n.*?\n >)|(?P<bare>[^\x00-\x20]*)))?",
    re.DOTALL,
)
_KLOG = re.compile(
    rb"(?P<level>[IWEF])(?P<time>[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}) *(?P<thread>[0-9]+) "
    rb"(?P<caller>(?P<file>[^\]]+):(?P<line>[0-9]+))\] ?(?P<rest>.*)",
    re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|(.)|\Z)", re.DOTALL)
_CONTROLS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b'"': b'"', b"\\": b"\\"}
_SEVERITIES = {b"I": 9, b"W": 13, b"E": 17, b"F": 21}


def _unquoted(text: bytes) -> bytes:
    def one(match: re.Match[bytes]) -> bytes:
        if match[1]:
            return bytes.fromhex(match[1].decode())
        if match[2]:
            point = int(match[2], 16)
            return (chr(point) if not 0xD800 <= point < 0xE000 else "\ufffd").encode()
        return _CONTROLS.get(match[3], match[0]) if match[3] else match[0]

    return _ESCAPE.sub(one, text)


def _bare(text: bytes) -> Value:
    if number(text) is not None:
        return FIELD_NUMBER, text
    return {b"true": FIELD_TRUE, b"false": FIELD_FALSE}.get(text, FIELD_TEXT), text


def pairs(text: bytes) -> dict[bytes, Value]:
    """
    Return the pairs in *text*.
    """
    found: dict[bytes, Value] = {}
    for match in _PAIR.finditer(text):
        key = match["key"]
        if not match["sign"]:
            found[key] = (FIELD_TRUE, key)
        elif match["quoted"] is not None:
            found[key] = (FIELD_TEXT, _unquoted(match["quoted"]))
        else:
            found[key] = _bare(match["bare"] if match["block"] is None else match["block"])
    return found


def extract_logfmt(message: bytes) -> dict[bytes, Value] | None:
    """
    Return the pairs of a line that begins with `key=`, or None.
    """
    return pairs(message) if re.match(_KEY + rb"=", message) else None


def extract_klog(message: bytes) -> tuple[dict[bytes, Value], int] | None:
    """
    Return the fields and the severity number of a line of klog, or None.
    """
    match = _KLOG.match(message)
    if match is None or len(message) < 30:
        return None
    found: dict[bytes, Value] = {}
    rest = match["rest"]
    quoted = re.match(rb'"((?:[^"\\]|\\.)*)"', rest, re.DOTALL)
    own: dict[bytes, Value] = {
        name.encode(): (FIELD_TEXT, match[name]) for name in ("level", "time", "caller", "file")
    }
    own |= {name.encode(): (FIELD_NUMBER, match[name]) for name in ("thread", "line")}
    found |= own
    if quoted is None:
        found[b"msg"] = (FIELD_TEXT, rest)
    else:
        found |= pairs(rest[quoted.end() :])
        found[b"msg"] = (FIELD_TEXT, _unquoted(quoted[1]))
    return found, _SEVERITIES[match["level"]]


def layout_value(text: bytes) -> Value:
    """
    Return a part of a line with a fixed order: a dash stands for nothing.
    """
    if text == b"-":
        return FIELD_NULL, text
    return (FIELD_TEXT if number(text) is None else FIELD_NUMBER), text
