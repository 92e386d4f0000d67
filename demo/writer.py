"""
Containers that log: writes a kubelet-shaped tree the way containerd and the kubelet do.

A Container appends CRI lines of both streams to `<root>/<namespace>_<pod>_<uid>/<container>/0.log`,
splits long lines into `P … F` pieces, and is rotated as the kubelet rotates: older rotated files are
gzipped, the live one is renamed, the runtime goes on in the renamed file for a moment and then opens
a new one.  It remembers every line that it wrote; each carries a sequence number per stream, so all of
them differ.

Everything is synchronous and takes its time from the machine: the lines are of now.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Literal

#: containerd's max_container_log_line_size: a longer line is split into pieces of this size.
PIECE_BYTES = 16_384
NANOSECONDS = 1_000_000_000

Stream = Literal["stdout", "stderr"]

PATHS = (
    "/",
    "/cart",
    "/checkout",
    "/items/{n}",
    "/api/v1/orders/{n}",
    "/healthz",
    "/static/app.{n}.js",
)
AGENTS = ("Mozilla/5.0 (X11; Linux x86_64)", "curl/8.14.1", "kube-probe/1.34", "okhttp/5.1.0")
STATUSES = (200, 200, 200, 200, 201, 204, 301, 304, 404, 500, 503)
EVENTS = (
    "order placed",
    "payment accepted",
    "cache miss",
    "grüße aus Köln",
    "在庫を確認しました",
    "retry",
)
LEVELS = ("debug", "info", "info", "info", "warn", "error")


@dataclass(frozen=True, slots=True)
class Line:
    """
    One line as the container wrote it, before it was split or rotated.
    """

    stream: str
    text: str


def cri_time(now_ns: int) -> str:
    """
    RFC3339Nano as Go writes it: UTC, trailing zeros of the fraction trimmed.
    """
    seconds, fraction = divmod(now_ns, NANOSECONDS)
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + digits + "Z"


class Container:
    """
    One container of one pod, and the lines that it wrote.
    """

    def __init__(
        self, root: str, *, namespace: str, pod: str, name: str, uid: str = "", seed: int = 0
    ) -> None:
        self.namespace = namespace
        self.pod = pod
        self.name = name
        self._random = random.Random(f"{seed}/{namespace}/{pod}/{name}")
        self.uid = uid or str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        self.pod_directory = os.path.join(root, f"{namespace}_{pod}_{self.uid}")
        self.path = os.path.join(self.pod_directory, name, "0.log")
        self.lines: list[Line] = []
        self.lines_physical = 0
        self.rotations = 0
        self._rotated_s = 0
        self._sequence = {"stdout": 0, "stderr": 0}
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self._file = self._open()

    @property
    def key(self) -> tuple[str, str, str]:
        """
        (namespace, pod, container).
        """
        return self.namespace, self.pod, self.name

    def write(self, count: int) -> None:
        """
        Append *count* lines of both streams, now and then a long one.
        """
        for _ in range(count):
            stream: Stream = "stderr" if self._random.random() < 0.2 else "stdout"
            if self._random.random() < 0.004:
                self.write_interleaved_pieces()
            else:
                self._write_pieces(stream, self._text(stream))

    def write_interleaved_pieces(self) -> None:
        """
        Append one long line of each stream, their pieces in turn: P of one, P of the other, F, F.
        """
        split: list[tuple[Stream, list[bytes]]] = []
        for stream in ("stdout", "stderr"):
            text = self._text(stream) + " stack=" + self._filler(2 * PIECE_BYTES)
            self._remember(stream, text)
            split.append((stream, _pieces(text.encode())))
        for index in range(max(len(pieces) for _, pieces in split)):
            for stream, pieces in split:
                if index < len(pieces):
                    self._append(stream, pieces[index], final=index == len(pieces) - 1)

    def rotate(self) -> None:
        """
        Do what the kubelet does past containerLogMaxSize; one line is split by the rotation.
        """
        rotated = sorted(
            name
            for name in os.listdir(os.path.dirname(self.path))
            if name.startswith("0.log.") and not name.endswith((".gz", ".tmp"))
        )
        for name in rotated:
            _gzip(os.path.join(os.path.dirname(self.path), name))
        os.rename(self.path, f"{self.path}.{self._stamp()}")
        # The runtime still holds the renamed file, until it is told to reopen.
        self.write(3)
        text = self._text("stdout") + " rotated=" + self._filler(PIECE_BYTES)
        pieces = _pieces(text.encode())
        self._remember("stdout", text)
        self._append("stdout", pieces[0], final=False)
        self._file.close()
        self._file = self._open()
        self._append("stderr", self._remember("stderr", self._text("stderr")), final=True)
        for index, piece in enumerate(pieces[1:], 1):
            self._append("stdout", piece, final=index == len(pieces) - 1)
        self.rotations += 1

    def close(self) -> None:
        """
        End the container; its files stay.
        """
        self._file.close()

    def delete_pod(self) -> None:
        """
        Delete the pod: all its files go at once, rotated ones too.
        """
        self.close()
        shutil.rmtree(self.pod_directory)

    def _open(self) -> BinaryIO:
        # Unbuffered: a line is in the file when `write` returns, as with the runtime.
        return open(self.path, "ab", buffering=0)

    def _stamp(self) -> str:
        # Names have a resolution of a second; two rotations never share one.
        self._rotated_s = max(int(time.time()), self._rotated_s + 1)
        return time.strftime("%Y%m%d-%H%M%S", time.localtime(self._rotated_s))

    def _write_pieces(self, stream: Stream, text: str) -> None:
        pieces = _pieces(self._remember(stream, text))
        for index, piece in enumerate(pieces, 1):
            self._append(stream, piece, final=index == len(pieces))

    def _remember(self, stream: Stream, text: str) -> bytes:
        self.lines.append(Line(stream, text))
        return text.encode()

    def _append(self, stream: Stream, piece: bytes, *, final: bool) -> None:
        head = f"{cri_time(time.time_ns())} {stream} {'F' if final else 'P'} "
        self._file.write(head.encode() + piece + b"\n")
        self.lines_physical += 1

    def _text(self, stream: Stream) -> str:
        """
        Make an access-log line, a JSON object or plain words, with the next sequence number.
        """
        sequence = self._sequence[stream]
        self._sequence[stream] = sequence + 1
        chance = self._random
        identity = f"{stream}-{sequence:06d}"
        if stream == "stderr":
            return f"{chance.choice(LEVELS).upper()} {chance.choice(EVENTS)} in {self.name} seq={identity}"
        if sequence % 2:
            record = {
                "seq": identity,
                "level": chance.choice(LEVELS),
                "msg": chance.choice(EVENTS),
                "took_ms": round(chance.expovariate(0.02), 3),
                "user": f"u{chance.randrange(10_000)}",
            }
            return json.dumps(record, ensure_ascii=False)
        path = chance.choice(PATHS).format(n=chance.randrange(100_000))
        when = datetime.now(UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
        address = f"10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}"
        return (
            f'{address} - - [{when}] "GET {path}?seq={identity} HTTP/1.1" {chance.choice(STATUSES)} '
            f'{chance.randrange(20_000)} "-" "{chance.choice(AGENTS)}"'
        )

    def _filler(self, length: int) -> str:
        # Three bytes a character, so that pieces are cut inside of one.
        return "".join(self._random.choices("€漢字abc xyz", k=length))


def _pieces(content: bytes) -> list[bytes]:
    starts = range(0, max(len(content), 1), PIECE_BYTES)
    return [content[start : start + PIECE_BYTES] for start in starts]


def _gzip(path: str) -> None:
    with open(path, "rb") as source, gzip.open(f"{path}.tmp", "wb") as packed:
        shutil.copyfileobj(source, packed)
    os.rename(f"{path}.tmp", f"{path}.gz")
    os.unlink(path)
