"""
Columns to column buffers (staging).
"""

from typing import NamedTuple

from agent._fastparse import Columns

class Staged(NamedTuple):
    """
    Column buffers of rows, ready for staging: valid UTF-8, contiguous, little-endian.
    """

    rows: int
    time_ns: bytes  # int64
    offset: bytes  # int64
    flags: bytes  # uint16
    message_ends: bytes  # int32: message i is messages[ends[i-1]:ends[i]]
    messages: bytes

def staging_buffers(columns: Columns) -> Staged: ...
