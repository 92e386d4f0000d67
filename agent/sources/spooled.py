r"""
Sources whose input is no file: what they read is written to a spool, which is a Log like any other.

A spool is a directory below the state directory.  Its files are the generations of Logs, one of each component, and
each of them is written once, whole, and never changed:

| name | what |
|---|---|
| `audit.log-00000000-00000000000042` | records of one batch; numbers grow, so their order is that of rotated files |
| `00000000000042.audit.tmp` | the same while it is being written |
| `position` | how far the producer is, with the batch of which number (runtime/spool.py) |

A record is a line of Docker's json-file format: what the producer knows of it beside message and time is in
`attrs`, where the transform `parse: attrs` finds it.

    {"log":"I1122 10:15:00 …\n","stream":"stdout","time":"2026-11-22T10:15:00.123Z","attrs":{"event_id":"3856…"}}
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from glob import escape
from typing import TYPE_CHECKING, Annotated, NamedTuple

import orjson
from msgspec import Meta

from agent.core.components import ComponentNames
from agent.sources.settings import FilesSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1 << 20
POSITION_NAME = "position"
#: A message of CloudWatch is at most 1 MiB; as JSON every byte of it can become six.
LINE_BYTES_MAX = 8 * MIB
_BATCH = re.compile(r"([a-z0-9-]+)\.log-00000000-([0-9]{14})")
_BEING_WRITTEN = re.compile(r"([0-9]{14})\.([a-z0-9-]+)\.tmp")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


#: The key `spool_bytes_max` of every such source.
SpoolBytes = Annotated[
    int,
    Meta(
        ge=16 * MIB,
        description="Bytes below state_dir that may wait for the slowest route; past it nothing more is "
        "fetched until it has caught up.",
    ),
]
SPOOL_BYTES = 512 * MIB


def spool_directory(state_dir: str, source: str) -> str:
    """
    Return where the spool of *source* is.
    """
    return posixpath.join(state_dir, "spool", source)


def spool_log(directory: str, component: str) -> str:
    """
    Return the key of a Log of the spool.
    """
    return posixpath.join(directory, f"{component}.log")


class File(NamedTuple):
    """
    What of one component is in one batch.
    """

    component: str
    number: int

    @property
    def name(self) -> str:
        """
        The name that makes it a generation.
        """
        return f"{self.component}.log-00000000-{self.number:014d}"

    @property
    def being_written(self) -> str:
        """
        Its name before it is whole, or counts.
        """
        return f"{self.number:014d}.{self.component}.tmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolFiles(FilesSettings):
    """
    How the files of a spool are followed: a Log's component is its container.
    """

    directory: str

    @property
    def components_by_path(self) -> ComponentNames:
        """
        Whose a Log is, by its name.
        """
        return ComponentNames()


def settings_of(settings: object, *, state_dir: str, source: str) -> FilesSettings:
    """
    Return what the files of a source are followed with.
    """
    if isinstance(settings, FilesSettings):
        return settings
    directory = spool_directory(state_dir, source)
    return SpoolFiles(
        directory=directory,
        paths=(f"{escape(directory)}/*.log",),
        format="docker",
        line_bytes_max=LINE_BYTES_MAX,
    )


def batch_file(name: str) -> File | None:
    """
    Return what the file *name* is; None for one that is not of a batch.
    """
    found = _BATCH.fullmatch(name)
    return File(found[1], int(found[2])) if found else None


def unfinished_file(name: str) -> File | None:
    """
    Return what was being written to the file *name*; None for another file.
    """
    found = _BEING_WRITTEN.fullmatch(name)
    return File(found[2], int(found[1])) if found else None


@lru_cache(maxsize=1024)
def _stamp(seconds: int) -> str:
    # Most of what a record costs, and thousands of them are of one second.
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def record(message: str, *, time_ns: int, attrs: Mapping[str, str]) -> bytes:
    """
    Return one line of a spool.
    """
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    fields = {
        "log": message + "\n",
        "stream": "stdout",
        "time": f"{_stamp(seconds)}.{rest_ns:09d}Z",
        "attrs": attrs,
    }
    try:
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        # A lone surrogate, which JSON can carry and UTF-8 cannot.
        fields["log"] = message.encode(errors="replace").decode() + "\n"
        fields["attrs"] = {
            key: value.encode(errors="replace").decode() for key, value in attrs.items()
        }
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
