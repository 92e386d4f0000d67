"""
What is asked for rather than followed: journalctl's output, events of control planes, the Lease of an election.
"""

from __future__ import annotations

import zlib

import orjson

from agent.core.journal import (
    Lines,
    is_same,
    is_same_numbering,
    missing_between,
    read_entry,
    time_of,
)
from agent.core.kube_objects import decoded
from agent.core.lease import Election, Lease
from agent.core.pull import Event, Query
from agent.runtime.eks_records import Records
from agent.runtime.eks_requests import _page_of
from tests.fuzz.answers import response_of
from tests.fuzz.registry import Fuzzer

LINE_BYTES_MAX = 600
QUERY = Query("c", "eu-central-1", "/aws/eks/c/cluster", "", frozenset({"api", "audit"}))
TYPES = ("api", "audit", "authenticator", "scheduler", "other")


def journal(data: bytes) -> None:
    """
    Lines are the same however the pipe cuts them; every line is an entry, or known as none.
    """
    mark = zlib.crc32(data)
    whole, cut = Lines(LINE_BYTES_MAX), Lines(LINE_BYTES_MAX)
    lines = whole.take(data + b"\n")
    size = 1 + mark % 61
    pieces = [(data + b"\n")[at : at + size] for at in range(0, len(data) + 1, size)]
    assert lines == [line for piece in pieces for line in cut.take(piece)]
    assert whole.too_long == cut.too_long
    before = ""
    for line in lines:
        entry = read_entry(line)
        if entry is None:
            continue
        assert isinstance(entry.message, str)
        assert all(isinstance(text, str) for text in (*entry.attrs.values(), *entry.units))
        is_same(before, entry.cursor)
        is_same_numbering(before, entry.cursor)
        missing = missing_between(before, entry.cursor)
        assert missing is None or missing >= 0
        moment = time_of(entry.cursor)
        assert moment is None or moment < 2**63
        before = entry.cursor


def events(data: bytes) -> None:
    """
    An answer of FilterLogEvents is a page or none; what is made of its events is lines of JSON.
    """
    response = response_of(b"x-amzn-requestid: 1\n" + data)
    page = _page_of(response)
    if page is None:
        return
    records = Records()
    records.add(
        QUERY,
        [
            Event(
                item["timestamp"] % 2**40,
                item["eventId"],
                str(item.get("logStreamName", "")),
                TYPES[zlib.crc32(item["eventId"].encode(errors="replace")) % len(TYPES)],
                str(item.get("message", "")),
            )
            for item in page.events
        ],
    )
    for block in records.by_component().values():
        assert block.endswith(b"\n")


def lease(data: bytes) -> None:
    """
    Whatever the Lease says: an election goes on, and nobody writes what cannot be read again.
    """
    election = Election("me", duration_s=15.0)
    now = 0.0
    for part in data.split(b"\n"):
        now += 1 + zlib.crc32(part) % 20
        found = decoded(part, Lease)
        election.saw(found, now)
        if not election.may_write(now):
            continue
        body = election.body(name="l", namespace="n", stamp="2026-11-22T10:00:00Z", annotations={})
        written = decoded(body, Lease)
        assert written is not None
        election.wrote(written, sent_at=now, now=now)
        assert election.holds(now)
        assert orjson.loads(election.released(body))["spec"]["holderIdentity"] == ""
        assert not election.holds(now)


FUZZERS = (
    Fuzzer(
        "journal",
        journal,
        (
            (
                b'{"__CURSOR":"s=be0d;i=2a;b=90aa;m=3e9;t=6615ddd0fe283;x=1822","__REALTIME_TIMESTAMP":"1763806500000000",'
                b'"MESSAGE":"Started kubelet.","PRIORITY":"6","_SYSTEMD_UNIT":"init.scope","UNIT":"kubelet.service"}\n'
                b'{"__CURSOR":"s=be0d;i=2b","__REALTIME_TIMESTAMP":"1763806500000001","MESSAGE":[104,255,105],"_PID":["1","2"]}'
            ),
        ),
        (
            b'"MESSAGE":',
            b'"__CURSOR":',
            b"null",
            b"[",
            b"[[",
            b"]",
            b"{}",
            b'"x"',
            b"-1",
            b"1e999",
            b"\n",
            b"\\ud800",
        ),
    ),
    Fuzzer(
        "events",
        events,
        (
            (
                b'\n\n{"events":[{"eventId":"1","timestamp":1763806500000,"logStreamName":"kube-apiserver-1","message":'
                b'"I1122 10:15:00.000000 1 a.go:1] x"},{"eventId":"2","timestamp":1763806500001,"message":"  more"}],'
                b'"nextToken":"t","searchedLogStreams":[]}'
            ),
        ),
        (
            b'"events":',
            b'"eventId":',
            b'"timestamp":',
            b"null",
            b"[",
            b"{}",
            b"1.5",
            b"-1",
            b'"x"',
            b"\\ud800",
            b"\xff",
        ),
    ),
    Fuzzer(
        "lease",
        lease,
        (
            (
                b'{"metadata":{"name":"l","resourceVersion":"7","annotations":{"a":"b"},"labels":null},"spec":{"holderIdentity":'
                b'"other","leaseDurationSeconds":15,"renewTime":"2026-11-22T10:00:00.000000Z","leaseTransitions":3}}\n'
                b'{"metadata":{},"spec":{}}'
            ),
        ),
        (
            b'"spec":',
            b'"metadata":',
            b"null",
            b"{",
            b"}",
            b"-1",
            b"1e18",
            b'""',
            b'"me"',
            b"\n",
            b"\\ud800",
            b"\xff",
        ),
    ),
)
