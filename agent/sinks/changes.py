"""
Wakes tasks of one sink that wait for each other.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Changes:
    """
    Wakes everybody who waits for something to have changed.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """
        Something has changed.
        """
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_s: float | None) -> None:
        """
        Return at the next change, or after *timeout_s*.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
