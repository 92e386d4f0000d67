"""
The verifying writer, a process: `python -m tests.edge.writer DIRECTORY SEED SLOTS < pipe`.

It writes, rotates, copies, truncates, compresses and deletes log files below DIRECTORY until its standard input
is closed; then it ends every open row, writes DIRECTORY/journal.json (journal.py) and exits.

| style | what happens to the file |
|---|---|
| kubelet | renamed to a dated name every 100 ms to 6 s; all but the newest gzipped; six kept |
| restarts | the container starts anew, with a file of the next number; the last one is deleted later |
| pods | the whole pod is deleted after some seconds, and another one comes |
| copytruncate | copied to `.1` and cut, older copies shifted, and gzipped from `.3` on |
| truncated | cut, without a copy |
| deleted | unlinked and created anew |
| quiet | nothing but growth |
"""

from __future__ import annotations

import gzip
import os
import random
import select
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from tests.edge.journal import (
    CUT,
    STREAMS,
    UNLINKED,
    Content,
    Inode,
    Journal,
    Line,
    Name,
    text_of,
)

STYLES = (
    *("kubelet", "copytruncate", "kubelet", "restarts", "kubelet", "pods", "copytruncate"),
    *("quiet", "kubelet", "truncated", "kubelet", "deleted", "copytruncate", "quiet"),
)
#: Seconds between two turns, the shortest and the longest; one that takes bytes away is not as frequent.
PERIOD_S = (0.1, 6.0)
PERIOD_TAKING_S = (2.0, 6.0)
TAKING = ("truncated", "deleted", "pods")
ROTATED_KEPT = 5
TICK_S = 0.01
PIECE_SHARE = 0.15


def stamp() -> str:
    """
    Return the time of a CRI line.
    """
    now = time.time_ns()
    moment = datetime.fromtimestamp(now // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{now % 1_000_000_000:09d}Z"


class Slot:
    """
    A container, and those that come after it.
    """

    def __init__(self, writer: Writer, index: int, style: str) -> None:
        self.writer, self.index, self.style = writer, index, style
        self.random = random.Random(f"{writer.seed}/{index}")
        low, high = PERIOD_TAKING_S if style in TAKING else PERIOD_S
        self.period_s = low * (high / low) ** self.random.random()
        self.pod = self.restart = self.taken = 0
        #: Contents that have a name, oldest first, with their paths.
        self.rotated: list[tuple[Path, int]] = []
        self.begin_log()
        now = time.monotonic()
        self.write_at = now + self.random.random() * 0.1
        self.turn_at = now + self.period_s * self.random.random()

    # -- files --------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        if self.style in ("copytruncate", "truncated", "deleted"):
            return self.writer.root / "apps" / f"app-{self.index}" / "app.log"
        uid = f"00000000-0000-4000-8000-{self.index:06d}{self.pod:06d}"
        pod = f"shop_web-{self.index}-{self.pod}_{uid}"
        return self.writer.root / "pods" / pod / "app" / f"{self.restart}.log"

    def begin_log(self) -> None:
        """
        Begin a Log: another path.
        """
        journal = self.writer.journal
        self.log = len(journal.logs)
        self.numbers = [0, 0]
        self.open_rows: dict[int, int] = {}
        self.rotated = []
        journal.logs.append(str(self.path))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.begin_file()

    def begin_file(self) -> None:
        """
        Begin a generation in a new file.
        """
        self.fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        self.begin_content()

    def begin_content(self) -> None:
        """
        Begin a generation in the file that is open.
        """
        contents = self.writer.journal.contents
        self.content, self.size = len(contents), 0
        contents.append(Content(self.log, [Inode(time.monotonic())]))

    def ended(self, content: int, how: str) -> None:
        """
        Note that no name leads to the newest inode of *content* any more.
        """
        inode = self.writer.journal.contents[content].inodes[-1]
        inode.until, inode.how = time.monotonic(), how

    def moved(self, content: int, how: str, since: float) -> None:
        """
        Note that *content* is in another inode since *since*, and no longer in the one before.
        """
        self.ended(content, how)
        self.writer.journal.contents[content].inodes.append(Inode(since))

    # -- writing ------------------------------------------------------------------------------

    def burst(self) -> None:
        """
        Append some lines of both streams.
        """
        lines: list[Line] = []
        data = b""
        for _ in range(self.random.choice((1, 2, 5, 30))):
            stream = self.random.randrange(2)
            encoded = self.line(stream, "P" if self.random.random() < PIECE_SHARE else "F", lines)
            data += encoded
        self.append(data, lines)

    def line(self, stream: int, tag: str, lines: list[Line]) -> bytes:
        """
        Return the next line of *stream* and add it to *lines*, without its place.
        """
        number = self.numbers[stream]
        self.numbers[stream] += 1
        row = self.open_rows.setdefault(stream, number)
        if tag == "F":
            del self.open_rows[stream]
        text = text_of(Name(self.log, stream, number))
        encoded = f"{stamp()} {STREAMS[stream]} {tag} {text}\n".encode()
        lines.append(Line(self.content, 0, len(encoded), stream, number, 0.0, row))
        return encoded

    def append(self, data: bytes, lines: list[Line]) -> None:
        """
        Write *data*, which are *lines*; sometimes in two writes, so that a reader finds half a line.
        """
        if not lines:
            return
        content = self.writer.journal.contents[self.content]
        if self.size == 0:
            content.head = data[: data.index(b"\n") + 1][:1024]
        cut = self.random.randrange(len(data)) if self.random.random() < 0.3 else len(data)
        for part in (data[:cut], data[cut:]):
            assert os.write(self.fd, part) == len(part)
        at = time.monotonic()
        for line in lines:
            line.start, line.stop, line.at = self.size, self.size + line.stop, at
            self.size = line.stop
        if not self.writer.forgets:
            self.writer.journal.lines += lines

    def finish(self) -> None:
        """
        End every open row.
        """
        lines: list[Line] = []
        data = b"".join(self.line(stream, "F", lines) for stream in list(self.open_rows))
        self.append(data, lines)
        os.close(self.fd)

    # -- turning ------------------------------------------------------------------------------

    def turn(self) -> None:
        """
        Do what the style does.
        """
        if self.style in ("kubelet", "pods", "restarts"):
            self.rotate()
        if self.style == "copytruncate" and self.size:
            self.copytruncate()
        if self.style == "truncated" and self.size:
            self.ended(self.content, CUT)
            os.ftruncate(self.fd, 0)
            self.begin_content()
        if self.style == "deleted":
            self.path.unlink()
            self.ended(self.content, UNLINKED)
            os.close(self.fd)
            self.begin_file()
        if self.style == "restarts" and self.random.random() < 0.3:
            self.restarted()
        if self.style == "pods" and self.random.random() < 0.3:
            self.replaced()

    def rotate(self) -> None:
        """
        Rename, as the kubelet does, compress what is older, delete what is too much.
        """
        # The kubelet's names have seconds; here they are of the past, so that two of a second differ.
        self.taken += 1
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.taken)
        renamed = self.path.with_name(f"{self.path.name}.{moment:%Y%m%d-%H%M%S}")
        self.path.rename(renamed)
        os.close(self.fd)
        before = self.content
        self.begin_file()
        for at, (path, content) in enumerate(self.rotated):
            if path.suffix != ".gz":
                self.rotated[at] = (self.compress(path, content), content)
        self.rotated.append((renamed, before))
        while len(self.rotated) > ROTATED_KEPT:
            self.delete(*self.rotated.pop(0))

    def compress(self, path: Path, content: int) -> Path:
        """
        Replace *path* by its gzip.
        """
        unfinished = path.with_name(f"{path.name}.gz.tmp")
        with path.open("rb") as plain, gzip.open(unfinished, "wb", compresslevel=1) as packed:
            shutil.copyfileobj(plain, packed)
        compressed = path.with_name(f"{path.name}.gz")
        unfinished.rename(compressed)
        since = time.monotonic()
        path.unlink()
        self.moved(content, UNLINKED, since)
        return compressed

    def delete(self, path: Path, content: int) -> None:
        """
        Delete a rotated file.
        """
        path.unlink()
        self.ended(content, UNLINKED)

    def copytruncate(self) -> None:
        """
        Shift the copies, copy, and cut: as logrotate does, with nothing written in between.
        """
        if len(self.rotated) >= ROTATED_KEPT:
            self.delete(*self.rotated.pop(0))
        for at, (path, content) in enumerate(self.rotated):
            number = len(self.rotated) - at + 1
            suffix = ".gz" if path.suffix == ".gz" else ""
            shifted = path.with_name(f"app.log.{number}{suffix}")
            path.rename(shifted)
            if number >= 3 and not suffix:
                shifted = self.compress(shifted, content)
            self.rotated[at] = (shifted, content)
        copy = self.path.with_name("app.log.1")
        shutil.copyfile(self.path, copy)
        since = time.monotonic()
        os.ftruncate(self.fd, 0)
        self.moved(self.content, CUT, since)
        self.rotated.append((copy, self.content))
        self.begin_content()

    def restarted(self) -> None:
        """
        The container starts anew: another Log; of the last one the live file stays for a while.
        """
        os.close(self.fd)
        old = [*self.rotated, (self.path, self.content)]
        self.restart += 1
        self.begin_log()
        self.writer.deletions.append((time.monotonic() + self.random.uniform(0.5, 6), self, old))

    def replaced(self) -> None:
        """
        The pod is deleted with all its files, and another one comes.
        """
        os.close(self.fd)
        shutil.rmtree(self.path.parent.parent)
        for _, content in [*self.rotated, (self.path, self.content)]:
            self.ended(content, UNLINKED)
        self.pod += 1
        self.begin_log()


class Writer:
    """
    All slots.
    """

    def __init__(self, root: Path, seed: str, slots: int, *, forgets: bool = False) -> None:
        self.root, self.seed, self.forgets = root, seed, forgets
        self.journal = Journal([], [], [])
        #: (when, whose, files) that are deleted later.
        self.deletions: list[tuple[float, Slot, list[tuple[Path, int]]]] = []
        self.slots = [Slot(self, index, STYLES[index % len(STYLES)]) for index in range(slots)]

    def tick(self) -> None:
        """
        Do what is due.
        """
        now = time.monotonic()
        for slot in self.slots:
            if now >= slot.write_at:
                slot.burst()
                slot.write_at = now + slot.random.expovariate(1 / 0.08)
            if now >= slot.turn_at:
                slot.turn()
                slot.turn_at = now + slot.period_s * slot.random.uniform(0.7, 1.3)
        for item in [item for item in self.deletions if item[0] <= now]:
            self.deletions.remove(item)
            for path, content in item[2]:
                item[1].delete(path, content)

    def run(self) -> None:
        """
        Write until standard input is closed.
        """
        while not select.select([sys.stdin], [], [], TICK_S)[0]:
            self.tick()
        for slot in self.slots:
            slot.finish()
        (self.root / "journal.json").write_bytes(msgspec.json.encode(self.journal))


if __name__ == "__main__":
    Writer(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), forgets="forget" in sys.argv[4:]).run()
