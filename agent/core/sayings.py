"""
Tailrace's own log lines about lasting trouble: each at most once a minute.

A destination that fails, fails for every object and stream at once.  Operators want to read it once, then
again while it lasts; `tailrace_retries_total` says how often it happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.core.host import Clock

TELL_EVERY_S = 60.0


class Sayings:
    """
    What one part says, with *about* (its route, or its source) in every line.
    """

    def __init__(self, *, clock: Clock, tell: Callable[..., None], **about: str) -> None:
        self._about = about
        self._clock = clock
        self._tell = tell
        self._told: dict[tuple[str, str], float] = {}

    def say(
        self, event: str, text: str, *, cause: str = "", level: str = "warning", **fields: object
    ) -> None:
        """
        Say *text*, unless *event* was said of the same *cause* (a code: there are few) within the last minute.
        """
        now = self._clock.monotonic()
        if now - self._told.get((event, cause), float("-inf")) >= TELL_EVERY_S:
            self._told[event, cause] = now
            self._tell(event, text, level=level, **self._about, **fields)
