"""
What a verifying writer has written: every line with its number, its file, its place and its moment.

A line carries its name, `[<log><stream> <number>]`, and a filler that follows from it, so that whoever reads it
anywhere knows which line it is and whether it is whole.  Numbers of a Log's stream count up from 0.

A *content* is what a generation is to the agent: bytes that were written to one file, under whatever names and
inodes they were reachable later.  `Inode.until` is when an inode stopped to hold them, and `how` says whether
who has it open can still read it (`unlinked`) or not (`cut`).  Moments are of
CLOCK_MONOTONIC, which all processes share.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

import msgspec

STREAMS = ("stdout", "stderr")
LETTERS = "oe"
NAME = re.compile(r"\[(\d+)([oe]) (\d+)\]([^\[]*)")
#: Of a container's log: uid of the pod, container, restart.
POD = re.compile(r"/pods/[^/]+_([^/_]+)/([^/]+)/([0-9]+)\.log$")
UNLINKED, CUT = "unlinked", "cut"


class Name(NamedTuple):
    """
    Which line it is.
    """

    log: int
    stream: int
    number: int


class Inode(msgspec.Struct, array_like=True):
    """
    A stretch of time in which an inode with a name held a content.
    """

    since: float
    until: float | None = None
    how: str = ""


class Content(msgspec.Struct, array_like=True):
    """
    The bytes of one generation.
    """

    log: int
    inodes: list[Inode]
    head: bytes = b""


class Line(msgspec.Struct, array_like=True):
    """
    One physical line; `row` is the number of the first line of its row (itself, where it is not a later piece).
    """

    content: int
    start: int
    stop: int
    stream: int
    number: int
    at: float
    row: int


class Journal(msgspec.Struct):
    """
    All that was written.
    """

    logs: list[str]  # paths of the live files
    contents: list[Content]
    lines: list[Line]


def file_id_of(path: str, head: bytes) -> str:
    """
    Return the id that an agent derives for a file of the Log at *path* with the first line *head*.
    """
    pod = POD.search(path)
    seed = "/".join(pod.groups()) if pod else path
    digest = hashlib.blake2b(digest_size=16)
    for part in (seed.encode(), hashlib.blake2b(head, digest_size=16).digest(), b"0"):
        digest.update(len(part).to_bytes(4, "little") + part)
    return digest.hexdigest()


def filler(log: int, stream: int, number: int) -> str:
    """
    Return the text behind the name of a line.
    """
    size = number * 7919 % 211
    if number % 97 == 0:
        size = 4000 + number % 3000
    return ("é~" if number % 13 == 0 else "-") * size + LETTERS[stream] * (log % 5 + 1)


def text_of(name: Name) -> str:
    """
    Return the whole text of a line.
    """
    return f"[{name.log}{LETTERS[name.stream]} {name.number}]{filler(*name)}"


def names_in(text: str) -> tuple[list[Name], bool]:
    """
    Return the lines that *text* is made of, and whether it is made of nothing else.
    """
    names = [
        Name(int(log), LETTERS.index(letter), int(number))
        for log, letter, number, _ in NAME.findall(text)
    ]
    return names, "".join(map(text_of, names)) == text
