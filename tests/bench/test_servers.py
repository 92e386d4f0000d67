"""
The counting server counts what was sent, as the two services would take it.
"""

from __future__ import annotations

import gzip
import http.client
import io
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.config
import pyarrow as pa
import pyarrow.parquet
import pytest

from bench.servers import Request, Sink, unchunked

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGS_TARGET = "Logs_20140328.PutLogEvents"


def put_events(*messages: str) -> bytes:
    events = [{"timestamp": 1, "message": message} for message in messages]
    return json.dumps(
        {"logGroupName": "g", "logStreamName": "s", "logEvents": events}, separators=(",", ":")
    ).encode()


def test_events_are_counted_and_messages_are_not() -> None:
    """
    A message that holds an event's key, escaped, is one event.
    """
    sink = Sink()
    body = put_events('{"timestamp":1}', "plain")
    for sent in (body, gzip.compress(body)):
        status, _, _ = sink.answer(Request("POST", "/", {"x-amz-target": LOGS_TARGET}, sent))
        assert status == 200
    assert sink.logs.events == 4
    assert sink.logs.body_bytes == 2 * len(body)
    assert sink.logs.wire_bytes == len(body) + len(gzip.compress(body))


def test_other_operations_have_no_events() -> None:
    """
    A tag called timestamp is not an event.
    """
    sink = Sink()
    headers = {"x-amz-target": "Logs_20140328.CreateLogGroup"}
    sink.answer(Request("POST", "/", headers, b'{"tags":{"timestamp":"x"}}'))
    assert sink.logs.events == 0
    assert sink.logs.operations == {"CreateLogGroup": 1}


def test_chunks_of_s3_are_taken_apart() -> None:
    """
    Sizes, signatures and trailers are not content.
    """
    body = b"5;chunk-signature=ab\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n"
    headers = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
    assert unchunked(Request("PUT", "/b/k", headers, body)) == b"hello world"
    assert unchunked(Request("PUT", "/b/k", {}, body)) == body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    directory = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "bench.servers", "--directory", str(directory)]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        last = json.loads(process.stdout.read())
        assert set(last) == {"cloudwatch", "s3", "latency_ms"}
        assert process.wait(10) == 0


def counts(server: dict[str, str]) -> dict[str, dict[str, int]]:
    connection = http.client.HTTPConnection(urlsplit(server["plain"]).netloc, timeout=10)
    connection.request("GET", "/counts")
    parsed: dict[str, dict[str, int]] = json.loads(connection.getresponse().read())
    connection.close()
    return parsed


def client(server: dict[str, str], service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=server["tls"],
        verify=server["ca"],
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
        config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )


def test_the_sdk_puts_events_over_tls(
    server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With the CA that the server names; without it, TLS refuses.
    """
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    logs = client(server, "logs")
    before = counts(server)["cloudwatch"]["events"]
    answer = logs.put_log_events(
        logGroupName="g", logStreamName="s", logEvents=[{"timestamp": 1, "message": "a"}] * 3
    )
    assert answer["ResponseMetadata"]["RequestId"]
    assert counts(server)["cloudwatch"]["events"] == before + 3
    connection = http.client.HTTPSConnection(
        urlsplit(server["tls"]).netloc, timeout=10, context=ssl.create_default_context()
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/counts")


def parquet(rows: int) -> bytes:
    target = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"message": ["x" * 100] * rows}), target)
    return target.getvalue()


def test_the_sdk_puts_objects_over_tls(
    server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    At once and in parts; rows come from the footer, and a key is written once.
    """
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    s3 = client(server, "s3")
    s3.put_object(Bucket="b", Key="dt=1/a.parquet", Body=parquet(7))
    with pytest.raises(s3.exceptions.ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="b", Key="dt=1/a.parquet", Body=b"other", IfNoneMatch="*")
    body = parquet(11)
    upload = s3.create_multipart_upload(Bucket="b", Key="b.parquet")["UploadId"]
    parts = []
    for number, piece in ((2, body[100:]), (1, body[:100])):
        s3.upload_part(Bucket="b", Key="b.parquet", UploadId=upload, PartNumber=number, Body=piece)
        parts.append({"PartNumber": number, "ETag": "x"})
    s3.complete_multipart_upload(
        Bucket="b", Key="b.parquet", UploadId=upload, MultipartUpload={"Parts": parts[::-1]}
    )
    found = counts(server)["s3"]
    assert found["objects"] == 2
    assert found["rows"] == 18
    assert found["object_bytes"] == len(parquet(7)) + len(body)


def counted(sink: Sink) -> Any:
    return sink.counts()["s3"]


def test_reset_forgets() -> None:
    """
    Rounds do not add up.
    """
    sink = Sink()
    sink.answer(Request("PUT", "/b/k", {}, b"line\n"))
    assert counted(sink)["rows"] == 1
    sink.answer(Request("POST", "/reset", {}, b""))
    assert counted(sink)["objects"] == 0


def test_a_slow_sink_holds_answers_back() -> None:
    """
    By as long as its events take, one request after the other; until it is told to take everything.
    """
    sink = Sink(events_per_s=10)
    request = Request("POST", "/", {"x-amz-target": LOGS_TARGET}, put_events("a", "b"))
    assert sink.wait_s(request, 100.0) == pytest.approx(0.2)
    assert sink.wait_s(request, 100.1) == pytest.approx(0.3)
    assert sink.wait_s(request, 200.0) == pytest.approx(0.2)
    assert sink.wait_s(Request("GET", "/counts", {}, b""), 200.0) == 0
    sink.answer(Request("GET", "/unlimited", {}, b""))
    assert sink.wait_s(request, 200.0) == 0


def test_delays_are_counted() -> None:
    """
    From the time of each event to now, whatever its message says.
    """
    sink = Sink(latencies=True)
    now_ms = time.time_ns() // 1_000_000
    stamps = [now_ms - 10_000] * 98 + [now_ms - 60_000] * 2
    events = [{"timestamp": stamp, "message": '{"timestamp":1}'} for stamp in stamps]
    body = json.dumps({"logEvents": events}, separators=(",", ":")).encode()
    sink.answer(Request("POST", "/", {"x-amz-target": LOGS_TARGET}, body))
    found: Any = sink.counts()["latency_ms"]
    assert 10_000 <= found["p50"] < 40_000
    assert 60_000 <= found["p99"] == found["max"] < 90_000
