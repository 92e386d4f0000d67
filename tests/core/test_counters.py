"""
Counters of things that come and go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core import counters as counters_module
from agent.core.counters import Counters, Metric

if TYPE_CHECKING:
    import pytest

LINES = Metric("lines", "counter", "Lines.", ("route", "pod"))
SIZES = Metric("sizes", "histogram", "Sizes.", ("route", "pod", "le"))


def test_labels_of_pods_that_are_gone_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What was added to last stays; a histogram goes with all of its bounds.
    """
    monkeypatch.setattr(counters_module, "TALLIED_MAX", 10)
    counters = Counters()
    for number in range(100):
        for pod in ("kept", f"pod-{number}"):
            counters.tally(LINES, 2, "r", pod)
            for bound in ("1", "+Inf", "sum"):
                counters.tally(SIZES, 1, "r", pod, bound)
    series = dict(counters.samples())
    pods = ["kept", *(f"pod-{number}" for number in range(91, 100))]
    assert sorted(labels[1] for labels in series[LINES]) == sorted(pods)
    assert len(series[SIZES]) == 3 * len(pods)
    assert counters.get(LINES, "r", "kept") == 200
    assert counters.get(SIZES, "r", "kept", "sum") == 100
    counters.tally(LINES, 5, "r", "pod-1")
    assert counters.get(LINES, "r", "pod-1") == 5
