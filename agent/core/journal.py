"""
Entries of systemd's journal, as `journalctl --output=json --all` writes them: one object a line.

A value is a string; an array of numbers where it is not UTF-8 (the bytes); an array of values where the entry has
the field several times.  `__CURSOR` names the entry for ever:

    s=be0dec1a07bc4394;i=2a;b=90aa3cd9e77589b8;m=3e9;t=6615ddd0fe283;x=18225055f1f974a9

| part | what |
|---|---|
| `s`, `i` | a numbering of entries of all units, and the number in it: another one where journald copied the entry |
| `b`, `m` | the boot, and microseconds since then |
| `t`, `x` | microseconds since 1970, and a checksum |

All numbers are hexadecimal.  No I/O.
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
#: Where systemd says whom its own entries are about, and others theirs: `--unit` finds these as well.
ABOUT_FIELDS = ("UNIT", "OBJECT_SYSTEMD_UNIT", "COREDUMP_UNIT")
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
    #: The unit that wrote it, then those that it is about.
    units: tuple[str, ...]


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
    units = tuple(
        unit
        for name in ("_SYSTEMD_UNIT", *ABOUT_FIELDS)
        if (unit := _text(fields.get(name), first=True))
    )
    message = _text(fields.get("MESSAGE"), first=False) or ""
    return Entry(cursor, time_us * 1000, message, attrs, units)


def is_same(cursor: str, other: str) -> bool:
    """
    Return whether two cursors are of one entry, in whatever file.
    """
    mine, theirs = _parts(cursor), _parts(other)
    return cursor == other or all(
        name in mine and mine[name] == theirs.get(name) for name in ("b", "m", "t", "x")
    )


def is_same_numbering(cursor: str, other: str) -> bool:
    """
    Return whether two entries are of one numbering.
    """
    return _parts(cursor).get("s") == _parts(other).get("s")


def missing_between(behind: str, oldest: str) -> int | None:
    """
    Return how many entries of all units are gone between that of *behind* and the *oldest*; None: nobody knows.
    """
    if not is_same_numbering(behind, oldest):
        return None
    first, last = _number(behind, "i"), _number(oldest, "i")
    if first is None or last is None or last <= first:
        return None
    return last - first - 1


def time_of(cursor: str) -> int | None:
    """
    Return when the entry was written, in nanoseconds since 1970; None where the cursor does not say.
    """
    time_us = _number(cursor, "t")
    return None if time_us is None or time_us >= 2**53 else time_us * 1000


def _parts(cursor: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in cursor.split(";") if "=" in part)


def _number(cursor: str, name: str) -> int | None:
    try:
        return int(_parts(cursor)[name], 16)
    except (KeyError, ValueError):
        return None


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
