"""
CloudWatch Logs and S3, simulated: what they keep, and everything that can go wrong on the way there.

A fault is a mode that a service is in for a while, and the part of its requests that meet it:

| mode | what happens | the agent sees |
|---|---|---|
| throttle | nothing | the service asks for less |
| error | nothing | 5xx |
| error_after | the request takes effect | 5xx |
| refuse | nothing | no connection |
| silent | nothing | no answer within its time limit |
| lost | the request takes effect | no answer |
| late | the request takes effect after the agent gave up | no answer |
| conflict | nothing | S3: 409 ConditionalRequestConflict; CloudWatch: OperationAborted |

What a request does is done in one moment, whether the agent that sent it is alive then or not.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from agent.core.errors import RetryError
from tests.fakes import cloudwatch_rules as rules
from tests.sim.seal import Row

if TYPE_CHECKING:
    import asyncio
    from random import Random

    from tests.sim.host import SimHost
    from tests.sim.node import Node

    Asked = tuple[str, str, dict[str, str], dict[str, str], bytes]

MODES = ("throttle", "error", "error_after", "refuse", "silent", "lost", "late", "conflict")
REFUSED_MARK = b"!refused!"
_ROWS = msgspec.msgpack.Decoder(list[Row])


class Reply(NamedTuple):
    """
    Implements `Response`.
    """

    status: int
    headers: dict[str, str]
    body: bytes


class Request(NamedTuple):
    """
    A request on its way.
    """

    host: SimHost
    asked: Asked


class Service:
    """
    What both have in common: delays and faults.
    """

    name = ""

    def __init__(self, world: Node, random: Random) -> None:
        self.world = world
        self.random = random
        self.mode = ""
        self.rate = 0.0
        self.requests = 0
        self.faulty_until = float("-inf")

    def fault(self, mode: str, rate: float) -> None:
        """
        Be in *mode*; "" heals.
        """
        if self.mode:
            self.faulty_until = self.world.loop.now
        self.mode, self.rate = mode, rate

    @property
    def healthy(self) -> bool:
        return not self.mode

    def begin(self, host: SimHost, asked: Asked, timeout_s: float) -> asyncio.Future[Reply]:
        """
        Take a request; what comes of it is decided now.
        """
        loop = self.world.loop
        answer: asyncio.Future[Reply] = loop.create_future()
        request = Request(host, asked)
        self.requests += 1
        mode = self.mode if self.mode and self.random.random() < self.rate else ""
        there_s, back_s = self.random.random() * 0.05, self.random.random() * 0.05
        if mode in ("throttle", "error", "conflict", "refuse", "silent"):
            wait_s = timeout_s if mode == "silent" else there_s + back_s
            loop.call_later(wait_s, self._answer, answer, self._failed(mode))
        elif mode == "late":
            loop.call_later(timeout_s, self._answer, answer, self._failed(mode))
            loop.call_later(timeout_s + self.random.random() * 5, self._take, None, request, mode)
        else:
            loop.call_later(there_s, self._take, answer, request, mode)
        return answer

    def _take(self, answer: asyncio.Future[Reply] | None, request: Request, mode: str) -> None:
        # Whether the sender will learn of it is not known before it does.
        alive = request.host.alive
        reply = self.do(request, certain=mode == "" and alive, late=mode == "late" or not alive)
        if answer is None:
            return
        back_s = self.random.random() * 0.05
        if mode:
            wait_s = 1.0 if mode == "lost" else back_s
            self.world.loop.call_later(wait_s, self._answer, answer, self._failed(mode))
            return
        self.world.loop.call_later(back_s, self._arrive, answer, request, reply)

    def _arrive(self, answer: asyncio.Future[Reply], request: Request, reply: Reply) -> None:
        self.answered(request, reply, arrived=not answer.done() and request.host.alive)
        self._answer(answer, reply)

    @staticmethod
    def _answer(answer: asyncio.Future[Reply], outcome: Reply | Exception) -> None:
        if answer.done():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    def _failed(self, mode: str) -> Reply | Exception:
        if mode in ("refuse", "silent", "lost", "late"):
            return RetryError(f"{self.name}: {mode}", code=mode)
        return self.refusal(mode)

    def do(self, request: Request, *, certain: bool, late: bool) -> Reply:
        raise NotImplementedError

    def answered(self, request: Request, reply: Reply, *, arrived: bool) -> None:
        """
        Take note of whether the sender has the answer to what `do` did.
        """

    def refusal(self, mode: str) -> Reply:
        raise NotImplementedError


class CloudWatch(Service):
    """
    Groups, streams, events.
    """

    name = "logs"

    def __init__(self, world: Node, random: Random) -> None:
        super().__init__(world, random)
        self.groups: dict[str, rules.Group] = {}

    def do(self, request: Request, *, certain: bool, late: bool) -> Reply:
        operation = request.asked[3]["x-amz-target"].rpartition(".")[2]
        plain = _plain(request)
        asked = orjson.loads(plain)
        try:
            if operation == "PutLogEvents":
                answer = self._put(asked, plain, certain=certain, late=late)
            else:
                answer = self._create(operation, asked)
        except rules.RefusalError as error:
            return _refused(error.code, error.message, error.status)
        return Reply(200, {"x-amzn-requestid": "r"}, json.dumps(answer).encode())

    def answered(self, request: Request, reply: Reply, *, arrived: bool) -> None:
        headers = request.asked[3]
        if reply.status == 200 and headers["x-amz-target"].endswith(".PutLogEvents"):
            self.world.oracle.cloudwatch_answered(_plain(request), arrived=arrived)

    def refusal(self, mode: str) -> Reply:
        if mode == "throttle":
            return _refused("ThrottlingException", "Rate exceeded", 400)
        if mode == "conflict":
            return _refused("OperationAbortedException", "busy", 400)
        return _refused("ServiceUnavailableException", "unavailable", 503)

    def _create(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        group = rules.check_group_name(asked["logGroupName"])
        if operation == "CreateLogGroup":
            if group in self.groups:
                raise rules.RefusalError("ResourceAlreadyExistsException", "the group exists")
            self.groups[group] = rules.new_group(asked)
            return {}
        if group not in self.groups:
            raise rules.RefusalError("ResourceNotFoundException", "the group does not exist")
        if operation == "CreateLogStream":
            stream = rules.check_stream_name(asked["logStreamName"])
            if stream in self.groups[group].streams:
                raise rules.RefusalError("ResourceAlreadyExistsException", "the stream exists")
            self.groups[group].streams[stream] = []
        return {}

    def _put(
        self, asked: dict[str, Any], plain: bytes, *, certain: bool, late: bool
    ) -> dict[str, Any]:
        group = self.groups.get(asked["logGroupName"])
        stream = asked["logStreamName"]
        if group is None or stream not in group.streams:
            raise rules.RefusalError("ResourceNotFoundException", "the stream does not exist")
        if REFUSED_MARK in plain:
            self.world.oracle.cloudwatch_refuses(
                event["message"]
                for event in asked["logEvents"]
                if REFUSED_MARK.decode() in event["message"]
            )
            raise rules.invalid("an event that is always refused")
        events, now_ms = asked["logEvents"], self.world.now_ns() // 1_000_000
        rules.check_events(events, now_ms)
        kept, info = rules.refused_events(events, group, now_ms)
        messages = [message for _, message in kept]
        if info:
            taken = set(messages)
            self.world.oracle.cloudwatch_refuses(
                event["message"] for event in events if event["message"] not in taken
            )
        self.world.oracle.cloudwatch_took(stream, messages, certain=certain, late=late)
        return {"rejectedLogEventsInfo": info} if info else {}


class S3(Service):
    """
    Objects and multipart uploads of one bucket.
    """

    name = "s3"

    def __init__(self, world: Node, random: Random) -> None:
        super().__init__(world, random)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self._upload_count = 0

    def do(self, request: Request, *, certain: bool, late: bool) -> Reply:
        method, path, query, headers, body = request.asked
        key = path.split("/", 2)[2] if path.count("/") > 1 else ""
        checksum = headers.get("x-amz-checksum-crc32")
        if checksum is not None and checksum != _crc32(body):
            return _s3_refused("BadDigest", 400)
        if method == "GET":
            rows = "".join(
                f"<Upload><Key>{name}</Key><UploadId>{upload}</UploadId></Upload>"
                for upload, (name, _) in self.uploads.items()
                if name.startswith(query.get("prefix", ""))
            )
            return Reply(200, {}, f"<List>{rows}</List>".encode())
        if method == "POST" and "uploads" in query:
            self._upload_count += 1
            self.uploads[f"u{self._upload_count}"] = (key, {})
            return Reply(200, {}, f"<R><UploadId>u{self._upload_count}</UploadId></R>".encode())
        if "uploadId" in query:
            return self._part_of_upload(method, key, query, headers, body)
        return self._store(key, headers, body)

    def refusal(self, mode: str) -> Reply:
        if mode == "throttle":
            return _s3_refused("SlowDown", 503)
        if mode == "conflict":
            return _s3_refused("ConditionalRequestConflict", 409)
        return _s3_refused("InternalError", 500)

    def _part_of_upload(
        self, method: str, key: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Reply:
        upload = self.uploads.get(query["uploadId"])
        if upload is None or upload[0] != key:
            return _s3_refused("NoSuchUpload", 404)
        if method == "DELETE":
            del self.uploads[query["uploadId"]]
            return Reply(204, {}, b"")
        if method == "PUT":
            upload[1][int(query["partNumber"])] = body
            return Reply(200, {"etag": f'"{zlib.crc32(body):x}"'}, b"")
        whole = b"".join(part for _, part in sorted(upload[1].items()))
        if len(whole) != int(headers["x-amz-mp-object-size"]):
            return _s3_refused("InvalidPart", 400)
        reply = self._store(key, headers, whole)
        if reply.status == 200:
            del self.uploads[query["uploadId"]]
        return reply

    def _store(self, key: str, headers: dict[str, str], body: bytes) -> Reply:
        there = key in self.objects
        if there and headers.get("if-none-match") == "*":
            return _s3_refused("PreconditionFailed", 412)
        self.objects[key] = body
        self.world.oracle.object_written(key, _ROWS.decode(body), again=there)
        return Reply(200, {"etag": f'"{zlib.crc32(body):x}"'}, b"<Ok/>")


def _plain(request: Request) -> bytes:
    _, _, _, headers, body = request.asked
    return gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body


def _crc32(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def _refused(code: str, message: str, status: int) -> Reply:
    body = json.dumps({"__type": code, "message": message}).encode()
    return Reply(status, {"x-amzn-requestid": "r"}, body)


def _s3_refused(code: str, status: int) -> Reply:
    return Reply(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
