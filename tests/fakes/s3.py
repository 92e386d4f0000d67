"""
A strict S3 on loopback, for the rules that local emulators do not check (facts: what local fakes enforce).

Checked and refused as S3 does: signature presence, unknown bucket, key length, `Content-MD5` and
`x-amz-checksum-crc32`, `If-None-Match: *` on Put and Complete, part numbers, order, ETags and sizes at
Complete, `x-amz-mp-object-size`.  An object becomes visible as a whole.

Faults are scripted: `script("PutObject", SLOW_DOWN, RESET_AFTER)` answers the next two such requests so, and
later ones normally.  RESET_AFTER does what was asked and then breaks the connection: the lost reply.  LATE does
it and answers after `late_s`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from xml.etree import ElementTree as ET

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

PART_BYTES_MIN = 5 * 1024 * 1024
PARTS_MAX = 10_000
KEY_BYTES_MAX = 1024
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

RESET_BEFORE = "reset before"
RESET_AFTER = "reset after"
LATE = "late"
#: Nothing happens and nothing is answered until `release`.
HANG_BEFORE = "hang before"
SLOW_DOWN = (503, "SlowDown")
INTERNAL_ERROR = (500, "InternalError")
ACCESS_DENIED = (403, "AccessDenied")
CONFLICT = (409, "ConditionalRequestConflict")
#: The error comes in the body of a 200, as S3 does it for a slow Complete.
LATE_ERROR = (200, "InternalError")


class S3Refusal(Exception):  # noqa: N818 - an answer
    """
    An error answer.
    """

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message


@dataclass(slots=True)
class StoredObject:
    """
    A visible object.
    """

    body: bytes
    headers: dict[str, str]  # storage class, encryption, content type
    parts: int = 0


@dataclass(slots=True)
class OpenUpload:
    """
    A multipart upload that is neither completed nor aborted.
    """

    key: str
    headers: dict[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)


class FakeS3:
    """
    One bucket and its server; `async with FakeS3() as s3`.
    """

    def __init__(self, bucket: str = "logs", *, part_bytes_min: int = PART_BYTES_MIN) -> None:
        self.bucket = bucket
        self.part_bytes_min = part_bytes_min
        self.objects: dict[str, StoredObject] = {}
        self.uploads: dict[str, OpenUpload] = {}
        self.requests: list[tuple[str, str]] = []  # operation, key
        self.url = ""
        self._scripts: dict[str, deque[str | tuple[int, str]]] = defaultdict(deque)
        self._upload_count = 0
        #: Seconds after which a LATE request is answered.
        self.late_s = 1.0
        self._released = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._port = 0

    def script(self, operation: str, *faults: str | tuple[int, str]) -> None:
        """
        Answer the next requests of *operation* with *faults*, in order.
        """
        self._scripts[operation].extend(faults)

    def release(self) -> None:
        """
        Cut what hangs.
        """
        self._released.set()

    def count(self, operation: str) -> int:
        """
        Return how many requests of *operation* were seen.
        """
        return sum(1 for name, _ in self.requests if name == operation)

    async def __aenter__(self) -> Self:
        await self.come_back()
        return self

    async def come_back(self) -> None:
        """
        Listen, on the port of before where there was one.
        """
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def __aexit__(self, *_: object) -> None:
        await self.go_away()

    async def go_away(self) -> None:
        """
        Cut every connection and refuse new ones.
        """
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        bucket, _, key = request.match_info["path"].partition("/")
        operation, handler = self._operation(request, key)
        self.requests.append((operation, key))
        fault = self._scripts[operation].popleft() if self._scripts[operation] else None
        try:
            if fault == HANG_BEFORE:
                await self._released.wait()
            if fault in (RESET_BEFORE, HANG_BEFORE):
                return await _reset(request)
            if isinstance(fault, tuple):
                raise S3Refusal(*fault)
            _check_signed(request)
            if bucket != self.bucket:
                raise S3Refusal(404, "NoSuchBucket")
            if len(key.encode()) > KEY_BYTES_MAX:
                raise S3Refusal(400, "KeyTooLongError")
            _check_body(request, body)
            response = handler(request, key, body)
        except S3Refusal as refusal:
            return _refused(refusal)
        if fault == RESET_AFTER:
            return await _reset(request)
        if fault == LATE:
            await asyncio.sleep(self.late_s)
        return response

    def _operation(
        self, request: web.Request, key: str
    ) -> tuple[str, Callable[[web.Request, str, bytes], web.Response]]:
        query, method = request.query, request.method
        if not key:
            if "uploads" in query:
                return "ListMultipartUploads", self._list_uploads
            return "ListObjectsV2", self._list_objects
        table = {
            ("POST", "uploads"): ("CreateMultipartUpload", self._create),
            ("PUT", "uploadId"): ("UploadPart", self._part),
            ("POST", "uploadId"): ("CompleteMultipartUpload", self._complete),
            ("DELETE", "uploadId"): ("AbortMultipartUpload", self._abort),
            ("PUT", ""): ("PutObject", self._put),
            ("GET", ""): ("GetObject", self._get),
            ("HEAD", ""): ("HeadObject", self._get),
            ("DELETE", ""): ("DeleteObject", self._delete),
        }
        marker = next((name for name in ("uploads", "uploadId") if name in query), "")
        return table[(method, marker)]

    def _put(self, request: web.Request, key: str, body: bytes) -> web.Response:
        self._check_condition(request, key)
        self.objects[key] = StoredObject(body, _kept_headers(request))
        return web.Response(headers={"ETag": _etag(body)})

    def _get(self, request: web.Request, key: str, body: bytes) -> web.Response:
        found = self.objects.get(key)
        if found is None:
            raise S3Refusal(404, "NoSuchKey")
        return web.Response(body=found.body, headers={"ETag": _etag(found.body)})

    def _delete(self, request: web.Request, key: str, body: bytes) -> web.Response:
        self.objects.pop(key, None)
        return web.Response(status=204)

    def _list_objects(self, request: web.Request, key: str, body: bytes) -> web.Response:
        prefix = request.query.get("prefix", "")
        found = sorted(name for name in self.objects if name.startswith(prefix))
        rows = "".join(f"<Contents><Key>{name}</Key></Contents>" for name in found)
        return _xml(f"<ListBucketResult xmlns='{NAMESPACE}'>{rows}</ListBucketResult>")

    def _list_uploads(self, request: web.Request, key: str, body: bytes) -> web.Response:
        prefix = request.query.get("prefix", "")
        rows = "".join(
            f"<Upload><Key>{upload.key}</Key><UploadId>{name}</UploadId></Upload>"
            for name, upload in self.uploads.items()
            if upload.key.startswith(prefix)
        )
        result = "ListMultipartUploadsResult"
        return _xml(f"<{result} xmlns='{NAMESPACE}'>{rows}</{result}>")

    def _create(self, request: web.Request, key: str, body: bytes) -> web.Response:
        self._upload_count += 1
        upload_id = f"upload-{self._upload_count}"
        self.uploads[upload_id] = OpenUpload(key, _kept_headers(request))
        result = "InitiateMultipartUploadResult"
        return _xml(f"<{result} xmlns='{NAMESPACE}'><UploadId>{upload_id}</UploadId></{result}>")

    def _part(self, request: web.Request, key: str, body: bytes) -> web.Response:
        upload = self._upload(request, key)
        number = int(request.query["partNumber"])
        if not 1 <= number <= PARTS_MAX:
            raise S3Refusal(400, "InvalidArgument")
        upload.parts[number] = body
        return web.Response(headers={"ETag": _etag(body)})

    def _complete(self, request: web.Request, key: str, body: bytes) -> web.Response:
        upload = self._upload(request, key)
        bodies = self._checked_parts(upload, body)
        whole = b"".join(bodies)
        if int(request.headers.get("x-amz-mp-object-size", len(whole))) != len(whole):
            raise S3Refusal(400, "InvalidRequest")
        # As in S3, the upload stays open after a 412 until it is aborted.
        self._check_condition(request, key)
        self.objects[key] = StoredObject(whole, upload.headers, parts=len(bodies))
        del self.uploads[request.query["uploadId"]]
        return _xml(
            f"<CompleteMultipartUploadResult xmlns='{NAMESPACE}'><Key>{key}</Key></CompleteMultipartUploadResult>"
        )

    def _abort(self, request: web.Request, key: str, body: bytes) -> web.Response:
        self._upload(request, key)
        del self.uploads[request.query["uploadId"]]
        return web.Response(status=204)

    def _upload(self, request: web.Request, key: str) -> OpenUpload:
        upload = self.uploads.get(request.query["uploadId"])
        if upload is None or upload.key != key:
            raise S3Refusal(404, "NoSuchUpload")
        return upload

    def _checked_parts(self, upload: OpenUpload, body: bytes) -> list[bytes]:
        listed = ET.fromstring(body).findall(f"{{{NAMESPACE}}}Part")
        numbers = [int(part.findtext(f"{{{NAMESPACE}}}PartNumber", "0")) for part in listed]
        if not numbers:
            raise S3Refusal(400, "MalformedXML")
        if numbers != list(range(1, len(numbers) + 1)):
            raise S3Refusal(400, "InvalidPartOrder")
        bodies: list[bytes] = []
        for number, part in zip(numbers, listed, strict=True):
            stored = upload.parts.get(number)
            if stored is None or part.findtext(f"{{{NAMESPACE}}}ETag") != _etag(stored):
                raise S3Refusal(400, "InvalidPart")
            checksum = part.findtext(f"{{{NAMESPACE}}}ChecksumCRC32")
            if checksum is not None and checksum != _crc32(stored):
                raise S3Refusal(400, "InvalidPart")
            bodies.append(stored)
        if any(len(stored) < self.part_bytes_min for stored in bodies[:-1]):
            raise S3Refusal(400, "EntityTooSmall")
        return bodies

    def _check_condition(self, request: web.Request, key: str) -> None:
        if request.headers.get("If-None-Match") == "*" and key in self.objects:
            raise S3Refusal(412, "PreconditionFailed")


def _check_signed(request: web.Request) -> None:
    authorization = request.headers.get("Authorization", "")
    if not authorization.startswith("AWS4-HMAC-SHA256 Credential="):
        raise S3Refusal(403, "AccessDenied", "not signed")
    if "x-amz-content-sha256" not in request.headers:
        raise S3Refusal(400, "MissingSecurityHeader")
    signed = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    wanted = [name.lower() for name in request.headers if name.lower().startswith("x-amz-")]
    if not {"host", *wanted} <= set(signed):
        raise S3Refusal(403, "AccessDenied", "a header is not signed")


def _check_body(request: web.Request, body: bytes) -> None:
    headers = request.headers
    digest = headers["x-amz-content-sha256"]
    if digest != "UNSIGNED-PAYLOAD" and digest != hashlib.sha256(body).hexdigest():
        raise S3Refusal(400, "XAmzContentSHA256Mismatch")
    md5 = headers.get("Content-MD5")
    if md5 is not None and md5 != base64.b64encode(hashlib.md5(body).digest()).decode():
        raise S3Refusal(400, "BadDigest")
    crc32 = headers.get("x-amz-checksum-crc32")
    if crc32 is not None and crc32 != _crc32(body):
        raise S3Refusal(400, "BadDigest")


def _kept_headers(request: web.Request) -> dict[str, str]:
    kept = ("content-type", "x-amz-storage-class", "x-amz-server-side-encryption")
    return {
        name.lower(): value
        for name, value in request.headers.items()
        if name.lower().startswith(kept)
    }


def _crc32(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def _xml(text: str) -> web.Response:
    return web.Response(text=f"<?xml version='1.0'?>{text}", content_type="application/xml")


def _refused(refusal: S3Refusal) -> web.Response:
    text = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>"
    return web.Response(status=refusal.status, text=text, content_type="application/xml")


async def _reset(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(0)
    return web.Response()
