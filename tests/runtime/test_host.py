"""
The executor: what a cancelled call leaves behind.
"""

from __future__ import annotations

import asyncio
import errno
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.runtime.host import EXECUTOR_THREADS, SystemHost, run_to_its_end
from agent.runtime.own_log import OwnLog
from tests.fakes.garbage import Body, without_collector


async def test_a_cancelled_call_ends_when_its_function_has() -> None:
    """
    A thread that still writes must not meet the next run of its route.
    """
    began, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def write() -> None:
        began.set()
        go_on.wait(10)
        done.append("written")

    with ThreadPoolExecutor(1) as executor:
        call = asyncio.create_task(run_to_its_end(executor, write))
        await asyncio.to_thread(began.wait, 10)
        for _ in range(2):
            call.cancel()
            await asyncio.sleep(0.02)
            assert not call.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert done == ["written"]


async def test_a_failed_call_is_no_garbage() -> None:
    """
    What it was to write would wait for the garbage collector, which comes seldom.
    """

    def write(_: Body) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with without_collector():
        with ThreadPoolExecutor(1) as executor:
            body = Body(b"x")
            gone = weakref.ref(body)
            with pytest.raises(OSError, match="no space"):
                await run_to_its_end(executor, write, body)
            del body
            await asyncio.to_thread(lambda: None)
        assert gone() is None


async def test_logs_are_read_while_the_state_disk_hangs() -> None:
    """
    However many calls wait for it.
    """
    host = SystemHost(OwnLog())
    go_on = threading.Event()
    hanging = [
        asyncio.create_task(host.run_blocking(go_on.wait, 30)) for _ in range(2 * EXECUTOR_THREADS)
    ]
    await asyncio.sleep(0.05)
    try:
        assert await asyncio.wait_for(host.run_reading(lambda: "read"), 10) == "read"
        assert not any(call.done() for call in hanging)
    finally:
        go_on.set()
        await asyncio.gather(*hanging)
        host.close()


async def test_a_cancelled_call_that_has_not_begun_never_does() -> None:
    """
    One that waits for a thread is taken back.
    """
    go_on = threading.Event()
    done: list[str] = []
    with ThreadPoolExecutor(1) as executor:
        executor.submit(go_on.wait, 10)
        call = asyncio.create_task(run_to_its_end(executor, lambda: done.append("written")))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go_on.set()
    assert done == []


async def test_an_error_behind_a_cancelled_call_is_dropped() -> None:
    """
    Nobody waits for it any more.
    """
    began, go_on = threading.Event(), threading.Event()

    def fail() -> None:
        began.set()
        go_on.wait(10)
        raise ValueError

    with ThreadPoolExecutor(1) as executor:
        call = asyncio.create_task(run_to_its_end(executor, fail))
        await asyncio.to_thread(began.wait, 10)
        call.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await call
