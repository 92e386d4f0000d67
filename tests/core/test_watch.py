"""
The list and watch machine: every phase, every refusal, frames split anywhere.
"""

from __future__ import annotations

import random

import pytest

from agent.core import watch as module
from agent.core.kube_objects import NamespaceObject
from agent.core.watch import Event, ImpossibleEventError, Phase, Watch
from tests.core.watch_kit import (
    SELECTOR,
    bookmark,
    error,
    frame,
    item,
    keys,
    listed,
    make,
    page,
    streamed,
)

# -- listing ----------------------------------------------------------------------------------


def test_a_streaming_list_is_followed_by_events_on_the_same_connection():
    watch = make()
    request = watch.begin(0.5)
    assert request.stream
    assert request.query == {
        "fieldSelector": SELECTOR,
        "watch": "1",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "450",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "resourceVersion": "",
    }
    watch.opened(0)
    assert keys(watch.feed(frame("ADDED", item("a", 3)) + frame("ADDED", item("b", 2)))) == [
        "+a",
        "+b",
    ]
    assert not watch.synced
    assert watch.feed(bookmark(9, end=True)) == []
    assert watch.synced
    assert keys(watch.feed(frame("MODIFIED", item("a", 12)))) == ["+a"]
    assert keys(watch.feed(frame("DELETED", item("b", 13)))) == ["-b"]
    watch.ended(300, 0.5)
    assert watch.delay_s == 0.5 * module.SPREAD_S
    assert watch.begin(0).query["resourceVersion"] == "13"


def test_the_version_of_an_initial_view_is_that_of_its_end_and_not_of_an_object():
    watch = streamed("a")
    watch.ended(300, 0)
    assert watch.begin(0).query["resourceVersion"] == "10"


def test_a_view_that_was_cut_before_its_end_is_no_view():
    watch = streamed("a", "b")
    watch.feed(error(410))
    watch.ended(300, 0, failed=True)
    assert watch.phase is Phase.STREAM
    watch.begin(0)
    watch.opened(400)
    assert keys(watch.feed(frame("ADDED", item("b", 1)))) == ["+b"]
    watch.ended(401, 0, failed=True)
    # Now in pages: whether the server can stream is doubtful.
    assert not watch.begin(0).stream
    assert keys(watch.page(page([item("b", 1)], 50))) == ["+b", "-a"]


def test_pages_follow_one_another_and_then_the_watch():
    watch = make(streaming=False)
    request = watch.begin(0)
    assert not request.stream
    assert request.query == {"fieldSelector": SELECTOR, "limit": "100", "resourceVersion": "0"}
    assert keys(watch.page(page([item("a", 1)], 10, "next"))) == ["+a"]
    watch.ended(0, 0.5)
    assert watch.delay_s == 0
    assert watch.begin(0).query == {"fieldSelector": SELECTOR, "limit": "100", "continue": "next"}
    assert keys(watch.page(page([item("b", 2)], 10))) == ["+b"]
    watch.ended(0, 0.5)
    assert (watch.delay_s, watch.synced) == (0, True)
    request = watch.begin(0)
    assert request.stream
    assert request.query["resourceVersion"] == "10"
    assert "sendInitialEvents" not in request.query


def test_a_page_that_failed_is_asked_for_again():
    watch = make(streaming=False)
    watch.begin(0)
    watch.page(page([item("a", 1)], 10, "next"))
    watch.ended(0, 0)
    watch.begin(0)
    watch.ended(0, 0, failed=True)
    assert watch.delay_s > 0
    assert watch.begin(0).query["continue"] == "next"


def test_an_expired_continuation_begins_a_new_list():
    watch = make(streaming=False)
    watch.begin(0)
    watch.page(page([item("a", 1)], 10, "next"))
    watch.ended(0, 0)
    watch.begin(0)
    watch.refused(410, 0)
    request = watch.begin(0)
    assert request.query["resourceVersion"] == ""
    assert "continue" not in request.query
    assert keys(watch.page(page([item("b", 1)], 20))) == ["+b", "-a"]


def test_a_page_that_is_no_list_is_counted_and_the_list_begun_anew():
    watch = make(streaming=False)
    watch.begin(0)
    watch.page(page([], 10, "next"))
    watch.ended(0, 0)
    watch.begin(0)
    assert watch.page(b"<html>Bad Gateway</html>") == []
    watch.ended(0, 0)
    assert watch.frames_bad == 1
    assert watch.delay_s > 0
    assert "continue" not in watch.begin(0).query


def test_pages_that_are_too_large_become_smaller_and_consistent():
    watch = make(streaming=False)
    watch.begin(0)
    limits = []
    for _ in range(4):
        watch.page_too_large()
        watch.ended(0, 0)
        query = watch.begin(0).query
        limits.append((int(query["limit"]), query["resourceVersion"], watch.delay_s > 0))
    assert limits == [(12, "", False), (1, "", False), (1, "", True), (1, "", True)]


def test_a_cache_that_is_behind_is_passed_by():
    watch = listed(version=10)
    watch.feed(error(410))
    watch.ended(10, 0)
    assert watch.begin(0).query["resourceVersion"] == "10"
    watch.refused(504, 0)
    assert watch.begin(0).query["resourceVersion"] == ""


# -- servers without the streaming list ---------------------------------------------------------


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_to_stream_is_listed_in_pages_for_good(status):
    watch = make()
    watch.begin(0)
    watch.refused(status, 0.5)
    assert watch.delay_s == 0
    assert not watch.begin(0).stream
    watch.page(page([], 10))
    watch.ended(0, 0)
    watch.begin(0)
    watch.opened(0)
    watch.feed(error(410))
    watch.ended(10, 0)
    assert watch.phase is Phase.LIST


def test_a_server_that_never_ends_the_view_is_listed_in_pages():
    watch = make(request_timeout_s=30)
    watch.begin(0)
    watch.opened(100)
    assert watch.patience_s(100, 180) == 30
    watch.feed(frame("ADDED", item("a", 1)))
    assert watch.patience_s(125, 180) == 5
    assert watch.patience_s(140, 180) == 0
    watch.ended(130, 0, failed=True)
    assert not watch.synced
    assert watch.phase is Phase.LIST


def test_a_complete_view_is_waited_on_as_long_as_configured():
    assert streamed().patience_s(1000, 180) == 180


def test_a_server_that_was_not_reached_may_still_stream():
    watch = make()
    watch.begin(0)
    watch.ended(0, 0, failed=True)
    assert watch.phase is Phase.STREAM


# -- 410 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["status", "event", "reason"])
@pytest.mark.parametrize("start", [listed, streamed])
def test_after_410_old_objects_serve_until_the_new_view_is_complete(form, start):
    watch = start("a", "b")
    if form == "status":
        watch.ended(300, 0)
        watch.begin(0)
        watch.refused(410, 0.5)
    else:
        data = error(410) if form == "event" else error(0, "Expired")
        assert watch.feed(data + frame("ADDED", item("late", 99))) == []
        assert watch.over
        watch.ended(300, 0.5)
    assert 0.5 * module.SPREAD_S <= watch.delay_s <= module.SPREAD_S
    assert watch.relists == 1
    request = watch.begin(0)
    if start is streamed:
        watch.opened(400)
        changes = watch.feed(frame("ADDED", item("c", 1)) + frame("ADDED", item("b", 1)))
        assert keys(changes) == ["+c", "+b"]
        assert keys(watch.feed(bookmark(60, end=True))) == ["-a"]
    else:
        assert request.query["resourceVersion"] == "10", "not older than what is known"
        assert keys(watch.page(page([item("c", 1)], 60, "next"))) == ["+c"]
        watch.ended(0, 0)
        watch.begin(0)
        assert keys(watch.page(page([item("b", 1)], 60))) == ["+b", "-a"]


def test_410_for_ever_does_not_become_a_storm():
    watch = make(streaming=False)
    delays = []
    now = 0.0
    for _ in range(8):
        watch.begin(0)
        watch.page(page([], 10))
        watch.ended(now, 0.5)
        watch.begin(0)
        watch.refused(410, 0.5)
        delays.append(watch.delay_s)
        now += 1
    assert delays[0] == 0.5 * module.SPREAD_S
    assert delays[-1] > 20


# -- refusals and ends ------------------------------------------------------------------------


def test_throttling_waits_as_long_as_it_says():
    watch = make()
    watch.begin(0)
    watch.refused(429, 0.0, retry_after_s=17)
    assert watch.delay_s == 17
    watch.begin(0)
    watch.refused(429, 0.0)
    assert watch.delay_s == 2


@pytest.mark.parametrize("status", [500, 502, 503])
def test_outages_back_off(status):
    watch = make()
    delays = []
    for _ in range(10):
        watch.begin(0)
        watch.refused(status, 0.5)
        delays.append(watch.delay_s)
    assert delays == sorted(delays)
    assert 20 < delays[-1] <= 30 + module.SPREAD_S


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_a_person_must_mend_is_asked_for_about_once_a_minute(status):
    watch = make()
    watch.begin(0)
    watch.refused(status, 0.5)
    assert 45 <= watch.delay_s < 90 + module.SPREAD_S


def test_with_a_new_token_the_next_request_follows_soon():
    watch = make()
    watch.begin(0)
    watch.refused(401, 0.5, again=True)
    assert watch.delay_s == 0.5 * module.SPREAD_S


@pytest.mark.parametrize("status", [400, 422])
def test_a_version_that_the_server_does_not_understand_is_given_up(status):
    watch = listed("a")
    watch.ended(10, 0)
    watch.begin(0)
    watch.refused(status, 0)
    assert watch.phase is Phase.LIST


@pytest.mark.parametrize("lasted_s", [0.1, 300.0])
def test_5000_nodes_do_not_come_back_in_step(lasted_s):
    """
    All watches are cut at the same moment; no tenth of a second has more than a tenth of the nodes.
    """
    dice = random.Random(1)
    delays = []
    for _ in range(5000):
        watch = listed("a")
        watch.feed(bookmark(11))
        watch.ended(lasted_s, dice.random(), failed=True)
        delays.append(watch.delay_s)
    tenths = [int(delay * 10) for delay in delays]
    assert max(tenths.count(tenth) for tenth in set(tenths)) < 500
    # And the ends that they ask for are spread, too.
    assert len({listed().begin(dice.random()).query["timeoutSeconds"] for _ in range(99)}) > 50


def test_watches_that_end_at_once_every_time_back_off():
    watch = listed("a")
    delays = []
    for _ in range(8):
        watch.ended(0.1, 0.5)
        delays.append(watch.delay_s)
        watch.begin(0)
        watch.opened(0)
    assert delays[-1] > 20


def test_a_watch_on_which_nothing_came_at_all_is_doubtful():
    """
    A version from before the restore of a backup is never reached.
    """
    watch = listed("a", "b")
    watch.ended(180, 0, failed=True)
    assert watch.phase is Phase.LIST
    watch = listed("a", "b")
    watch.feed(bookmark(12))
    watch.ended(180, 0, failed=True)
    assert watch.phase is Phase.WATCH
    watch = listed("a", "b")
    watch.ended(300, 0)
    assert watch.phase is Phase.WATCH, "the time-out of the server is no doubt"


def test_other_errors_in_a_stream_end_it_and_keep_the_version():
    watch = listed("a")
    watch.feed(error(500))
    assert watch.over
    watch.ended(1, 0)
    assert watch.delay_s > 0
    assert watch.begin(0).query["resourceVersion"] == "10"


def test_namespaces_are_known_by_their_names():
    watch = Watch(NamespaceObject, streaming=False)
    assert "fieldSelector" not in watch.begin(0).query
    assert keys(watch.page(page([{"metadata": {"name": "shop", "uid": "u"}}], 9))) == ["+shop"]


def test_an_impossible_event_is_an_error_with_a_name():
    watch = listed()
    with pytest.raises(ImpossibleEventError, match="UNSUPPORTED in WATCH"):
        watch._move(Event.UNSUPPORTED)
