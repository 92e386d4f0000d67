"""
Who writes logs on the simulated node, and who rotates them.

Every physical line is a *piece* with a number of its own in its text, so that a row made of several pieces,
a row delivered twice and a row that is missing can all be told from what arrived.  A *content* is what was
written from one beginning of a file on: it may move to other names, be copied or compressed, and it is what
a file_id stands for.
"""

from __future__ import annotations

import gzip
import posixpath
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.core.identity import HEAD_BYTES_MAX, head_of
from tests.sim.pieces import Content, Piece
from tests.sim.services import REFUSED_MARK
from tests.sim.tree import FILE

if TYPE_CHECKING:
    from random import Random

    from tests.sim.node import Node
    from tests.sim.tree import Inode

#: Rotated files that are kept; the kubelet's containerLogMaxFiles less one.
ROTATED_MAX = 3
GZIP = b"\x1f\x8b"
STREAMS = {1: b"stdout", 2: b"stderr"}
_HOUR_NS = 3_600_000_000_000


class Log:
    """
    One Log: its live file, its rotated ones, and the process that writes it.
    """

    def __init__(self, world: Node, path: str, *, format: str, random: Random) -> None:
        self.world = world
        self.path = path
        self.format = format
        self.random = random
        self.contents: list[Content] = []
        self.open_piece = {1: False, 2: False}
        self._unfinished = b""
        self._unfinished_pieces: list[Piece] = []
        self._rotations = 0
        #: What is behind each name of the family.
        self._by_inode: dict[Inode, Content] = {}
        self._late: Inode | None = None
        #: The live file and its copy, until that is whole and the file is cut.
        self._copying: tuple[Inode, Inode] | None = None

    # -- writing ------------------------------------------------------------------------------

    @property
    def live(self) -> Inode | None:
        tree = self.world.tree
        return tree.find(self.path) if tree.exists(self.path) else None

    def begin(self, *, reuse: bool = False) -> None:
        """
        Create the live file, and its directory.
        """
        if self.live is None:
            self.world.tree.make_directories(posixpath.dirname(self.path))
            self._new_content(self.world.tree.make(self.path, FILE, reuse=reuse))

    def write(self, lines: int, kind: str) -> None:
        """
        Append *lines* lines; *kind* says of what sort.
        """
        self.finish_line()
        self.begin()
        inode = self.live
        assert inode is not None
        self._append(inode, lines, kind)

    def _append(self, inode: Inode, lines: int, kind: str) -> None:
        content = self._by_inode[inode]
        data = b""
        pieces = []
        for _ in range(lines):
            line, piece = self._line(content, content.size + len(data), kind)
            data += line
            pieces.append(piece)
        cut = len(data)
        if kind == "torn" and len(data) > 1:
            cut = self.random.randrange(1, len(data))
        self.world.tree.write(inode, data[:cut], content.size)
        content.size += cut
        self._unfinished = data[cut:]
        self._unfinished_pieces = [piece for piece in pieces if piece.stop > content.size]
        for piece in pieces:
            if piece.stop <= content.size:
                self._written(piece)
        if self._unfinished:
            self.world.later(self.random.random() * 0.5, self.finish_line)

    def finish_line(self) -> None:
        """
        End a copy that is being made, and write the rest of a line that was begun.
        """
        self._finish_copy()
        if not self._unfinished:
            return
        rest, pieces = self._unfinished, self._unfinished_pieces
        self._unfinished, self._unfinished_pieces = b"", []
        content = pieces[0].content
        inode = content.inodes[0]
        if inode.names:
            self.world.tree.write(inode, rest, content.size)
            content.size += len(rest)
            for piece in pieces:
                self._written(piece)

    def _written(self, piece: Piece) -> None:
        content = piece.content
        content.pieces.append(piece)
        if not content.head:
            head = head_of(bytes(content.inodes[0].data[:HEAD_BYTES_MAX]), whole=False)
            assert head is not None
            content.head = (self.path, head.digest, head.length)
        piece.written_at = self.world.loop.now
        self.world.oracle.written(piece)

    def _line(self, content: Content, start: int, kind: str) -> tuple[bytes, Piece]:
        random, world = self.random, self.world
        number = world.next_piece()
        stream = 2 if random.random() < 0.4 else 1
        at_ns = world.now_ns()
        final = True
        refused = False
        text = b"<%d>" % number + b"x" * random.randrange(60)
        if kind == "pieces":
            final = random.random() < 0.35
        elif kind == "odd" and not self.open_piece[stream] and random.random() < 0.3:
            which = random.randrange(3)
            refused = True
            if which == 0:
                at_ns -= 15 * 24 * _HOUR_NS
            elif which == 1:
                at_ns += 3 * _HOUR_NS
            else:
                text += REFUSED_MARK
        elif kind == "long":
            text += b"y" * random.randrange(3_000)
        continues, self.open_piece[stream] = self.open_piece[stream], not final
        if self.format == "raw":
            stream, final = 0, True
            line = text + b"\n"
        else:
            time = datetime.fromtimestamp(at_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            tag = b"F" if final else b"P"
            head = f"{time}.{at_ns % 10**9:09d}Z ".encode()
            line = head + STREAMS[stream] + b" " + tag + b" " + text + b"\n"
        piece = Piece(number, content, stream, start, start + len(line), 0.0, final)
        piece.refused, piece.continues = refused, continues and stream != 0
        return line, piece

    def _new_content(self, inode: Inode) -> Content:
        content = Content(self, len(self.contents), self.world.loop.now, [inode])
        self.contents.append(content)
        self._by_inode[inode] = content
        return content

    # -- rotating -----------------------------------------------------------------------------

    def rotate(self, kind: str) -> None:
        """
        Rotate as *kind* says.
        """
        self.finish_line()
        if self.live is None:
            return
        if kind == "copytruncate":
            self._copytruncate()
        elif kind == "truncate":
            self._truncate(self._by_inode[self.live])
        else:
            self._rename(kind)

    def _rename(self, kind: str) -> None:
        """
        Give the live file another name and begin a new one; the kubelet compresses the one before.
        """
        tree = self.world.tree
        old = self.live
        assert old is not None
        if self.format == "raw":
            self._shift()
            tree.rename(self.path, f"{self.path}.1")
        else:
            if kind == "gz":
                self._compress()
            tree.rename(self.path, self._dated())
            self._expire()
        self._late = old
        if kind == "late":
            self.world.later(0.1 + self.random.random() * 0.3, self._write_late, old)
        self.begin(reuse=True)

    def _write_late(self, inode: Inode) -> None:
        # A runtime's copier flushes a last line into the file that it still holds.
        if self._late is inode and inode.names and not self._unfinished:
            self._append_alone(inode)

    def _write_unlinked(self, inode: Inode) -> None:
        # The writer of a file that was deleted has not noticed it yet.
        if inode.held and not inode.names and not self._unfinished:
            self._append_alone(inode)

    def _append_alone(self, inode: Inode) -> None:
        # What is open in the live file stays open.
        before = dict(self.open_piece)
        self._append(inode, 1, "plain")
        self.open_piece = before

    def _dated(self) -> str:
        self._rotations += 1
        return f"{self.path}.20261122-{self._rotations:06d}"

    def _family(self) -> list[str]:
        directory, name = posixpath.split(self.path)
        entries = self.world.tree.find(directory).entries
        return sorted(item for item in entries if item.startswith(f"{name}."))

    def _compress(self) -> None:
        directory = posixpath.dirname(self.path)
        tree = self.world.tree
        for name in self._family():
            if name.endswith(".gz"):
                continue
            path = posixpath.join(directory, name)
            plain = tree.find(path)
            content = self._by_inode[plain]
            packed = tree.make(f"{path}.tmp")
            tree.write(packed, gzip.compress(bytes(plain.data), 1, mtime=0), 0)
            tree.sync(packed)
            tree.rename(f"{path}.tmp", f"{path}.gz")
            content.inodes.append(packed)
            self._by_inode[packed] = content
            tree.unlink(path)

    def _expire(self) -> None:
        family = self._family()
        directory = posixpath.dirname(self.path)
        for name in family[: max(0, len(family) - ROTATED_MAX)]:
            self._unlink(posixpath.join(directory, name))

    def _shift(self) -> None:
        tree = self.world.tree
        last = f"{self.path}.{ROTATED_MAX}"
        if tree.exists(last):
            self._unlink(last)
        for number in range(ROTATED_MAX - 1, 0, -1):
            if tree.exists(f"{self.path}.{number}"):
                tree.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")

    def _copytruncate(self) -> None:
        tree = self.world.tree
        live = self.live
        assert live is not None
        if not live.data:
            return
        if self.format == "raw":
            self._shift()
            path = f"{self.path}.1"
        else:
            path = self._dated()
        copy = tree.make(path)
        content = self._by_inode[live]
        content.inodes.append(copy)
        self._by_inode[copy] = content
        self._copying = (live, copy)
        self.world.later(self.random.random() * 0.03, self._copy_half, copy)
        self.world.later(0.03 + self.random.random() * 0.03, self._finish_copy)

    def _copy_half(self, copy: Inode) -> None:
        if self._copying is not None and self._copying[1] is copy:
            data = bytes(self._copying[0].data)
            self.world.tree.write(copy, data[: self.random.randrange(len(data))], 0)

    def _finish_copy(self) -> None:
        if self._copying is None:
            return
        (live, copy), self._copying = self._copying, None
        self.world.tree.write(copy, bytes(live.data), 0)
        content = self._by_inode[live]
        # The file that has it from now on.
        content.created_at = self.world.loop.now
        self._truncate(content)

    def _truncate(self, content: Content) -> None:
        live = self.live
        assert live is not None
        self.world.tree.truncate(live, 0)
        content.inodes.remove(live)
        if not content.named:
            self.world.oracle.overwritten(content)
        self._new_content(live)

    def _unlink(self, path: str) -> None:
        inode = self.world.tree.find(path)
        self.world.tree.unlink(path)
        content = self._by_inode[inode]
        if not content.named:
            self.world.oracle.unlinked(content)

    def delete(self, kind: str) -> None:
        """
        Remove the live file, or with *kind* `all` the whole family, and its directory if nothing else is in it.
        """
        self.finish_line()
        directory = posixpath.dirname(self.path)
        tree, live = self.world.tree, self.live
        if not tree.exists(directory):
            return
        if live is not None:
            self._unlink(self.path)
        for item in self._family() if kind == "all" else ():
            self._unlink(posixpath.join(directory, item))
        self._late = None
        if live is not None and kind == "held":
            self.world.later(0.05 + self.random.random() * 0.3, self._write_unlinked, live)
        if kind == "all" and not tree.find(directory).entries:
            tree.unlink(directory)

    # -- power --------------------------------------------------------------------------------

    def lost_power(self) -> None:
        """
        Find out what is left of the files; nobody writes to them any more.
        """
        self._unfinished = b""
        self._late = self._copying = None
        for content in self.contents:
            for inode in content.inodes:
                inode.held = 0
            if not content.named:
                continue
            whole = [inode for inode in content.inodes if inode.names]
            # Compressed files are synced before their originals are removed.
            if any(inode.data[:2] == GZIP for inode in whole):
                continue
            size = max(len(inode.data) for inode in whole)
            content.shortened |= size < content.size
            head = content.pieces[0].stop if content.pieces else 0
            for piece in content.pieces:
                piece.torn = size < min(head, HEAD_BYTES_MAX)
                piece.cut |= piece.start < size < piece.stop
                if piece.stop > size:
                    piece.excused = piece.may_be_lost = True
            content.size = min(content.size, size)
