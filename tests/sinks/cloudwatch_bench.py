"""
A CloudWatch sink, signed requests and the strict fake, ready to use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from agent.core.aws import AwsSettings
from agent.core.counters import Counters
from agent.runtime.aws import Aws
from agent.sinks.cloudwatch import CloudWatchSettings, CloudWatchSink
from tests.contract.sink import FastClock, GroupTasks, RecordingResolve, make_share
from tests.fakes.cloudwatch import ACCESS_KEY, REGION, SECRET_KEY, UNAVAILABLE, FakeCloudWatch

if TYPE_CHECKING:
    import pytest

    from agent.core.host import AwsClient, Response

GROUP = "/logs/shop"


class _HoldingClient:
    """
    A client whose requests take no virtual time.
    """

    def __init__(self, client: AwsClient, clock: FastClock) -> None:
        self._client = client
        self._clock = clock

    async def request(self, method: str, path: str, **rest: Any) -> Response:
        self._clock.holds += 1
        try:
            return await self._client.request(method, path, **rest)
        finally:
            self._clock.holds -= 1


class CloudWatchBench:
    """
    Stream names are `{pod}`, and a test's Logs are named like their pods.
    """

    def __init__(self, fake: FakeCloudWatch, **settings: Any) -> None:
        self.fake = fake
        self.clock = FastClock()
        self.resolve = RecordingResolve()
        self.share = make_share()
        self.counters = Counters()
        self.told: list[tuple[str, str]] = []
        known: dict[str, Any] = {
            "group": GROUP,
            "stream": "{pod}",
            "format": "message",
            "request_timeout_s": 5.0,
        }
        self.settings = CloudWatchSettings(
            region=REGION, endpoint_url=fake.url, **(known | settings)
        )
        self.aws = Aws(clock=self.clock)

    def make(self, tasks: GroupTasks) -> CloudWatchSink:
        return CloudWatchSink(
            self.settings,
            route="r",
            client=_HoldingClient(self.aws.client("logs", self.settings), self.clock),
            clock=self.clock,
            tell=self.tell,
            tasks=tasks,
            resolve=self.resolve,
            share=self.share,
            counters=self.counters,
        )

    def tell(self, event: str, text: str, /, **_fields: object) -> None:
        self.told.append((event, text))

    def lines(self, log: str) -> list[str]:
        streams = self.fake.groups[GROUP].streams if GROUP in self.fake.groups else {}
        return [message for _, message in streams.get(log, [])]

    def set_reachable(self, *, reachable: bool) -> None:
        self.fake.script(*[UNAVAILABLE] * (0 if reachable else 100_000))


def set_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Let the SDK find the fake's key, and nothing of the machine's own.
    """
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


def record(message: str) -> dict[str, Any]:
    loaded = orjson.loads(message)
    assert isinstance(loaded, dict)
    return loaded


__all__ = ["GROUP", "AwsSettings", "CloudWatchBench", "record", "set_credentials"]
