"""
A soak sees a leak when there is one.

The long one, which must see none, is `make soak`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.edge.ordeal import AGENT
from tests.edge.soak import (
    GROWTH_MAX,
    REST_HELD_MIB,
    REST_S,
    Sample,
    at_rest,
    soak,
    trends,
    verdict,
)

if TYPE_CHECKING:
    from pathlib import Path

#: An agent that keeps a mebibyte, a descriptor and a thread every tenth of a second.
LEAKING = f"""
import os, threading, time
kept = []
def leak():
    while True:
        time.sleep(0.1)
        kept.append((os.urandom(1 << 20), os.open(os.devnull, os.O_RDONLY), threading.Event()))
        threading.Thread(target=kept[-1][2].wait, daemon=True).start()
threading.Thread(target=leak, daemon=True).start()
{AGENT}
"""
SECONDS = 8


@pytest.mark.timeout(120)
async def test_a_planted_leak_is_seen(tmp_path: Path) -> None:
    """
    In memory, descriptors and threads.
    """
    run = await soak(tmp_path, seconds=SECONDS, seed=1, program=LEAKING)
    found = {item.name: item for item in trends(run.samples, warm_up_share=0)}
    assert set(found) == set(GROWTH_MAX)
    growing = {name for name, item in found.items() if item.last > item.first}
    assert growing == set(GROWTH_MAX), verdict(list(found.values()))
    assert not found["threads"].flat


def samples(grow: float) -> list[Sample]:
    """
    Half an hour of samples with some noise, in which everything grows by *grow* an hour.
    """
    found = []
    for at in range(0, 1800, 2):
        mib = 100 + at % 7 / 7 + grow * at / 3600
        found.append(Sample(at, mib, mib, 50, 12))
    return found


def test_noise_is_flat() -> None:
    """
    A value that goes up and down does not grow.
    """
    assert all(item.flat for item in trends(samples(0)))


def test_a_slow_leak_is_not_flat() -> None:
    """
    Memory that grows by 30 MiB an hour; descriptors and threads are as they were.
    """
    found = {item.name: item for item in trends(samples(30))}
    assert {name for name, item in found.items() if not item.flat} == {"rss_mib", "pss_mib"}
    assert found["rss_mib"].slope_hour == pytest.approx(30, abs=1)
    assert "GROWS" in verdict(list(found.values()))


def test_growth_before_the_end_of_the_warm_up_does_not_count() -> None:
    """
    Caches fill, and then they are full.
    """
    filled = [item._replace(rss_mib=min(item.at_s / 10, 50)) for item in samples(0)]
    assert all(item.flat for item in trends(filled))


def test_what_an_outage_holds_does_not_count() -> None:
    """
    Neither while it is held, nor until what was freed has gone back to the node.
    """
    held = range(600, 640)
    given_back_s = held.stop + REST_S
    found = [
        item._replace(rss_mib=200, held_mib=REST_HELD_MIB + 30 * (item.at_s in held))
        if held.start <= item.at_s < given_back_s - 1
        else item
        for item in samples(0)
    ]
    rests = at_rest(found)
    assert max(item.rss_mib for item in rests) < 102
    assert len(found) - len(rests) == pytest.approx((given_back_s - held.start) / 2, abs=1)
