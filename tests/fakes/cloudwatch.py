"""
A strict CloudWatch Logs on a free loopback port.

It takes what AWS takes and refuses what AWS refuses (tests/fakes/cloudwatch_rules.py), checks every
signature, and fails on command.  What it stored is read with `events`, `messages` and `requests`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from tests.fakes import cloudwatch_rules as rules
from tests.fakes.cloudwatch_rules import Group, RefusalError
from tests.fakes.filter_events import FilterEvents
from tests.fakes.sigv4 import SignatureError, SignedRequest, check_signature

if TYPE_CHECKING:
    from collections.abc import Callable

REGION = "eu-central-1"
ACCESS_KEY = "AKIATAILRACETEST"
SECRET_KEY = "kept/where+everybody/can=read"
TARGET = "Logs_20140328."


@dataclass(frozen=True, slots=True)
class Fault:
    """
    What goes wrong with one request.

    `error` answers with status and code; `reset_before` and `reset_after` cut the connection before and after
    the request had its effect; `hang` does not answer until `release`; `late` has the effect and answers after
    `late_s`; `impostor` is a proxy that answers 200
    without having asked CloudWatch; `before` is called when the request comes.
    """

    kind: str
    status: int = 400
    code: str = ""
    message: str = "as scripted"
    headers: tuple[tuple[str, str], ...] = ()
    before: Callable[[], None] | None = None


THROTTLED = Fault("error", 400, "ThrottlingException", "Rate exceeded")
UNAVAILABLE = Fault("error", 503, "ServiceUnavailableException")
INTERNAL = Fault("error", 500, "InternalFailure")
RESET_BEFORE = Fault("reset_before")
RESET_AFTER = Fault("reset_after")
HANG = Fault("hang")
LATE = Fault("late")
IMPOSTOR = Fault("impostor")


@dataclass(frozen=True, slots=True)
class Seen:
    """
    One request, as it came.
    """

    operation: str
    body: dict[str, Any]
    gzipped: bool
    size: int
    #: Monotonic seconds.
    at: float = 0.0


class FakeCloudWatch:
    """
    The server; use it with `async with`.
    """

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self.now = now
        #: The clock of the rate limit.
        self.rate_now = now
        self.groups: dict[str, Group] = {}
        self.requests: list[Seen] = []
        self.keys: dict[str, tuple[str, str | None]] = {ACCESS_KEY: (SECRET_KEY, None)}
        self.expired_keys: set[str] = set()
        #: Operations that the caller's policy does not allow.
        self.denied: set[str] = set()
        #: Status for gzipped bodies; None takes them.
        self.gzip_refused: int | None = None
        #: PutLogEvents is refused as a whole where this holds for a message.
        self.poison: Callable[[str], bool] = lambda _message: False
        self.refused_groups: set[str] = set()
        self.groups_max = 1_000_000
        #: PutLogEvents a second and account, as a bucket that is never larger than one second's worth.
        self.tps: float | None = None
        self._bucket = (0.0, 0.0)
        self.region = REGION
        #: What FilterLogEvents finds.
        self.filter = FilterEvents(self)
        self._faults: dict[str, deque[Fault]] = {}
        self._released = asyncio.Event()
        self.hanging = asyncio.Event()
        #: Seconds after which a LATE request is answered.
        self.late_s = 1.0
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.come_back()
        return self

    async def come_back(self) -> None:
        """
        Listen, on the port of before where there was one.
        """
        application = web.Application(client_max_size=16 * 1024 * 1024)
        application.router.add_post("/", self._handle)
        # The signature is over the bytes on the wire: aiohttp must not unpack them first.
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=0.1, auto_decompress=False
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        await self.go_away()

    async def go_away(self) -> None:
        """
        Cut every connection and refuse new ones.
        """
        assert self._runner is not None
        await self._runner.cleanup()

    def script(self, *faults: Fault, operation: str = "PutLogEvents") -> None:
        """
        Let the next requests of *operation* meet *faults*, one each.
        """
        self._faults.setdefault(operation, deque()).extend(faults)

    def release(self) -> None:
        """
        Answer what hangs.
        """
        self._released.set()

    def create(self, group: str, *streams: str) -> None:
        """
        Make *group* and *streams* exist.
        """
        self.groups.setdefault(group, Group()).streams.update({stream: [] for stream in streams})

    def events(self, group: str, stream: str) -> list[tuple[int, str]]:
        """
        Return (timestamp, message) in the order in which they were stored.
        """
        return list(self.groups[group].streams[stream])

    def messages(self, group: str | None = None) -> list[str]:
        """
        Return the messages of all streams, of *group* only if given.
        """
        chosen = [found for name, found in self.groups.items() if group in (None, name)]
        return [
            event[1] for found in chosen for events in found.streams.values() for event in events
        ]

    def count(self, operation: str) -> int:
        """
        Return how many requests of *operation* came.
        """
        return sum(seen.operation == operation for seen in self.requests)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        operation = request.headers.get("x-amz-target", "").removeprefix(TARGET)
        faults = self._faults.get(operation)
        fault = faults.popleft() if faults else Fault("none")
        try:
            self._check_signature(request, raw)
            body = self._parse(request, raw)
            gzipped = request.headers.get("content-encoding") == "gzip"
            self.requests.append(Seen(operation, body, gzipped, len(raw), time.monotonic()))
            if fault.before is not None:
                fault.before()
            return await self._answer(request, operation, body, fault)
        except RefusalError as refusal:
            error = {"__type": f"com.amazonaws.logs#{refusal.code}", "message": refusal.message}
            return self._response(refusal.status, error)

    async def _answer(
        self, request: web.Request, operation: str, body: dict[str, Any], fault: Fault
    ) -> web.StreamResponse:
        if fault.kind == "hang":
            self.hanging.set()
            await self._released.wait()
        if fault.kind == "error":
            error = {"__type": fault.code, "message": fault.message}
            return self._response(fault.status, error, fault.headers)
        if fault.kind == "impostor":
            return web.json_response({})
        if fault.kind == "reset_before":
            return self._cut(request)
        answer = self._do(operation, body)
        if fault.kind == "reset_after":
            return self._cut(request)
        if fault.kind == "late":
            await asyncio.sleep(self.late_s)
        return self._response(200, answer)

    @staticmethod
    def _cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def _response(
        self, status: int, body: dict[str, Any], headers: tuple[tuple[str, str], ...] = ()
    ) -> web.Response:
        return web.Response(
            status=status,
            body=json.dumps(body).encode(),
            content_type="application/x-amz-json-1.1",
            headers={"x-amzn-RequestId": f"request-{len(self.requests)}", **dict(headers)},
        )

    def _check_signature(self, request: web.Request, raw: bytes) -> None:
        raw_path, _, raw_query = request.raw_path.partition("?")
        signed = SignedRequest(request.method, raw_path, raw_query, request.headers, raw)
        try:
            key = check_signature(
                signed, service="logs", region=self.region, keys=self.keys, now=self.now()
            )
        except SignatureError as error:
            raise RefusalError(error.code, error.message) from error
        if key in self.expired_keys:
            raise RefusalError("ExpiredTokenException", "The security token is expired")

    def _parse(self, request: web.Request, raw: bytes) -> dict[str, Any]:
        if request.headers.get("content-type") != "application/x-amz-json-1.1":
            raise RefusalError("UnknownOperationException", "content-type")
        encoding = request.headers.get("content-encoding")
        if encoding == "gzip":
            if self.gzip_refused == 400:
                raise RefusalError("SerializationException", "not JSON")
            if self.gzip_refused:
                raise RefusalError("", "gzip", self.gzip_refused)
            try:
                raw = gzip.decompress(raw)
            except (OSError, EOFError, zlib.error) as error:
                raise RefusalError("SerializationException", str(error)) from error
        elif encoding is not None:
            raise RefusalError("", f"content-encoding {encoding}", 415)
        try:
            body = json.loads(raw)
        except ValueError as error:
            raise RefusalError("SerializationException", str(error)) from error
        if not isinstance(body, dict):
            raise RefusalError("SerializationException", "not an object")
        return body

    def _do(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        operations = {
            "PutLogEvents": self._put_log_events,
            "CreateLogGroup": self._create_log_group,
            "CreateLogStream": self._create_log_stream,
            "PutRetentionPolicy": self._put_retention_policy,
            "DescribeLogGroups": self._describe_log_groups,
            "FilterLogEvents": self.filter.answer,
            "DescribeLogStreams": self.filter.describe,
        }
        if operation not in operations:
            raise RefusalError("UnknownOperationException", operation)
        if operation in self.denied:
            raise RefusalError(
                "AccessDeniedException", f"not authorized to perform: logs:{operation}"
            )
        return operations[operation](body)

    def _group(self, name: Any) -> Group:
        group = self.groups.get(rules.check_group_name(name))
        if group is None:
            raise RefusalError(
                "ResourceNotFoundException", "The specified log group does not exist."
            )
        return group

    def _put_log_events(self, body: dict[str, Any]) -> dict[str, Any]:
        self._take_token()
        rules.check_stream_name(body.get("logStreamName"))
        group = self._group(body.get("logGroupName"))
        if body["logStreamName"] not in group.streams:
            raise RefusalError(
                "ResourceNotFoundException", "The specified log stream does not exist."
            )
        now_ms = int(self.now() * 1000)
        events = body.get("logEvents")
        rules.check_events(events, now_ms)
        assert isinstance(events, list)
        if body["logGroupName"] in self.refused_groups:
            raise rules.invalid("this group takes no events")
        if any(self.poison(event["message"]) for event in events):
            raise rules.invalid("a log event is invalid")
        kept, info = rules.refused_events(events, group, now_ms)
        group.streams[body["logStreamName"]].extend(kept)
        answer: dict[str, Any] = {"nextSequenceToken": "4" * 56}
        if info:
            answer["rejectedLogEventsInfo"] = info
        if error := rules.refused_entity(body.get("entity")):
            answer["rejectedEntityInfo"] = {"errorType": error}
        return answer

    def _take_token(self) -> None:
        if self.tps is None:
            return
        now = self.rate_now()
        tokens, at = self._bucket
        tokens = min(self.tps, tokens + (now - at) * self.tps)
        self._bucket = (max(0.0, tokens - 1), now)
        if tokens < 1:
            raise RefusalError("ThrottlingException", "Rate exceeded")

    def _create_log_group(self, body: dict[str, Any]) -> dict[str, Any]:
        name = rules.check_group_name(body.get("logGroupName"))
        group = rules.new_group(body)
        if name in self.groups:
            raise RefusalError(
                "ResourceAlreadyExistsException", "The specified log group already exists"
            )
        if len(self.groups) >= self.groups_max:
            raise RefusalError("LimitExceededException", "Resource limit exceeded.")
        self.groups[name] = group
        return {}

    def _create_log_stream(self, body: dict[str, Any]) -> dict[str, Any]:
        stream = rules.check_stream_name(body.get("logStreamName"))
        group = self._group(body.get("logGroupName"))
        if stream in group.streams:
            raise RefusalError("ResourceAlreadyExistsException", "The log stream already exists")
        group.streams[stream] = []
        return {}

    def _put_retention_policy(self, body: dict[str, Any]) -> dict[str, Any]:
        group = self._group(body.get("logGroupName"))
        group.retention_days = rules.check_retention(body.get("retentionInDays"))
        return {}

    def _describe_log_groups(self, body: dict[str, Any]) -> dict[str, Any]:
        prefix = body.get("logGroupNamePrefix", "")
        found = []
        for name, group in sorted(self.groups.items()):
            if name.startswith(prefix):
                item: dict[str, Any] = {
                    "logGroupName": name,
                    "logGroupClass": group.log_group_class,
                }
                if group.retention_days is not None:
                    item["retentionInDays"] = group.retention_days
                if group.kms_key_id:
                    item["kmsKeyId"] = group.kms_key_id
                found.append(item)
        return {"logGroups": found}
