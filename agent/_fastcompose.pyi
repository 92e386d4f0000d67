"""
JSON objects out of fields, in the place of messages.
"""

from typing import Final

from agent._fastparse import Columns

#: Where a member comes from: a field, the message, the row's time, its stream, its tag (P or F).
FROM_FIELD: Final = 0
FROM_MESSAGE: Final = 1
FROM_TIME: Final = 2
FROM_STREAM: Final = 3
FROM_TAG: Final = 4

def compose(columns: Columns, members: tuple[tuple[bytes, int, int], ...], tail: bytes) -> None:
    """
    Replace every message by an object of *members*: (name as JSON with its colon, source, field).

    *tail* are further members, as JSON without braces; empty for none.  What a row does not have is left out; where
    nothing of the line itself is there, the message is kept as `log`.
    """
