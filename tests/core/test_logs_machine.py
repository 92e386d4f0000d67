"""
A Log's generations as a state machine: a writer, rotators, an observer that looks now and then.

The model's disk is a table of names and inodes.  A reader follows `Chain.step` and takes bytes from the
model's files.  Whatever happens, in whatever order, every byte that was written is delivered once
and in order, or lies in a recorded loss, or was never seen by a look (written and gone between two).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import booleans, integers, sampled_from

from agent.core.generations import UNMEASURED, Generation, Sighting
from agent.core.identity import head_of
from agent.core.logs import Chain, Step
from agent.core.rotated_names import as_live, as_rotated, ignored

LIVE = "0.log"
GRACE_S = 5.0


@dataclass
class File:
    """
    An inode: its bytes, and whether they are stored compressed.
    """

    inode: int
    data: bytearray = field(default_factory=bytearray)
    compressed: bool = False
    mtime: float = 0.0


class Machine(RuleBasedStateMachine):
    """
    Rotation by rename with gzip, copytruncate, removal, and restarts of the agent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.names: dict[str, File] = {}
        self.free_inodes = [3, 2, 1]
        self.next_inode = 4
        self.lines = 0
        self.rotations = 0
        self.writer: File | None = None
        self.create()
        self.cursor = (0, 0)
        self.dirty = False
        self.restart()
        self.written: list[bytes] = []  # of the current history, by line
        self.delivered = bytearray()
        #: What was delivered or recorded as lost: (generation, start, stop).
        self.covered: list[tuple[int, int, int]] = []

    # -- the world ----------------------------------------------------------------------------

    def create(self) -> None:
        inode = self.free_inodes.pop() if self.free_inodes else self.next_inode
        if inode == self.next_inode:
            self.next_inode += 1
        self.names[LIVE] = self.writer = File(inode, mtime=self.now)

    def free(self, file: File) -> None:
        """
        An inode can be used again once no name and no descriptor leads to it.
        """
        opened = self.opened.get(file.inode) is file
        if not opened and file not in self.names.values() and file is not self.writer:
            self.free_inodes.append(file.inode)

    @rule(count=integers(1, 4))
    def write(self, count: int) -> None:
        assert self.writer is not None
        for _ in range(count):
            self.lines += 1
            line = b"line %d\n" % self.lines
            self.written.append(line)
            self.writer.data += line
        self.writer.mtime = self.now

    @precondition(lambda self: LIVE in self.names)
    @rule()
    def rename(self) -> None:
        self.rotations += 1
        self.names[f"{LIVE}.20261122-{self.rotations:06d}"] = self.names.pop(LIVE)

    @precondition(lambda self: LIVE not in self.names)
    @rule()
    def reopen(self) -> None:
        self.create()

    @precondition(lambda self: LIVE in self.names and self.names[LIVE] is self.writer)
    @rule(line_between=booleans())
    def copytruncate(self, line_between: bool) -> None:
        self.rotations += 1
        assert self.writer is not None
        inode = self.free_inodes.pop() if self.free_inodes else self.next_inode
        self.next_inode = max(self.next_inode, inode + 1)
        copy = File(inode, bytearray(self.writer.data), mtime=self.now)
        self.names[f"{LIVE}.20261122-{self.rotations:06d}"] = copy
        if line_between:
            self.write(1)  # What copytruncate loses.
        del self.writer.data[:]
        self.dirty = True

    @precondition(lambda self: any(self.compressible()))
    @rule()
    def compress(self) -> None:
        name = self.compressible()[0]
        file = self.names.pop(name)
        inode = self.free_inodes.pop() if self.free_inodes else self.next_inode
        self.next_inode = max(self.next_inode, inode + 1)
        self.names[f"{name}.gz"] = File(
            inode, bytearray(file.data), compressed=True, mtime=self.now
        )
        self.free(file)

    def compressible(self) -> list[str]:
        """
        Every rotated file but the newest, as the kubelet does.
        """
        rotated = sorted(name for name in self.names if name != LIVE)
        return [name for name in rotated[:-1] if not self.names[name].compressed]

    @precondition(lambda self: len(self.names) > 3)
    @rule()
    def remove_oldest(self) -> None:
        name = min(name for name in self.names if name != LIVE)
        self.free(self.names.pop(name))

    # -- the agent ----------------------------------------------------------------------------

    def restart(self) -> None:
        chain = getattr(self, "chain", None)
        rows = [item.row(LIVE) for item in chain.generations if item.head] if chain else []
        #: Open files by inode, as the shell has them: which generation one belongs to is the chain's
        #: to say, and changes when a cut file is found to be in its copy.
        self.opened: dict[int, File] = {}
        self.chain = Chain(LIVE, seed=LIVE, rows=rows, grace_s=GRACE_S)
        # A cursor is only in what has a head: nothing was read of the rest.
        self.place = self.cursor

    @rule(hold=booleans(), blind=booleans())
    def agent_restarts(self, hold: bool, blind: bool) -> None:
        self.restart()
        # A reader starts after the first scan, which may not have come into the directory.
        self.dirty = False
        if not blind:
            self.look(hold)

    @rule(seconds=sampled_from((0.2, 1.0, 6.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.poll()
        self.chain.settle(self.now)

    @rule(hold=booleans())
    def look(self, hold: bool) -> None:
        self.dirty = False
        live = self.names.get(LIVE)
        for generation in self.chain.generations:
            file = self.opened.get(generation.inode)
            if file is None or file is live or file.compressed or generation.finished:
                continue
            if len(file.data) < generation.available or not self.has_head(generation, file):
                self.chain.overwritten(generation, now=self.now)
            elif len(file.data) > generation.available:
                self.grow(generation, file)
        sightings = []
        for name, file in self.names.items():
            if ignored(name):
                continue
            parts = as_rotated(name) or as_live(name)
            head = head_of(bytes(file.data[:1024]), whole=not parts.is_live)
            sightings.append(
                Sighting(name, parts, 1, file.inode, len(file.data), int(file.mtime * 1e9), head)
            )
        self.chain.observe(sightings, now=self.now, now_ns=int(self.now * 1e9))
        by_inode = {file.inode: file for file in self.names.values()}
        for generation in self.chain.generations:
            if hold and generation.place is not None and generation.inode not in self.opened:
                self.opened[generation.inode] = by_inode[generation.inode]
            generation.held = generation.inode in self.opened
            if generation.held and not self.opened[generation.inode].compressed:
                assert self.has_head(generation, self.opened[generation.inode])
        self.close_strays()
        self.chain.settle(self.now)

    def close_strays(self) -> None:
        """
        Close what no generation is read from.
        """
        wanted = {generation.inode for generation in self.chain.generations}
        for inode in self.opened.keys() - wanted:
            self.free(self.opened.pop(inode))

    @rule()
    def poll(self) -> None:
        if self.dirty:
            self.look(hold=True)  # The event of a new name comes before the next tick's sizes.
        for generation in self.chain.generations:
            file = self.opened.get(generation.inode)
            if file is None or file.compressed or generation.finished:
                continue
            if len(file.data) < generation.available or not self.has_head(generation, file):
                self.cut(generation)
                return
            if len(file.data) > generation.available:
                self.grow(generation, file)

    def grow(self, generation: Generation, file: File) -> None:
        self.chain.grew(generation, len(file.data), now=self.now)
        head = head_of(bytes(file.data[:1024]), whole=False)
        if not generation.head and head is not None:
            self.chain.identify(generation, head)

    def has_head(self, generation: Generation, file: File) -> bool:
        head = head_of(bytes(file.data[: generation.head_length]), whole=True)
        return not generation.head or (
            head is not None and head.key == (generation.head, generation.head_length)
        )

    def cut(self, generation: Generation) -> None:
        """
        Do what the shell does for a file that was cut: look at once.
        """
        self.chain.overwritten(generation, now=self.now)
        self.look(hold=True)

    @rule(steps=integers(1, 6))
    def read(self, steps: int) -> None:
        for _ in range(steps):
            if not self.read_once():
                return

    def read_once(self) -> bool:
        """
        Do one step; False if there is nothing to do.
        """
        number, offset = self.place
        step = self.chain.step(number, offset)
        generation = self.chain.find(number)
        if self.chain.seen is None:
            assert step in (Step.WAIT, Step.ADVANCE), "decided before the first look"
        if step in (Step.WAIT, Step.END):
            return False
        if step is Step.ADVANCE:
            following = self.chain.after(number)
            assert following is not None
            self.place = (following.number, 0)
            return True
        assert generation is not None
        if step is Step.LOSE:
            self.covered.append((number, offset, generation.size))
            self.place = self.cursor = (number, generation.size)
            return True
        data = self.data_of(generation)
        if data is None:
            return False  # Removed since the last look.
        if generation.available == UNMEASURED:
            self.chain.measured(generation, len(data))
            return True
        generation.touched = True
        self.delivered += data[offset : generation.available]
        self.place = (number, min(len(data), generation.available))
        self.covered.append((number, offset, self.place[1]))
        if generation.head:
            self.cursor = self.place
        return self.place[1] > offset

    def data_of(self, generation: Generation) -> bytearray | None:
        """
        Return the bytes of the file that a generation would be read from.
        """
        held = self.opened.get(generation.inode)
        if held is not None and not held.compressed and not self.has_head(generation, held):
            self.cut(generation)
            return None
        if held is not None:
            return held.data
        assert generation.place is not None
        file = self.names.get(generation.place.name)
        # The shell verifies inode and head when it opens a file.
        if file is None or file.inode != generation.place.inode:
            return None
        head = head_of(bytes(file.data[:1024]), whole=not generation.place.parts.is_live)
        if not generation.head and head is not None:
            self.chain.identify(generation, head)
        known = (generation.head, generation.head_length) if generation.head else None
        return file.data if (head.key if head is not None else None) == known else None

    # -- what has to hold ---------------------------------------------------------------------

    @invariant()
    def nothing_is_repeated_or_reordered(self) -> None:
        lines = [int(line.split()[1]) for line in bytes(self.delivered).splitlines()]
        assert lines == sorted(set(lines))

    def teardown(self) -> None:
        """
        Once the world is still, everything that is on disk and not passed arrives.
        """
        if LIVE not in self.names:
            self.create()
        self.write(1)
        for _ in range(4):
            self.look(hold=True)
            self.time_passes(6.0)
            self.poll()
            while self.read_once():
                pass
        on_disk = b"".join(
            bytes(file.data)
            for _, file in sorted(
                self.names.items(),
                key=lambda item: (as_rotated(item[0]) or as_live(item[0])).order,
            )
        )
        arrived = set(bytes(self.delivered).splitlines())
        missing = [line for line in on_disk.splitlines() if line not in arrived]
        assert not missing, f"on disk, never delivered: {missing[:3]}"
        self.nothing_is_repeated_or_reordered()
        for generation in self.chain.generations:
            self.check_tiled(generation)

    def check_tiled(self, generation: Generation) -> None:
        """
        Every known byte of a generation was delivered once or recorded as lost.
        """
        reached = 0
        for number, start, stop in self.covered:
            if number == generation.number:
                assert start == reached, f"generation {number}: {reached} to {start} is nowhere"
                reached = stop
        assert reached == generation.size or not generation.head


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=2000 if os.environ.get("TAILRACE_SLOW") else 80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
