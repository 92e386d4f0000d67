"""
The process shell: a stop that is asked for while the start fails.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from agent.core.errors import StopError
from agent.runtime.process import _until_drained


class FailingAgent:
    """
    Never comes up: its start fails after the stop was asked for.
    """

    def __init__(self) -> None:
        self.draining = asyncio.Event()

    async def run(self) -> None:
        await self.draining.wait()
        raise StopError("the store is broken", exit_code=70)

    async def drain(self, _timeout_s: float) -> None:
        self.draining.set()
        await asyncio.Event().wait()  # As an agent that is not started does.


class Host:
    """
    Hears what is told.
    """

    def tell(self, _event: str, _text: str, /, **_fields: object) -> None:
        return


async def test_a_stop_during_a_start_that_fails_ends_with_its_error() -> None:
    """
    The process does not wait for ever for routes that never come up.
    """
    asked = asyncio.Event()
    asked.set()
    with pytest.raises(StopError, match="broken"):
        async with asyncio.timeout(10):
            await _until_drained(cast("Any", FailingAgent()), asked, 1.0, cast("Any", Host()))
