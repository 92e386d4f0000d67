"""
The garbage collector of a running agent: seldom, and never over what the start has made.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from agent.runtime import collector

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def before() -> Iterator[None]:
    threshold = gc.get_threshold()
    gc.collect()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()
    gc.enable()


@pytest.mark.usefixtures("before")
def test_what_is_there_is_left_alone_and_garbage_still_found() -> None:
    """
    A cycle made afterwards is collected once enough objects wait.
    """
    gc.disable()
    collector.settle()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold()[0] == collector.WAITING_MAX
    collected = gc.get_stats()[0]["collected"]
    for _ in range(collector.WAITING_MAX + 1000):
        cycle: list[object] = []
        cycle.append(cycle)
    assert gc.get_stats()[0]["collected"] - collected >= collector.WAITING_MAX - 1000
