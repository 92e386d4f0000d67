"""
The seam to the outside world, as Protocols.

Only `runtime/` implements them (and the simulation does).  Components receive them as arguments, so
that every source of time, randomness, disk and network can be replaced in a test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence

    from agent._fastparse import Chunk

T = TypeVar("T")


class Clock(Protocol):
    """
    Time and randomness.
    """

    def now_ns(self) -> int:
        """Wall clock, ns since the epoch."""

    def monotonic(self) -> float:
        """Seconds that only move forward."""

    async def sleep(self, seconds: float) -> None: ...

    def random(self) -> float:
        """A float in [0, 1): jitter."""


class FileStat(Protocol):
    """
    The part of `os.stat_result` that is used.
    """

    @property
    def st_dev(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...
    @property
    def st_nlink(self) -> int: ...
    @property
    def st_mode(self) -> int: ...
    @property
    def st_blocks(self) -> int: ...


class Disk(Protocol):
    """
    Files and directories, as the source sees them.  Everything here may block on a disk, not on a network.
    """

    def list(self, directory: str) -> list[tuple[str, FileStat]]:
        """Names in *directory* (symlinks followed; dangling ones left out) with their stat; OSError as it comes."""

    def stat(self, path: str) -> FileStat: ...
    def resolve(self, path: str) -> str:
        """*path* without symbolic links, as far as it exists."""

    def link_target(self, path: str) -> str:
        """Where the symbolic link *path* leads, one step; *path* itself where it is none."""

    def open(self, path: str) -> int:
        """A read-only descriptor (O_CLOEXEC | O_NONBLOCK | O_NOATIME where allowed)."""

    def fstat(self, fd: int) -> FileStat: ...
    def pread(self, fd: int, length: int, offset: int) -> bytes: ...
    def read_warm(self, fd: int, chunk: Chunk, length: int, offset: int) -> int | None:
        """Read into chunk[:length] what the page cache has (RWF_NOWAIT); None where it would block."""

    def read_cold(self, fd: int, chunk: Chunk, length: int, offset: int) -> int:
        """Read into chunk[:length], waiting for the disk; called in the executor."""

    def close(self, fd: int) -> None: ...
    def free(self, path: str | int) -> int:
        """Bytes that are free for us on the file system of a path or descriptor."""


class StateDisk(Protocol):
    """
    What sinks keep on disk: the state directory, and a directory that is a destination.

    Every call may wait for a disk, so it is made through `run_blocking`; OSError as it comes.  Nothing is
    durable before `sync`, and no name before `sync_directory` of the directory that it is in.
    """

    def open(self, path: str) -> int:
        """A descriptor to read and to write; the file is created where there is none."""

    def open_read(self, path: str) -> int: ...
    def size(self, fd: int) -> int: ...
    def pread(self, fd: int, length: int, offset: int) -> bytes: ...
    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int: ...
    def truncate(self, fd: int, length: int) -> None: ...
    def sync(self, fd: int) -> None:
        """Make content and length durable."""

    def close(self, fd: int) -> None: ...
    def leads(self, path: str, fd: int) -> bool:
        """Whether *path* is the name of the file that is open as *fd*: not where it was deleted or replaced."""

    def exists(self, path: str) -> bool: ...
    def list(self, directory: str) -> list[tuple[str, bool]]:
        """Names in *directory*, and whether each is a directory itself."""

    def make_directory(self, path: str) -> None: ...
    def sync_directory(self, path: str) -> None:
        """Make the names in the directory *path* durable."""

    def link(self, path: str, target: str) -> None:
        """Give the file *path* the name *target* as well; FileExistsError where that is taken."""

    def rename(self, path: str, target: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def remove_tree(self, path: str) -> None:
        """Remove the directory *path*, which somebody else may be removing, too."""


class Watches(Protocol):
    """
    inotify: directories for create, move and delete; files once for the next write.
    """

    def watch_directory(self, path: str) -> None: ...
    def forget_directory(self, path: str) -> None: ...
    def watch_file_once(self, path: str) -> None: ...
    def drain(self) -> list[tuple[str, str | None]]:
        """
        Return what happened since the last call, without waiting.

        Pairs of (watched path, name in it or None for the path itself); ("", None) after an overflow.
        """

    async def wait(self, timeout_s: float) -> None:
        """
        Return when there is something to drain, at the latest after *timeout_s*.
        """


class Task(Protocol):
    """
    A task that was started; awaiting it waits for its end.
    """

    def cancel(self) -> bool: ...
    def __await__(self) -> Generator[Any, None, None]: ...


class Tasks(Protocol):
    """
    Starts tasks that belong to the caller's supervisor: their error ends it, and it ends only with them.

    So whoever starts a task that does not end by itself cancels it when it is cancelled itself.
    """

    def start(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> Task: ...


class Response(Protocol):
    """
    An HTTP response, read whole.
    """

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]:
        """With lower-case names."""

    @property
    def body(self) -> bytes: ...


class AwsClient(Protocol):
    """
    One AWS service in one Region: signs and sends requests on pooled connections.
    """

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview = b"",
        timeout_s: float,
    ) -> Response:  # network op
        """
        Send one signed request and read its answer.

        *path* (of S3: `/bucket/key`) and *query* are not encoded.  A redirect is returned, not followed.
        Raises RetryError for what never reached an answer (connection, time-out, credentials: slow).
        """


class Host(Protocol):
    """
    Everything outside, in one argument.
    """

    clock: Clock
    disk: Disk
    state_disk: StateDisk

    def new_watches(self) -> Watches:
        """Return watches for one source: what one drains no other sees."""

    def tell(self, event: str, text: str, /, *, level: str = "info", **fields: object) -> None:
        """Write one of Tailrace's own log lines; rate-limited per *event* (snake_case, stable)."""

    async def run_blocking(self, function: Callable[..., T], *args: Any) -> T:
        """Run *function* in the executor; a call that is cancelled ends when the function has."""

    async def run_reading(self, function: Callable[..., T], *args: Any) -> T:
        """The same for what only reads logs: calls that wait for the state disk do not hold it up."""

    async def run_child(self, arguments: Sequence[str], *, name: str) -> tuple[int, str]:
        """Run `tailrace ARGUMENTS` as a child process; return (exit code, last lines of its stderr)."""
