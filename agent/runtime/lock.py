"""
One agent per state directory.

`<state_dir>/tailrace.lock` is held with flock for the life of the process, so the kernel releases it
however the process ends; the file stays.  Its text says who holds it, for people:

    pid 4711 on node-7 since 2026-11-23T10:00:00Z

In a rolling update the next agent waits up to `lock_wait_s` for the one before to drain.

A file that is deleted under its holder holds nothing: the next agent would make and lock another one.  So the holder
looks every few seconds (`reclaim`), makes it anew, and ends where somebody else was faster.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from agent.core.errors import RetryError, StopError

if TYPE_CHECKING:
    from types import TracebackType

    from agent.core.host import Clock
    from agent.runtime.own_log import Tell

LOCK_NAME = "tailrace.lock"
#: How soon the next agent takes over; a try is one system call.
POLL_S = 0.2
OWNER_BYTES_MAX = 200
#: Filesystems that are gone, or may be, when the container or the machine restarts.
VOLATILE = {"tmpfs": "memory", "ramfs": "memory", "overlay": "the container's own layer"}

EXIT_HELD = 75
EXIT_CONFIGURATION = 78


class StateLock:
    """
    Hold the state directory: `async with StateLock(…):`.
    """

    def __init__(self, directory: str, *, wait_s: float, tell: Tell, clock: Clock) -> None:
        self.directory = directory
        self._path = os.path.join(directory, LOCK_NAME)
        self._wait_s = wait_s
        self._tell = tell
        self._clock = clock
        self._fd = -1
        self._reclaiming = threading.Lock()

    async def __aenter__(self) -> Self:
        """
        Create the directory where it is missing and wait for the lock.

        Raises:
            StopError: 75, held for longer than `wait_s`; 78, the directory cannot be written.
        """
        prepare_directory(self.directory)
        self._warn_if_volatile()
        deadline = self._clock.monotonic() + self._wait_s
        waiting = False
        while not self.take():
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                raise held(self.directory, self.owner(), self._wait_s)
            if not waiting:
                text = (
                    f"{self.directory} is held by {self.owner()}: waiting up to {self._wait_s:g} s"
                )
                self._tell("state_held", text, level="warning")
                waiting = True
            await self._clock.sleep(min(POLL_S, left_s))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def take(self) -> bool:
        """
        Take the lock if it is free.

        Raises StopError (78) where the file cannot be opened or locked.
        """
        while True:
            fd = self._open()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            except OSError as error:
                os.close(fd)
                text = (
                    f"state_dir: {self.directory}: its filesystem has no locks ({error.strerror}): "
                    "use a disk of this node"
                )
                raise StopError(text, exit_code=EXIT_CONFIGURATION) from error
            if self._is_current(fd):
                break
            # Somebody deleted the file between our open and our lock: we hold nothing.
            os.close(fd)
        self._fd = fd
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.now_ns() // 10**9))
        # Only for whoever wants to know who has it: on a full disk it stays empty.
        with suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"pid {os.getpid()} on {os.uname().nodename} since {since}\n".encode(), 0)
        return True

    def reclaim(self) -> bool:
        """
        See that the lock is still held, and take it again where its file was deleted.  Any thread may call it.

        Returns:
            Whether the file had to be made anew.

        Raises:
            StopError: 75, another agent has it.
            RetryError: the directory cannot be written.
        """
        with self._reclaiming:
            if self._is_current(self._fd):
                return False
            before = self._fd
            try:
                prepare_directory(self.directory)
                taken = self.take()
            except StopError as error:
                raise RetryError(str(error), code="state_dir") from error
            if not taken:
                raise held(self.directory, self.owner(), 0)
            os.close(before)
            return True

    def release(self) -> None:
        """
        Let go; may be called again.
        """
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def owner(self) -> str:
        """
        Return who holds the lock, as its file says.
        """
        return read_owner(self.directory)

    def _open(self) -> int:
        try:
            # Close-on-exec: a child that outlives us must not hold the lock for us.
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise not_writable(self.directory, error) from error

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._path))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _warn_if_volatile(self) -> None:
        kind = filesystem_of(self.directory)
        if kind in VOLATILE:
            self._tell(
                "state_volatile",
                f"state_dir {self.directory} is on {kind}, {VOLATILE[kind]}: cursors do not survive "
                "a restart of the container or node, and lines are then delivered twice or skipped: "
                "mount a disk of the node there (hostPath)",
                level="warning",
                filesystem=kind,
            )


def read_owner(directory: str) -> str:
    """
    Return who holds or last held the lock of *directory*.
    """
    try:
        with open(os.path.join(directory, LOCK_NAME), "rb") as file:
            text = file.read(OWNER_BYTES_MAX).decode("utf-8", "replace").strip()
    except OSError:
        text = ""
    return text or "another process"


def is_held(directory: str) -> bool:
    """
    Return whether an agent runs on *directory*; needs no right to write.
    """
    try:
        fd = os.open(os.path.join(directory, LOCK_NAME), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared: two `tailrace status` at a time do not take each other for an agent.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def held(directory: str, owner: str, wait_s: float) -> StopError:
    """
    Return the error for a directory that another process holds.
    """
    waited = f" after waiting {wait_s:g} s" if wait_s else ""
    return StopError(
        f"state_dir: {directory} is still held by {owner}{waited}: stop that agent, "
        "or give this one another state_dir",
        exit_code=EXIT_HELD,
    )


def prepare_directory(directory: str) -> None:
    """
    Create *directory* where it is missing, and see that it can be written.

    Raises StopError (78) with the path and what to do.
    """
    try:
        os.makedirs(directory, mode=0o750, exist_ok=True)
    except OSError as error:
        raise not_writable(directory, error) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
        raise not_writable(directory, OSError(number, os.strerror(number)))


def not_writable(directory: str, error: OSError) -> StopError:
    """
    Return the error for a directory in which nothing can be written.
    """
    remedies = {
        errno.EROFS: "mount it writable",
        errno.ENOSPC: "free space on its disk",
        errno.EDQUOT: "free space on its disk",
        errno.EACCES: f"chown it to uid {os.geteuid()}, as whom this runs",
        errno.EPERM: f"chown it to uid {os.geteuid()}, as whom this runs",
    }
    remedy = remedies.get(error.errno or 0, "make it a directory")
    return StopError(
        f"state_dir: {directory} cannot be written ({error.strerror}): {remedy}, "
        "or set state_dir to another directory",
        exit_code=EXIT_CONFIGURATION,
    )


def filesystem_of(path: str, mounts: str = "/proc/self/mountinfo") -> str:
    """
    Return the filesystem type that *path* is on; empty where that is not known.
    """
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:
        return ""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw: see proc(5).
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or not kinds:
            continue
        mount = fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        # A later mount on the same place hides the earlier one.
        if inside and len(mount) >= len(best):
            best, kind = mount, kinds[0]
    return kind
