"""
The lock of the state directory: one agent at a time, and messages that say what to do.
"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent.core.errors import RetryError, StopError
from agent.runtime import lock
from agent.runtime.lock import StateLock, filesystem_of, is_held, prepare_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


HOLDER = """
import sys, time
from types import SimpleNamespace
from agent.runtime.lock import StateLock
clock = SimpleNamespace(now_ns=time.time_ns)
held = StateLock(sys.argv[1], wait_s=0, tell=None, clock=clock)
print(held.take(), flush=True)
sys.stdin.read()
"""


class FakeClock:
    """
    Time that passes by sleeping; *woken* is called at every sleep.
    """

    def __init__(self, woken: Callable[[float], None] = lambda _now: None) -> None:
        self.now = 0.0
        self.woken = woken

    def now_ns(self) -> int:
        return 1_795_428_000_000_000_000

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.woken(self.now)

    def random(self) -> float:
        return 0.5


class Told(list[tuple[str, str, str]]):
    def __call__(self, event: str, text: str, /, *, level: str = "info", **fields: object) -> None:
        self.append((event, level, text))


def state_lock(directory: Path, *, wait_s: float = 30, clock: FakeClock | None = None) -> StateLock:
    return StateLock(str(directory), wait_s=wait_s, tell=Told(), clock=clock or FakeClock())


def told(held: StateLock) -> Told:
    assert isinstance(held._tell, Told)
    return held._tell


@pytest.fixture(autouse=True)
def _on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    # Wherever the tests run: what is said about a tmpfs has a test of its own.
    monkeypatch.setattr(lock, "filesystem_of", lambda _path: "ext4")


async def test_directory_is_made_and_owner_written(tmp_path: Path) -> None:
    """
    The lock's file names its owner; leaving releases it.
    """
    directory = tmp_path / "a" / "state"
    assert not is_held(str(directory))
    async with state_lock(directory) as held:
        text = f"pid {os.getpid()} on {os.uname().nodename} since 2026-11-23T10:00:00Z"
        assert held.owner() == text
        assert is_held(str(directory))
    assert not is_held(str(directory))


async def test_waiting_ends_when_the_owner_leaves(tmp_path: Path) -> None:
    """
    The next agent says for whom it waits, and goes on as soon as it can.
    """
    first = state_lock(tmp_path)
    assert first.take()
    clock = FakeClock(lambda now: first.release() if now >= 7 else None)
    async with state_lock(tmp_path, clock=clock) as second:
        assert 7 <= clock.now < 7.5
        ((event, level, text),) = told(second)
        assert (event, level) == ("state_held", "warning")
        assert f"pid {os.getpid()}" in text


@pytest.mark.parametrize("wait_s", [0, 30])
async def test_waiting_has_an_end(tmp_path: Path, wait_s: float) -> None:
    """
    A directory that stays held: exit 75, with the owner's pid.
    """
    first = state_lock(tmp_path)
    assert first.take()
    clock = FakeClock()
    with pytest.raises(
        StopError, match=rf"still held by pid {os.getpid()} .*stop that agent"
    ) as caught:
        async with state_lock(tmp_path, wait_s=wait_s, clock=clock):
            pass
    assert caught.value.exit_code == 75
    assert clock.now == pytest.approx(wait_s)
    first.release()


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    """
    Another process holds it against us until it is killed.
    """
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        ours = state_lock(tmp_path)
        assert not ours.take()
        assert f"pid {child.pid} on" in ours.owner()
        child.kill()
        child.wait()
    assert ours.take()
    ours.release()


async def test_children_do_not_inherit_it(tmp_path: Path) -> None:
    """
    A seal child that outlives the agent must not keep the next one out.
    """
    held = state_lock(tmp_path)
    assert held.take()
    assert not os.get_inheritable(held._fd)
    held.release()


async def test_a_deleted_lock_file_is_no_lock(tmp_path: Path) -> None:
    """
    Whoever deletes the file takes the lock away from nobody who locks the new one.
    """
    first, second, third = state_lock(tmp_path), state_lock(tmp_path), state_lock(tmp_path)
    assert first.take()
    (tmp_path / lock.LOCK_NAME).unlink()
    assert second.take()
    assert not third.take()
    for item in (first, second):
        item.release()


async def test_a_deleted_lock_file_is_taken_again(tmp_path: Path) -> None:
    """
    The holder makes it anew, with its directory; where another agent was faster, it ends.
    """
    directory = tmp_path / "state"
    ours, other = state_lock(directory), state_lock(directory)
    async with ours:
        assert not ours.reclaim()
        (directory / lock.LOCK_NAME).unlink()
        directory.rmdir()
        directory.write_text("in the way")
        with pytest.raises(RetryError, match="make it a directory"):
            ours.reclaim()
        directory.unlink()
        assert ours.reclaim()
        assert not other.take()
        (directory / lock.LOCK_NAME).unlink()
        assert other.take()
        with pytest.raises(StopError) as caught:
            ours.reclaim()
        assert caught.value.exit_code == 75
    assert not state_lock(directory).take()
    other.release()


def test_a_file_deleted_between_open_and_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A lock on a file that is no longer there is taken again on the one that is.
    """
    real = fcntl.flock
    path = tmp_path / lock.LOCK_NAME
    calls = []

    def flock(fd: int, operation: int) -> None:
        real(fd, operation)
        calls.append(fd)
        if len(calls) == 1:
            path.unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    held = state_lock(tmp_path)
    assert held.take()
    assert len(calls) == 2
    assert os.path.samestat(os.fstat(held._fd), path.stat())
    held.release()


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "mount it writable"),
        (errno.EACCES, f"chown it to uid {os.geteuid()}"),
        (errno.ENOSPC, "free space"),
        (errno.ENOTDIR, "make it a directory"),
    ],
)
async def test_not_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    """
    Exit 78 with the path, why, and what to do.
    """

    def refuse(*_arguments: object, **_more: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "makedirs", refuse)
    with pytest.raises(StopError, match=remedy) as caught:
        async with state_lock(tmp_path / "state"):
            pass
    assert caught.value.exit_code == 78
    assert str(caught.value).startswith(f"state_dir: {tmp_path}/state cannot be written")


async def test_a_file_in_the_way(tmp_path: Path) -> None:
    """
    A state directory that is a file, or below one, is refused.
    """
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(StopError, match="make it a directory"):
            prepare_directory(str(path))


def test_no_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An existing directory of somebody else is found before anything is started.
    """
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    with pytest.raises(StopError, match="Permission denied"):
        prepare_directory(str(tmp_path))


def test_a_filesystem_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A network filesystem without locks is refused: two agents would write one database.
    """

    def flock(_fd: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(
        StopError, match=r"no locks \(No locks available\): use a disk of this node"
    ):
        state_lock(tmp_path).take()


async def test_volatile_state_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A tmpfs works, but whoever runs it must know.
    """
    monkeypatch.setattr(lock, "filesystem_of", lambda _path: "overlay")
    async with state_lock(tmp_path) as held:
        ((event, level, text),) = told(held)
    assert (event, level) == ("state_volatile", "warning")
    assert "mount a disk of the node" in text


def test_filesystem_of_the_longest_mount(tmp_path: Path) -> None:
    """
    The innermost mount decides; of two on one place the later one; octal escapes are undone.
    """
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:20 / / rw shared:1 - overlay overlay rw\n"
        "23 22 8:1 / /var/lib rw - xfs /dev/sda1 rw\n"
        "24 22 0:21 / /var/lib\\040x rw - tmpfs tmpfs rw\n"
        "25 22 0:22 / /mnt rw - ext4 /dev/sdb rw\n"
        "26 22 0:23 / /mnt rw - ramfs none rw\n"
        "nonsense\n"
    )
    kinds = {
        "/var/lib/tailrace": "xfs",
        "/var/lib": "xfs",
        "/var/library": "overlay",
        "/var/lib x/state": "tmpfs",
        "/mnt/state": "ramfs",
        "/": "overlay",
    }
    assert {path: filesystem_of(path, str(mounts)) for path in kinds} == kinds
    assert filesystem_of("/", str(tmp_path / "missing")) == ""
    assert filesystem_of("/proc") == "proc"
