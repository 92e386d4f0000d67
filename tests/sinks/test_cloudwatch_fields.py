"""
Names of groups and streams out of fields: rows of one segment go to several streams, and the segment is settled once.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.core import counters as metric
from agent.core.batch import LossReason
from agent.core.budget import Charge
from agent.core.counters import Counters
from agent.core.cursor import cursor_at
from agent.core.resolve import Resolver
from tests.contract.sink import LONG_S, make_segment, resource, running
from tests.fakes.cloudwatch import INTERNAL
from tests.sinks.test_cloudwatch import deliver
from tests.transforms.kit import stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.batch import Segment
    from agent.core.budget import Share

STREAM = "{pod}/{fields.app|none}"


def line(app: str | None, number: int) -> str:
    return json.dumps({"app": app, "n": number} if app is not None else {"n": number})


def in_parts(share: Share, lines: Sequence[str], **more: Any) -> Segment:
    """
    Return a segment as the source makes it where names are made of the field `app`.
    """
    segment = make_segment(share, lines, **more)
    made = stages({"parse": "json"}, name_fields=("app",), name_values_max=1_000)
    assert segment.columns is not None
    offsets = bytes(segment.columns.column("offset"))
    applied = made.begin().apply(
        segment.columns, resource=segment.resource, generation=0, now=0.0, release=True
    )
    segment.release()
    parts = []
    for values, columns, _ in applied.named:
        charge = Charge(share, 0)
        charge.resize(columns.nbytes)
        part = replace(
            segment,
            columns=columns,
            charge=charge,
            rows=columns.rows,
            values=values,
            whole=segment,
            offsets=offsets,
        )
        part.rows_open = part.rows
        parts.append(part)
    segment.parts = tuple(parts)
    return segment


LINES = [line(app, index) for index, app in enumerate(["a", "b", None, "a", "", "b", "a"])]


async def test_rows_go_to_the_streams_of_their_values(make_cloudwatch, fake):
    """
    Each row once, in its stream, in order; what is not there has the default, and memory is given back.
    """
    bench = make_cloudwatch(stream=STREAM)
    now_ns = bench.clock.now_ns()
    for start in (0, 1_000):
        times = [now_ns + (start + index) * 1_000_000 for index in range(len(LINES))]
        await deliver(bench, in_parts(bench.share, LINES, start=start, times_ns=times))
    (group,) = fake.groups.values()
    found = {
        name: [json.loads(message)["n"] for _, message in events]
        for name, events in group.streams.items()
    }
    assert found == {"a/a": [0, 3, 6] * 2, "a/b": [1, 5] * 2, "a/none": [2, 4] * 2}
    assert bench.resolve.settled == 14
    assert bench.share.held == 0


async def test_without_a_default_it_is_counted_and_said(make_cloudwatch, fake):
    bench = make_cloudwatch(group="/logs/{fields.app}")
    await deliver(bench, in_parts(bench.share, LINES))
    assert set(fake.groups) == {"/logs/a", "/logs/b", "/logs/unknown"}
    assert bench.counters.get(metric.NAME_FALLBACKS, "r", "fields.app") == 1
    ((event, text),) = bench.told
    assert event == "name_fallback"
    assert "group: {fields.app} is not known of" in text


async def test_no_line_chooses_another_place(make_cloudwatch, fake):
    """
    Slashes, dots, colons, control characters and what is too long: legal names, that differ where the values do.
    """
    apps = ["../etc", "..", "x:y", "x*y", "a\nb", "é/", "y" * 255]
    lines = [line(app, index) for index, app in enumerate(apps)]
    bench = make_cloudwatch(group="/logs/{fields.app}", stream="s/{fields.app}")
    await deliver(bench, in_parts(bench.share, lines))
    assert len(fake.groups) == len(apps)
    assert all(name.startswith("/logs/") and name.count("/") == 2 for name in fake.groups)
    streams = [name for group in fake.groups.values() for name in group.streams]
    assert len(set(streams)) == len(apps)
    assert all(name.startswith("s/") and name.count("/") == 1 for name in streams)


async def test_a_lost_row_is_its_own_range(make_cloudwatch):
    """
    A loss ends at the next row of the file, whichever stream that goes to: dead letters hold no delivered line.
    """
    old = 15 * 24 * 3_600 * 10**9
    bench = make_cloudwatch(stream=STREAM)
    now_ns = bench.clock.now_ns()
    times = [now_ns - old if index in (3, 5, 6) else now_ns for index in range(len(LINES))]
    segment = in_parts(bench.share, LINES, times_ns=times)
    await deliver(bench, segment)
    starts = [sum(len(text) + 1 for text in LINES[:index]) for index in range(len(LINES) + 1)]
    found = sorted((loss.start, loss.stop, loss.rows) for loss in bench.resolve.losses)
    assert found == [(starts[index], starts[index + 1], 1) for index in (3, 5, 6)]
    assert {loss.reason for loss in bench.resolve.losses} == {LossReason.TOO_OLD}
    assert bench.resolve.delivered_rows.total() == 4


async def test_the_cursor_waits_for_every_part(make_cloudwatch, fake):
    """
    A stream that fails holds the cursor of the segment, though the others have their rows.
    """
    bench = make_cloudwatch(stream=STREAM, linger_s=0.0, requests_max=1)
    segment = in_parts(bench.share, LINES)
    resolver = Resolver("r", {"a": cursor_at(0, 0)}, Counters(), bench.share)
    resolver.track(segment)
    bench.resolve = resolver
    async with running(bench) as (sink, _, _):
        fake.script(INTERNAL)
        sink.accept(segment)
        while segment.rows_open > 4:
            await bench.clock.sleep(0.01)
        assert resolver.dirty() == {}
        await sink.drain(LONG_S)
    assert resolver.dirty() == {"a": cursor_at(0, segment.stop)}
    assert segment.rows_open == 0


async def test_closing_gives_back_the_memory_of_parts(make_cloudwatch):
    bench = make_cloudwatch(stream=STREAM)
    async with running(bench) as (sink, _, _):
        bench.set_reachable(reachable=False)
        segment = in_parts(bench.share, LINES, of=resource("a"))
        assert bench.share.held > 0
        sink.accept(segment)
        assert segment.parts == ()
    assert bench.share.held == 0
