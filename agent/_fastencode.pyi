"""
Columns to wire bytes (CloudWatch JSON).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Self, final

from agent._fastparse import Columns

MESSAGE_BARE: Final = 0  # The line.
MESSAGE_CONTAINER_INSIGHTS: Final = (
    1  # Fluent Bit's record; a JSON object is merged as log_processed.
)
MESSAGE_OTEL: Final = 2  # A record of the OpenTelemetry log data model; a JSON object is its body.

@final
class Order:
    """
    Rows of several Columns in sending order: by time in milliseconds, stable.
    """

    def __len__(self) -> int: ...
    @property
    def in_sequence(self) -> bool:
        """
        Whether that is the order in which they are: all rows of the first, then all of the second….
        """

def order_rows(parts: Sequence[Columns]) -> Order: ...

class Encoded(NamedTuple):
    stop: int  # index into the Order of the first row that was not encoded to its end
    stop_byte: int  # how much of that row's message was: pass both on, as start and start_byte
    events: int  # events written (a split row is several)
    event_bytes: int  # what CloudWatch counts: UTF-8 bytes of the messages + 26 an event
    time_first_ms: int
    time_last_ms: int
    split: int  # rows that became several events
    truncated: int  # rows whose text was cut to fit one event
    part_rows: list[int]  # rows encoded to their end, per part
    event_parts: bytes  # int32 per event: its part
    event_offsets: bytes  # int64 per event: file offset of its row

@final
class Body:
    """
    One PutLogEvents body in a buffer that is reused; readable through the buffer protocol.
    """

    def __new__(cls, capacity: int = ...) -> Self: ...
    def encode(
        self,
        head: bytes,
        parts: Sequence[Columns],
        resources: Sequence[bytes],
        order: Order,
        start: int,
        *,
        start_byte: int = 0,
        format: int,
        metrics_bare: bool = False,
        events_max: int = 10_000,
        event_bytes_max: int = 1_048_550,
        batch_bytes_max: int = 1_048_576,
        span_ms_max: int = 86_400_000,
        valid_from_ms: int,
        valid_until_ms: int,
    ) -> Encoded:
        """
        Write *head* (`{"logGroupName":…,"logStreamName":…,"logEvents":[`) and events from order[start] until a limit.

        A request never mixes events before, inside and after [valid_from_ms, valid_until_ms].
        *resources* holds per part what is behind the fields of its records (agent.core.render) or b"".  The first
        event is always written.  A bare row that is split may end in a later body: see `stop_byte`.  With
        *metrics_bare*, lines of the embedded metric format are bare in every format.  `_reference_records` has
        the tables.
        Raises ValueError for limits that cannot hold one event, and for an order of other parts.
        """
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
