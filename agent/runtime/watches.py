"""
inotify: directories for create, move and delete, single files for their next write.

There is no task behind it: the source asks on its tick, and waits for the descriptor where all files rest.  Without
events a tick costs one poll(2) of it.  Errors of adding a watch (ENOSPC: max_user_watches, EMFILE:
max_user_instances) reach the caller, who lives without the watch.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from asyncinotify import Inotify, Mask

if TYPE_CHECKING:
    from asyncinotify import Watch

_DIRECTORY = (
    Mask.CREATE
    | Mask.MOVED_FROM
    | Mask.MOVED_TO
    | Mask.DELETE
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
    | Mask.ONLYDIR
)
_FILE_ONCE = Mask.MODIFY | Mask.ONESHOT
#: Events read at once: a burst of rotations on a large node.
_CACHE_EVENTS = 64
#: Events handed out by one call; the rest waits for the next tick.
_DRAIN_EVENTS_MAX = 10_000

OVERFLOW = ("", None)


class InotifyWatches:
    """
    Implements `Watches` of core/host.py.
    """

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._directories: dict[str, Watch] = {}
        self._files: dict[int, str] = {}

    def watch_directory(self, path: str) -> None:
        """
        Report names that come to and go from the directory *path*.
        """
        self._directories[path] = self._open().add_watch(os.fsencode(path), _DIRECTORY)

    def forget_directory(self, path: str) -> None:
        """
        Stop watching *path*; one that is not watched (any more) is no error.
        """
        watch = self._directories.pop(path, None)
        if watch is not None and watch in self._open().watches:
            self._open().rm_watch(watch)

    def watch_file_once(self, path: str) -> None:
        """
        Report the next write to the file *path*.
        """
        watch = self._open().add_watch(os.fsencode(path), _FILE_ONCE)
        self._files[watch.wd] = path

    def drain(self) -> list[tuple[str, str | None]]:
        """
        Return what happened since the last call, without waiting.
        """
        events: list[tuple[str, str | None]] = []
        if self._inotify is None:
            return events
        while len(events) < _DRAIN_EVENTS_MAX:
            event = self._inotify.sync_get()
            if event is None:
                break
            if Mask.Q_OVERFLOW in event.mask:
                events.append(OVERFLOW)
                continue
            watch = event.watch
            if watch is None:
                continue
            # One shot: whatever comes, a write or the end of the file, the watch is spent.
            path = self._files.pop(watch.wd, None)
            if path is not None:
                events.append((path, None))
                continue
            path = str(watch.path)
            if Mask.IGNORED in event.mask:
                self._directories.pop(path, None)
            events.append((path, None if event.name is None else str(event.name)))
        return events

    async def wait(self, timeout_s: float) -> None:
        """
        Return when there is something to drain, at the latest after *timeout_s*.
        """
        if self._inotify is None:
            await asyncio.sleep(timeout_s)
            return
        loop, fd, happened = asyncio.get_running_loop(), self._inotify.fd, asyncio.Event()
        loop.add_reader(fd, happened.set)
        try:
            async with asyncio.timeout(timeout_s):
                await happened.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(fd)

    def close(self) -> None:
        """
        Let go of inotify.
        """
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _open(self) -> Inotify:
        # Opened late: a command that follows nothing needs no inotify instance, of which a user has 128.
        if self._inotify is None:
            inotify = Inotify(cache_size=_CACHE_EVENTS, sync_timeout=0)
            os.set_blocking(inotify.fd, False)
            self._inotify = inotify
        return self._inotify
