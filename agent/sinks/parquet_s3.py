"""
Objects in S3, exactly once.

A file is sent as one PutObject, or from `multipart_bytes_min` on as a multipart upload; both with
`If-None-Match: *`, so that of any number of attempts one becomes visible.  Every body carries a CRC-32
that S3 verifies.

A multipart upload is never continued: what was interrupted is aborted and begun anew.  Its id is
written beside the file before the first part, so that the next start can abort it; an id that was lost
(the answer to Create, or the process, in that moment) is found by listing, where the role may list.

| answer | means |
|---|---|
| 412 PreconditionFailed | the object is there: an earlier attempt of ours succeeded |
| 409 ConditionalRequestConflict | somebody deletes or writes the key right now: Put again; Multipart anew from Create |
| 404 NoSuchUpload, 400 InvalidPart… | the upload ended or lost parts: anew from Create (and then 412, perhaps) |
| 503 SlowDown, 429 | less, please |
| 500, 502, 503, 504, 400 RequestTimeout, BadDigest, IncompleteBody | try again |
| 401, 403, 404 NoSuchBucket, 301, 501 and every other 4xx | a person must act: try again slowly |

A 200 to Complete can carry an error in its body, because S3 answers before it is done.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from isal import isal_zlib

from agent.core import counters as metric
from agent.core.errors import RetryError, shown
from agent.sinks.parquet_recovery import remove_file
from agent.sinks.parquet_staging import read_range, write_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.counters import Counters
    from agent.core.host import AwsClient, Host, Response, StateDisk
    from agent.sinks.parquet_upload import Upload

PARTS_MAX = 10_000
KEY_BYTES_MAX = 1024
#: A request is given up after this and the time that its body takes at the slowest useful rate.
TIMEOUT_S = 30.0
RATE_MIN_BYTES_S = 256 * 1024
CONTENT_TYPE = "application/vnd.apache.parquet"
#: Suffix of the file that holds the id of an unfinished multipart upload.
UPLOAD_ID_SUFFIX = ".upload"

_EXISTS = frozenset({"PreconditionFailed"})
_THROTTLED = frozenset(
    {"SlowDown", "ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequests"}
)
_TRANSIENT = frozenset(
    {
        "BadDigest",
        "ConditionalRequestConflict",
        "ExpiredToken",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "ServiceUnavailable",
        "XAmzContentChecksumMismatch",
    }
)
#: The multipart upload is of no use any more; another one is.
_UPLOAD_GONE = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall"})
_HINTS = {
    "AccessDenied": "allow s3:PutObject and s3:AbortMultipartUpload on the prefix (and the KMS key's use)",
    "NoSuchBucket": "create the bucket or correct the route's url",
    "NotImplemented": "the store does not know If-None-Match, which exactly-once needs",
    "PermanentRedirect": "the bucket is in another Region: set region",
    "AuthorizationHeaderMalformed": "the bucket is in another Region: set region",
    "KeyTooLongError": "shorten the url's prefix",
}


class _Exists(Exception):  # noqa: N818 - not an error
    """
    The key is there already.
    """


class S3Error(RetryError):
    """
    S3 has answered, and not with success.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """
    How objects are written.
    """

    bucket: str
    prefix: str  # "" or ends with "/"
    storage_class: str
    sse: str
    kms_key_id: str
    multipart_bytes_min: int
    part_bytes: int


class S3Store:
    """
    Objects below a prefix of a bucket.
    """

    def __init__(
        self, options: S3Options, *, client: AwsClient, host: Host, counters: Counters, route: str
    ) -> None:
        self._options = options
        self._client = client
        self._host = host
        self._counters = counters
        self._route = route

    async def put(self, upload: Upload) -> bool:
        """
        Upload the file; returns False where the key was there already.
        """
        key = self._options.prefix + upload.key
        try:
            if upload.size < self._options.multipart_bytes_min:
                await self._put_whole(key, upload.path)
            else:
                await self._put_parts(key, upload)
        except _Exists:
            return False
        return True

    async def _put_whole(self, key: str, path: str) -> None:
        body = await self._host.run_blocking(read_range, self._host.state_disk, path, 0, None)
        headers = {"if-none-match": "*", "x-amz-checksum-crc32": _checksum(body)}
        await self._send("PUT", key, headers=self._object_headers() | headers, body=body)

    async def _put_parts(self, key: str, upload: Upload) -> None:
        note = upload.path + UPLOAD_ID_SUFFIX
        await self._abort_leftovers(key, note, listed=upload.resumed)
        headers = self._object_headers() | {"x-amz-checksum-algorithm": "CRC32"}
        created = await self._send("POST", key, query={"uploads": ""}, headers=headers)
        upload_id = _xml_text(_xml(created.body), "UploadId")
        if not upload_id:
            raise RetryError(
                f"{self._where(key)}: no UploadId in the answer to CreateMultipartUpload"
            )
        await self._host.run_blocking(_write_note, self._host.state_disk, note, upload_id)
        # An error from here on leaves the note: the next attempt begins by aborting this one.
        parts = await self._send_parts(key, upload, upload_id)
        try:
            await self._complete(key, upload_id, parts, upload.size)
        except _Exists:
            # The parts of this attempt are stored, and paid for, until it is aborted.
            await self._abort(key, upload_id)
            await self._host.run_blocking(remove_file, self._host.state_disk, note)
            raise
        await self._host.run_blocking(remove_file, self._host.state_disk, note)

    async def _send_parts(self, key: str, upload: Upload, upload_id: str) -> list[tuple[str, str]]:
        """
        Send the parts in order; returns their (ETag, checksum).
        """
        size = max(self._options.part_bytes, -(-upload.size // PARTS_MAX))
        parts: list[tuple[str, str]] = []
        for start in range(0, upload.size, size):
            stop = min(start + size, upload.size)
            body = await self._host.run_blocking(
                read_range, self._host.state_disk, upload.path, start, stop
            )
            checksum = _checksum(body)
            query = {"partNumber": str(len(parts) + 1), "uploadId": upload_id}
            headers = {"x-amz-checksum-crc32": checksum}
            response = await self._send("PUT", key, query=query, headers=headers, body=body)
            parts.append((response.headers.get("etag", ""), checksum))
        return parts

    async def _complete(
        self, key: str, upload_id: str, parts: list[tuple[str, str]], size: int
    ) -> None:
        rows = "".join(
            f"<Part><ChecksumCRC32>{checksum}</ChecksumCRC32><ETag>{escape(etag)}</ETag>"
            f"<PartNumber>{number}</PartNumber></Part>"
            for number, (etag, checksum) in enumerate(parts, start=1)
        )
        namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
        body = f'<CompleteMultipartUpload xmlns="{namespace}">{rows}</CompleteMultipartUpload>'
        headers = {
            "content-type": "application/xml",
            "if-none-match": "*",
            "x-amz-mp-object-size": str(size),
        }
        query = {"uploadId": upload_id}
        try:
            await self._send("POST", key, query=query, headers=headers, body=body.encode())
        except S3Error:
            raise
        except RetryError:
            # No answer: it may have worked.  Asking again tells (200, or 412), mostly, and is cheaper
            # than sending all parts again to be told 412 then.
            await self._send("POST", key, query=query, headers=headers, body=body.encode())

    async def _abort_leftovers(self, key: str, note: str, *, listed: bool) -> None:
        """
        Abort what earlier attempts at this key left unfinished, as far as it is known or can be listed.
        """
        noted = await self._host.run_blocking(_read_note, self._host.state_disk, note)
        left = {noted} if noted else set()
        if listed:
            left |= await self._list_uploads(key)
        for upload_id in sorted(left):
            await self._abort(key, upload_id)
        if noted:
            await self._host.run_blocking(remove_file, self._host.state_disk, note)

    async def _list_uploads(self, key: str) -> set[str]:
        try:
            response = await self._send("GET", "", query={"uploads": "", "prefix": key})
        except RetryError as error:
            # The permission is optional: the bucket's lifecycle rule is the second net.  rclone
            # answers NoSuchUpload where there are none.
            if error.slow or error.code == "NoSuchUpload":
                return set()
            raise
        found = _xml(response.body)
        rows = [element for element in found.iter() if _local_name(element) == "Upload"]
        return {_xml_text(row, "UploadId") for row in rows if _xml_text(row, "Key") == key} - {""}

    async def _abort(self, key: str, upload_id: str) -> None:
        """
        Abort an unfinished multipart upload; raises RetryError where trying again may help.
        """
        try:
            await self._send("DELETE", key, query={"uploadId": upload_id})
        except RetryError as error:
            if error.code == "NoSuchUpload":
                return
            if not error.slow:
                raise
            self._host.tell(
                "upload_not_aborted",
                f"an unfinished multipart upload cannot be aborted and costs storage: {error}; "
                "a lifecycle rule AbortIncompleteMultipartUpload on the bucket removes such uploads",
                level="warning",
                route=self._route,
                key=key,
            )

    def _object_headers(self) -> dict[str, str]:
        options = self._options
        headers = {"content-type": CONTENT_TYPE}
        if options.storage_class:
            headers["x-amz-storage-class"] = options.storage_class
        if options.sse:
            headers["x-amz-server-side-encryption"] = options.sse
        if options.kms_key_id:
            headers["x-amz-server-side-encryption-aws-kms-key-id"] = options.kms_key_id
        return headers

    async def _send(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Response:  # network op
        """
        Send one request; raises _Exists or RetryError for everything but success.
        """
        self._counters.add(metric.WIRE_BYTES, len(body), self._route)
        path = f"/{self._options.bucket}/{key}" if key else f"/{self._options.bucket}"
        timeout_s = TIMEOUT_S + len(body) / RATE_MIN_BYTES_S
        try:
            response = await self._client.request(
                method, path, query=query, headers=headers, body=body, timeout_s=timeout_s
            )
        except RetryError as error:
            self._counters.add(metric.REQUESTS, 1, self._route, error.code or "no_answer")
            raise
        code = _error_code(response)
        self._counters.add(metric.REQUESTS, 1, self._route, code or "ok")
        if not code:
            return response
        if code in _EXISTS:
            raise _Exists
        raise self._error(key, response, code)

    def _error(self, key: str, response: Response, code: str) -> S3Error:
        throttled = code in _THROTTLED or response.status == 429
        transient = (
            throttled
            or code in _TRANSIENT
            or code in _UPLOAD_GONE
            or response.status in (500, 502, 503, 504)
        )
        hint = _HINTS.get(code, "")
        message = _xml_text(_xml(response.body), "Message")
        return S3Error(
            f"{self._where(key)}: S3 answered {response.status} {code}"
            + (f": {shown(message)}" if message else "")
            + (f"; {hint}" if hint else ""),
            code=code,
            slow=not transient,
            throttled=throttled,
        )

    def _where(self, key: str) -> str:
        return f"s3://{self._options.bucket}/{key}"


def _error_code(response: Response) -> str:
    """
    Return the error code of an answer, "" for a success.
    """
    if response.status == 412:
        return "PreconditionFailed"
    if 200 <= response.status < 300:
        # S3 says 200 before a Complete has ended; an error then comes in the body.
        return _xml_text(_xml(response.body), "Code") if b"<Error" in response.body[:1024] else ""
    return _xml_text(_xml(response.body), "Code") or f"HTTP{response.status}"


def _xml(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)  # noqa: S314 - the answer of the configured endpoint, at most kilobytes
    except (ET.ParseError, LookupError, ValueError):
        # A proxy can answer anything: also XML in an encoding that nobody knows, or that expat does not take.
        return ET.Element("empty")


def _local_name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _xml_text(element: ET.Element, name: str) -> str:
    found = next((item for item in element.iter() if _local_name(item) == name), None)
    return "" if found is None else (found.text or "")


def _checksum(body: bytes) -> str:
    return base64.b64encode(isal_zlib.crc32(body).to_bytes(4, "big")).decode()


def _write_note(disk: StateDisk, path: str, upload_id: str) -> None:
    write_file(disk, path, upload_id.encode(), durable=True)


def _read_note(disk: StateDisk, path: str) -> str:
    try:
        return read_range(disk, path, 0, None).decode()
    except FileNotFoundError:
        return ""
