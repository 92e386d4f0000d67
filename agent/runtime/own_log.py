"""
Tailrace's own log: one line an event to stderr, as JSON or as text.

    {"time":"2026-11-23T10:00:00.123Z","level":"warning","event":"state_held","text":"…","route":"archive"}
    2026-11-23T10:00:00.123Z warning state_held: … route=archive

- At most 10 lines a minute and event name; the next one that is written carries `suppressed`, how many
  were not, and so does a line of its own when nothing else follows.  The agent reads its own log like any other
  container's: a line per error would feed itself.
- Never blocks: a line is at most 4,000 bytes and is written only where the pipe has room for it, because
  the loop that delivers logs must not wait for somebody to read ours.  What was not written is counted.
- Never raises: not for odd fields, nor for a stderr that is closed.
"""

from __future__ import annotations

import os
import re
import select
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from agent.core.errors import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Plain = str | int | float | bool | None

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
LINES_MAX = 10
WINDOW_S = 60.0
#: PIPE_BUF is 4,096: a write of that much is whole, or is refused.
LINE_BYTES_MAX = 4000
TEXT_CHARS_MAX = 2000
#: Event names are constants of the code; the bound is for the day when one is not.
EVENTS_MAX = 1000
_EVENT = re.compile(r"[a-z][a-z0-9_]{0,63}")
_RESERVED = frozenset({"time", "level", "event", "text"})


class Tell(Protocol):
    """
    `Host.tell` (core/host.py).
    """

    def __call__(
        self, event: str, text: str, /, *, level: str = "info", **fields: object
    ) -> None: ...


@dataclass(slots=True)
class _Window:
    """
    The lines of one event in one minute.
    """

    start_s: float
    level: str
    written: int = 0
    suppressed: int = 0


class OwnLog:
    """
    Writes own log lines; `tell` is that of `Host`.
    """

    def __init__(
        self,
        *,
        format: Literal["json", "text"] = "json",
        level: str = "info",
        fd: int | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._render = _json_line if format == "json" else _text_line
        self._level = LEVELS[level]
        self._fd = sys.stderr.fileno() if fd is None else fd
        self._now_ns = now_ns
        self._monotonic = monotonic
        self._windows: dict[str, _Window] = {}
        self._swept_s = monotonic()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        #: Lines that stderr had no room for.
        self.unwritten = 0

    def tell(self, event: str, text: str, /, *, level: str = "info", **fields: object) -> None:
        """
        Write one line, unless *event* has had its lines for this minute.
        """
        assert _EVENT.fullmatch(event), f"event {event!r} is not snake_case"
        if LEVELS[level] < self._level:
            return
        now_s = self._monotonic()
        self._sweep(now_s)
        window = self._windows.get(event)
        if window is None or now_s - window.start_s >= WINDOW_S:
            suppressed = window.suppressed if window is not None else 0
            if window is None and len(self._windows) >= EVENTS_MAX:
                self._windows.clear()
            window = self._windows[event] = _Window(now_s, level, suppressed=suppressed)
        if window.written >= LINES_MAX:
            window.suppressed += 1
            return
        window.written += 1
        if window.suppressed:
            fields["suppressed"], window.suppressed = window.suppressed, 0
        self._line(event, text, level, fields)

    def flush(self) -> None:
        """
        Say how many lines were suppressed; called at the end, and by `tell` for windows that are over.
        """
        for event, window in self._windows.items():
            self._report(event, window)

    def _sweep(self, now_s: float) -> None:
        # At most once a window: a second event's tell reports the first one's silence.
        if now_s - self._swept_s < WINDOW_S:
            return
        self._swept_s = now_s
        over = [event for event, item in self._windows.items() if now_s - item.start_s >= WINDOW_S]
        for event in over:
            self._report(event, self._windows.pop(event))

    def _report(self, event: str, window: _Window) -> None:
        if window.suppressed:
            text = f"{window.suppressed} more lines of this event were not written"
            self._line(event, text, window.level, {"suppressed": window.suppressed})
            window.suppressed = 0

    def _line(self, event: str, text: str, level: str, fields: dict[str, object]) -> None:
        seconds, rest = divmod(self._now_ns(), 10**9)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        values = {
            f"{name}_" if name in _RESERVED else name: _plain(value)
            for name, value in fields.items()
        }
        when = f"{stamp}.{rest // 10**6:03d}Z"
        line = self._render(when, level, event, _clean(text, TEXT_CHARS_MAX), values)
        if len(line) > LINE_BYTES_MAX:
            short = {"cut": True} | {
                key: value for key, value in values.items() if not isinstance(value, str)
            }
            line = self._render(when, level, event, _clean(text, TEXT_CHARS_MAX // 4), short)
        self._write(line[: LINE_BYTES_MAX - 1] + b"\n")

    def _write(self, line: bytes) -> None:
        try:
            ready = self._poll.poll(0)
            if not ready or not ready[0][1] & select.POLLOUT:
                self.unwritten += 1
                return
            os.write(self._fd, line)
        except OSError:
            # A closed stderr: there is nobody left to tell.
            self.unwritten += 1


def _json_line(when: str, level: str, event: str, text: str, fields: Mapping[str, Plain]) -> bytes:
    return msgspec.json.encode(
        {"time": when, "level": level, "event": event, "text": text, **fields}
    )


def _text_line(when: str, level: str, event: str, text: str, fields: Mapping[str, Plain]) -> bytes:
    parts = [when, level, f"{event}:", text.replace("\n", "\\n")]
    for name, value in fields.items():
        shown_value = str(value)
        if not shown_value or re.search(r"[\s\"=]", shown_value):
            shown_value = msgspec.json.encode(shown_value).decode()
        parts.append(f"{name}={shown_value}")
    return " ".join(parts).encode()


def _plain(value: object) -> Plain:
    """
    Return *value* as something that is written the same way everywhere.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # JSON readers take integers of 64 bits.
        return int(value) if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, bytes):
        return _clean(value[:TEXT_CHARS_MAX].decode("utf-8", "backslashreplace"), TEXT_CHARS_MAX)
    if isinstance(value, str):
        return _clean(value, TEXT_CHARS_MAX)
    try:
        return _clean(shown(value), TEXT_CHARS_MAX)
    except Exception:  # A broken __repr__ must not hide the event.
        return f"<{type(value).__name__}>"


def _clean(text: str, chars_max: int) -> str:
    if len(text) > chars_max:
        text = text[: chars_max - 1] + "…"
    # Paths that are not UTF-8 arrive with lone surrogates.
    return text.encode("utf-8", "backslashreplace").decode()
