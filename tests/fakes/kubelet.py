"""
A kubelet and a container runtime, as far as log files go (facts: kubelet's container_log_manager.go).

`Container.write` appends CRI lines like containerd; `Kubelet.rotate` does what the kubelet does at every
interval for a file that is large enough, step by step, so that a test can write in between.
"""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START = datetime(2026, 11, 22, 10, 15, 0, tzinfo=UTC)
MAX_FILES = 5  # containerLogMaxFiles


class Container:
    """
    One container's live log and its rotated siblings.
    """

    def __init__(
        self, root: Path, *, namespace: str, pod: str, uid: str, name: str, restart: int = 0
    ) -> None:
        self.directory = root / f"{namespace}_{pod}_{uid}" / name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.path = self.directory / f"{restart}.log"
        self.written: list[bytes] = []
        self._time = START
        self._sequence = 0
        self._file = self.path.open("ab", buffering=0)

    def write(self, *messages: bytes, stream: str = "stdout", tag: str = "F") -> None:
        """
        Append one CRI line per message.
        """
        for message in messages:
            self._time += timedelta(microseconds=1)
            self._sequence += 1
            stamp = self._time.strftime("%Y-%m-%dT%H:%M:%S.%f") + f"{self._sequence % 1000:03d}Z"
            line = b"%s %s %s %s\n" % (stamp.encode(), stream.encode(), tag.encode(), message)
            self.raw(line)
            if tag == "F":
                self.written.append(message)

    def lines(self, count: int) -> None:
        """
        Append *count* numbered lines.
        """
        for _ in range(count):
            self.write(b"line %06d" % (len(self.written) + 1))

    def raw(self, data: bytes) -> None:
        """
        Append bytes as they are.
        """
        self._file.write(data)

    def reopen(self) -> None:
        """
        Answer ReopenContainerLog: open the path anew.
        """
        self._file.close()
        self._file = self.path.open("ab", buffering=0)

    def stop(self) -> None:
        """
        Close the file, as the runtime does when the container has ended.
        """
        self._file.close()

    def __del__(self) -> None:
        self._file.close()


class Kubelet:
    """
    Rotates and removes the logs of containers.
    """

    def __init__(self) -> None:
        self._rotations = 0

    def rotate(self, container: Container, *, reopen_fails: bool = False) -> None:
        """
        Rotate once, whatever the size.
        """
        for _ in self.rotate_steps(container, reopen_fails=reopen_fails):
            pass

    def rotate_steps(self, container: Container, *, reopen_fails: bool = False) -> Iterator[str]:
        """
        Rotate once; yield the name of every step that was done.
        """
        self._clean(container)
        yield "cleaned"
        self._remove_excess(container)
        yield "removed"
        for path in self._rotated(container):
            if path.suffix != ".gz":
                yield from self._compress(path)
        self._rotations += 1
        stamp = (START + timedelta(seconds=10 * self._rotations)).strftime("%Y%m%d-%H%M%S")
        rotated = container.path.with_name(f"{container.path.name}.{stamp}")
        container.path.rename(rotated)
        yield "renamed"
        if reopen_fails:
            rotated.rename(container.path)
            yield "renamed back"
            return
        container.reopen()
        yield "reopened"

    def remove(self, container: Container) -> None:
        """
        Remove a container that has exited: first every file that begins with its log's path.
        """
        container.stop()
        for path in sorted(container.directory.glob(container.path.name + "*")):
            path.unlink()

    @staticmethod
    def _rotated(container: Container) -> list[Path]:
        return sorted(container.directory.glob(container.path.name + ".*"))

    def _clean(self, container: Container) -> None:
        for path in self._rotated(container):
            if path.suffix == ".tmp" or (
                path.suffix != ".gz" and path.with_name(path.name + ".gz").exists()
            ):
                path.unlink()

    def _remove_excess(self, container: Container) -> None:
        rotated = self._rotated(container)
        for path in rotated[: max(0, len(rotated) - (MAX_FILES - 2))]:
            path.unlink()

    @staticmethod
    def _compress(path: Path) -> Iterator[str]:
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(gzip.compress(path.read_bytes()))
        yield "compressed"
        temporary.rename(path.with_name(path.name + ".gz"))
        yield "renamed gz"
        path.unlink()
        yield "removed original"
