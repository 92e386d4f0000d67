"""
Names of rotated files: to which live file they belong, and in which order they were written.

| name | by | live name | order |
|---|---|---|---|
| `0.log.20261122-101500` | kubelet | `0.log` | date, ascending |
| `app.log-20261122`, `app.log-20261122-1763806500` | logrotate dateext | `app.log` | date, ascending |
| `app.log.3` | logrotate, docker | `app.log` | number, descending |
| `audit-2026-11-22T20-41-02.677.log` | kube-apiserver (lumberjack) | `audit.log` | date, ascending |
| any of these with `.gz` | both | | as without |
| `*.tmp`, `*.gz.tmp` | kubelet while it compresses | none: ignored | |

No I/O.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ROTATED = re.compile(
    r"(?P<live>.+?)(?:(?:[.-](?P<date>[0-9]{8}(?:[.-]?[0-9]{2,14})?))|(?:\.(?P<number>[0-9]{1,6})))(?P<gz>\.gz)?"
)
_LUMBERJACK = re.compile(
    r"(?P<stem>.+)-(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}\.[0-9]{3})"
    r"(?P<extension>\.[^.]+)?(?P<gz>\.gz)?"
)

_CLASS_DATED = 0
_CLASS_NUMBERED = 1
_CLASS_LIVE = 2


class RotatedName(NamedTuple):
    """
    A file name, taken apart.  `order` sorts the files of one Log oldest first.
    """

    live: str
    order: tuple[int, int, str]
    compressed: bool

    @property
    def is_live(self) -> bool:
        """
        Whether it is the name that the writer opens.
        """
        return self.order[0] == _CLASS_LIVE


def ignored(name: str) -> bool:
    """
    Return whether *name* is nobody's log: a file that is still being made.
    """
    return name.endswith(".tmp")


def as_rotated(name: str) -> RotatedName | None:
    """
    Take *name* apart; None for a name that no rotator gives.
    """
    found = _LUMBERJACK.fullmatch(name)
    if found is not None:
        order = (_CLASS_DATED, 0, re.sub(r"[^0-9]", "", found["date"]))
        # The rotator keeps the extension: `.gz` behind a name without one is that of gzip.
        extension = found["extension"] or ""
        compressed = found["gz"] is not None or extension == ".gz"
        live = found["stem"] + (extension if extension != ".gz" else "")
        return RotatedName(live, order, compressed)
    found = _ROTATED.fullmatch(name)
    if found is None:
        return None
    if found["date"]:
        order = (_CLASS_DATED, 0, re.sub(r"[.-]", "", found["date"]))
    else:
        order = (_CLASS_NUMBERED, -int(found["number"]), "")
    return RotatedName(found["live"], order, found["gz"] is not None)


def as_live(name: str) -> RotatedName:
    """
    Return *name* as that of a live file (one that was given as such can be compressed too).
    """
    return RotatedName(name, (_CLASS_LIVE, 0, ""), name.endswith(".gz"))
