"""
Segments of a Parquet route in memory, until there are enough of them for a frame of staging.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.core.batch import Segment
    from agent.sinks.parquet_settings import ParquetSettings

#: Fixed bytes of a staged row besides its message.
ROW_BYTES = 22


class PendingFrame:
    """
    Segments in the order in which they came; a frame is due at `frame_bytes` or `frame_age_s`.
    """

    def __init__(self, settings: ParquetSettings) -> None:
        self._bytes_max, self._age_s = settings.frame_bytes, settings.frame_age_s
        self._segments: list[Segment] = []
        self._bytes = 0
        self._since = 0.0

    def __bool__(self) -> bool:
        return bool(self._segments)

    def add(self, segment: Segment, now: float) -> bool:
        """
        Take *segment* at *now*, seconds of a monotonic clock; return whether that changes when a frame is due.
        """
        since = now - segment.waited_s
        first = not self._segments
        self._since = since if first else min(self._since, since)
        self._segments.append(segment)
        self._bytes += _bytes_of(segment)
        return first or self.full

    @property
    def full(self) -> bool:
        """
        Whether a frame is due for its size.
        """
        return self._bytes >= self._bytes_max

    @property
    def due_at(self) -> float:
        """
        When a frame is due for its age, on the clock of `add`.
        """
        return self._since + self._age_s

    def take(self) -> list[Segment]:
        """
        Return the segments of the next frame, no longer pending.
        """
        count, size = 0, 0
        for segment in self._segments:
            count += 1
            size += _bytes_of(segment)
            if size >= self._bytes_max:
                break
        taken, self._segments = self._segments[:count], self._segments[count:]
        self._bytes -= size
        return taken

    def release(self) -> None:
        """
        Give back the memory of all.
        """
        for segment in self._segments:
            segment.release()
        self._segments, self._bytes = [], 0


def _bytes_of(segment: Segment) -> int:
    return segment.message_bytes + ROW_BYTES * segment.rows
