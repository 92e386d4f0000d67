"""
The strict fake and a bench around it, for the tests of the CloudWatch sink.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.cloudwatch import FakeCloudWatch
from tests.sinks.cloudwatch_bench import CloudWatchBench, set_credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
async def fake() -> AsyncIterator[FakeCloudWatch]:
    async with FakeCloudWatch() as server:
        yield server


@pytest.fixture
async def make_cloudwatch(
    fake: FakeCloudWatch, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., CloudWatchBench]]:
    set_credentials(monkeypatch)
    made: list[CloudWatchBench] = []

    def make(**settings: object) -> CloudWatchBench:
        made.append(CloudWatchBench(fake, **settings))
        return made[-1]

    yield make
    for item in made:
        await item.aws.close()
