"""
What was seen of a log of events: a digest of every `eventId`, by the minute of the event's time.

`floor_ms` is where that begins: what is before it was forgotten, cannot be told from new any more, and is not to be
asked for again.  It moves only past events that were really forgotten, so a clock that was wrong cannot move it.

No I/O and no clock.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

DIGEST_BYTES = 16
MINUTE_MS = 60_000


class Seen:
    """
    Digests of events.
    """

    __slots__ = ("_minutes", "_packed", "floor_ms")

    def __init__(self) -> None:
        self.floor_ms = 0
        self._minutes: dict[int, set[bytes]] = {}
        #: By minute, how many digests there were when they were packed, and the text.
        self._packed: dict[int, tuple[int, str]] = {}

    def add(self, time_ms: int, event_id: str) -> bool:
        """
        Note an event; return whether it is new.
        """
        digest = hashlib.blake2b(
            event_id.encode(errors="replace"), digest_size=DIGEST_BYTES
        ).digest()
        minute = self._minutes.setdefault(time_ms // MINUTE_MS, set())
        if digest in minute:
            return False
        minute.add(digest)
        return True

    def forget(self, before_ms: int) -> None:
        """
        Forget events of minutes before *before_ms*.
        """
        oldest = before_ms // MINUTE_MS
        for minute in [minute for minute in self._minutes if minute < oldest]:
            self._drop(minute)

    def limit(self, count_max: int) -> bool:
        """
        Forget the oldest of more than *count_max*; return whether there were any.
        """
        count = sum(map(len, self._minutes.values()))
        over = False
        while count > count_max and len(self._minutes) > 1:
            count -= self._drop(min(self._minutes))
            over = True
        return over

    def _drop(self, minute: int) -> int:
        self._packed.pop(minute, None)
        self.floor_ms = max(self.floor_ms, (minute + 1) * MINUTE_MS)
        return len(self._minutes.pop(minute))

    # -- kept over restarts -------------------------------------------------------------------

    def kept(self) -> dict[str, Any]:
        """
        Return it as JSON.
        """
        minutes = {str(minute): self._pack(minute) for minute in self._minutes}
        return {"floor": self.floor_ms, "minutes": minutes}

    def _pack(self, minute: int) -> str:
        # With every batch all of it is kept, and only the last minutes have changed.
        digests = self._minutes[minute]
        count, text = self._packed.get(minute, (-1, ""))
        if count != len(digests):
            text = base64.b64encode(b"".join(digests)).decode()
            self._packed[minute] = (len(digests), text)
        return text

    def restore(self, kept: Any) -> None:
        """
        Go on from what `kept` returned.
        """
        self.floor_ms = int(kept["floor"])
        for minute, text in kept["minutes"].items():
            packed = base64.b64decode(text)
            self._minutes[int(minute)] = {
                packed[place : place + DIGEST_BYTES]
                for place in range(0, len(packed), DIGEST_BYTES)
            }
