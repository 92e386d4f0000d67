"""
Streams that nobody knows, and events that come line by line.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from agent.core import counters as metric
from agent.core.pull import Event, queries_of
from agent.runtime.eks_records import JOIN_LENGTH_MAX, Records
from agent.sources.eks_settings import EksControlPlaneSettings
from tests.runtime.eks_kit import GROUP, HEAD, Node, add, service

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.eks_kit import Service

STRANGE = "kube-dancer-0123456789abcdef0123456789abcdef"
TRACE = [
    f'{HEAD}"Reconciler error" err=<',
    "\tfirst",
    "\tsecond",
    " >",
]


def said(node: Node, event: str) -> list[str]:
    return [text for _, name, text in node.host.told if name == event]


async def test_a_stream_that_nobody_knows(tmp_path: Path) -> None:
    """
    It is said once a minute with the remedy, and counted; everything else goes on; the remedy helps.
    """
    made = service()
    strange = add(made, STRANGE, 950)
    add(made, "an-old-stream", 950 - 2 * 86400)
    expected = [add(made, "audit", 900 + n) for n in range(300)]
    node = Node(tmp_path, made)
    await node.start()
    await node.run(600)
    await node.kill()
    assert sorted(node.ids()) == sorted(expected)
    texts = said(node, "eks_unknown_streams")
    assert len(texts) in range(8, 12)
    assert STRANGE in texts[0]
    assert "more_streams" in texts[0]
    assert "an-old-stream" not in texts[0]
    assert node.counters.get(metric.PULL_UNKNOWN_STREAMS, "eks", "c1") == 1
    node = Node(tmp_path, made, more_streams={"kube-dancer": "kube-dancer-"})
    await node.start()
    await node.run(100)
    await node.kill()
    assert sorted(node.ids()) == sorted([*expected, strange])
    assert [item["log"] for item in node.records("kube-dancer")] == [f"{HEAD}{STRANGE} at 950\n"]
    assert not said(node, "eks_unknown_streams")
    assert node.counters.get(metric.PULL_UNKNOWN_STREAMS, "eks", "c1") == 0


@pytest.mark.parametrize(
    ("text", "shown"), [("\ud800 alone", "? alone"), ("\0 zero", "\0 zero"), ("\ufffd", "\ufffd")]
)
async def test_a_message_that_is_no_text(text: str, shown: str, tmp_path: Path) -> None:
    """
    It does not hold up what comes with it and after it.
    """
    made = service()
    expected = [add(made, "audit", 900 + n) for n in range(50)]
    strange = add(made, "audit", 930, text=text)
    node = Node(tmp_path, made)
    await node.start()
    await node.run(200)
    await node.kill()
    assert sorted(node.ids()) == sorted([*expected, strange])
    (item,) = [item for item in node.records() if item["attrs"]["event_id"] == strange]
    assert item["log"] == f"{shown}\n"


async def test_streams_that_may_not_be_listed(tmp_path: Path) -> None:
    """
    It is said with the remedy, and events are fetched all the same.
    """
    made = service()
    expected = [add(made, "audit", 900 + n) for n in range(100)]
    made.filter.describe_denied = True
    node = Node(tmp_path, made)
    await node.start()
    await node.run(300)
    await node.kill()
    assert sorted(node.ids()) == sorted(expected)
    assert "logs:DescribeLogStreams" in said(node, "eks_streams_denied")[0]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"x": "kube-apiserver-x-"}, "begin alike"),
        ({"x": "kube-"}, "begin alike"),
        ({"x": "a-", "y": "a-b-"}, "begin alike"),
        ({"X y": "a-"}, "expected a component"),
        ({"x": ""}, "expected a component"),
    ],
)
def test_prefixes_that_are_refused(more: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        EksControlPlaneSettings(more_streams=more)


def lines(made: Service, stream: str, texts: list[str], at_s: float) -> list[str]:
    """
    Let EKS deliver an event line by line; return the ids.
    """
    return [add(made, stream, at_s + number / 1000, text=text) for number, text in enumerate(texts)]


@pytest.mark.parametrize("page_events", [1, 3, 1000])
async def test_lines_of_one_event(page_events: int, tmp_path: Path) -> None:
    """
    They are one record with the first one's id, though the lines of another API server stand between them.
    """
    made = service()
    ids = [
        lines(made, stream, TRACE, 900 + number)[0]
        for number in range(20)
        for stream in ("kube-apiserver-0", "kube-apiserver-1", "kube-scheduler-0")
    ]
    audit = [lines(made, "audit", ["{}", " no JSON"], 900)]
    made.filter.page_events = page_events
    node = Node(tmp_path, made, requests_per_s_max=25, poll_interval_s=1000)
    await node.start()
    await node.run(2000)
    await node.kill()
    found = [*node.records("kube-apiserver"), *node.records("kube-scheduler")]
    whole = "\n".join(TRACE) + "\n"
    if page_events == 1000:
        assert {item["log"] for item in found} == {whole}
        assert sorted(item["attrs"]["event_id"] for item in found) == sorted(ids)
    # Where a batch is written in the middle of an event, the rest is a record of its own.
    text = "".join(item["log"] for item in sorted(found, key=lambda item: item["time"]))
    assert sorted(text.splitlines()) == sorted(TRACE * 60)
    assert [item["attrs"]["event_id"] for item in node.records("audit")] == audit[0]


@pytest.mark.parametrize("seed", range(20))
def test_no_line_is_lost_or_repeated(seed: int) -> None:
    """
    Any lines of any streams at any time: each is in one record, in the order of its stream.
    """
    dice = random.Random(seed)
    (query,) = queries_of("c", "", GROUP, ["api"], {})
    streams = [f"kube-apiserver-{name}" for name in "ab"]
    events = []
    for number in range(300):
        text = dice.choice([f"{HEAD}{number}", f"\t{number}", f"{number} " + "x" * 100_000])
        time_ms = 1_000_000 + number * dice.choice([1, 1, 7])
        events.append(Event(time_ms, str(number), dice.choice(streams), "api", text))
    records = Records()
    start = 0
    while start < len(events):
        stop = start + dice.randint(1, 20)
        records.add(query, events[start:stop])
        start = stop
    found = _decoded(records)
    for stream in streams:
        mine = [item for item in found if item["attrs"]["log_stream"] == stream]
        text = "".join(item["log"] for item in mine)
        assert text.splitlines() == [e.message for e in events if e.stream == stream]
        assert all(len(item["log"]) <= JOIN_LENGTH_MAX + 300 for item in mine)
    assert records.counts == {("c", "api"): 300}


def _decoded(records: Records) -> list[dict[str, Any]]:
    return [json.loads(line) for line in records.by_component()["kube-apiserver"].splitlines()]
