"""
Nanoseconds per line of the hot functions: `make bench`.

Lines of 190 bytes, every one different, in a chunk of 256 KiB; one core.  extra_info holds the figure.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from isal import igzip

from agent import _fastencode, _fastparse, _faststage
from agent._fastparse import FORMAT_CRI, FORMAT_DOCKER, FORMAT_RAW

if TYPE_CHECKING:
    from collections.abc import Callable

LINE_BYTES = 190
CHUNK_BYTES = 262_144
HEAD = b'{"logGroupName":"group","logStreamName":"stream","logEvents":['
RESOURCE = (
    b',"kubernetes":'
    + json.dumps(
        {
            "pod_name": "web-7d4b9c6f5-abcde",
            "namespace_name": "shop",
            "pod_id": "11111111-2222-3333-4444-555555555555",
            "host": "ip-10-0-0-1.ec2.internal",
            "pod_ip": "10.0.0.9",
            "container_name": "app",
            "docker_id": "b" * 64,
            "container_hash": "docker.io/acme/web@sha256:" + "a" * 64,
            "container_image": "docker.io/acme/web:1.2.3",
        }
    ).encode()
)


def access(rng: random.Random) -> str:
    """
    Return a line of an access log.
    """
    address = ".".join(str(rng.randrange(256)) for _ in range(4))
    return (
        f'{address} - - [22/Nov/2026:19:00:01 +0000] "GET /api/v1/items/{rng.randrange(10**6)} '
        f'HTTP/1.1" 200 {rng.randrange(10**5)} "-" "Mozilla/5.0 (X11; Linux x86_64) Firefox/{rng.random()}"'
    )


def record(rng: random.Random) -> str:
    """
    Return a line of JSON.
    """
    fields = {
        "level": "info",
        "msg": "request done",
        "id": rng.randrange(10**9),
        "ms": rng.random(),
    }
    return json.dumps(fields | {"path": f"/api/v1/items/{rng.randrange(10**6)}", "user": "x" * 40})


def chunk_text(file_format: int, content: Callable[[random.Random], str]) -> bytes:
    """
    Return about CHUNK_BYTES of lines.
    """
    rng = random.Random(7)
    lines, size = [], 0
    while size < CHUNK_BYTES - LINE_BYTES:
        time = f"2026-11-22T19:00:{rng.randrange(60):02}.{rng.randrange(10**9):09}Z"
        text = (
            content(rng).ljust(LINE_BYTES - 41, "-")[: LINE_BYTES - 41]
            if content is access
            else content(rng)
        )
        if file_format == FORMAT_CRI:
            line = f"{time} stdout F {text}\n"
        elif file_format == FORMAT_DOCKER:
            line = json.dumps({"log": text + "\n", "stream": "stdout", "time": time}) + "\n"
        else:
            line = text + "\n"
        lines.append(line.encode())
        size += len(lines[-1])
    return b"".join(lines)


def parse(text: bytes, file_format: int) -> _fastparse.Columns:
    """
    Return the columns of *text*.
    """
    parser = _fastparse.Parser(format=file_format, line_bytes_max=1 << 20)
    chunk = _fastparse.Chunk(len(text))
    with memoryview(chunk) as view:
        view[:] = text
    return parser.parse(chunk, len(text), offset=0, read_time_ns=0)


def say(benchmark: Any, rows: int) -> None:
    """
    Print and keep nanoseconds a line.
    """
    if benchmark.stats is not None:
        benchmark.extra_info["ns_per_line"] = round(benchmark.stats.stats.min / rows * 1e9, 1)
        print(f"\n{benchmark.name}: {benchmark.extra_info['ns_per_line']} ns a line")


@pytest.mark.parametrize(
    ("file_format", "content"),
    [(FORMAT_CRI, access), (FORMAT_DOCKER, access), (FORMAT_RAW, access)],
    ids=["cri", "docker", "raw"],
)
def test_parse(benchmark: Any, file_format: int, content: Callable[[random.Random], str]) -> None:
    """
    Bytes to columns.
    """
    text = chunk_text(file_format, content)

    def chunk() -> Any:
        made = _fastparse.Chunk(len(text))
        with memoryview(made) as view:
            view[:] = text
        return (made, _fastparse.Parser(format=file_format, line_bytes_max=1 << 20)), {}

    def run(made: _fastparse.Chunk, parser: _fastparse.Parser) -> _fastparse.Columns:
        return parser.parse(made, len(text), offset=0, read_time_ns=0)

    columns = benchmark.pedantic(run, setup=chunk, rounds=300)
    say(benchmark, columns.rows)


@pytest.mark.parametrize("content", [access, record], ids=["access", "json"])
@pytest.mark.parametrize(
    "message_format",
    [
        _fastencode.MESSAGE_BARE,
        _fastencode.MESSAGE_CONTAINER_INSIGHTS,
        _fastencode.MESSAGE_OTEL,
    ],
    ids=["bare", "container_insights", "otel"],
)
@pytest.mark.parametrize("metrics_bare", [False, True], ids=["wrap", "passthrough"])
def test_encode(
    benchmark: Any,
    message_format: int,
    content: Callable[[random.Random], str],
    *,
    metrics_bare: bool,
) -> None:
    """
    Columns to a request body.
    """
    parts = [parse(chunk_text(FORMAT_CRI, content), FORMAT_CRI)]
    body = _fastencode.Body()

    def run() -> _fastencode.Encoded:
        order = _fastencode.order_rows(parts)
        return body.encode(
            HEAD,
            parts,
            [RESOURCE],
            order,
            0,
            format=message_format,
            metrics_bare=metrics_bare,
            valid_from_ms=0,
            valid_until_ms=2**62,
        )

    said = benchmark(run)
    say(benchmark, said.events)


def quoted(rng: random.Random) -> str:
    """
    Return a line in which every fourth byte must be escaped.
    """
    return ('\\d"\t' + f"{rng.randrange(10**9):09}") * 11


def test_escape(benchmark: Any) -> None:
    """
    The worst lines for JSON, into a record.
    """
    parts = [parse(chunk_text(FORMAT_CRI, quoted), FORMAT_CRI)]
    body = _fastencode.Body()

    def run() -> _fastencode.Encoded:
        return body.encode(
            HEAD,
            parts,
            [RESOURCE],
            _fastencode.order_rows(parts),
            0,
            format=_fastencode.MESSAGE_CONTAINER_INSIGHTS,
            metrics_bare=False,
            valid_from_ms=0,
            valid_until_ms=2**62,
        )

    said = benchmark(run)
    say(benchmark, said.events)


def test_gzip(benchmark: Any) -> None:
    """
    A request body of records, as the CloudWatch sink compresses it.
    """
    parts = [parse(chunk_text(FORMAT_CRI, access), FORMAT_CRI)]
    body = _fastencode.Body()
    said = body.encode(
        HEAD,
        parts,
        [RESOURCE],
        _fastencode.order_rows(parts),
        0,
        format=_fastencode.MESSAGE_CONTAINER_INSIGHTS,
        metrics_bare=False,
        valid_from_ms=0,
        valid_until_ms=2**62,
    )
    content = bytes(body)
    benchmark(igzip.compress, content, 1)
    say(benchmark, said.events)


def test_staging(benchmark: Any) -> None:
    """
    Columns to staging buffers.
    """
    columns = parse(chunk_text(FORMAT_CRI, access), FORMAT_CRI)
    benchmark(_faststage.staging_buffers, columns)
    say(benchmark, columns.rows)
