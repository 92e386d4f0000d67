"""
What every test gets.

An event loop of the kind that the agent runs on, free ports, shared sample data, and a check that
nothing is left running.

TAILRACE_TEST_LOOPS says on which loops async tests run: `uvloop` (the default), `debug` (asyncio in
debug mode), or both, separated by a comma.  TAILRACE_SLOW=1 adds the tests that are marked slow.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

REPOSITORY = Path(__file__).resolve().parent.parent
#: What a child or a server of the test may take to vanish after it was told to.
LEAK_GRACE_S = float(os.environ.get("TAILRACE_LEAK_GRACE_S", "2"))
#: A socket's state in /proc/net/tcp: listening.
TCP_LISTEN = "0A"
#: Aborted TLS transports of asyncio's own loop leave sockets open in CPython 3.11.2 (Debian 12), and do not in
#: 3.11.7.  The agent runs on uvloop, whose TLS is its own.
ASYNCIO_TLS_SOUND = (3, 11, 7)

#: Folders whose tests start the agent as a process.
OF_PROCESS = (("tests", "e2e"), ("tests", "edge"))


def _debug_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "debug": _debug_loop,
}


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """
    The loops that an async test runs on: all that were asked for.

    Of a test of the agent as a process the first one: the loop is the test's own, and the agent has its uvloop.
    """
    names = os.environ.get("TAILRACE_TEST_LOOPS", "uvloop").split(",")
    of_process = item.path.relative_to(REPOSITORY).parts[:2] in OF_PROCESS
    return {name: LOOPS[name] for name in (names[:1] if of_process else names)}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Leave out what is marked slow, unless somebody asked for it, and what CPython cannot do.
    """
    if sys.version_info < ASYNCIO_TLS_SOUND:
        leaks = pytest.mark.skip(reason="asyncio's own TLS leaves sockets open in this CPython")
        for item in items:
            if item.get_closest_marker("tls") and "[debug" in item.name:
                item.add_marker(leaks)
    if os.environ.get("TAILRACE_SLOW") or config.getoption("-m") == "slow":
        return
    skip = pytest.mark.skip(reason="slow: set TAILRACE_SLOW=1")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


@pytest.fixture
def free_port() -> int:
    """
    A TCP port on loopback that was free a moment ago.
    """
    from tests.fakes.ports import unused_port  # pytester copies this file to where no tests are.

    return unused_port()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """
    The directory of real log lines beside the repository, or TAILRACE_SHARED; a skip where it is absent.
    """
    root = Path(os.environ.get("TAILRACE_SHARED", REPOSITORY.parent / "shared"))
    data = root / "data"
    if not data.is_dir():
        pytest.skip(
            f"no sample data at {data}: set TAILRACE_SHARED to a directory that holds data/"
        )
    return data


def find_child_processes() -> set[int]:
    """
    The processes that this one started and has not reaped.
    """
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                found.update(int(word) for word in file.read().split())
        except FileNotFoundError:  # The thread has ended.
            continue
    return found


def find_listening_sockets() -> set[str]:
    """
    The listening TCP sockets of this process, as `socket:[inode]`.
    """
    listening: set[str] = set()
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(name) as file:
                rows = [line.split() for line in file]
        except FileNotFoundError:  # No IPv6 here.
            continue
        listening.update(f"socket:[{row[9]}]" for row in rows[1:] if row[3] == TCP_LISTEN)
    held: set[str] = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            held.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:  # The descriptor of the listing itself.
            continue
    return listening & held


@pytest.fixture
def child_processes() -> Callable[[], set[int]]:
    """
    What the leak check looks at, for tests that check it in their middle.
    """
    return find_child_processes


@pytest.fixture
def listening_sockets() -> Callable[[], set[str]]:
    """
    The same for sockets.
    """
    return find_listening_sockets


def _shown(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except FileNotFoundError:
        command = ""
    return f"process {pid} ({command or 'not reaped'})"


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """
    Fail a test that leaves a child process or a listening socket behind.

    What fixtures of a wider scope started is there before this one looks, so it does not count.
    """
    children, sockets = find_child_processes(), find_listening_sockets()
    yield
    deadline = time.monotonic() + LEAK_GRACE_S
    while left := (find_child_processes() - children) | (find_listening_sockets() - sockets):
        if time.monotonic() > deadline:
            what = sorted(_shown(item) if isinstance(item, int) else item for item in left)
            pytest.fail(f"left running: {', '.join(what)}")
        time.sleep(0.02)
