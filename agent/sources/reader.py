"""
One run of a route over the Logs of a source: segments in reading order.

Reading order: generations that are about to vanish (renamed, deleted, cut) first, then round robin,
one chunk a turn.  The only places where a reader waits are the budget, a cold page and, when
everything is read, the next wake.  A cancelled `next` loses nothing: a place moves only after the last
await of a turn.

A reader is thrown away when its route restarts; the next one begins at the committed cursors.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.core.cursor import cursor_at, resume_place
from agent.core.generations import State
from agent.core.logs import Step
from agent.sources.follow import Detours, Follow, begin, is_older
from agent.sources.gather import POLL_S, Gather
from agent.sources.stored import Changes, FirstCursors, lag
from agent.sources.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.core.batch import Segment
    from agent.core.budget import Share
    from agent.core.checkpoint import GenerationRow
    from agent.core.cursor import Cursor
    from agent.core.generations import Generation
    from agent.core.transform import Begin
    from agent.sources.files import Files
    from agent.sources.followed import FollowedLog
    from agent.sources.gate import Gate


class Reader:
    """
    What a route reads.
    """

    def __init__(
        self,
        route: str,
        *,
        files: Files,
        cursors: Mapping[str, Cursor],
        share: Share,
        from_end: bool,
        gate: Gate,
        begin: Begin | None = None,
        linger_s: float = 0.0,
    ) -> None:
        self.route = route
        self._files = files
        self._cursors = dict(cursors)
        self._from_end = from_end
        self._gate = gate
        self._gather = Gather(linger_s, files.settings.poll_interval_s, files.host.clock)
        self._begin_transforms = begin
        self._follows: dict[str, Follow] = {}
        self._ignored: set[str] = set()
        self._urgent: dict[str, Follow] = {}
        self._ready: dict[str, Follow] = {}
        self._delayed: dict[str, Follow] = {}
        self._gated: dict[str, Follow] = {}
        self._with_pieces: dict[str, Follow] = {}
        self._queues = (self._urgent, self._ready, self._delayed, self._gated, self._with_pieces)
        self._changes, self._first_cursors = Changes(self._follows), FirstCursors()
        self._late: list[tuple[Follow, Generation, int]] = []
        self._current: Follow | None = None
        self._inflating: Follow | None = None
        self.detours = Detours(self._follows)
        self._wake = asyncio.Event()
        self._turn = Turn(self, files, share)
        self._pieces = self._turn.pieces
        self._closed = False

    # -- reading ------------------------------------------------------------------------------

    async def next(self) -> Segment:
        """
        Return the next segment; wait for it.
        """
        while True:
            # Other routes and the admin endpoint breathe between chunks.
            await asyncio.sleep(0)
            if self._late:
                return self._turn.segments.late(*self._late.pop())
            follow = self._pop()
            if follow is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._current = self._inflating = follow
            waited_s = self._gather.end(follow.log.key)
            try:
                segment = await self._turn.take(follow)
            finally:
                self._current = None
                self._after(follow)
            if segment is not None:
                segment.waited_s = waited_s
                return segment

    def _after(self, follow: Follow) -> None:
        if follow.log.key in self._follows:
            busy = not follow.errors and self.has_work(follow)
            for changed in self._pieces.settle(follow, busy=busy):
                self._queue(changed)
            self._queue(follow)

    def _pop(self) -> Follow | None:
        # What is being decompressed goes on first: a stream holds more memory than all else of a Log.
        if self._inflating is not None and self._inflating.stream is not None:
            follow = self._urgent.pop(self._inflating.log.key, None)
            if follow is not None:
                return follow
        for queue in (self._urgent, self._ready):
            if queue:
                return queue.pop(next(iter(queue)))
        return None

    def _queue(self, follow: Follow) -> None:
        """
        Put *follow* where its next turn is.
        """
        key = follow.log.key
        self._ready.pop(key, None)
        self._urgent.pop(key, None)
        if key not in self._follows or follow is self._current:
            return
        if follow.reread is not None or follow.open_streams:
            self._with_pieces[key] = follow
        else:
            self._with_pieces.pop(key, None)
        if not self._opens(follow):
            self._gated[key] = follow
        elif follow.errors:
            self._delayed[key] = follow
        elif self._pieces.is_blocked(follow):
            pass
        elif self.has_work(follow):
            generation = follow.log.chain.find(follow.number)
            live = generation if generation and generation.state is State.LIVE else None
            if live and self._gather.waits(follow, live):
                return
            (self._ready if live else self._urgent)[key] = follow
            self._wake.set()
        else:
            follow.rest()

    def _opens(self, follow: Follow) -> bool:
        self._gated.pop(follow.log.key, None)
        self._files.resources.refresh(follow.log)
        return self._gate.opens(follow, self._files.host.clock.monotonic())

    def has_work(self, follow: Follow) -> bool:
        """
        Whether a turn of *follow* would do anything now.
        """
        if follow.align_size is not None or follow.is_releasing:
            return True
        if follow.reread is not None:
            self._pieces.look(follow)
            return self._pieces.has_work(follow)
        step = follow.log.chain.step(*follow.place)
        if step is Step.WAIT or (step is Step.END and follow.ended):
            return False
        if step is Step.READ:
            generation = follow.log.chain.find(follow.number)
            assert generation is not None
            return generation.finished or generation.available > follow.looked_size
        return True

    # -- what Files calls ---------------------------------------------------------------------

    def notify(self, log: FollowedLog) -> None:
        """
        Take note that *log* changed.
        """
        if self._closed or log.key in self._ignored:
            return
        follow = self._follows.get(log.key)
        if follow is None:
            if not self._gate.admits(log):
                self._ignored.add(log.key)
                log.exclude(self.route, self._files.host.disk)
                return
            known = log.key in self._cursors or self.route in log.floors
            if (log.chain.seen is None and not known) or log.is_forgotten_by(self.route):
                return  # Where a route begins depends on what is there.
            follow = self._follows[log.key] = self._begin(log)
        self._changes.note(log.key)
        self._queue(follow)

    def _begin(self, log: FollowedLog) -> Follow:
        host = self._files.host
        cursor = self._cursors.pop(log.key, None)
        stored = cursor
        if cursor is None and self.route in log.floors:
            # An earlier run began here and has committed nothing.
            cursor = cursor_at(*log.floors[self.route])
        at_end = cursor is None and log.existed and self.route not in log.passed
        older_s = self._files.settings.ignore_older_s
        at_end = at_end and (self._from_end or is_older(log, host, older_s))
        now = host.clock.monotonic()
        follow = begin(log, cursor, at_end=at_end, after=log.passed.get(self.route), now=now)
        if follow.align_size is None and follow.cursor != stored:
            follow.first_cursor = follow.cursor
        self._first_cursors.note(follow)
        if self._begin_transforms is not None:
            follow.transforms = self._begin_transforms()
        follow.gathers = self._gather.wants(log)
        self.detours.hand_over(follow)
        if follow.align_size is None:
            self.begun(follow)
        return follow

    def begun(self, follow: Follow) -> None:
        """
        Note that nothing before the place of *follow* is needed.
        """
        follow.log.floors[self.route] = resume_place(follow.cursor)[:2]

    def tick(self, now: float) -> None:
        """
        Wake what waited for time: retries, and pieces whose end does not come.
        """
        for follow in (*self._gated.values(), *self._gather.due()):
            self._queue(follow)
        for key in [key for key, item in self._delayed.items() if item.retry_at <= now]:
            follow = self._delayed.pop(key)
            if self.has_work(follow):
                self._urgent[key] = follow
                self._wake.set()
            else:
                follow.errors = 0
        timeout_s = self._files.settings.piece_timeout_s
        for key, follow in list(self._with_pieces.items()):
            late = now - follow.progress_at >= timeout_s
            if not (late or follow.held_too_long(now)) or follow is self._current:
                continue
            if follow.reread is None:
                self._urgent[key] = follow
                self._wake.set()
            elif late and not follow.timed_out:
                follow.timed_out = follow.reread.wanted = True
                self._queue(follow)
        self._pieces.unspare(self._current, self._urgent, self._ready)
        for follow in self._pieces.next_waiting():
            self._queue(follow)

    def caught_up(self, log: FollowedLog) -> bool:
        """
        Whether this route needs none of the descriptors of *log* now.
        """
        follow = self._follows.get(log.key)
        return follow is None or (
            follow is not self._current
            and follow.reread is None
            and not self.has_work(follow)
            and log.key not in self._delayed
            and log.chain.step(*follow.place) is not Step.READ
            and all(item.state in (State.LIVE, State.SEALED) for item in log.chain.generations)
        )

    def gone(self, key: str) -> None:
        """
        Take note that the Log *key* is known no more.
        """
        self._ignored.discard(key)

    def lost_late(self, log: FollowedLog, generation: Generation, size: int) -> None:
        """
        Record bytes that were written to a generation after it was read and passed.
        """
        follow = self._follows.get(log.key)
        if follow is not None:
            self._late.append((follow, generation, size))
            self._wake.set()

    # -- what the route calls -----------------------------------------------------------------

    async def read_gathered(self, timeout_s: float) -> None:
        """
        Read what waits in files for more to come, before nothing is read any more.
        """
        clock = self._files.host.clock
        until = clock.monotonic() + timeout_s
        waiting = self._gather.stop()
        for follow in waiting:
            self._queue(follow)
        while waiting and clock.monotonic() < until:
            await clock.sleep(POLL_S)
            left = {self._current, *self._ready.values(), *self._urgent.values()}
            waiting = [follow for follow in waiting if follow in left]

    def exhausted(self) -> bool:
        """
        Whether everything known so far was read to its end.
        """
        if self._current is not None or self._late or any(self._queues[:4]):
            return False
        return not any(self.has_work(follow) for follow in self._follows.values())

    @property
    def needs_ticks(self) -> bool:
        """
        Whether anything waits for time.
        """
        return bool(self._late or self._gather.waiting) or any(self._queues)

    def first_cursors(self) -> dict[str, Cursor]:
        """
        Return the places at which Logs without a cursor are begun, until they are committed.

        Without them a restart would take a Log that was begun at its end for a new one, and one whose
        files are gone by then for one that was never followed.
        """
        return self._first_cursors.get()

    def generation_rows(self, logs: Iterable[str]) -> list[GenerationRow]:
        """
        Return the identities that the cursors of *logs* need, and those of Logs that have changed.
        """
        return self._changes.rows(logs, self._files.host.disk)  # disk

    def stored(self) -> None:
        """
        Note that the store holds the rows that were given last.
        """
        self._changes.stored()

    def release_generations(self, log: str, committed: Cursor) -> None:
        """
        Let go of what lies before *committed*, as far as every route has come.
        """
        follow = self._follows.get(log)
        if follow is not None:
            follow.first_cursor = None
            self._files.committed(follow.log, self.route, resume_place(committed)[:2])

    def finished(self) -> list[str]:
        """
        Return the Logs that are over and read to their end, until they are forgotten.

        None in a replay: a finished file must be known to the one that goes on from its state.
        """
        if self._files.frozen:
            return []
        return [
            key
            for key, follow in self._follows.items()
            if follow.ended and follow.log.chain.step(*follow.place) is Step.END
        ]

    def forgettable(self, finished: Iterable[str]) -> list[str]:
        """
        Return those of the Logs *finished*, all of whose rows are resolved, that no other route needs.

        As long as one does, the identities stay in the store, and without its cursor this route would
        take the Log for one that it never read, and its files for lost.
        """
        logs = [self._follows[key].log for key in finished]
        for log in logs:
            log.done[self.route] = log.chain.next_number
        return [log.key for log in logs if log.done_by_all]

    def forget(self, log: str) -> None:
        """
        Forget a finished Log, once everything of it is committed.
        """
        follow = self._follows.pop(log, None)
        if follow is not None:
            for queue in self._queues:
                queue.pop(log, None)
            self._gather.end(log)
            self._first_cursors.forget(log)
            self._pieces.forget(follow)
            self._files.forgotten(follow.log, self.route)

    def lag(self, committed: Mapping[str, Cursor], now_ns: int) -> Iterator[tuple[str, int, float]]:
        """
        Yield (Log, bytes, seconds) for every Log that is not committed to its end.
        """
        return lag(self._follows, committed, now_ns)

    def close(self) -> None:
        """
        Read no more.  What the route has committed stays known to the source.
        """
        self._closed = True
        self._pieces.clear()
        self._follows.clear()
        for queue in self._queues:
            queue.clear()
