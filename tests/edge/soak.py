"""
A soak: an agent for a long time under churn and trouble, and whether it needs more at the end than at the beginning.

    python -m tests.edge.soak --minutes 30

It begins with the longest outage, of both destinations: what that leaves behind is there from then on.  Then pods come
and go, files rotate, are copied, cut and deleted (writer.py); CloudWatch throttles, either destination goes away and
comes back, requests fail in every way (storms.py).  Meanwhile memory, descriptors and threads of the agent are sampled.

What it has *at rest* is compared: where little was held for so long that it gave back what it had for the rest.  (What
is held in an outage is no leak: memory_budget_bytes bounds it.)  Of that the medians of the first and of the last
quarter are taken, after a warm-up.  It is *flat* where no median grew by more than its limit below.  The samples and
the verdict are written as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from agent.core.counters import BUDGET_HELD_BYTES
from agent.runtime.memory import TRIM_INTERVAL_S
from tests.e2e.world import REPOSITORY, World
from tests.edge import storms
from tests.edge.ordeal import AGENT, Ordeal

#: The part of the run that does not count: caches fill, the heap finds its size.
WARM_UP_SHARE = 0.3
SAMPLE_S = 1.0
#: At rest no more is held, and was for so long: memory that is free goes back every 30 s.
REST_HELD_MIB = 1.0
REST_S = TRIM_INTERVAL_S + 5
#: Seconds until the first outage, and how long outages are at most.
FIRST_OUTAGE_S = 10.0
OUTAGE_S_MAX = 40.0
#: Samples at rest of which a quarter has a median that says something.
RESTS_MIN = 40
#: Growth of a median that is no leak.  A seal, a storm or a rotated file that waits for a route moves them by as much.
GROWTH_MAX = {"rss_mib": 6.0, "pss_mib": 6.0, "descriptors": 12.0, "threads": 2.0}
#: PutLogEvents a second while CloudWatch throttles; the writer asks for more.
THROTTLED_TPS = 8.0
MIB = 1 << 20
HELD = BUDGET_HELD_BYTES.name + "{"


class Sample(NamedTuple):
    """
    What the agent has, so many seconds after its start.
    """

    at_s: float
    rss_mib: float
    pss_mib: float
    descriptors: int
    threads: int
    held_mib: float = 0.0  # of the budget


class Trend(NamedTuple):
    """
    How one measure went.
    """

    name: str
    first: float  # median
    last: float
    slope_hour: float
    growth_max: float

    @property
    def flat(self) -> bool:
        return self.last - self.first <= self.growth_max


def sample(pid: int, at_s: float, held_mib: float) -> Sample:
    """
    Look at the process *pid*, which says that it holds so much.
    """
    rollup = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    )
    return Sample(
        at_s,
        int(rollup["Rss"].split()[0]) / 1024,
        int(rollup["Pss"].split()[0]) / 1024,
        len(os.listdir(f"/proc/{pid}/fd")),
        len(os.listdir(f"/proc/{pid}/task")),
        held_mib,
    )


def at_rest(samples: list[Sample]) -> list[Sample]:
    """
    Return those of *samples* that nothing but the agent itself is in.
    """
    busy_s = float("-inf")
    found = []
    for item in samples:
        if item.held_mib > REST_HELD_MIB:
            busy_s = item.at_s
        elif item.at_s - busy_s >= REST_S:
            found.append(item)
    return found


def trends(samples: list[Sample], *, warm_up_share: float = WARM_UP_SHARE) -> list[Trend]:
    """
    Compare the first with the last quarter of *samples* after the warm-up.
    """
    kept = samples[int(len(samples) * warm_up_share) :]
    quarter = max(1, len(kept) // 4)
    times = [item.at_s / 3600 for item in kept]
    found = []
    for name, growth_max in GROWTH_MAX.items():
        values = [float(getattr(item, name)) for item in kept]
        slope = statistics.linear_regression(times, values).slope if len(kept) > 1 else 0.0
        first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
        found.append(Trend(name, first, last, slope, growth_max))
    return found


class Soak:
    """
    One run.
    """

    def __init__(self, world: World, *, seed: int, program: str = AGENT) -> None:
        self.world = world
        self.ordeal = Ordeal(world, seed=seed)
        self.random = random.Random(seed)
        self.program = program
        self.samples: list[Sample] = []
        self.faults = 0

    async def run(self, seconds: float) -> None:
        """
        Let the agent run for *seconds*.
        """
        world = self.world
        world.sink("archive")["window_age_s"] = 20
        world.settings["commit_interval_s"] = 1.0
        await self.ordeal.begin(forget=True)
        await world.start(program=("-c", self.program))
        await world.started()
        began = time.monotonic()
        tasks = [asyncio.create_task(self._trouble()), asyncio.create_task(self._forget())]
        try:
            while (at_s := time.monotonic() - began) < seconds:
                assert world.agent is not None
                assert world.agent.returncode is None, world.log[-5000:]
                metrics = await world.metrics()
                held = sum(size for name, size in metrics.items() if name.startswith(HELD))
                self.samples.append(sample(world.agent.pid, at_s, held / MIB))
                await world.until_or_ended(SAMPLE_S)
                assert all(not task.done() for task in tasks), tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.ordeal.kill_writer()

    async def _trouble(self) -> None:
        await asyncio.sleep(FIRST_OUTAGE_S)
        both = ("cloudwatch", "s3")
        met = await asyncio.gather(*(storms.away(self.world, it, OUTAGE_S_MAX) for it in both))
        self.faults += sum(met)
        while True:
            await asyncio.sleep(self.random.uniform(3, 15))
            kind = self.random.choice(("throttled", "down", "storm", "storm"))
            if kind == "throttled":
                self.world.cloudwatch.tps = THROTTLED_TPS
                await asyncio.sleep(self.random.uniform(10, 30))
                self.world.cloudwatch.tps = None
                self.faults += 1
            elif kind == "down":
                destination = self.random.choice(both)
                self.faults += await storms.away(
                    self.world, destination, self.random.uniform(5, OUTAGE_S_MAX)
                )
            else:
                self.faults += await storms.one(
                    self.world, *self.random.choice(storms.KINDS), self.random
                )

    async def _forget(self) -> None:
        """
        Let the destinations forget: they live in this process, which would grow.
        """
        while True:
            await asyncio.sleep(20)
            self.world.cloudwatch.requests.clear()
            for group in self.world.cloudwatch.groups.values():
                for events in group.streams.values():
                    events.clear()
            for key in list(self.world.s3.objects)[:-20]:
                del self.world.s3.objects[key]


def verdict(found: list[Trend]) -> str:
    """
    Return the trends for people.
    """
    lines = [f"{'':12}{'first':>10}{'last':>10}{'an hour':>10}{'allowed':>10}"]
    for item in found:
        said = "flat" if item.flat else "GROWS"
        lines.append(
            f"{item.name:12}{item.first:10.1f}{item.last:10.1f}{item.slope_hour:+10.1f}{item.growth_max:+10.1f}  {said}"
        )
    return "\n".join(lines)


async def soak(directory: Path, *, seconds: float, seed: int, program: str = AGENT) -> Soak:
    """
    Run a soak in *directory*.
    """
    async with World(directory) as world:
        run = Soak(world, seed=seed, program=program)
        await run.run(seconds)
        return run


def main() -> int:
    """
    Soak.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.edge.soak")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench" / "out" / "soak.json")
    args = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="tailrace-soak-"))
    try:
        run = asyncio.run(soak(directory, seconds=args.minutes * 60, seed=args.seed))
    finally:
        shutil.rmtree(directory)
    rests = at_rest(run.samples)
    found = trends(rests)
    print(verdict(found))
    peak = max(item.rss_mib for item in run.samples)
    print(
        f"{args.minutes:g} minutes, {len(rests) / len(run.samples):.0%} of them at rest, "
        f"{run.faults} faults, peak {peak:.1f} MiB RSS, seed {args.seed}"
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "minutes": args.minutes,
        "seed": args.seed,
        "faults": run.faults,
        "rests": len(rests),
        "flat": all(item.flat for item in found),
        "trends": [item._asdict() for item in found],
        "samples": [item._asdict() for item in run.samples],
    }
    args.out.write_text(json.dumps(figures, indent=1))
    print(f"samples: {args.out}")
    if len(rests) < RESTS_MIN:
        print(f"{len(rests)} samples at rest, {RESTS_MIN} wanted: too short to tell")
        return 1
    return 0 if figures["flat"] else 1


if __name__ == "__main__":
    sys.exit(main())
