"""
The leak check sees what it is there to see.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

pytest_plugins = ("pytester",)


def test_a_child_process_is_seen(child_processes: Callable[[], set[int]]) -> None:
    """
    Running or not reaped.
    """
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as child:
        assert child.pid in child_processes()
        child.communicate(b"\n")
        assert child.pid not in child_processes()


def test_a_listening_socket_is_seen(listening_sockets: Callable[[], set[str]]) -> None:
    """
    A bound socket is no leak, a listening one is.
    """
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        name = os.readlink(f"/proc/self/fd/{server.fileno()}")
        assert name not in listening_sockets()
        server.listen()
        assert name in listening_sockets()


def test_a_test_that_leaves_a_server_fails(
    pytester: pytest.Pytester, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The message names what was left.
    """
    monkeypatch.setenv("TAILRACE_LEAK_GRACE_S", "0")
    pytester.makeconftest((request.config.rootpath / "tests" / "conftest.py").read_text())
    pytester.makepyfile("""
        import socket
        kept = []
        def test_leaves_a_server():
            kept.append(socket.create_server(("127.0.0.1", 0)))
    """)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*left running: socket:*"])
