"""
Log groups and streams: what waits for them, and how they come into being.

A destination is one log stream.  At most one request of it is in flight, and what failed is sent again
before what came later, so a stream keeps the order of its files.

Nothing is looked up beforehand (no Describe calls): a stream is created when PutLogEvents says that it
does not exist, and again when somebody deletes it later.

    PutLogEvents → not found → CreateLogStream → not found → CreateLogGroup → CreateLogStream → PutLogEvents
                                                              └ PutRetentionPolicy, which never holds up events

A crash between CreateLogGroup and PutRetentionPolicy leaves a group without a policy: nothing on disk remembers it.

The calls have small quotas for the whole account (10 groups, 50 streams, 5 retentions a second), and a fleet
starts at once: each node makes at most CREATIONS_MAX at a time, after a random pause.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import orjson

from agent.core.retry import Backoff, Failure
from agent.sinks.cloudwatch_requests import Action, Answer, put_head

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.core.batch import Segment
    from agent.core.host import Clock, Task
    from agent.sinks.cloudwatch_payloads import Payload
    from agent.sinks.cloudwatch_settings import CloudWatchSettings

    #: (operation, body) → answer
    Call = Callable[[str, bytes], Awaitable[Answer]]

CREATIONS_MAX = 2
CREATION_PAUSE_S = 0.25
#: A group that was created this recently is not created again, whatever a slow replica says (CWA: 5 s).
CREATED_FRESH_S = 5.0


@dataclass(slots=True, eq=False)
class Destination:
    """
    One log stream, while something waits for it.
    """

    group: str
    stream: str
    head: bytes
    payloads: list[Payload] = field(default_factory=list)
    #: Segments that are being encoded: their memory is still charged.
    segments: list[Segment] = field(default_factory=list)
    #: Its one task, while there is one.
    task: Task | None = None
    #: Monotonic time of the next attempt after a failure.
    ready_at: float = float("-inf")
    backoff: Backoff = field(default_factory=Backoff)
    #: It was created a moment ago: "not found" now is a replica that does not know yet.
    created: bool = False
    #: Rows that were refused on their own, until it is clear whether it is their fault; and why they were.
    held: list[Payload] = field(default_factory=list)
    detail: str = ""
    #: How many of them in a row; whether that was so many that the destination itself is suspect; whether
    #: anything was taken since; whether they are being tried once more.
    refused_alone: int = 0
    suspect: bool = False
    proven: bool = False
    second_try: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """
        Return what it is filed under.
        """
        return self.group, self.stream


def new_destination(group: str, stream: str) -> Destination:
    """
    Return the destination for a legal pair of names.
    """
    return Destination(group, stream, put_head(group, stream))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOptions:
    """
    What a group gets when it is created.
    """

    create: bool
    retention_days: int
    tags: dict[str, str]
    log_group_class: str
    kms_key_id: str

    def request(self, group: str) -> bytes:
        """
        Return the body of CreateLogGroup.
        """
        body: dict[str, Any] = {"logGroupName": group}
        if self.tags:
            body["tags"] = self.tags
        if self.log_group_class != "STANDARD":
            body["logGroupClass"] = self.log_group_class
        if self.kms_key_id:
            body["kmsKeyId"] = self.kms_key_id
        return orjson.dumps(body)


def options_of(settings: CloudWatchSettings) -> GroupOptions:
    """
    Return what *settings* say about groups.
    """
    return GroupOptions(
        create=settings.create_groups,
        retention_days=settings.retention_days,
        tags=settings.tags,
        log_group_class=settings.log_group_class,
        kms_key_id=settings.kms_key_id,
    )


@dataclass(slots=True)
class _Retention:
    at: float
    backoff: Backoff = field(default_factory=Backoff)


class Creator:
    """
    Creates groups and streams.
    """

    def __init__(self, options: GroupOptions, *, clock: Clock, call: Call) -> None:
        self._options = options
        self._clock = clock
        self._call = call
        self._slots = asyncio.Semaphore(CREATIONS_MAX)
        #: Of the groups that are being created.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._created_at: dict[str, float] = {}
        self._retentions: dict[str, _Retention] = {}

    async def create(self, group: str, stream: str) -> tuple[str, Answer]:  # network op
        """
        Create *stream*, and its *group* where that does not exist either.

        Returns the last operation and its answer: DELIVERED if the stream exists now.
        """
        body = orjson.dumps({"logGroupName": group, "logStreamName": stream})
        async with self._slots:
            await self._clock.sleep(self._clock.random() * CREATION_PAUSE_S)
            answer = await self._call("CreateLogStream", body)
            if answer.action is not Action.CREATE:
                return "CreateLogStream", answer
            if not self._options.create:
                message = "the log group does not exist and create_groups is off"
                return "CreateLogGroup", Answer(
                    Action.UNKNOWN, "ResourceNotFoundException", message
                )
            operation, answer = await self._create_group(group)
            if answer.action is not Action.DELIVERED:
                return operation, answer
            answer = await self._call("CreateLogStream", body)
            if answer.action is Action.CREATE:
                # The group is there, but not everywhere yet.
                answer = answer._replace(action=Action.CONFLICT)
            return "CreateLogStream", answer

    def retention_due(self, group: str) -> bool:
        """
        Return whether *group* still waits for its retention policy, and may be asked again now.
        """
        retention = self._retentions.get(group)
        return retention is not None and self._clock.monotonic() >= retention.at

    async def put_retention(self, group: str) -> Answer:  # network op
        """
        Set the retention policy of a group that was created here; what fails is due again later.
        """
        retention = self._retentions[group]
        # Due again unless it works, whatever interrupts the call.
        retention.at = self._clock.monotonic() + CREATED_FRESH_S
        body = {"logGroupName": group, "retentionInDays": self._options.retention_days}
        answer = await self._call("PutRetentionPolicy", orjson.dumps(body))
        if answer.action in (Action.DELIVERED, Action.CREATE):
            # Gone again: it will be created anew, with a policy.
            self._retentions.pop(group, None)
            return answer
        if answer.action not in FAILURES:
            answer = answer._replace(action=Action.UNKNOWN)
        failure = FAILURES[answer.action]
        delay_s = retention.backoff.failed(failure, self._clock.random())
        retention.at = self._clock.monotonic() + (delay_s or 0.0)
        return answer

    async def _create_group(self, group: str) -> tuple[str, Answer]:
        lock = self._locks.setdefault(group, asyncio.Lock())
        async with lock:
            now = self._clock.monotonic()
            self._created_at = {
                name: at for name, at in self._created_at.items() if now - at < CREATED_FRESH_S
            }
            if group in self._created_at:
                return "CreateLogGroup", Answer(Action.DELIVERED, "", "")
            if self._options.retention_days:
                # Before the call: where only its answer is lost, the group is ours all the same.
                self._retentions[group] = _Retention(now)
            answer = await self._call("CreateLogGroup", self._options.request(group))
            if answer.action is Action.DELIVERED:
                self._created_at[group] = self._clock.monotonic()
            elif answer.action is not Action.OUTAGE:
                self._retentions.pop(group, None)
            return "CreateLogGroup", answer


#: How an answer is tried again.  Actions that are not here are handled at once.
FAILURES: dict[Action, Failure] = {
    Action.THROTTLED: Failure.THROTTLED,
    Action.OUTAGE: Failure.OUTAGE,
    Action.CONFLICT: Failure.CONFLICT,
    Action.CREDENTIALS: Failure.SLOW,
    Action.DENIED: Failure.SLOW,
    Action.UNKNOWN: Failure.SLOW,
}
