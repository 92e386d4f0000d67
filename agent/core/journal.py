"""
Entries of systemd's journal, as `journalctl --output=json --all` writes them: one object a line.

A value is a string; an array of numbers where it is not UTF-8 (the bytes); an array of values where the entry has
the field several times.  `__CURSOR` names the entry for ever, in whatever file it is.

No I/O.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

#: Fields that are kept, as attributes, beside message and time.
FIELDS = (
    "PRIORITY",
    "SYSLOG_FACILITY",
    "SYSLOG_IDENTIFIER",
    "_PID",
    "_HOSTNAME",
    "_SYSTEMD_UNIT",
    "_TRANSPORT",
)
#: A message can have 768 MiB; the rest of a longer line of journalctl's is left out.
LINE_BYTES_MAX = 16 << 20


class Entry(NamedTuple):
    """
    What is kept of an entry.
    """

    cursor: str
    time_ns: int
    message: str
    attrs: dict[str, str]


def read_entry(line: bytes) -> Entry | None:
    """
    Return the entry that *line* is, or None.
    """
    try:
        fields = orjson.loads(line)
        cursor, time_us = fields["__CURSOR"], int(fields["__REALTIME_TIMESTAMP"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    if not isinstance(cursor, str) or not cursor or "\n" in cursor or not 0 <= time_us < 2**53:
        return None
    attrs = {
        name: text for name in FIELDS if (text := _text(fields.get(name), first=True)) is not None
    }
    return Entry(cursor, time_us * 1000, _text(fields.get("MESSAGE"), first=False) or "", attrs)


def _text(value: Any, *, first: bool) -> str | None:
    """
    Return a value as text: of several ones the *first*, or all, a line each.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(item, int) and 0 <= item < 256 for item in value):
        return bytes(value).decode(errors="replace")
    texts = [text for item in value if (text := _text(item, first=first)) is not None]
    if not texts:
        return None
    return texts[0] if first else "\n".join(texts)


class Lines:
    """
    Cuts what a pipe gives into lines; a line that is too long is left out, and counted.
    """

    def __init__(self, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._line_bytes_max = line_bytes_max
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self.too_long = 0

    def take(self, data: bytes) -> list[bytes]:
        """
        Return the lines that *data* completes.
        """
        *whole, rest = data.split(b"\n")
        lines = []
        for part in whole:
            self._keep(part)
            if self._rest_bytes <= self._line_bytes_max:
                lines.append(b"".join(self._rest))
            else:
                self.too_long += 1
            self._rest, self._rest_bytes = [], 0
        self._keep(rest)
        return lines

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        self._rest_bytes += len(part)
        if self._rest_bytes <= self._line_bytes_max:
            self._rest.append(part)
        else:
            self._rest = []
