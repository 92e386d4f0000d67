"""
Errors, classed by what the caller must do: retry, reject, stop.

Policy reads the type, never the text.  Text = what, where, value (shortened), what to do.
"""

from __future__ import annotations

VALUE_SHOWN_MAX = 40


def shown(value: object) -> str:
    """
    Return *value* as it appears in a message: repr, at most 40 characters.
    """
    text = repr(value)
    return text if len(text) <= VALUE_SHOWN_MAX else text[: VALUE_SHOWN_MAX - 1] + "…"


class TailraceError(Exception):
    """
    Base of all errors that Tailrace raises on purpose.
    """


class RetryError(TailraceError):
    """
    Try again later: nothing was confirmed, nothing is lost.

    `slow`: a person must act first (credentials, permissions, a missing bucket), so retry slowly
    and say so once a minute.
    `throttled`: the service asks for less.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        slow: bool = False,
        throttled: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.slow = slow
        self.throttled = throttled
        self.retry_after_s = retry_after_s


class RejectError(TailraceError):
    """
    The other side will never take these bytes: isolate them and record the loss.
    """

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class StopError(TailraceError):
    """
    Nothing can go on: end the process with *exit_code* (sysexits: 78 configuration, 75 try again, 70 broken state).
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PoisonError(TailraceError):
    """
    A component raised on one chunk: the route's supervisor isolates it.
    """

    def __init__(self, message: str, *, log: str, generation: int, start: int, stop: int) -> None:
        super().__init__(message)
        self.place = (log, generation, start, stop)
