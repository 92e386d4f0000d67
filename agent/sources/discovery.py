"""
Which files are there: directories are listed, names are sorted into families, heads are read.

Correctness rests on rescans.  Events only say which directory to list now: a directory that changed
(by its mtime) is listed every few seconds, all of them every minute or after an overflow.  An mtime
has the clock tick's grain, so a directory that changed just before it was listed is listed again.

A directory that cannot be listed, and a root that is not there (a volume that is yet to be
mounted), tell nothing about the Logs in and below them: they are *blind* until they can be listed.

Everything here may wait for a disk, and runs in the executor, one call at a time.  The files it opens
to read their heads are handed on open: a pod can vanish within a second of its last write.
"""

from __future__ import annotations

import errno
import posixpath
import stat
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from agent.core.rotated_names import RotatedName, as_live, as_rotated, ignored
from agent.sources.looks import Looks

if TYPE_CHECKING:
    from agent.core.generations import Sighting
    from agent.core.host import Disk, FileStat
    from agent.sources.globs import Globs, Places
    from agent.sources.heads import Opened
    from agent.sources.looks import Known

    Listing = list[tuple[str, FileStat]]

#: A directory whose mtime is younger than this when it is listed may change without its mtime doing so.
RACY_NS = 2_000_000_000
#: The grain of a file system's times, with a margin: a tick of the kernel's clock is 1 to 10 ms.
TICK_NS = 50_000_000
LIST_ATTEMPTS = 3
DEPTH_MAX = 40  # as many as the kernel follows links: stops circles below `**`
#: Errors that mean that a directory is gone, rather than that it cannot be seen.
_GONE = (errno.ENOENT, errno.ENOTDIR)


class Scope(Enum):
    """
    Which directories a scan lists.
    """

    DIRTY = auto()  # those that events named
    CHANGED = auto()  # and those whose mtime changed
    ALL = auto()


@dataclass(slots=True, eq=False)
class Directory:
    """
    A directory that can hold matches.
    """

    path: str
    places: Places
    depth: int
    mtime_ns: int = -1
    children: set[str] = field(default_factory=set)
    real: str = ""


@dataclass(slots=True)
class Scan:
    """
    What is asked of a scan, and what it saw.  Whoever made it closes it.

    `families` holds a complete view of every family in the directories that were listed: an empty
    list for a Log whose directory was listed and has no file of it.
    """

    scope: Scope
    #: Directories that events named.
    dirty: set[str]
    #: When it began, in monotonic seconds and on the wall.
    began: float
    now_ns: int
    #: How many files may stay open.
    open_max: int
    families: dict[str, list[Sighting]] = field(default_factory=dict)
    opened: dict[tuple[int, int], Opened] = field(default_factory=dict)
    errors: list[tuple[str, OSError]] = field(default_factory=list)
    directories_new: list[str] = field(default_factory=list)
    directories_gone: list[str] = field(default_factory=list)
    #: Logs whose names moved at every attempt: a file of theirs can be missing, or be taken for another.
    moved: set[str] = field(default_factory=set)
    #: Directories to be looked at again.
    again: set[str] = field(default_factory=set)
    blind: frozenset[str] = frozenset()

    def failed(self, path: str, error: OSError) -> None:
        """
        Note that *path* could not be looked at; without the frames, which hold the scan.
        """
        self.errors.append((path, error.with_traceback(None)))

    def close(self, disk: Disk) -> None:
        """
        Close what nobody has taken.
        """
        for opened in self.opened.values():
            disk.close(opened.fd)
        self.opened.clear()


class Discovery:
    """
    The directories that patterns reach, and the families in them.
    """

    def __init__(self, globs: Globs, disk: Disk, known: Known, *, rotated: bool = True) -> None:
        self._rotated = rotated
        #: What earlier scans saw, and what is looked for.
        self._known = known
        self.globs = globs
        self.disk = disk
        self.directories: dict[str, Directory] = {}
        #: Directories that could not be looked into when that was tried last.
        self.blind: set[str] = set()
        #: Log keys by the directory that holds their files, and the name of the live file there.
        self.homes: dict[str, dict[str, str]] = {}
        #: Live files that are symbolic links to files elsewhere: key → (directory, name).
        self._links: dict[str, tuple[str, str]] = {}
        #: Links to files that are followed by their own path anyway.
        self._aliases: set[str] = set()
        self._over: set[str] = set()

    def look(self, scan: Scan) -> None:
        """
        Fill *scan*.
        """
        scope = scan.scope
        while self._over:
            self._forget(self._over.pop())
        looks = Looks(self.disk, self._known, scan.opened, scan.failed, scan.open_max, scan.now_ns)
        run = _Run(self, scan, looks)
        if scope is Scope.ALL:
            self._aliases.clear()
            for key in list(self._links):
                self._follow_link(key)
        else:
            for directory in self._due(scope, scan.dirty):
                if directory.path in self.directories and directory.path not in run.visited:
                    run.walk(directory.path, directory.places, directory.depth)
        for root, places in self.globs.roots.items():
            if scope is Scope.ALL or root not in self.directories:
                run.walk(root, places, 0)
        homes = {home for home, _ in self._links.values()}
        for home in homes if scope is Scope.ALL else homes - self.directories.keys():
            if home not in run.visited:
                run.walk(home, frozenset(), 0)
        scan.blind = frozenset(self.blind)

    def _due(self, scope: Scope, dirty: set[str]) -> list[Directory]:
        if scope is Scope.DIRTY:
            return [self.directories[path] for path in dirty if path in self.directories]
        stat_of = self.disk.stat
        due = []
        for path, directory in self.directories.items():
            try:
                if stat_of(path).st_mtime_ns != directory.mtime_ns or path in dirty:
                    due.append(directory)
            except OSError:
                due.append(directory)
        return due

    def home_of(self, key: str) -> str:
        """
        Return the directory that holds the files of the Log *key*.
        """
        return self._links[key][0] if key in self._links else posixpath.dirname(key)

    def forget(self, key: str) -> None:
        """
        Forget a Log that is over, before the next scan: one may be under way, in another thread.
        """
        self._over.add(key)

    def _forget(self, key: str) -> None:
        self._links.pop(key, None)
        for names in self.homes.values():
            for name in [name for name, owner in names.items() if owner == key]:
                del names[name]

    def _follow_link(self, key: str) -> None:
        try:
            real = self.disk.resolve(key)
            self.disk.stat(real)
        except OSError:
            return  # Dangling for an instant, while the kubelet rotates: keep what was known.
        home, name = posixpath.split(real)
        if self._links.get(key) != (home, name):
            self._forget(key)
            self._links[key] = (home, name)
            self.homes.setdefault(home, {})[name] = key

    def families_in(
        self, directory: Directory, files: list[tuple[str, FileStat]]
    ) -> dict[str, list[tuple[str, RotatedName, FileStat]]]:
        """
        Sort the files of a directory into families.
        """
        homes = self.homes.setdefault(directory.path, {})
        families: dict[str, list[tuple[str, RotatedName, FileStat]]] = {
            key: [] for key in homes.values()
        }
        for name, status in files:
            if ignored(name):
                continue
            parts = as_rotated(name) if self._rotated else None
            key = self._owner(directory, parts.live) if parts is not None else None
            if key is None:
                parts = as_live(name)
                key = self._owner(directory, name)
            if key is not None and parts is not None:
                families.setdefault(key, []).append((name, parts, status))
        return families

    def _owner(self, directory: Directory, live: str) -> str | None:
        homes = self.homes[directory.path]
        key = homes.get(live)
        if key is not None:
            return key
        if not self.globs.wants(directory.path, directory.places, live):
            return None
        key = posixpath.join(directory.path, live)
        if key in self._links or key in self._aliases:
            return None  # Its files are elsewhere.
        real = self.disk.resolve(key)
        if not directory.real:
            directory.real = self.disk.resolve(directory.path)
        if real != posixpath.join(directory.real, live):
            home, name = posixpath.split(real)
            if self.globs.wants(home, self.globs.places_of(home), name):
                self._aliases.add(key)
                return None
            self._follow_link(key)
            if key in self._links:
                return None
        homes[live] = key
        return key


class _Run:
    """
    One scan under way.
    """

    def __init__(self, discovery: Discovery, scan: Scan, looks: Looks) -> None:
        self.visited: set[str] = set()
        self._discovery = discovery
        self._scan = scan
        self._looks = looks

    def walk(self, path: str, places: Places, depth: int) -> None:
        """
        List a directory and those below it that are new, or all of them.
        """
        directory = self._discovery.directories.get(path)
        if directory is None:
            directory = Directory(path, places, depth)
        directory.places |= places
        if not self.visit(directory):
            return
        globs = self._discovery.globs
        for child in sorted(directory.children):
            below = globs.enter(directory.places, child)
            if not below or depth >= DEPTH_MAX:
                continue
            child_path = posixpath.join(path, child)
            if self._scan.scope is Scope.ALL or child_path not in self._discovery.directories:
                self.walk(child_path, below, depth + 1)

    def visit(self, directory: Directory) -> bool:
        """
        List the directory; False if it cannot be.
        """
        self.visited.add(directory.path)
        for _ in range(LIST_ATTEMPTS):
            listing = self._visit(directory)
            if listing is None:
                return False
            moved = self._moved(directory, listing)
            if not moved:
                break
        if moved:
            self._scan.moved |= moved
            self._scan.again.add(directory.path)
        if self._scan.now_ns - directory.mtime_ns < RACY_NS:
            directory.mtime_ns = -2
        return True

    def _visit(self, directory: Directory) -> Listing | None:
        directories, path = self._discovery.directories, directory.path
        try:
            mtime_ns = self._discovery.disk.stat(path).st_mtime_ns
            listing = self._discovery.disk.list(path)
        except OSError as error:
            if error.errno not in _GONE:
                self._scan.failed(path, error)
                self._discovery.blind.add(path)
                return None
            self._gone(path)
            if path in self._discovery.globs.roots:
                self._discovery.blind.add(path)
            return None
        self._discovery.blind.discard(path)
        if path not in directories:
            directories[path] = directory
            self._scan.directories_new.append(path)
        directory.mtime_ns = mtime_ns
        self._take(directory, listing)
        return listing

    def _moved(self, directory: Directory, listing: Listing) -> set[str]:
        """
        Return the Logs of which *listing* was not all, from before it was read until all in it was looked at.

        A rename meanwhile can hide a file under both of its names; the copy of a file that was cut was not listed.
        """
        disk, path = self._discovery.disk, directory.path
        try:
            unchanged = disk.stat(path).st_mtime_ns == directory.mtime_ns
            # Two changes in one tick of the kernel's clock leave one mtime; and not every change is one of names.
            if unchanged and self._scan.now_ns - directory.mtime_ns >= TICK_NS:
                return set()
            again = self._names(directory, disk.list(path))
        except OSError:
            return set(self._discovery.homes[path].values())
        before = self._names(directory, listing)
        return {key for key in before | again if before.get(key) != again.get(key)}

    def _names(self, directory: Directory, listing: Listing) -> dict[str, set[tuple[str, int]]]:
        families = self._discovery.families_in(directory, _regular(listing))
        return {
            key: {(name, status.st_ino) for name, _, status in family}
            for key, family in families.items()
        }

    def _gone(self, path: str) -> None:
        prefix = path.rstrip("/") + "/"
        discovery = self._discovery
        discovery.blind -= {
            item for item in discovery.blind if item == path or item.startswith(prefix)
        }
        for known in [
            item for item in discovery.directories if item == path or item.startswith(prefix)
        ]:
            del discovery.directories[known]
            self._scan.directories_gone.append(known)
            for key in discovery.homes.pop(known, {}).values():
                self._scan.families[key] = []

    def _take(self, directory: Directory, listing: Listing) -> None:
        children = {name for name, status in listing if stat.S_ISDIR(status.st_mode)}
        for child in directory.children - children:
            self._gone(posixpath.join(directory.path, child))
        directory.children = children
        for key, family in self._discovery.families_in(directory, _regular(listing)).items():
            self._scan.families[key] = [
                self._looks.at(key, posixpath.join(directory.path, name), parts, status)
                for name, parts, status in family
            ]


def _regular(listing: Listing) -> Listing:
    return [(name, status) for name, status in listing if stat.S_ISREG(status.st_mode)]


def errno_name(error: OSError) -> str:
    """
    Return the name that a metric shows for *error*.
    """
    return errno.errorcode.get(error.errno or 0, "UNKNOWN")
