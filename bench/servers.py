"""
A server that takes what an agent sends and counts it: CloudWatch Logs and S3, plain and TLS.

Runs as a process of its own, so that its work is not on the agent's account:

    python -m bench.servers --directory DIR [--latency-ms N]

It prints one line of JSON with its URLs and the path of the CA to trust, and answers

| request | with |
|---|---|
| GET /counts | the counts as JSON |
| GET /bodies | the last bodies of PutLogEvents, gunzipped |
| POST /reset | `{}`, and forgets everything |
| GET /unlimited | the counts; `--events-per-s` counts no more |
| POST / with X-Amz-Target | what CloudWatch Logs answers; every group and stream exists |
| PUT, POST, GET, HEAD, DELETE on a key | what S3 answers, multipart uploads included; `If-None-Match: *` is obeyed |

Bodies are unchunked and gunzipped before they are counted.  Events are counted by their timestamps, rows
by the footers of the Parquet objects, lines of other objects by their newlines.  Objects are kept in
memory.  SIGTERM ends it, with the counts on stdout.

It is generous on purpose: no signatures, no limits, no throttling.  tests/ has the strict fakes.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import io
import json
import os
import re
import signal
import ssl
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import uvloop

from bench.certificates import write_certificates

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A quote inside of a message is escaped, so this is the key of an event and nothing else.
EVENT_MARK = b'"timestamp":'
EVENT_TIME = re.compile(rb'"timestamp":(\d+)')
GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
#: Enough to measure what compressing them takes.
BODIES_KEPT = 16
HEAD_BYTES_MAX = 64 << 10
#: An agent may take an answer without one for that of a proxy, and try again.
REQUEST_IDS = {
    "x-amzn-requestid": "00000000-0000-0000-0000-000000000000",
    "x-amz-request-id": "0000000000000000",
}


@dataclass(slots=True)
class ServiceCounts:
    """
    What arrived at one service.
    """

    requests: int = 0
    wire_bytes: int = 0
    body_bytes: int = 0  # gunzipped
    events: int = 0
    operations: dict[str, int] = field(default_factory=dict)

    def add(self, operation: str, wire: int, body: int, events: int) -> None:
        """
        Count one request.
        """
        self.requests += 1
        self.wire_bytes += wire
        self.body_bytes += body
        self.events += events
        self.operations[operation] = self.operations.get(operation, 0) + 1


@dataclass(frozen=True, slots=True)
class Request:
    """
    One HTTP request, its body read whole.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def key(self) -> str:
        """
        Path without the query: `/bucket/key`.
        """
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, list[str]]:
        """
        The query; a name without a value is there, too.
        """
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)


Answer = tuple[int, dict[str, str], bytes]
OK: Answer = (200, {}, b"")


class Sink:
    """
    The two services, and what they have seen.
    """

    def __init__(self, *, latencies: bool = False, events_per_s: float = 0) -> None:
        self._latencies = latencies
        self.events_per_s = events_per_s
        self._free_at = 0.0
        self.reset()

    def reset(self) -> None:
        """
        Forget everything.
        """
        self.logs = ServiceCounts()
        self.s3 = ServiceCounts()
        self.objects: dict[str, bytes] = {}
        self._bodies: deque[bytes] = deque(maxlen=BODIES_KEPT)
        #: How often a line took so many ms from its time to here.
        self.delays_ms: Counter[int] = Counter()
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._upload_count = 0

    def counts(self) -> dict[str, object]:
        """
        Everything as JSON; counts rows of Parquet objects, which takes a moment.
        """
        return {
            "latency_ms": percentiles(self.delays_ms),
            "cloudwatch": asdict(self.logs),
            "s3": asdict(self.s3)
            | {
                "objects": len(self.objects),
                "object_bytes": sum(map(len, self.objects.values())),
                "rows": sum(map(count_rows, self.objects.values())),
            },
        }

    def answer(self, request: Request) -> Answer:
        """
        Handle one request.
        """
        if request.target == "/bodies":
            return 200, {}, b"".join(self._bodies)
        if request.target == "/unlimited":
            self.events_per_s = 0
        if request.target in {"/counts", "/unlimited"}:
            return 200, {"content-type": "application/json"}, json.dumps(self.counts()).encode()
        if request.target == "/reset":
            self.reset()
            return 200, {}, b"{}"
        if "x-amz-target" in request.headers:
            return self._answer_logs(request)
        return self._answer_s3(request)

    def wait_s(self, request: Request, now: float) -> float:
        """
        Return how long the answer is held back, so that not more than `events_per_s` are taken.
        """
        if not self.events_per_s or "x-amz-target" not in request.headers:
            return 0.0
        events = gunzipped(request.body).count(EVENT_MARK)
        self._free_at = max(self._free_at, now) + events / self.events_per_s
        return self._free_at - now

    def _answer_logs(self, request: Request) -> Answer:
        operation = request.headers["x-amz-target"].rpartition(".")[2]
        body = gunzipped(request.body)
        events = body.count(EVENT_MARK) if operation == "PutLogEvents" else 0
        if self._latencies and events:
            now_ms = time.time_ns() // 1_000_000
            self.delays_ms.update(now_ms - int(stamp) for stamp in EVENT_TIME.findall(body))
        if events:
            self._bodies.append(body)
        self.logs.add(operation, len(request.body), len(body), events)
        answer: dict[str, object] = {}
        if operation == "DescribeLogStreams":
            answer = {"logStreams": []}
        elif operation == "PutLogEvents":
            answer = {"nextSequenceToken": "0"}
        return 200, {"content-type": "application/x-amz-json-1.1"}, json.dumps(answer).encode()

    def _answer_s3(self, request: Request) -> Answer:
        query = request.query
        operation = request.method + "".join(
            f"?{name}" for name in ("uploads", "uploadId", "partNumber") if name in query
        )
        body = unchunked(request)
        self.s3.add(operation, len(request.body), len(body), 0)
        upload = query.get("uploadId", [""])[0]
        if request.method == "PUT" and upload:
            self._uploads[upload][int(query["partNumber"][0])] = body
            return 200, {"etag": f'"{len(body):x}"'}, b""
        if request.method == "PUT":
            return self._put(request, body)
        if request.method == "POST" and "uploads" in query:
            self._upload_count += 1
            upload = f"upload-{self._upload_count}"
            self._uploads[upload] = {}
            return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")
        if request.method == "POST" and upload:
            parts = self._uploads.pop(upload)
            return self._put(request, b"".join(parts[number] for number in sorted(parts)))
        if request.method == "DELETE":
            self._uploads.pop(upload, None)
            return 204, {}, b""
        if request.key in self.objects and request.method in {"GET", "HEAD"}:
            return 200, {"etag": '"0"'}, self.objects[request.key]
        return OK if request.key.count("/") == 1 else (404, {}, b"")

    def _put(self, request: Request, body: bytes) -> Answer:
        if request.headers.get("if-none-match") == "*" and request.key in self.objects:
            return (412, *_xml("Error", "<Code>PreconditionFailed</Code>")[1:])
        if request.key.count("/") > 1:  # Else it is a bucket.
            self.objects[request.key] = body
        if request.method == "POST":
            return _xml("CompleteMultipartUploadResult", '<ETag>"0"</ETag>')
        return 200, {"etag": '"0"'}, b""


def _xml(name: str, content: str) -> Answer:
    return 200, {"content-type": "application/xml"}, f"<{name}>{content}</{name}>".encode()


def percentiles(counted: Counter[int]) -> dict[str, float]:
    """
    Return p50, p99 and the greatest; nothing of nothing.
    """
    found: dict[str, float] = {}
    total = counted.total()
    seen = 0
    for value in sorted(counted):
        seen += counted[value]
        for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            if name not in found and seen >= part * total:
                found[name] = value
    return found


def gunzipped(body: bytes) -> bytes:
    """
    Return *body*, gunzipped if it is gzip.
    """
    return gzip.decompress(body) if body.startswith(GZIP_MAGIC) else body


def unchunked(request: Request) -> bytes:
    """
    Return the body without S3's own chunks: size in hex, optional signature, bytes, …, 0, trailers.
    """
    if not request.headers.get("x-amz-content-sha256", "").startswith("STREAMING"):
        return request.body
    stream = io.BytesIO(request.body)
    content: list[bytes] = []
    while size := int(stream.readline().split(b";")[0], 16):
        content.append(stream.read(size))
        stream.readline()
    return b"".join(content)


def count_rows(body: bytes) -> int:
    """
    Count the rows of a Parquet object, or the lines of any other.
    """
    if not body.startswith(PARQUET_MAGIC):
        return gunzipped(body).count(b"\n")
    import pyarrow.parquet

    rows: int = pyarrow.parquet.read_metadata(io.BytesIO(body)).num_rows
    return rows


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    """
    Read one request; raises IncompleteReadError at the end of the connection.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in rest if line)
    }
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)


async def serve(sink: Sink, directory: str, latency_s: float) -> None:
    """
    Serve on two free loopback ports until SIGTERM.
    """

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await read_request(reader, writer)
                # A client may give up meanwhile: what it sent is taken, as a slow service would.
                if wait_s := latency_s + sink.wait_s(request, time.monotonic()):
                    await asyncio.sleep(wait_s)
                status, headers, body = sink.answer(request)
                # The answer to HEAD has the length of what GET would give, and no body.
                headers = {"content-length": str(len(body)), **REQUEST_IDS, **headers}
                head = f"HTTP/1.1 {status} X\r\n" + "".join(
                    f"{name}: {value}\r\n" for name, value in headers.items()
                )
                sent = b"" if request.method == "HEAD" else body
                writer.write(head.encode() + b"\r\n" + sent)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()  # The client has gone, or the server is told to end.

    certificates = write_certificates(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    plain = await asyncio.start_server(connected, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
    secure = await asyncio.start_server(
        connected, "127.0.0.1", 0, limit=HEAD_BYTES_MAX, ssl=context
    )
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    urls = {
        "plain": f"http://127.0.0.1:{plain.sockets[0].getsockname()[1]}",
        "tls": f"https://127.0.0.1:{secure.sockets[0].getsockname()[1]}",
        "ca": certificates.authority,
    }
    print(json.dumps(urls), flush=True)
    await stopped.wait()
    plain.close()
    secure.close()


def main() -> int:
    """
    Serve, then print the counts.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--directory", required=True, help="where the certificates go")
    parser.add_argument("--latency-ms", type=float, default=0, help="delay of every answer")
    parser.add_argument(
        "--latencies", action="store_true", help="compare the time of every event with now"
    )
    parser.add_argument("--events-per-s", type=float, default=0, help="take no more than these")
    options = parser.parse_args()
    os.makedirs(options.directory, exist_ok=True)
    sink = Sink(latencies=options.latencies, events_per_s=options.events_per_s)
    uvloop.run(serve(sink, options.directory, options.latency_ms / 1000))
    print(json.dumps(sink.counts()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
