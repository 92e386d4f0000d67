"""
What fields and levels mean, in plain Python: the specification of `_fastfields` and `_fastobject`.

A value is (kind, bytes).  Text is what the string stands for (a lone surrogate is U+FFFD); everything else is
as written.

| level | severity number | what means it, in any case |
|---|---|---|
| trace | 1 | `t`, `trace`, `trc`, `verbose`, `finest` |
| debug | 5 | `d`, `debug`, `dbg`, `fine` |
| info | 9 | `i`, `informational`; `n`, `notice` are 10 |
| warn | 13 | `w`, `warning`, `wrn` |
| error | 17 | `e`, `error`, `severe` |
| fatal | 21 | `f`, `c`, `fatal`, `critical`, `panic`, `alert`, `emergency` |

A word may be abbreviated to three letters (`finest` to five).  Numbers depend on the scale.
"""

from __future__ import annotations

import re

from agent._fastfields import (
    FIELD_FALSE,
    FIELD_JSON,
    FIELD_NULL,
    FIELD_NUMBER,
    FIELD_TEXT,
    FIELD_TRUE,
    SCALE_OTEL,
    SCALE_PINO,
    SCALE_PYTHON,
    SCALE_SYSLOG,
)
from agent._reference_lines import json_end, json_space, read_time, unescape

Value = tuple[int, bytes]

_NUMBER_PATTERN = re.compile(rb"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
NUMBER_BYTES_MAX = 64
_LETTERS = {"t": 1, "d": 5, "i": 9, "n": 10, "w": 13, "e": 17, "f": 21, "c": 21}
_WORDS = {
    "informational": 9,
    "warning": 13,
    "wrn": 13,
    "error": 17,
    "emergency": 21,
    "debug": 5,
    "dbg": 5,
    "trace": 1,
    "trc": 1,
    "fatal": 21,
    "fine": 5,
    "notice": 10,
    "critical": 21,
    "panic": 21,
    "alert": 21,
    "severe": 17,
    "verbose": 1,
}
_SCALES = {
    SCALE_PINO: {10: 1, 20: 5, 30: 9, 40: 13, 50: 17, 60: 21},
    SCALE_PYTHON: {10: 5, 20: 9, 30: 13, 40: 17, 50: 21},
    SCALE_SYSLOG: {0: 21, 1: 21, 2: 21, 3: 17, 4: 13, 5: 10, 6: 9, 7: 5},
    SCALE_OTEL: {number: number for number in range(1, 25)},
}
_MOMENT_PATTERN = re.compile(
    rb"([0-9/-]{10})[T ]([0-9:]{8})((?:[.,][0-9][0-9.]*|[.0-9]*)?) ?(Z|[+-][0-9]{2}:?[0-9]{2}|)"
)
_EPOCH_PATTERN = re.compile(rb"([0-9]+)(?:\.([0-9]+))?")
#: Numbers from here on are nanoseconds, microseconds, milliseconds.
_EPOCH_UNITS = ((10**17, 1), (10**14, 10**3), (10**11, 10**6), (0, 10**9))


def extract_json(message: bytes, names: tuple[bytes, ...]) -> dict[bytes, Value] | None:
    """
    Return the wanted members of the object that *message* ends with, or None where it is none.
    """
    text = message.decode("latin-1")
    start = text.find("{")
    if start < 0:
        return None
    # Its members' values may nest as deep as a value may.
    end = _object_end(text, start)
    if end is None or json_space(text, end) != len(text):
        return None
    found: dict[bytes, Value] = {}
    _members(message, start, {name: name for name in names}, found)
    return found


def _object_end(text: str, start: int) -> int | None:
    position, follows = start, "{"
    while text[position : position + 1] == follows:
        name = json_space(text, position + 1)
        if follows == "{" and text[name : name + 1] == "}":
            return name + 1
        name_end = json_end(text, name) if text[name : name + 1] == '"' else None
        if name_end is None:
            return None
        colon = json_space(text, name_end)
        value_end = (
            json_end(text, json_space(text, colon + 1)) if text[colon : colon + 1] == ":" else None
        )
        if value_end is None:
            return None
        position, follows = json_space(text, value_end), ","
    return position + 1 if text[position : position + 1] == "}" else None


def _members(
    message: bytes, start: int, rests: dict[bytes, bytes], found: dict[bytes, Value]
) -> None:
    # `rests`: what of each wanted name is left below the objects around this one.
    text = message.decode("latin-1")
    position = json_space(text, start + 1)
    while text[position] == '"':
        name_end = json_end(text, position)
        assert name_end is not None
        key = message[position + 1 : name_end - 1]
        value = json_space(text, json_space(text, name_end) + 1)
        value_end = json_end(text, value)
        assert value_end is not None
        for name, rest in rests.items():
            if rest == key:
                found[name] = _value(message[value:value_end])
        below = {
            name: rest[len(key) + 1 :]
            for name, rest in rests.items()
            if rest.startswith(key + b".")
        }
        if below and text[value] == "{":
            _members(message, value, below, found)
        position = json_space(text, value_end)
        if text[position] != ",":
            return
        position = json_space(text, position + 1)


def _value(written: bytes) -> Value:
    if written[:1] == b'"':
        return FIELD_TEXT, unescape(written[1:-1])
    kinds = {
        b"{": FIELD_JSON,
        b"[": FIELD_JSON,
        b"t": FIELD_TRUE,
        b"f": FIELD_FALSE,
        b"n": FIELD_NULL,
    }
    return kinds.get(written[:1], FIELD_NUMBER), written


def number(text: bytes) -> float | None:
    """
    Return the number that *text* is as a whole, or None.
    """
    if len(text) > NUMBER_BYTES_MAX or not _NUMBER_PATTERN.fullmatch(text):
        return None
    value = float(text)
    return value if abs(value) != float("inf") else None


def severity(text: bytes, scale: int = SCALE_PINO) -> int:
    """
    Return the severity number that a level's text means, 0 for none.
    """
    if not text or len(text) > 16:
        return 0
    if text[:1].isdigit():
        value = number(text)
        return 0 if value is None else _SCALES[scale].get(int(value), 0)
    word = text.decode("latin-1").lower()
    if len(word) == 1:
        return _LETTERS.get(word, 0)
    if word in {"fines", "finest"}:
        return 1
    return next(
        (value for name, value in _WORDS.items() if len(word) >= 3 and name.startswith(word)), 0
    )


def moment(text: bytes) -> int | None:
    """
    Return the time that *text* is, in ns since 1970, or None.

    RFC 3339, also with slashes in the date, a space for the T, a comma before the fraction, a space before the zone,
    a zone without colon, or without a zone, which is UTC; or a number in s, ms, µs or ns, told apart by its size.
    """
    if 19 <= len(text) < 40 and (match := _MOMENT_PATTERN.fullmatch(text)):
        date, time, fraction, zone = match.groups()
        if date[4:5] == date[7:8] == b"/":
            date = date.replace(b"/", b"-", 2)
        if len(zone) == 5:
            zone = zone[:3] + b":" + zone[3:]
        found = read_time(date + b"T" + time + fraction.replace(b",", b".", 1) + (zone or b"Z"))
        if found is not None:
            return found
    epoch = _EPOCH_PATTERN.fullmatch(text)
    if epoch is None:
        return None
    whole = int(epoch[1])
    unit = next(unit for least, unit in _EPOCH_UNITS if whole >= least)
    # Digits behind a nanosecond are cut, one by one as they are read.
    fraction_ns, part = 0, unit
    for digit in epoch[2] or b"":
        part //= 10
        fraction_ns += part * (digit - 0x30)
    time_ns = whole * unit + fraction_ns
    return time_ns if time_ns < 2**63 else None
