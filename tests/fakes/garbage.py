"""
Whether something goes at once, or waits for the garbage collector, which comes seldom in an agent.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Body(bytearray):
    """
    Bytes that a weak reference can watch.
    """


@contextmanager
def without_collector() -> Iterator[None]:
    """
    Nothing is collected for the length of the block; what was garbage before it is gone.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
