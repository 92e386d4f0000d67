"""
Containers that log, and every row that their lines should become.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: (pod, stream, message)
Line = tuple[str, str, str]


def rfc3339(moment: datetime, nanoseconds: int = 0) -> str:
    """
    Return *moment* as a CRI runtime writes it.
    """
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond * 1000 + nanoseconds:09d}Z"


def two_hours() -> tuple[datetime, datetime]:
    """
    Return a moment of the last hour and one of this hour: rows of two partitions.
    """
    now = datetime.now(UTC)
    return now - timedelta(hours=1), now


@dataclass
class Pod:
    """
    One container's log file, and every row that it should become.
    """

    root: Path
    name: str
    namespace: str = "shop"
    written: list[Line] = field(default_factory=list)
    _open: dict[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        uid = f"11111111-2222-3333-4444-{self.name.encode().hex()[:12]:0>12}"
        return self.root / f"{self.namespace}_{self.name}_{uid}" / "app"

    @property
    def path(self) -> Path:
        return self.directory / "0.log"

    def write(
        self, text: str, *, stream: str = "stdout", tag: str = "F", at: datetime | None = None
    ) -> None:
        """
        Append one CRI line; pieces become part of the row that their `F` ends.
        """
        self.raw(f"{rfc3339(at or datetime.now(UTC))} {stream} {tag} {text}\n".encode())
        whole = self._open.pop(stream, "") + text
        if tag == "P":
            self._open[stream] = whole
        else:
            self.expect(whole, stream=stream)

    def raw(self, content: bytes) -> None:
        """
        Append bytes as they are; `expect` says what becomes of them.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(content)

    def expect(self, *texts: str, stream: str = "stdout") -> None:
        """
        Remember rows that should arrive.
        """
        self.written += [(self.name, stream, text) for text in texts]

    def lines(self, count: int, *, at: datetime | None = None) -> None:
        """
        Append *count* lines on both streams, each with its number.
        """
        for _ in range(count):
            number = len(self.written)
            self.write(f"{self.name} line {number}", stream=("stdout", "stderr")[number % 2], at=at)

    def rotate(self) -> Path:
        """
        Rename the live file as kubelet does; the next write makes a new one.
        """
        taken = len(list(self.directory.glob("0.log.*")))
        moment = datetime.now(UTC) - timedelta(hours=1) + timedelta(seconds=taken)
        return self.path.rename(self.path.with_name(f"0.log.{moment:%Y%m%d-%H%M%S}"))
