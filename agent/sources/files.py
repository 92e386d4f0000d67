"""
The files source: one per process, shared by the routes that read from it.

It finds Logs (discovery.py), looks on one shared tick whether they grew, holds their descriptors until
every route has committed what is in them, and wakes the routes' readers.

The tick asks active files for their size; the others rest (active.py).
"""

from __future__ import annotations

import asyncio
import posixpath
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.generations import State
from agent.core.kubelet_path import identity_seed
from agent.core.logs import Chain
from agent.core.sightings import probes_of
from agent.sources.active import Active
from agent.sources.descriptors import Descriptors
from agent.sources.discovery import Discovery, Scan, Scope, errno_name
from agent.sources.followed import FollowedLog
from agent.sources.globs import Globs, sees
from agent.sources.looks import Known, is_one_moment, look_again
from agent.sources.opens import is_descriptor_limit
from agent.sources.reader import Reader
from agent.sources.rescans import Rescans

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.core.budget import Share
    from agent.core.checkpoint import GenerationRow
    from agent.core.counters import Counters
    from agent.core.cursor import Cursor
    from agent.core.generations import Generation, Sighting
    from agent.core.host import Host
    from agent.core.identity import Probe
    from agent.core.transform import Begin
    from agent.sources.gate import Gate
    from agent.sources.resources import Resources
    from agent.sources.settings import FilesSettings


class Files:
    """
    All Logs of one source.
    """

    def __init__(
        self,
        settings: FilesSettings,
        *,
        host: Host,
        counters: Counters,
        resources: Resources,
        generations: Sequence[GenerationRow],
        routes: Iterable[str] = (),
        rebooted: bool = False,
        finite: bool = False,
    ) -> None:
        self.settings = settings
        self.host = host
        self.counters = counters
        self.logs: dict[str, FollowedLog] = {}
        #: The files are as they will stay: `freeze` was called.
        self.frozen = False
        self.resources = resources
        up_ns = int(host.clock.monotonic() * 1e9)
        self._rebooted_ns = host.clock.now_ns() - up_ns if rebooted else 0
        #: Begins every id of a file that its first line does not tell from others (core/identity.py).
        self._life = "" if finite else f"{host.clock.now_ns()}-{host.clock.random()}"
        self._lives = 0
        self._rows: dict[str, list[GenerationRow]] = {}
        for row in generations:
            self._rows.setdefault(row.log, []).append(row)
        self._globs = Globs(settings.paths, settings.exclude)
        self._known = Known(self._probes)
        self._discovery = Discovery(self._globs, host.disk, self._known, rotated=settings.rotated)
        self._readers: dict[str, Reader] = {}
        #: Directories below which everything is.
        self.roots = tuple(self._globs.roots)
        self.descriptors = Descriptors(
            self.logs, self._readers, disk=host.disk, limit=settings.open_files_max
        )
        #: Whoever reads from here.  One that has not begun, or restarts, must find what came meanwhile.
        self._routes = set(routes)
        watches = host.new_watches()
        self._rescans = Rescans(settings, host, watches)
        self._active = Active(self, self._rescans, watches)
        #: What the last scan could not look into; None before the first.
        self._blind: frozenset[str] | None = None

    async def run(self) -> None:
        """
        Follow until cancelled.
        """
        # After an error it is called again: deleted files must stay open until then.
        try:
            while True:
                await self.tick()
                await self._active.until_next(self._readers.values())
        except asyncio.CancelledError:
            self.close()
            raise

    async def tick(self) -> None:
        """
        One round: events, rescans that are due, sizes of active files, timers of readers.
        """
        clock, now = self.host.clock, self.host.clock.monotonic()
        self._active.take_events()
        scope = None if self.frozen else self._rescans.due(now)
        if scope is not None:
            await self.scan(scope)
            now = clock.monotonic()
        now_ns = clock.now_ns()
        self._active.poll(now, now_ns)
        if scope in (Scope.CHANGED, Scope.ALL):
            self._active.poll_resting(now, now_ns, watched=scope is Scope.ALL)
            self.descriptors.close_beyond_limit()
        for reader in self._readers.values():
            reader.tick(now)

    def freeze(self) -> None:
        """
        Declare that nothing is appended any more, so that every Log ends where it ends now (replay).
        """
        self.frozen = True
        for log in list(self.logs.values()):
            log.chain.freeze()
            self.notify(log)

    def reader(
        self,
        route: str,
        *,
        cursors: Mapping[str, Cursor],
        first_start: bool,
        share: Share,
        from_end: bool | None = None,
        gate: Gate,
        begin: Begin | None = None,
        linger_s: float = 0.0,
    ) -> Reader:
        """
        Return the reader of one run of *route*; it replaces the one of the run before.
        """
        at_end = first_start and (self.settings.start == "end" if from_end is None else from_end)
        reader = Reader(
            route,
            files=self,
            cursors=cursors,
            share=share,
            from_end=at_end,
            gate=gate,
            begin=begin,
            linger_s=linger_s,
        )
        self._routes.add(route)
        self._readers[route] = reader
        for key, cursor in cursors.items():
            # Gone while nobody looked: its chain says what was lost.
            if key not in self.logs and self._globs.may_match(key):
                self._log(key).floors[route] = (cursor[0].generation, 0)
        self._decide()
        for log in self.logs.values():
            reader.notify(log)
        return reader

    def close(self) -> None:
        """
        Close every descriptor.
        """
        for log in self.logs.values():
            log.close_all(self.host.disk)

    def overwritten(self, log: FollowedLog, generation: Generation) -> None:
        """
        Note that a reader found another content in the file of *generation*.
        """
        if generation.state not in (State.CUT, State.LOST):
            log.chain.overwritten(generation, now=self.host.clock.monotonic())
        self.look_again(log)

    def look_again(self, log: FollowedLog) -> None:
        """
        Scan the directory of *log* on the next tick.
        """
        self._known.forget(log.home, log.sightings)
        self._rescans.mark(log.home)
        self._active.add(log)

    def committed(self, log: FollowedLog, route: str, place: tuple[int, int]) -> None:
        """
        Note that *route* has committed everything before *place*.
        """
        log.floors[route] = place
        log.marks.forget(log.floor)
        for generation, size in log.let_go(self.host.disk):
            for reader in self._readers.values():
                reader.lost_late(log, generation, size)

    def forgotten(self, log: FollowedLog, route: str) -> None:
        """
        Note that *route* has forgotten *log*; the last one takes it out of memory.
        """
        log.floors.pop(route, None)
        log.passed[route] = log.chain.next_number - 1
        self._drop_if_over(log)

    def _drop_if_over(self, log: FollowedLog) -> None:
        if self._readers and log.needless and log.key in self.logs:
            log.close_all(self.host.disk)
            del self.logs[log.key]
            self._active.forget(log.key)
            self._discovery.forget(log.key)
            self.resources.release(log, self.logs.values())
            for reader in self._readers.values():
                reader.gone(log.key)

    def count_error(self, path: str, error: OSError) -> None:
        """
        Count and tell a file that could not be read.
        """
        name = errno_name(error)
        self.counters.add(metric.FILE_ERRORS, 1, name)
        self.host.tell(
            "file_error", f"{path}: {error.strerror or error}", level="warning", error=name
        )

    async def scan(self, scope: Scope = Scope.ALL) -> None:
        """
        Look once at everything, or at what *scope* says.
        """
        missing = self._blind is None or not self._blind.isdisjoint(self._globs.roots)
        began = self.host.clock.monotonic()
        dirty = self._rescans.begin(scope, began, root_missing=missing)
        scan = Scan(scope, dirty, began, self.host.clock.now_ns(), self.descriptors.room)
        try:
            await self.host.run_reading(self._discovery.look, scan)
            self._take(scan)
        finally:
            scan.close(self.host.disk)
        self._rescans.ended(scan)

    def _take(self, scan: Scan) -> None:
        for path, error in scan.errors:
            self.count_error(path, error)
            if is_descriptor_limit(error) and self.descriptors.make_room():
                self._rescans.mark(path, posixpath.dirname(path))
        for key in scan.moved - scan.families.keys():
            self._known.takes(key, true=False)
        for key, family in scan.families.items():
            log, home = self.logs.get(key), self._discovery.home_of(key)
            opened, known = (scan.opened | log.opened, log.keys) if log else (scan.opened, set())
            seen = look_again(family, opened, self.host.disk, self._probes(key), scan.now_ns)
            true = key not in scan.moved and is_one_moment(family, seen, known, now_ns=scan.now_ns)
            true = true and not (log and log.was_cut_since(scan.began))
            # Of a replay nothing is written any more; of a directory that is gone no scan will say more.
            true = true or not self._life or home not in self._discovery.directories
            if not true:
                # A copy may hold by now what this view saw: it would be read twice, or too late.
                scan.again.add(home)
            if not self._known.takes(key, true=true):
                self._known.forget(home, family)
            elif log or seen:
                self._take_family(log or self._log(key), seen, scan)
            else:
                self._discovery.forget(key)  # Gone before anybody saw it.
        self._blind = scan.blind
        self._decide()

    def _take_family(self, log: FollowedLog, family: list[Sighting], scan: Scan) -> None:
        self._known.forget(log.home, log.sightings)
        log.home = self._discovery.home_of(log.key)
        for sighting in family:
            self._known.sightings[posixpath.join(log.home, sighting.name)] = sighting
            opened = scan.opened.pop(sighting.key, None)
            if opened is not None and sighting.key in log.opened:
                self.host.disk.close(opened.fd)
            elif opened is not None:
                log.opened[sighting.key] = opened
        now, now_ns = self.host.clock.monotonic(), self.host.clock.now_ns()
        changed = log.observe(family, self.host.disk, now=now, now_ns=now_ns)
        self.descriptors.suspect(log)
        if changed and any(item.state is State.CUT for item in log.chain.generations):
            self._known.forget(log.home, family)  # Its copy may have grown to what it was.
        log.close_passed(self.host.disk)
        if self.frozen:
            log.chain.freeze()
        if not changed and log.chain.settled:
            return  # A quiet file goes on resting, or comes to rest.
        log.chain.settle(now)
        self._active.add(log)
        self.notify(log)

    def _probes(self, key: str) -> list[Probe]:
        # Asked by the scan, in its thread: lists that were made are not changed.
        log = self.logs.get(key)
        return probes_of(self._rows.get(key, ()) if log is None else log.chain.generations)

    def _decide(self) -> None:
        """
        Let Logs that a checkpoint knows and no directory has be over, once that can be known.
        """
        if self._blind is None:
            return
        now = self.host.clock.monotonic()
        for log in list(self.logs.values()):
            unknown = log.chain.seen is None and log.key not in self._known.left_out
            if unknown and sees(self._blind, log.home):
                log.chain.observe((), now=now, now_ns=0)
                log.chain.settle(now)
                self.notify(log)

    def _log(self, key: str) -> FollowedLog:
        self._lives += 1
        chain = Chain(
            key,
            seed=identity_seed(key),
            life=self._life and f"{self._life}-{self._lives}",
            rows=self._rows.pop(key, ()),
            grace_s=self.settings.rotate_grace_s,
            rebooted_ns=self._rebooted_ns,
        )
        resource = self.resources.of(key, self.host.disk.link_target(key))  # disk
        existed = self._blind is None
        log = FollowedLog(key, chain=chain, resource=resource, existed=existed, routes=self._routes)
        self.logs[key] = log
        self._active.add(log)
        return log

    def notify(self, log: FollowedLog) -> None:
        """
        Tell every reader that *log* changed.
        """
        for reader in self._readers.values():
            reader.notify(log)
        self._drop_if_over(log)

    def states(self) -> tuple[int, int]:  # active, idle
        return len(self._active), len(self.logs) - len(self._active)
