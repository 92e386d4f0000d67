"""
The parts of a watch: its frames, what a frame says, and which objects a view has shown.

Chunks may be split anywhere.  A line longer than the limit is skipped to its end and counted; what comes behind it
is read as usual.  An empty line is no frame: servers may send them to keep a connection alive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from agent.core.kube_objects import MetaOnly, ObjectMeta, Status, WatchEvent, decoded

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A page is read whole.  Above it, a list is asked for in smaller pages.
PAGE_BYTES_MAX = 16 * 1024 * 1024
#: etcd takes objects of 1.5 MiB, in protobuf; as JSON they can be about twice as long.
FRAME_BYTES_MAX = 4 * 1024 * 1024
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Keyed(Protocol):
    """
    An object of the API with the key that it is known by.
    """

    metadata: ObjectMeta

    @property
    def key(self) -> str: ...


ObjectT = TypeVar("ObjectT", bound=Keyed)


class Change(NamedTuple, Generic[ObjectT]):
    """
    An object as it is now; None: it is gone.
    """

    key: str
    object: ObjectT | None


@dataclass(frozen=True, slots=True)
class Request:
    """
    What to send.
    """

    query: Mapping[str, str]
    #: Frames come until somebody ends it; else one body.
    stream: bool
    #: Seconds after which even a watch is over.
    deadline_s: float


class View:
    """
    Which objects there are.
    """

    __slots__ = ("_known", "_seen", "hole")

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._seen: set[str] = set()
        #: Something could not be read since the view was started.
        self.hole = False

    def start(self) -> None:
        """
        Begin a new view; the old one goes on being known.
        """
        self._seen = set()
        self.hole = False

    def show(self, key: str) -> None:
        """
        Note an object.
        """
        self._seen.add(key)
        self._known.add(key)

    def drop(self, key: str) -> None:
        """
        Note that an object is gone.
        """
        self._seen.discard(key)
        self._known.discard(key)

    def complete(self) -> list[str]:
        """
        Return what the new view did not show; nothing where it has a hole.
        """
        gone = set() if self.hole else self._known - self._seen
        self._known -= gone
        self._seen = set()
        return sorted(gone)


class Item(NamedTuple, Generic[ObjectT]):
    """
    An event about one object.
    """

    object: ObjectT
    deleted: bool


class Mark(NamedTuple):
    """
    A bookmark: how far the stream is.
    """

    version: str
    #: All objects that there were have been sent.
    complete: bool


class Refusal(NamedTuple):
    """
    An ERROR event: the stream is over.
    """

    #: 410: the version is too old.
    gone: bool
    message: str


class Unknown(NamedTuple):
    """
    An event of a later version of the API.
    """

    type: str


def understood(
    frame: bytes, kind: type[ObjectT]
) -> Item[ObjectT] | Mark | Refusal | Unknown | None:
    """
    Return what *frame* says; None where it is no event, or its object no *kind*.
    """
    event = decoded(frame, WatchEvent)
    if event is None:
        return None
    if event.type in ("ADDED", "MODIFIED", "DELETED"):
        item = decoded(event.object, kind)
        return Item(item, event.type == "DELETED") if item is not None and item.key else None
    if event.type == "BOOKMARK":
        meta = decoded(event.object, MetaOnly)
        if meta is None:
            return None
        annotations = meta.metadata.annotations or {}
        complete = annotations.get(INITIAL_EVENTS_END) == "true"
        return Mark(meta.metadata.resource_version, complete)
    if event.type == "ERROR":
        status = decoded(event.object, Status) or Status()
        return Refusal(status.code == 410 or status.reason in ("Expired", "Gone"), status.message)
    return Unknown(event.type)


class Frames:
    """
    Splits one stream.
    """

    __slots__ = ("_bytes_max", "_pieces", "_size", "_skipping", "too_long")

    def __init__(self, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._pieces: list[bytes] = []
        self._size = 0
        self._skipping = False
        #: Lines that were skipped since the last look at it.
        self.too_long = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """
        Return the lines that *chunk* completes.
        """
        *complete, rest = chunk.split(b"\n")
        frames: list[bytes] = []
        for piece in complete:
            self._add(piece)
            if not self._skipping and self._size:
                frames.append(b"".join(self._pieces))
            self._start()
        self._add(rest)
        return frames

    def _start(self) -> None:
        self._pieces.clear()
        self._size = 0
        self._skipping = False

    def _add(self, piece: bytes) -> None:
        if self._skipping or not piece:
            return
        self._size += len(piece)
        if self._size > self._bytes_max:
            self.too_long += 1
            self._skipping = True
            self._pieces.clear()
            return
        self._pieces.append(piece)
