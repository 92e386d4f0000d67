"""
When to look, and where: directories that events named, timers, and the watches that spare rescans.

A watch that cannot be set (ENOSPC, EMFILE) is told once; from then on rescans come every second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.sources.discovery import Scope

if TYPE_CHECKING:
    from agent.core.host import Host, Watches
    from agent.sources.discovery import Scan
    from agent.sources.settings import FilesSettings

#: Without inotify new files are still noticed within a second.
RESCAN_WITHOUT_WATCHES_S = 1.0


class Rescans:
    """
    The scans that are due.
    """

    def __init__(self, settings: FilesSettings, host: Host, watches: Watches) -> None:
        self._settings = settings
        self._host = host
        self._watches = watches
        self._dirty: set[str] = set()
        self._everything = True
        self._working = True
        self._at = self._full_at = 0.0

    def mark(self, *directories: str) -> None:
        """
        Look at *directories* on the next tick.
        """
        self._dirty.update(directories)

    def overflowed(self) -> None:
        """
        Look at everything on the next tick: events were dropped.
        """
        self._everything = True

    def due(self, now: float) -> Scope | None:
        """
        Return what has to be scanned now.
        """
        if self._everything or now >= self._full_at:
            return Scope.ALL
        if now >= self._at:
            return Scope.CHANGED
        return Scope.DIRTY if self._dirty else None

    @property
    def told_by_events(self) -> bool:
        """
        Whether nothing has to be looked at now, and an event will say when that changes.
        """
        return self._working and not self._dirty and not self._everything

    def left_s(self, now: float) -> float:
        """
        Return the seconds until the next rescan.
        """
        return min(self._at, self._full_at) - now

    def begin(self, scope: Scope, now: float, *, root_missing: bool) -> set[str]:
        """
        Start a scan: set the timers and hand over the directories that events named.
        """
        dirty, self._dirty = self._dirty, set()
        if scope is not Scope.DIRTY:
            interval_s = self._settings.rescan_interval_s
            if not self._working or root_missing:
                interval_s = min(interval_s, RESCAN_WITHOUT_WATCHES_S)
            self._at = now + interval_s
        if scope is Scope.ALL:
            self._everything = False
            self._full_at = now + self._settings.rescan_full_interval_s
        return dirty

    def ended(self, scan: Scan) -> None:
        """
        Watch the directories that *scan* found, and look again at those that changed meanwhile.
        """
        for path in scan.directories_gone:
            self._watches.forget_directory(path)
        self._dirty.update(scan.again)
        for path in scan.directories_new:
            try:
                self._watches.watch_directory(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                self._unavailable(error)
                return
            # Something was perhaps created before the watch was there.
            self._dirty.add(path)

    def watch_file(self, path: str) -> bool:
        """
        Watch for the next write to *path*; False where that is not possible.
        """
        if not self._working:
            return False
        try:
            self._watches.watch_file_once(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            self._unavailable(error)
            return False
        return True

    def _unavailable(self, error: OSError) -> None:
        if not self._working:
            return
        self._working = False
        self._at = min(self._at, self._host.clock.monotonic() + RESCAN_WITHOUT_WATCHES_S)
        self._host.tell(
            "watches_unavailable",
            f"inotify: {error.strerror or error}; rescanning every {RESCAN_WITHOUT_WATCHES_S:g} s "
            "instead. Raise fs.inotify.max_user_watches or max_user_instances.",
            level="warning",
        )
