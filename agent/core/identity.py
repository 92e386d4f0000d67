"""
What tells one file of a Log from another: its head, its tail, its id.

The **head** is the first complete line, or its first 1,024 bytes.  A line of a container runtime carries
nanoseconds (`stamped`), so no other file of the Log begins with it.  A banner is the same in every file;
then the **tail** decides: the hash of up to 1,024 bytes before a place that was looked at.  Files only
grow, so the bytes before a place never change; a file that has others there is another one.

The **id** names the file for ever, in rows, objects and loss records:

| head | id is made of | so |
|---|---|---|
| stamped | pod uid, container and restart (or the path), head, ordinal | it survives the loss of the state directory |
| not stamped | the same, the life of the chain (random), number | no two files ever have the same one |
| not stamped, replayed | the same, name, size and mtime | replaying an unchanged file twice names the same rows |

No I/O, no clock, no randomness.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

#: Bytes of the first line that count.  Vector's default fingerprint is one line, too; a JSON line
#: can be a mebibyte, and reading that for every file at every start is not worth it.
HEAD_BYTES_MAX = 1024
#: Bytes before a place that count: several lines, and one small read.
TAIL_BYTES_MAX = 1024
DIGEST_BYTES = 16

_TIME = (
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{1,9}(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_CRI = re.compile(_TIME + rb" (?:stdout|stderr) [FP]")
_DOCKER = re.compile(rb'\{"log":".*"time":"' + _TIME + rb'"\}\n?')


class Head(NamedTuple):
    """
    How a file begins.
    """

    digest: bytes
    length: int
    #: It begins with a container runtime's time, which no other file of the Log does.
    stamped: bool = False

    @property
    def key(self) -> tuple[bytes, int]:
        """
        What has to be equal.
        """
        return (self.digest, self.length)


class Tail(NamedTuple):
    """
    The hash of the *length* bytes before *offset*; no digest where a file has no such bytes.
    """

    offset: int
    length: int
    digest: bytes


NO_TAIL = Tail(0, 0, b"")


class Probe(NamedTuple):
    """
    A tail to be looked for in files that begin with *head*.
    """

    head: tuple[bytes, int]
    offset: int
    length: int


def head_of(first: bytes, *, whole: bool) -> Head | None:
    """
    Return the head of a file that begins with *first*; None while its first line is incomplete.

    *whole*: nothing will be appended any more, so that an incomplete line counts.
    """
    newline = first.find(b"\n", 0, HEAD_BYTES_MAX)
    if newline >= 0:
        length = newline + 1
    elif len(first) >= HEAD_BYTES_MAX:
        length = HEAD_BYTES_MAX
    elif whole and first:
        length = len(first)
    else:
        return None
    line = first[:length]
    return Head(digest_of(line), length, is_stamped(line))


def is_stamped(line: bytes) -> bool:
    """
    Whether *line* is one of a container runtime, with its time.
    """
    return _CRI.match(line) is not None or _DOCKER.fullmatch(line) is not None


def tail_of(before: bytes, offset: int) -> Tail:
    """
    Return the tail at *offset*, which *before* ends at.
    """
    counted = before[-TAIL_BYTES_MAX:]
    return Tail(offset, len(counted), digest_of(counted))


def digest_of(content: bytes) -> bytes:
    """
    Return the hash by which bytes of a file are remembered.
    """
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def file_id_of(seed: str, head: Head, *parts: str) -> str:
    """
    Derive the id of a file.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    texts = [part.encode("utf-8", "surrogateescape") for part in (seed, *parts)]
    for part in (texts[0], head.digest, *texts[1:]):
        digest.update(len(part).to_bytes(4, "little"))
        digest.update(part)
    return digest.hexdigest()
