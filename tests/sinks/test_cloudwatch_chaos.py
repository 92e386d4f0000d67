"""
Random faults on every operation, random cuts, restarts from what is settled: no line is ever missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from agent.sinks import cloudwatch, cloudwatch_payloads
from tests.contract.sink import LONG_S, make_segment, running
from tests.fakes.cloudwatch import (
    IMPOSTOR,
    INTERNAL,
    RESET_AFTER,
    RESET_BEFORE,
    THROTTLED,
    UNAVAILABLE,
    Fault,
)
from tests.sinks.cloudwatch_bench import GROUP

FAULTS = [
    THROTTLED,
    UNAVAILABLE,
    INTERNAL,
    RESET_BEFORE,
    RESET_AFTER,
    IMPOSTOR,
    Fault("error", 400, "AccessDeniedException"),
    Fault("error", 400, "ExpiredTokenException"),
    Fault("error", 400, "OperationAbortedException"),
    Fault("error", 400, "ResourceNotFoundException"),
    Fault("error", 400, "SomethingNewException"),
    Fault("error", 413, ""),
    Fault("error", 415, ""),
]
NONE = Fault("none")
OPERATIONS = ["PutLogEvents", "CreateLogStream", "CreateLogGroup", "PutRetentionPolicy"]
LOGS = "abcde"


@pytest.fixture
def small_batches(monkeypatch, seed):
    """
    For every other seed: rows are left over behind full requests.
    """
    if seed % 2:
        for module in (cloudwatch, cloudwatch_payloads):
            monkeypatch.setattr(module, "BATCH_EVENTS_MAX", 1 + seed * 3)


@pytest.mark.parametrize("seed", range(12))
async def test_no_line_is_missing_and_none_is_settled_that_did_not_arrive(
    make_cloudwatch, fake, small_batches, seed
):
    dice = random.Random(seed)
    for operation in OPERATIONS:
        faults = [dice.choice(FAULTS) if dice.random() < 0.6 else NONE for _ in range(60)]
        fake.script(*faults, operation=operation)
    lines = {log: [f"{log}{number}" for number in range(dice.randint(1, 400))] for log in LOGS}
    poison = dice.choice(lines["a"])
    fake.poison = poison.__eq__
    bench = make_cloudwatch(retention_days=3, linger_s=dice.choice([0.0, 1.0]))
    open_lines = {log: list(items) for log, items in lines.items()}
    for round_ in range(4):
        segments = {}
        with contextlib.suppress(asyncio.CancelledError):
            async with running(bench) as (sink, run, _):
                for log, items in open_lines.items():
                    middle = dice.randint(0, len(items))
                    segments[log] = [
                        make_segment(bench.share, part, log=log, start=start)
                        for part, start in ((items[:middle], 0), (items[middle:], 10**6))
                        if part
                    ]
                    for segment in segments[log]:
                        sink.accept(segment)
                if round_ == 3:
                    fake._faults.clear()
                    await sink.drain(LONG_S)
                else:
                    sleeps = dice.randint(1, 400)

                    def cut(run=run):
                        nonlocal sleeps
                        sleeps -= 1
                        if sleeps == 0:
                            run.cancel()

                    bench.clock.on_sleep = cut
                    await asyncio.wait((run,))
        bench.clock.on_sleep = lambda: None
        assert bench.share.held == 0
        for log, kept in segments.items():
            # As a route does: what is not resolved is read again.
            rest = []
            items = open_lines[log]
            for segment in kept:
                part, items = items[: segment.rows], items[segment.rows :]
                if segment.rows_open:
                    rest += part
                else:
                    arrived = set(bench.lines(log)) | {poison}
                    assert set(part) <= arrived
            open_lines[log] = rest
    assert not any(open_lines.values())
    for log in LOGS:
        assert set(bench.lines(log)) == set(lines[log]) - {poison}
    # A cut between a refusal and the rest of its segment records it once more.
    assert {loss.rows for loss in bench.resolve.losses} == {1}
    assert fake.groups[GROUP]
