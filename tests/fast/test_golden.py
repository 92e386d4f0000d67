"""
Records like Fluent Bit's, and real lines through both container formats.

tests/data/container-insights holds what Fluent Bit 5.1.1 sent to CloudWatch Logs for input.log; its
README names the cases in which Tailrace is right and differs.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent import _fastencode, _fastparse, _reference, _reference_encode
from agent._fastencode import MESSAGE_CONTAINER_INSIGHTS
from agent._fastparse import FORMAT_CRI, FORMAT_DOCKER
from tests.fast.support import parse, parse_columns, shared

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "container-insights"
IMPLEMENTATIONS = [
    pytest.param(_fastparse.Parser, _fastencode, id="compiled"),
    pytest.param(_reference.Parser, _reference_encode, id="reference"),
]
LOGHUB = ["Apache", "HDFS", "Hadoop", "Linux", "OpenSSH", "OpenStack", "Spark", "Zookeeper"]


def expected_record(record):
    """
    Fluent Bit's record, as Tailrace writes it where it differs on purpose.
    """
    log = record["log"]
    if log.startswith("invalid utf8: "):
        record["log"] = "invalid utf8: \ufffd\ufffd\ufffd end"
    elif log.startswith("overlong "):
        record["log"] = "overlong \ufffd\ufffd surrogate \ufffd\ufffd\ufffd end"
    elif log == '{"trailing":"garbage"} tail':
        del record["log_processed"]
    elif '"big"' in log:
        # Numbers are kept as written; Fluent Bit parses them and loses digits.
        record["log_processed"] = json.loads(log)
    return record


@pytest.mark.parametrize("labels", ["off", "on"])
@pytest.mark.parametrize(("make", "encoder"), IMPLEMENTATIONS)
def test_container_insights_records(make, encoder, labels):
    """
    The same events: times, keys in their order, nesting, which lines get log_processed.
    """
    text = (GOLDEN / f"records-labels-{labels}.jsonl").read_text()
    golden = [json.loads(line) for line in text.splitlines()]
    events = [
        (event["timestamp"], expected_record(json.loads(event["message"]))) for event in golden
    ]
    kubernetes = json.dumps(events[0][1]["kubernetes"], ensure_ascii=False)
    assert all(record["kubernetes"] == events[0][1]["kubernetes"] for _, record in events)
    parts = [
        parse_columns(
            make(format=FORMAT_CRI, line_bytes_max=1 << 20), (GOLDEN / "input.log").read_bytes()
        )
    ]
    body = encoder.Body()
    said = body.encode(
        b'{"logEvents":[',
        parts,
        [f',"kubernetes":{kubernetes}'.encode()],
        encoder.order_rows(parts),
        0,
        format=MESSAGE_CONTAINER_INSIGHTS,
        valid_from_ms=0,
        valid_until_ms=2**62,
    )
    written = [
        (event["timestamp"], json.loads(event["message"]))
        for event in json.loads(bytes(body))["logEvents"]
    ]
    assert said.events == len(golden) == len(written)
    # Fluent Bit sends in the order of arrival, CloudWatch wants that of time.
    events.sort(key=lambda event: event[0])
    assert written == events
    for (_, mine), (_, theirs) in zip(written, events, strict=True):
        assert list(mine) == list(theirs)
        assert list(mine["kubernetes"]) == list(theirs["kubernetes"])


@pytest.mark.parametrize("name", LOGHUB)
def test_real_lines_come_back(name):
    """
    Real lines, wrapped as CRI and as docker json-file, and split into pieces: byte for byte.
    """
    lines = shared("data", "loghub", f"{name}.log").read_bytes().split(b"\n")[:-1]
    expected = [line.removesuffix(b"\r") for line in lines]
    cri, docker = [], []
    for index, line in enumerate(lines):
        time = b"2026-11-22T19:%02d:%02d.%09dZ" % (index // 60 % 60, index % 60, index)
        head = time + b" stdout "
        cut = len(line) // 2
        cri += (
            [head + b"P " + line[:cut], head + b"F " + line[cut:]]
            if index % 7 == 0
            else [head + b"F " + line]
        )
        record = {"log": line.decode() + "\n", "stream": "stderr", "time": time.decode()}
        docker.append(json.dumps(record).encode())
    for file_format, text in ((FORMAT_CRI, cri), (FORMAT_DOCKER, docker)):
        parser = _fastparse.Parser(format=file_format, line_bytes_max=1 << 20)
        rows = parse(parser, b"\n".join([*text, b""]))
        assert [row.message for row in rows] == expected
        assert parser.counts.invalid == 0
