"""
Named places where a test may kill the process.

`point` does nothing in production: a call of an empty function per checkpoint, window or object.
`runtime/crash.py` replaces `hook` when TAILRACE_CRASH_AT is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def _nothing(_name: str) -> None:
    return


hook: Callable[[str], None] = _nothing


def point(name: str) -> None:
    """
    Pass the point *name*.
    """
    hook(name)
