"""
The happy path against moto's server: a second opinion on the wire format.
"""

from __future__ import annotations

import urllib.request

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.contract.sink import LONG_S, make_segment, running
from tests.fakes.cloudwatch import REGION, FakeCloudWatch
from tests.sinks.cloudwatch_bench import GROUP, CloudWatchBench, record, set_credentials


@pytest.fixture
def moto():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    # Its state belongs to the process, not to the server.
    urllib.request.urlopen(f"{url}/moto-api/reset", data=b"").close()
    yield url
    server.stop()


class Moto(FakeCloudWatch):
    """
    Only an address.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url


@pytest.mark.parametrize("format", ["message", "container_insights"])
async def test_lines_arrive_in_a_group_with_retention_and_tags(moto, monkeypatch, format):
    set_credentials(monkeypatch)
    bench = CloudWatchBench(Moto(moto), format=format, retention_days=14, tags={"a": "b"})
    lines = [f'{{"n":{index},"text":"ä\\t€"}}' for index in range(3000)]
    async with running(bench) as (sink, _, _):
        for log in ("a", "b"):
            sink.accept(make_segment(bench.share, lines, log=log))
        await sink.drain(LONG_S)
    await bench.aws.close()
    assert bench.resolve.delivered_rows == {"a": 3000, "b": 3000}
    logs = boto3.client("logs", region_name=REGION, endpoint_url=moto)
    (group,) = logs.describe_log_groups()["logGroups"]
    assert (group["logGroupName"], group["retentionInDays"]) == (GROUP, 14)
    for stream in ("a", "b"):
        stored = []
        token: dict[str, str] = {}
        while True:
            page = logs.get_log_events(
                logGroupName=GROUP, logStreamName=stream, startFromHead=True, **token
            )
            if not page["events"]:
                break
            stored += [event["message"] for event in page["events"]]
            token = {"nextToken": page["nextForwardToken"]}
        if format == "container_insights":
            stored = [record(message)["log"] for message in stored]
        assert stored == lines
