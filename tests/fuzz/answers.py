"""
What comes over the network: answers of AWS, the API server and the metadata service; requests to the admin endpoint.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from typing import Any

from agent.core.counters import Counters
from agent.core.errors import RetryError
from agent.core.kube_objects import (
    NamespaceObject,
    NodeObject,
    ObjectList,
    PodObject,
    Status,
    decoded,
)
from agent.core.pods import Pods
from agent.core.retry import Backoff
from agent.core.watch_frames import Frames, Item, understood
from agent.runtime.http_connection import HttpResponse
from agent.runtime.instance import document_of, of_node
from agent.runtime.state_disk import OsStateDisk
from agent.sinks.cloudwatch_requests import understand
from agent.sinks.parquet_s3 import S3Options, S3Store
from agent.sinks.parquet_upload import Upload, wait_after
from tests.fuzz.registry import Fuzzer, scratch

STATUSES = (100, 200, 200, 200, 204, 301, 400, 400, 403, 404, 409, 412, 413, 429, 500, 503)
EVENTS = 100


def response_of(data: bytes) -> HttpResponse:
    """
    Return the answer in *data*: headers as lines, an empty line, a body.  Its status follows from the whole.
    """
    head, _, body = data.partition(b"\n\n")
    headers = dict(
        line.partition(": ")[::2] for line in head.decode("latin-1").split("\n") if ": " in line
    )
    return HttpResponse(STATUSES[zlib.crc32(data) % len(STATUSES)], headers, body)


def cloudwatch(data: bytes) -> None:
    """
    Whatever is answered is understood; refused events are ranges of what was sent, in order.
    """
    response = response_of(data)
    answer = understand(response, events=EVENTS, gzipped=bool(zlib.crc32(data) & 64))
    assert isinstance(answer.code, str)
    assert isinstance(answer.message, str)
    assert answer.retry_after_s is None or not math.isnan(answer.retry_after_s)
    at = 0
    for start, stop, _ in answer.rejected:
        assert at <= start < stop <= EVENTS
        at = stop
    response.error_code()


class _Client:
    """
    Answers every request with the same.
    """

    def __init__(self, response: HttpResponse) -> None:
        self.response = response

    async def request(self, *_: object, **__: object) -> HttpResponse:
        return self.response


class _Clock:
    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        assert 0 <= seconds <= 100


class _Host:  # as much of a Host as an upload needs
    clock = _Clock()
    state_disk = OsStateDisk()

    def tell(self, *_: object, **__: object) -> None:
        pass

    async def run_blocking(self, function, *arguments):
        return function(*arguments)


HOST: Any = _Host()
OPTIONS = S3Options(
    bucket="logs",
    prefix="p/",
    storage_class="",
    sse="",
    kms_key_id="",
    multipart_bytes_min=10,
    part_bytes=10,
)


def s3(data: bytes) -> None:
    """
    Whatever is answered to every request of an upload: it is done, or an error that is tried again.
    """
    path = scratch("object")
    size = 25 if zlib.crc32(data) & 32 else 5
    with open(path, "wb") as file:
        file.write(b"x" * size)
    store = S3Store(
        OPTIONS, client=_Client(response_of(data)), host=HOST, counters=Counters(), route="a"
    )

    async def put() -> None:
        try:
            await store.put(Upload(key="k", path=path, size=size, resumed=True))
        except RetryError as error:
            str(error).encode()
            await wait_after(error, Backoff(), host=HOST)

    _run(put())


def kubernetes(data: bytes) -> None:
    """
    Frames are the same however they are cut; every object is taken in, or known as none.
    """
    mark = zlib.crc32(data)
    frames = Frames(4096).feed(data + b"\n")
    pieces = Frames(4096)
    size = 1 + mark % 61
    assert frames == [
        frame
        for at in range(0, len(data) + 1, size)
        for frame in pieces.feed((data + b"\n")[at : at + size])
    ]
    pods = Pods()
    for frame in frames:
        found = understood(frame, PodObject)
        if isinstance(found, Item):
            pods.apply_pod(found.object)
            uid, meta = found.object.key, found.object.metadata
            pods.find(uid, "app", namespace=meta.namespace, pod=meta.name, restart="0")
        space = understood(frame, NamespaceObject)
        if isinstance(space, Item):
            pods.apply_namespace(space.object)
        node = decoded(frame, NodeObject)
        of_node(node)
        decoded(frame, Status)
        listed = decoded(frame, ObjectList)
        for raw in (listed.items or ()) if listed else ():
            decoded(raw, PodObject)


def instance(data: bytes) -> None:
    """
    What the metadata service says is text or nothing.
    """
    found = document_of(data)
    assert all(isinstance(text, str) for text in (found.region, found.zone, found.instance_id))


_loop = asyncio.new_event_loop()


def _run(coroutine):
    return _loop.run_until_complete(coroutine)


FUZZERS = (
    Fuzzer(
        "cloudwatch",
        cloudwatch,
        (
            (
                b'x-amzn-requestid: 1\n\n{"nextSequenceToken":"4","rejectedLogEventsInfo":{"tooOldLogEventEndIndex":3,'
                b'"expiredLogEventEndIndex":5,"tooNewLogEventStartIndex":90},"rejectedEntityInfo":{"errorType":"x"}}'
            ),
            (
                b'x-amzn-errortype: com.amazonaws.logs#ThrottlingException:http\nretry-after: 3\n\n{"__type":'
                b'"com.amazonaws.logs#ThrottlingException","message":"Rate exceeded"}'
            ),
            b"retry-after: Wed, 21 Oct 2026 07:28:00 GMT\n\n<html><body>Bad gateway</body></html>",
            b'x: y\n\n{"code":"InvalidParameterException","Message":"1 error: Value at \'logGroupName\' failed"}',
        ),
        (
            *(
                b'{"a":',
                b"[",
                b"null",
                b"true",
                b'"rejectedLogEventsInfo":',
                b'"rejectedEntityInfo":',
                b'"__type":',
            ),
            *(
                b"{}",
                b"[]",
                b'""',
                b'"x"',
                b"1.5",
                b"retry-after: ",
                b"x-amzn-requestid: 1\n",
                b"\\ud800",
            ),
        ),
    ),
    Fuzzer(
        "s3",
        s3,
        (
            (
                b"etag: \"x\"\n\n<?xml version='1.0' encoding='UTF-8'?><InitiateMultipartUploadResult xmlns="
                b"'http://s3.amazonaws.com/doc/2006-03-01/'><UploadId>u-1</UploadId></InitiateMultipartUploadResult>"
            ),
            b"x: y\n\n<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>",
            (
                b"x: y\n\n<ListMultipartUploadsResult><Upload><Key>p/k</Key><UploadId>u</UploadId></Upload>"
                b"</ListMultipartUploadsResult>"
            ),
        ),
        (
            *(
                b"<?xml version='1.0' encoding='",
                b"utf-16",
                b"utf-7",
                b"nonsense",
                b"'?>",
                b"<Error>",
                b"<Code>",
            ),
            *(
                b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
                b"&b;",
                b"&#0;",
                b"&#x10ffff;",
                b"<a>",
                b"</a>",
                b"<![CDATA[",
            ),
            *(b"<Upload>", b"<Key>p/k</Key>", b"\xff\xfe", b"xmlns=''", b"rot13", b"idna", b"gbk"),
        ),
        cost=2,
    ),
    Fuzzer(
        "kubernetes",
        kubernetes,
        (
            (
                b'{"type":"ADDED","object":{"metadata":{"name":"web","namespace":"shop","uid":"u-1","resourceVersion":"7",'
                b'"labels":{"app":"web"},"annotations":{"kubernetes.io/config.mirror":"h"},"ownerReferences":[{"kind":'
                b'"ReplicaSet","name":"web-5","uid":"r","controller":true}]},"spec":{"nodeName":"n","containers":[{"name":'
                b'"app","image":"a:1"}]},"status":{"podIP":"10.0.0.1","containerStatuses":[{"name":"app","containerID":'
                b'"containerd://ab","restartCount":2,"lastState":{"terminated":{"containerID":"containerd://aa"}}}]}}}\n'
            ),
            (
                b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9","annotations":'
                b'{"k8s.io/initial-events-end":"true"}}}}\n\n{"type":"ERROR","object":{"code":410,"reason":"Expired"}}'
            ),
            b'{"metadata":{"resourceVersion":"1","continue":"c"},"items":[{"metadata":{"uid":"x"}}]}',
            (
                b'{"metadata":{"name":"n","labels":{"topology.kubernetes.io/region":"r"}},"spec":{"providerID":'
                b'"aws:///eu-central-1a/i-0123456789abcdef0"}}'
            ),
        ),
        (
            *(
                b'"metadata":',
                b'"object":',
                b'{"type":"DELETED"',
                b"null",
                b"{",
                b"[",
                b"]",
                b"}",
                b"\n",
                b'"a":',
            ),
            *(
                b'"labels":null',
                b'"uid":""',
                b"\\ud800",
                b"\xff",
                b'"restartCount":-1',
                b'{"a":',
                b"[[",
            ),
        ),
    ),
    Fuzzer(
        "instance",
        instance,
        (
            (
                b'{"accountId":"1","availabilityZone":"eu-central-1a","instanceId":"i-0123456789abcdef0",'
                b'"region":"eu-central-1","pendingTime":"2026-11-22T10:00:00Z","devpayProductCodes":null}'
            ),
        ),
        (b"null", b"{", b"[", b'"region":1', b"\\ud800", b"\xff", b'{"a":', b"[["),
    ),
)
