"""
Lines of log files: parse and encode, in every format and split, against the reference.
"""

from __future__ import annotations

import json
import zlib

from agent import _fastencode, _fastparse, _faststage, _reference, _reference_encode
from agent._fastparse import FORMAT_CRI, FORMAT_DOCKER, FORMAT_RAW
from tests.fast.support import parse_columns, read_log
from tests.fuzz.registry import Fuzzer

LINE_BYTES_MAX = 64
#: The reference takes a hundred times as long.
REFERENCE_BYTES_MAX = 1000
SPLITS_BYTES_MAX = 300
READS_MAX = 32
HEAD = b'{"logGroupName":"g","logStreamName":"s","logEvents":['
RESOURCE = b',"kubernetes":{"pod_name":"a\\"b"}'
LIMITS = {"event_bytes_max": 300, "batch_bytes_max": 1000, "events_max": 7}

CRI = (
    (
        b"2026-11-22T19:00:01.123456789Z stdout F hello\n2026-11-22T19:00:01.2Z stderr P one \n"
        b"2026-11-22T19:00:01.3Z stdout P two \n2026-11-22T19:00:02Z stderr F half\n"
    ),
    b'2026-11-22T19:00:01.123456789Z stdout F {"a":[1,2.5e3,null],"b":"\\u00e9"}\n',
    b"2026-11-22T19:00:59.9+02:00 stderr F " + b"long " * 40 + b"\nnot a line\n\n",
    b'2026-11-22T19:00:01Z stdout F {"_aws":{"CloudWatchMetrics":[{"Namespace":"n"}],"Timestamp":1},"n":1}\n',
)
DOCKER = (
    (
        b'{"log":"hello\\n","stream":"stdout","time":"2026-11-22T19:00:01.123456789Z"}\n'
        b'{"log":"part ","stream":"stderr","attrs":{"tag":"x"},"time":"2026-11-22T19:00:01Z"}\n'
    ),
    b'{"time":"2026-11-22T19:00:01Z","stream":"stderr","log":"\\ud83d\\ude80 \\u00e9 \\"q\\" \\\\\\n"}\n',
)
RAW = (b"plain\nlines\r\n\n\xff\xfe\nand no end", b"x" * 200 + b"\n")
TOKENS = (
    *(
        b"2026-11-22T19:00:01.123456789Z ",
        b"stdout ",
        b"stderr ",
        b"F ",
        b"P ",
        b"F:x ",
        b"\n",
        b"\r\n",
    ),
    *(
        b'{"log":"',
        b'","stream":"stdout"',
        b',"time":"2026-11-22T19:00:01Z"}',
        b"\\u",
        b"\\ud83d",
        b"\\n",
    ),
    *(
        b'{"_aws":{"CloudWatchMetrics":[]}}',
        b"\xf0\x9f\x9a\x80",
        b"\xed\xa0\x80",
        b"\x00",
        b" " * 64,
    ),
)


def _parse(data: bytes, file_format: int) -> None:
    """
    Whole, in pieces and over generations it is the same; and the reference says the same.
    """

    def make() -> _fastparse.Parser:
        return _fastparse.Parser(format=file_format, line_bytes_max=LINE_BYTES_MAX)

    mark = zlib.crc32(data)
    at = mark % (len(data) + 1)
    # A line may begin in one generation and end in the next only as pieces: cut where a line ends.
    line_end = data.find(b"\n", at) + 1
    generations = [data[:line_end], data[line_end:]] if line_end and mark & 0x100 else [data]
    whole = read_log(make, generations, (), ())
    size = max(1 + (mark >> 9) % 97, len(data) // READS_MAX)
    # As many reads of that size as it takes, and every other one is followed by a restart from the cursor.
    sizes = [size] * (len(data) // size + 4)
    restarts = [bool(mark >> bit & 1) for bit in range(32)]
    assert read_log(make, generations, sizes, restarts) == whole, "split"
    if len(data) <= SPLITS_BYTES_MAX and mark % 64 == 0:
        for cut in range(1, len(data)):
            assert read_log(make, [data], [cut], ()) == read_log(make, [data], (), ()), cut
    if len(data) <= REFERENCE_BYTES_MAX and mark % 4 == 0:

        def reference() -> _reference.Parser:
            return _reference.Parser(format=file_format, line_bytes_max=LINE_BYTES_MAX)

        assert read_log(reference, generations, (), ()) == whole, "reference"


def parse_cri(data: bytes) -> None:
    _parse(data, FORMAT_CRI)


def parse_docker(data: bytes) -> None:
    _parse(data, FORMAT_DOCKER)


def parse_raw(data: bytes) -> None:
    _parse(data, FORMAT_RAW)


def encode(data: bytes) -> None:
    """
    Bodies are JSON within the limits, of every row once, as the reference writes them; so is what is staged.
    """
    mark = zlib.crc32(data)
    file_format = (FORMAT_CRI, FORMAT_DOCKER, FORMAT_RAW)[mark % 3]
    parser = _fastparse.Parser(format=file_format, line_bytes_max=1 << 20)
    columns = parse_columns(parser, data, final=True)
    if mark & 0x10 and columns.rows:
        columns.drop_streams(1 << (mark >> 5) % 3)
    staged = _faststage.staging_buffers(columns)
    staged.messages.decode()
    assert len(staged.time_ns) == 8 * staged.rows == len(staged.offset)
    small = len(data) <= REFERENCE_BYTES_MAX and mark % 4 == 0
    if small:
        assert staged == _reference_encode.staging_buffers(columns)
    if not columns.rows:
        return
    message_format = (mark >> 8) % 3
    metrics = bool(mark >> 10 & 1)
    bodies = _bodies(_fastencode, columns, message_format, metrics=metrics)
    assert sum(said.part_rows[0] for _, said in bodies) == columns.rows
    for body, said in bodies:
        events = json.loads(body)["logEvents"]
        assert len(events) == said.events <= LIMITS["events_max"]
        sizes = [len(event["message"].encode()) for event in events]
        assert all(0 < size <= LIMITS["event_bytes_max"] for size in sizes)
        assert said.event_bytes == sum(sizes) + 26 * len(sizes)
        assert len(events) == 1 or said.event_bytes <= LIMITS["batch_bytes_max"]
    if small:
        assert bodies == _bodies(_reference_encode, columns, message_format, metrics=metrics)


def _bodies(encoder, columns, message_format, *, metrics):
    body = encoder.Body()
    order = encoder.order_rows([columns])
    start = start_byte = 0
    bodies = []
    while start < len(order):
        said = body.encode(
            HEAD,
            [columns],
            [RESOURCE],
            order,
            start,
            start_byte=start_byte,
            format=message_format,
            metrics_bare=metrics,
            valid_from_ms=0,
            valid_until_ms=2**62,
            **LIMITS,
        )
        assert (said.stop, said.stop_byte) > (start, start_byte)
        start, start_byte = said.stop, said.stop_byte
        bodies.append((bytes(body), tuple(said)))
    return [(text, _fastencode.Encoded(*said)) for text, said in bodies]


FUZZERS = (
    Fuzzer("parse-cri", parse_cri, CRI, TOKENS, cost=3),
    Fuzzer("parse-docker", parse_docker, DOCKER, TOKENS, cost=3),
    Fuzzer("parse-raw", parse_raw, (*RAW, *CRI), TOKENS, cost=3),
    Fuzzer("encode", encode, (*CRI, *DOCKER, *RAW), TOKENS, cost=3),
)
