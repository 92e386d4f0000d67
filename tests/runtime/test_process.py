"""
The process shell: a stop that is asked for while the start fails.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from agent.core.errors import StopError
from agent.runtime.process import _until_drained

if TYPE_CHECKING:
    from collections.abc import Callable


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
            await until_drained(FailingAgent(), asked, keep=forever)


class RunningAgent:
    """
    Runs until it is cancelled.
    """

    def __init__(self) -> None:
        self.cancelled = False

    async def run(self) -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def drain(self, _timeout_s: float) -> None:
        await forever()


async def forever() -> None:
    await asyncio.Event().wait()


async def until_drained(
    agent: FailingAgent | RunningAgent, asked: asyncio.Event, *, keep: Callable[[], Any]
) -> None:
    await _until_drained(cast("Any", agent), asked, 1.0, cast("Any", Host()), keep=keep)


@pytest.mark.parametrize("stopping", [False, True])
async def test_a_state_directory_that_another_agent_took_ends_the_process(stopping: bool) -> None:
    """
    Whether a stop was asked for or not; the routes write nothing more.
    """
    asked = asyncio.Event()
    if stopping:
        asked.set()

    async def keep() -> None:
        await asyncio.sleep(0)
        raise StopError("held by another", exit_code=75)

    agent = RunningAgent()
    with pytest.raises(StopError, match="another"):
        async with asyncio.timeout(10):
            await until_drained(agent, asked, keep=keep)
    assert agent.cancelled
