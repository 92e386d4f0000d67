"""
The real outside world: clock, disk, inotify, executor, child processes, own log lines.

The only place that touches any of it, besides `disk.py`, `state_disk.py`, `watches.py`, `store.py`, `aws.py` and
`admin.py`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import agent
from agent.runtime.disk import OsDisk
from agent.runtime.state_disk import OsStateDisk
from agent.runtime.watches import InotifyWatches

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from agent.core.host import Clock, Disk, StateDisk, Watches
    from agent.runtime.own_log import OwnLog

T = TypeVar("T")

#: Threads for what waits for the state disk, fsync above all: nobody needs many at once.
EXECUTOR_THREADS = 4
#: Threads for scans and cold reads of logs.  They are not behind an fsync: a log that is cut meanwhile is lost.
READING_THREADS = 2
CHILD_STDERR_BYTES_MAX = 4096
CODE_DIRECTORY = os.path.dirname(os.path.dirname(os.path.abspath(agent.__file__)))


class SystemClock:
    """
    Time and randomness of this machine.
    """

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def random(self) -> float:
        return random.random()


class SystemHost:
    """
    Implements `Host` of core/host.py.
    """

    def __init__(self, own_log: OwnLog) -> None:
        self.clock: Clock = SystemClock()
        self.disk: Disk = OsDisk()
        self.state_disk: StateDisk = OsStateDisk()
        self._watches: list[InotifyWatches] = []
        self.tell = own_log.tell
        self._executor = ThreadPoolExecutor(
            EXECUTOR_THREADS, thread_name_prefix="tailrace-blocking"
        )
        self._readers = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="tailrace-reading")

    def new_watches(self) -> Watches:
        """
        Return watches for one source.
        """
        self._watches.append(InotifyWatches())
        return self._watches[-1]

    async def run_blocking(self, function: Callable[..., T], *args: Any) -> T:
        """
        Run *function* in the executor.
        """
        return await run_to_its_end(self._executor, function, *args)

    async def run_reading(self, function: Callable[..., T], *args: Any) -> T:
        """
        Run *function* in the executor of those who read logs.
        """
        return await run_to_its_end(self._readers, function, *args)

    async def run_child(self, arguments: Sequence[str], *, name: str) -> tuple[int, str]:
        """
        Run `tailrace ARGUMENTS` as a child process; return (exit code, last lines of its stderr).

        A cancelled call kills the child: what it was writing is made anew at the next start.
        """
        process = await start_child(*arguments)
        try:
            _, stderr = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None, f"child {name} ended without an exit code"
        return process.returncode, stderr[-CHILD_STDERR_BYTES_MAX:].decode(errors="replace")

    def close(self) -> None:
        """
        Let go of threads and watches.
        """
        for executor in (self._executor, self._readers):
            executor.shutdown(wait=False, cancel_futures=True)
        for watches in self._watches:
            watches.close()


async def start_child(*arguments: str, answers: bool = False) -> asyncio.subprocess.Process:
    """
    Start `tailrace ARGUMENTS` as a child process; *answers*: it reads from us, writes to us and leads a session.
    """
    pipe = asyncio.subprocess.PIPE if answers else asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "agent",
        *arguments,
        # This very code, whatever lies in the working directory.
        env={**os.environ, "PYTHONPATH": CODE_DIRECTORY},
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=answers,
    )


async def ask_child(
    *arguments: str, question: bytes, timeout_s: float
) -> tuple[int | None, bytes, bytes]:
    """
    Run `tailrace ARGUMENTS`, write *question* to it, and return (exit code, its stdout, its stderr).

    Raises OSError where it cannot be started, TimeoutError where it does not end: then it is killed, with what it
    has started itself.
    """
    # By stdin and stdout: arguments can be read by everybody on the node.
    process = await start_child(*arguments, answers=True)
    try:
        async with asyncio.timeout(timeout_s):
            stdout, stderr = await process.communicate(question)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode, stdout, stderr


async def run_to_its_end(executor: Executor, function: Callable[..., T], *args: Any) -> T:
    """
    Run *function* in *executor*.

    A call that is cancelled ends when the function has, if that has begun: a thread that still writes
    a file must not meet the route's next run, which writes the same one.
    """
    work = executor.submit(function, *args)
    future = asyncio.wrap_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        # However often it is cancelled meanwhile: by its group, and by whoever started its task.
        while not work.cancel() and not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((future,))
        raise
    finally:
        # They hold the error, which holds this frame and those below it, arguments and all.
        del work, future


class GroupTasks:
    """
    Starts tasks in a supervisor's TaskGroup: they end with it, and their error ends it.
    """

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group

    def start(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """
        Start *coroutine* under the group.
        """
        return self._group.create_task(coroutine, name=name)
