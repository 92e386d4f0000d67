"""
Frames of a watch: split anywhere, too long, garbage.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from agent.core import watch as module
from agent.core.kube_objects import PodObject
from agent.core.watch import Phase, Watch
from agent.core.watch_frames import Frames
from tests.core.watch_kit import bookmark, error, frame, item, keys, listed, make, page, streamed

STREAM = b"".join(
    [
        frame("ADDED", item("a", 1)),
        frame("ADDED", item("ü", 2)),
        b"\n",
        b"not json\n",
        bookmark(10, end=True),
        frame("MODIFIED", item("a", 11, labels={"grüße": "x"})),
        frame("LATER", {}),
        frame("DELETED", item("ü", 12)),
        b'{"type":"ADDED","object":{"metadata":{"uid":7}}}\n',
        b'{"type":"ADDED","object":{"metadata":{}}}\n',
        b"\xff\xfe\n",
        frame("ADDED", item("c", 13)),
        b'{"type":"ADDED","obj',
    ]
)


def run(chunks) -> tuple[Any, ...]:
    watch = make()
    watch.begin(0)
    watch.opened(0)
    changes = [change for chunk in chunks for change in watch.feed(chunk)]
    return keys(changes), watch.frames_bad, watch.events, watch.phase


def test_frames_may_be_split_anywhere():
    whole = run([STREAM])
    assert whole == (["+a", "+ü", "+a", "-ü", "+c"], 4, 6, Phase.WATCH)
    assert run([STREAM[i : i + 1] for i in range(len(STREAM))]) == whole
    dice = random.Random(7)
    for _ in range(50):
        cuts = sorted({0, len(STREAM), *(dice.randrange(len(STREAM)) for _ in range(9))})
        pieces = [STREAM[a:b] for a, b in pairwise(cuts)]
        assert run(pieces) == whole


def test_a_frame_over_the_limit_is_skipped_and_counted():
    watch = Watch(PodObject, frame_bytes_max=200, streaming=False)
    watch.begin(0)
    watch.page(page([], 10))
    watch.ended(0, 0)
    watch.begin(0)
    watch.opened(0)
    data = frame("ADDED", item("big", 11, annotations={"a": "x" * 500})) + frame(
        "ADDED", item("b", 12)
    )
    changes = [change for i in range(len(data)) for change in watch.feed(data[i : i + 1])]
    assert keys(changes) == ["+b"]
    assert watch.frames_bad == 1
    watch.ended(300, 0)
    assert watch.phase is Phase.LIST, "what was skipped is asked for again"


def test_a_line_of_exactly_the_limit_is_a_frame():
    frames = Frames(4)
    assert frames.feed(b"abcd\nabcde\nab") == [b"abcd"]
    assert frames.feed(b"c\n\n\n") == [b"abc"]
    assert frames.too_long == 1


def test_a_skipped_line_is_not_held_in_memory():
    frames = Frames(1000)
    for _ in range(1000):
        frames.feed(b"x" * 1000)
    assert not frames._pieces
    assert frames.feed(b"\nnext\n") == [b"next"]


def test_a_view_with_a_hole_deletes_nothing():
    watch = streamed("a", "b")
    watch.feed(error(410))
    watch.ended(300, 0)
    watch.begin(0)
    watch.opened(400)
    assert keys(watch.feed(frame("ADDED", item("b", 1)) + b"garbage\n")) == ["+b"]
    assert watch.feed(bookmark(60, end=True)) == [], "the garbage may have been pod a"
    watch.ended(700, 0)
    assert watch.phase is Phase.STREAM
    watch.begin(0)
    watch.opened(800)
    watch.feed(frame("ADDED", item("b", 1)))
    assert keys(watch.feed(bookmark(61, end=True))) == ["-a"]


def test_an_item_of_a_page_that_cannot_be_read_is_left_out():
    watch = make(streaming=False)
    watch.begin(0)
    assert keys(watch.page(page([item("a", 1), {"metadata": 7}, item("b", 1)], 9))) == ["+a", "+b"]
    assert watch.frames_bad == 1


def test_garbage_without_end_is_left():
    watch = streamed()
    assert watch.feed(b"<p>garbage</p>\n" * 100) == []
    assert watch.over
    assert watch.frames_bad == module.BAD_FRAMES_MAX
    watch.ended(1, 0)
    assert watch.delay_s > 0


def test_a_pod_replaced_under_its_name_is_deleted_and_added():
    watch = listed("a")
    old, new = item("a", 11), item("b", 12)
    new["metadata"]["name"] = old["metadata"]["name"]
    assert keys(watch.feed(frame("DELETED", old) + frame("ADDED", new))) == ["-a", "+b"]
