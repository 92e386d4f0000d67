"""
What `tailrace status` says of the spools: sources that read no files, and how far they have come.

The position is read where it counts, in the spool itself: a copy of it could only be older.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import orjson

from agent.cli.table import printable, size_text, table
from agent.core.journal import time_of
from agent.runtime.spool import read_position
from agent.sources.spooled import POSITION_NAME, batch_file, spool_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

POSITION_CHARS_MAX = 200


class SpoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """
    One source that reads no files.
    """

    source: str
    files: int
    bytes: int
    #: Time of what was read last, in nanoseconds since 1970; None where nobody knows.
    read_ns: int | None
    #: The journal's cursor; empty for other sources.
    position: str


def read_spools(state_dir: str) -> list[SpoolStatus]:
    """
    Return the spools below *state_dir*, by source.
    """
    try:
        sources = sorted(os.listdir(spool_directory(state_dir, "")))
    except OSError:
        return []
    return [_read(source, spool_directory(state_dir, source)) for source in sources]


def render(spools: Sequence[SpoolStatus], moment: dict[str, str]) -> str:
    """
    Return the spools as text; *moment* has the text of each source's time.
    """
    rows = [
        (item.source, moment.get(item.source), item.files, size_text(item.bytes), item.position)
        for item in spools
    ]
    return table(("spool of", "read up to", "files", "bytes", "cursor"), rows, right="23")


def _read(source: str, directory: str) -> SpoolStatus:
    sizes = []
    content = b""
    try:
        with os.scandir(directory) as entries:
            # The agent deletes behind the slowest route meanwhile.
            sizes = [item.stat().st_size for item in entries if batch_file(item.name) is not None]
        with open(os.path.join(directory, POSITION_NAME), "rb") as file:
            content = file.read()
    except OSError:
        pass
    position = (read_position(content)[2] if content else b"") or b""
    text = "" if position.startswith(b"{") else position.decode(errors="replace")
    return SpoolStatus(
        source=printable(source),
        files=len(sizes),
        bytes=sum(sizes),
        read_ns=_reach_ns(position) if position.startswith(b"{") else time_of(text.lstrip("<")),
        position=printable(text[:POSITION_CHARS_MAX]),
    )


def _reach_ns(position: bytes) -> int | None:
    """
    Return how far the slowest query for a control plane has come.
    """
    try:
        queries = orjson.loads(position)["queries"]
        return min((int(item["reach"]) for item in queries.values()), default=0) * 10**6 or None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None
