"""
A running agent as a process: limits, lock, store, admin endpoint, signals, exit code.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.core.errors import RetryError
from agent.core.sayings import Sayings
from agent.runtime import crash, gauges, heap, memory
from agent.runtime.admin import Admin
from agent.runtime.agent import Agent
from agent.runtime.host import SystemHost
from agent.runtime.lock import StateLock
from agent.runtime.rebuild import rebuild_staging
from agent.runtime.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agent.config.values import Config
    from agent.core.host import Host
    from agent.runtime.own_log import OwnLog

BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"
#: How often somebody looks whether the state directory is still what is written to: a few stat calls.
KEEP_STATE_S = 5.0


def boot_id() -> str:
    """
    Return the id of this boot of the machine; empty where there is none.
    """
    with suppress(OSError), open(BOOT_ID_PATH, encoding="ascii") as file:
        return file.read().strip()
    return ""


def raise_open_files_max() -> int:
    """
    Raise RLIMIT_NOFILE to what the hard limit allows, and return it: every log file is held open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def run_agent(config: Config, own_log: OwnLog) -> int:
    """
    Run until a signal, drain, and return the exit code; raises StopError.
    """
    crash.install()
    memory.settle()
    heap.use_one_heap(large_apart_bytes=heap.LARGE_BYTES)
    raise_open_files_max()
    host = SystemHost(own_log)
    clock = host.clock
    lock = StateLock(config.state_dir, wait_s=config.lock_wait_s, tell=host.tell, clock=clock)
    async with lock:
        # Before this a signal just ends the process: nothing of the state was touched.
        asked = _asked_by_signal()
        sayings = Sayings(clock=clock, tell=host.tell)
        store = await _opened_store(config, lock=lock, host=host, asked=asked, sayings=sayings)
        if store is None:
            host.close()
            return 0
        try:
            agent = Agent(config, host=host, store=store, rebooted=store.boot_changed)
            await rebuild_staging(config, store=store, host=host, counters=agent.counters)
            async with Admin(
                config.admin.listen,
                counters=agent.counters,
                ready=lambda: agent.ready,
                refresh=lambda: gauges.refresh(agent, clock.now_ns()),
                tell=host.tell,
            ):
                own_log.tell("started", f"following logs for {len(config.routes)} routes")
                with memory.given_back(clock):
                    await _until_drained(
                        agent,
                        asked,
                        config.drain_timeout_s,
                        host,
                        keep=lambda: keep_state(lock, store, host, sayings),
                    )
        finally:
            await store.close()
            host.close()
    host.tell("stopped", "drained and stopped")
    own_log.flush()
    return 0


async def _opened_store(
    config: Config, *, lock: StateLock, host: Host, asked: asyncio.Event, sayings: Sayings
) -> SqliteStore | None:
    """
    Return the store, as soon as the disk lets us open it; None where a signal comes first.

    Whatever is delivered before anything can be remembered would be delivered again: so nothing is.
    """
    while not asked.is_set():
        try:
            return await SqliteStore.open(
                config.state_dir,
                now_ns=host.clock.now_ns,
                tell=host.tell,
                routes=[route.name for route in config.routes],
                boot_id=boot_id(),
                reclaim=lock.reclaim,
            )
        except RetryError as error:
            text = f"nothing is read until the state directory can be written: {error}"
            sayings.say("state_failed", text, level="error")
        with suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), KEEP_STATE_S)
    return None


def _asked_by_signal() -> asyncio.Event:
    """
    Return the event that SIGTERM or SIGINT sets; a second signal ends the process at once.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def on_signal(number: int) -> None:
        if asked.is_set():
            # The operator does not want to wait.  Nothing undelivered is committed.
            os._exit(128 + number)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return asked


async def keep_state(lock: StateLock, store: SqliteStore, host: Host, sayings: Sayings) -> None:
    """
    Look after the state directory until cancelled; raises StopError where another agent has it, or it is damaged.
    """
    while True:
        await host.clock.sleep(KEEP_STATE_S)
        try:
            if lock.reclaim():  # disk
                host.tell(
                    "state_missing",
                    f"{lock.directory}: its lock file was deleted under the agent and is made anew; leave the state "
                    "directory to Tailrace",
                    level="error",
                )
            await store.keep()
        except RetryError as error:
            # The disk is full, say: what needs it waits, the others go on.
            sayings.say("state_failed", str(error), level="error")


async def _until_drained(
    agent: Agent,
    asked: asyncio.Event,
    drain_timeout_s: float,
    host: Host,
    *,
    keep: Callable[[], Coroutine[None, None, None]],
) -> None:
    running = asyncio.ensure_future(agent.run())
    stopping = asyncio.ensure_future(asked.wait())
    keeping = asyncio.ensure_future(keep())
    draining: asyncio.Future[None] | None = None
    try:
        await asyncio.wait((running, stopping, keeping), return_when=asyncio.FIRST_COMPLETED)
        if not running.done() and not keeping.done():
            host.tell("draining", f"stopping: draining for at most {drain_timeout_s:g} s")
            # A start that fails meanwhile is never up to be drained.
            draining = asyncio.ensure_future(agent.drain(drain_timeout_s))
            await asyncio.wait((running, draining, keeping), return_when=asyncio.FIRST_COMPLETED)
        if not keeping.done():
            await asyncio.wait((running, keeping), return_when=asyncio.FIRST_COMPLETED)
        if keeping.done() and not running.done():
            # The state directory is no longer ours: nothing more may be written there.
            running.cancel()
            await asyncio.wait((running,))
            await keeping
        await running
    finally:
        for task in (draining, stopping, keeping):
            if task is not None:
                task.cancel()
