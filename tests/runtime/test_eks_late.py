"""
Events that arrive hours late, and clocks and settings that move what is remembered: nothing is missing, nothing twice.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from agent.core import counters as metric
from agent.core import pull
from agent.runtime import spool
from tests.runtime.eks_kit import GROUP, STREAMS, Node, add, service

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Hours of batches that no route takes away fill no spool and slow nothing down.
    """
    monkeypatch.setattr(spool, "FILES_MAX", 1 << 30)
    monkeypatch.setattr(spool, "FILES_EASY", 1 << 30)


@pytest.mark.parametrize("seed", range(4))
async def test_hours_late(seed: int, tmp_path: Path) -> None:
    """
    Whatever is at most late_s late is there once, through kills, throttling, expired tokens and pauses.
    """
    dice = random.Random(seed)
    made = service()
    expected = []
    for _ in range(500):
        late_s = dice.choice([0, 20, dice.uniform(0, 1200), dice.uniform(600, 7190)])
        kind = dice.choice(list(STREAMS))
        expected.append(add(made, kind, dice.uniform(900, 20_000), late_s=late_s))
    made.filter.page_events = dice.choice([3, 50])
    made.filter.empty_pages = dice.choice([0, 2])
    made.filter.tps = dice.choice([None, 0.7])
    expiries = iter(range(20))

    def expire() -> None:
        if dice.random() < 0.02 and next(expiries, None) is not None:
            made.filter.expire_tokens()

    made.before = expire
    node = Node(tmp_path, made)
    while made.clock.seconds < 24_000:
        await node.start()
        await node.run(dice.uniform(1, 6000))
        await node.kill()
        made.clock.seconds += dice.choice([0, 30, 2000])
    await node.start()
    for _ in range(20):
        await node.run(3000)
        if len(node.ids()) >= len(expected):
            break
    await node.run(8000)
    await node.kill()
    assert sorted(node.ids()) == sorted(expected)


async def test_what_is_late_is_counted_and_said(tmp_path: Path) -> None:
    """
    Behind the overlap it is found by the slow look; behind late_s it is not found.
    """
    made = service()
    usual = [add(made, "audit", 1000 + 60 * n, late_s=5) for n in range(400)]
    late = [add(made, "audit", 1500, late_s=3600), add(made, "audit", 1501, late_s=7100)]
    never = add(made, "audit", 1502, late_s=20_000)
    node = Node(tmp_path, made, log_types=("audit",))
    await node.start()
    await node.run(26_000)
    await node.kill()
    assert sorted(node.ids()) == sorted(usual + late)
    assert never not in node.ids()
    assert node.counters.get(metric.PULL_LATE_EVENTS, "eks", "c1") == len(late)
    told = [text for _, event, text in node.host.told if event == "eks_events_late"]
    assert told
    assert "overlap_s (900 s)" in told[0]


async def test_the_slow_look_waits_for_everything_else(tmp_path: Path) -> None:
    """
    New events are not later because a sweep goes through hours of old ones.
    """
    made = service()
    for n in range(3000):
        add(made, "audit", 1000 + n, late_s=1)
    made.filter.page_events = 20
    node = Node(
        tmp_path, made, log_types=("audit",), poll_interval_s=10, overlap_s=300, late_s=1200
    )
    await node.start()
    worst = 0.0
    while made.clock.seconds < 4000:
        await node.run(50)
        behind = node.counters.get(metric.PULL_BEHIND_SECONDS, "eks", "c1", "kube-apiserver-audit-")
        worst = max(worst, behind) if made.clock.seconds > 1500 else worst
    await node.kill()
    wide = [at for at, body in made.requests if body["endTime"] - body["startTime"] > 900_000]
    assert len(wide) > 50
    # The lag, an interval, and a thorough query: 15 pages, two a second.
    assert worst < 40
    assert len(node.ids()) == len(set(node.ids()))


@pytest.mark.parametrize(("before_s", "after_s"), [(300, 3600), (3600, 300)])
async def test_another_overlap_repeats_nothing(
    before_s: float, after_s: float, tmp_path: Path
) -> None:
    """
    What the one before had forgotten, or did not take for late, is not asked for again.
    """
    made = service()
    expected = [add(made, "audit", 900 + 10 * n, late_s=n % 200) for n in range(600)]
    node = Node(tmp_path, made, overlap_s=before_s)
    await node.start()
    await node.run(4000)
    await node.kill()
    node = Node(tmp_path, made, overlap_s=after_s)
    await node.start()
    await node.run(16_000)
    await node.kill()
    assert sorted(node.ids()) == sorted(expected)


async def test_a_clock_of_the_service_that_goes_back(tmp_path: Path) -> None:
    """
    Also by an hour, once: what was delivered before is not delivered again.
    """
    made = service()
    expected = [add(made, "audit", 900 + 10 * n) for n in range(600)]
    node = Node(tmp_path, made)
    await node.start()
    await node.run(3000)
    made.date_s = -3600.0
    await node.run(300)
    made.date_s = 0.0
    await node.run(6000)
    await node.kill()
    assert sorted(node.ids()) == sorted(expected)


async def test_a_start_with_a_clock_that_is_behind(tmp_path: Path) -> None:
    """
    It asks all the same, and so learns the time.
    """
    made = service()
    expected = [add(made, "audit", 900 + n) for n in range(600)]
    node = Node(tmp_path, made)
    await node.start()
    await node.run(300)
    await node.kill()
    made.clock.jump_s = -86400.0
    await node.start()
    await node.run(600)
    await node.kill()
    assert sorted(node.ids()) == sorted(expected)


async def test_back_after_another_agent(tmp_path: Path) -> None:
    """
    It begins an overlap before what the other one has left, not where it was itself.
    """
    made = service()
    for n in range(3000):
        add(made, "audit", 900 + 10 * n)
    node = Node(tmp_path, made, log_types=("audit",))
    await node.start()
    await node.run(1000)
    assert node.puller is not None
    (key,) = node.puller._reach()
    await node.kill()
    made.clock.seconds += 10_000
    left_ms = int(made.now() * 1000)
    made.requests.clear()
    await node.start({key: left_ms})
    await node.run(8000)
    await node.kill()
    assert min(body["startTime"] for _, body in made.requests[:200]) >= left_ms - 900_000
    assert min(body["startTime"] for _, body in made.requests) >= left_ms - 7_200_000


async def test_late_events_that_are_remembered_have_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Beyond it fewer are found, which is said; nothing comes twice.
    """
    monkeypatch.setattr(pull, "LATE_MAX", 50)
    made = service()
    for n in range(900):
        add(made, "audit", 1000 + 10 * n, late_s=400)
    node = Node(tmp_path, made)
    await node.start()
    await node.run(20_000)
    await node.kill()
    assert len(node.ids()) == len(set(node.ids())) == 900
    assert any(event == "eks_late_shortened" for _, event, _ in node.host.told)
    assert GROUP in next(text for _, event, text in node.host.told if event == "eks_late_shortened")
