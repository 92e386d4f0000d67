"""
Values that the tests of the store commit, and its clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.core.batch import Loss, LossReason
from agent.core.checkpoint import GenerationRow

DAY_NS = 24 * 3600 * 1_000_000_000
LOG = "/var/log/pods/shop_web-0_0a1b/app/0.log"
OTHER = "/var/log/pods/shop_web-1_0a1c/app/0.log"
ODD = "/var/log/caf\udce9\u2028'\".log"  # a byte that is not UTF-8, and characters that SQL or JSON could trip over


@dataclass
class Moment:
    """
    The clock of the store under test.
    """

    ns: int = 1_795_428_000_000_000_000

    def now_ns(self) -> int:
        return self.ns


def generation(log: str = LOG, number: int = 0, **changes: Any) -> GenerationRow:
    """
    Return a generation's row.
    """
    values: dict[str, Any] = {
        "log": log,
        "number": number,
        "head": bytes(range(16)),
        "head_length": 187,
        "ordinal": 0,
        "file_id": f"{number:032x}",
        "device": 2**63 - 1,
        "inode": 131 + number,
        "name": "0.log",
        "size": 2**40,
    }
    return GenerationRow(**(values | changes))


def loss(
    start: int,
    stop: int,
    *,
    rows: int = 0,
    log: str = LOG,
    reason: LossReason = LossReason.DELETED,
    **more: Any,
) -> Loss:
    """
    Return a loss of generation 3.
    """
    return Loss(log, "ab" * 16, more.pop("generation", 3), start, stop, reason, rows, **more)
