"""
A real agent in trouble: a verifying writer, two strict destinations, and what is done to the agent and to them.

    python -m tests.edge.ordeal crashes --count 50 --seed 1
    python -m tests.edge.ordeal faults --count 40 --seed 1

`crashes` kills the agent with SIGKILL at random; `faults` lets the destinations fail in every way.  Both end with
a healthy agent that catches up and drains, a second one that must find nothing to repeat, and the checks of check.py.
Everything random follows from the seed but what the kernel's scheduler does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tests.e2e.world import REPOSITORY, World
from tests.edge import landed, storms
from tests.edge.check import Checker, Spans, Verdict
from tests.edge.journal import Journal, names_in
from tests.edge.own_time import OwnTime
from tests.fakes.ports import unused_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

SLOTS = 14
#: A line that was delivered so long before a crash is not repeated after it: it was committed
#: (commit_interval_s is 0.1 here).
COMMITTED_S = 3.0
CATCH_UP_S = 90.0
#: An agent that is not ready after this is killed all the same.
START_S = 15.0
#: Runs the agent with time-outs of S3 that a test can wait for.
AGENT = (
    "import sys; from agent.sinks import parquet_s3; parquet_s3.TIMEOUT_S = 2.0; "
    "from agent.cli.main import main; sys.exit(main())"
)


class Ordeal:
    """
    One run.
    """

    def __init__(self, world: World, *, seed: int, slots: int = SLOTS) -> None:
        self.world, self.seed, self.slots = world, seed, slots
        self.random = random.Random(seed)
        self.up: Spans = []
        self.own_time = OwnTime()
        self.kills: list[float] = []
        self.faults: Counter[str] = Counter()
        self.writer: asyncio.subprocess.Process | None = None
        self.found = Verdict()
        #: What CloudWatch took, and when.
        self.taken: list[tuple[float, dict[str, Any]]] = []

    # -- the writer and the agent -------------------------------------------------------------

    async def begin(self, *, forget: bool = False) -> None:
        """
        Start the writer; one that *forgets* what it wrote can write for hours.
        """
        world = self.world
        if not forget:
            self.note_taken()
        world.settings["admin"]["listen"] = f"127.0.0.1:{unused_port()}"
        world.source["paths"] = [
            f"{world.directory}/pods/*/*/*.log",
            f"{world.directory}/apps/*/*.log",
        ]
        world.source["piece_timeout_s"] = 5
        world.source["rescan_interval_s"] = 1
        world.sink("cloudwatch")["stream"] = "{namespace}.{pod}.{container}"
        world.sink("cloudwatch")["request_timeout_s"] = 2
        self.writer = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.edge.writer"),
            *(str(world.directory), str(self.seed), str(self.slots)),
            *(["forget"] if forget else []),
            cwd=REPOSITORY,
            stdin=asyncio.subprocess.PIPE,
        )

    def note_taken(self) -> None:
        """
        Note when CloudWatch took what.
        """
        put = self.world.cloudwatch._put_log_events

        def noted(body: dict[str, Any]) -> dict[str, Any]:
            answer = put(body)
            self.taken.append((time.monotonic(), body))
            return answer

        self.world.cloudwatch._put_log_events = noted  # type: ignore[method-assign]

    async def end_writer(self) -> None:
        """
        Let the writer end its rows and write its journal.
        """
        assert self.writer is not None
        assert self.writer.stdin is not None
        self.writer.stdin.close()
        assert await self.writer.wait() == 0

    async def kill_writer(self) -> None:
        """
        End a writer that still writes.
        """
        if self.writer is not None and self.writer.returncode is None:
            self.writer.kill()
            await self.writer.wait()

    def vary(self) -> None:
        """
        Choose settings that let other things happen than the last time.
        """
        choice = self.random.choice
        self.world.source["chunk_bytes"] = choice((4096, 16384, 262144))
        self.world.sink("archive")["window_age_s"] = choice((2, 3, 5))
        self.world.sink("archive")["frame_age_s"] = choice((0.02, 0.1, 0.5))
        self.world.sink("cloudwatch")["linger_s"] = choice((0.02, 0.5, 2.0))

    async def live(self, start_s: float, ready_s: float) -> None:
        """
        Start the agent, let it live for *start_s* and, once it is ready, for *ready_s*.
        """
        await self.world.start(program=("-c", AGENT))
        deadline = time.monotonic() + start_s
        ready = 0.0
        while (now := time.monotonic()) < deadline:
            if not ready and (await self.world.get("/readyz"))[0] == 200:
                ready = time.monotonic()
                deadline = min(deadline, ready + ready_s)
            await self.world.until_or_ended(min(0.05 if not ready else 60, deadline - now))
            assert self.world.agent is not None
            if self.world.agent.returncode is not None:
                raise AssertionError(f"the agent ended by itself:\n{self.world.log[-5000:]}")
        if ready:
            self.up.append((ready, time.monotonic()))

    async def start(self) -> None:
        """
        Start an agent that lives on.
        """
        await self.world.start(program=("-c", AGENT))
        await self.world.started()
        self.up.append((time.monotonic(), float("inf")))

    async def crash(self) -> None:
        """
        A life that ends with SIGKILL.
        """
        self.vary()
        at_start = self.random.random() < 0.3
        ready_s = self.random.choice((0.5, 4, 8)) * self.random.random()
        await self.live(self.random.random() if at_start else START_S, ready_s)
        self.kills.append(time.monotonic())
        await self.world.kill()
        await asyncio.sleep(self.random.choice((0, 0, 0.2, 1)))

    async def catch_up(self) -> None:
        """
        Wait until nothing lags, with an agent that lives on, then drain it.
        """
        world = self.world
        if world.agent is None or world.agent.returncode is not None:
            await self.start()
        since = time.monotonic()
        if self.writer is not None and self.writer.returncode is None:
            await self.end_writer()
        quiet = 0
        while quiet < 3:
            metrics = await world.metrics()
            lag = [name for name in metrics if name.startswith("tailrace_log_lag_bytes")]
            quiet = 0 if lag else quiet + 1
            if time.monotonic() - since > CATCH_UP_S:
                raise AssertionError(f"still behind: {lag[:5]}\n{world.log[-5000:]}")
            await world.until_or_ended(0.3)
        code = await world.stop(signal.SIGTERM)
        assert code == 0, world.log[-5000:]

    # -- what is wrong ------------------------------------------------------------------------

    def pid(self) -> int | None:
        """
        Return the process of the agent, where there is one.
        """
        agent = self.world.agent
        return None if agent is None or agent.returncode is not None else agent.pid

    async def check(self) -> None:
        """
        Check everything.
        """
        world = self.world
        events, rows = landed.events(self.world), landed.rows(self.world)
        losses = landed.losses(self.world)
        # A graceful stop: the next agent finds nothing to repeat.
        await self.catch_up()
        journal = msgspec.json.decode((world.directory / "journal.json").read_bytes(), type=Journal)
        run = {"up": self.up, "kills": self.kills, "own_time": self.own_time.samples}
        (world.directory / "run.json").write_text(json.dumps(run))
        checker = Checker(journal, self.up, self.own_time)
        by_route = {
            route: [loss for loss in losses if loss["route"] == route]
            for route in ("cloudwatch", "archive")
        }
        checker.check_events("cloudwatch", events, by_route["cloudwatch"])
        checker.check_rows("archive", rows, by_route["archive"])
        again = [
            sum(map(len, now)) - sum(map(len, then))
            for now, then in ((landed.events(self.world), events), (landed.rows(self.world), rows))
        ]
        checker.verdict.add("events and rows repeated after a graceful stop", [again] * any(again))
        if self.kills:
            checker.verdict.add("events repeated that were committed", list(self.repeated()))
        checker.verdict.add("multipart uploads left behind", list(world.s3.uploads))
        self.found = checker.verdict

    def repeated(self) -> Iterator[str]:
        """
        Yield the lines that came again although they were delivered long before the crash.
        """
        latest: dict[Any, float] = {}
        for now, body in self.taken:
            for event in body["logEvents"]:
                for name in names_in(json.loads(event["message"])["log"])[0]:
                    before = latest.get(name, now)
                    latest[name] = now
                    kill = next((at for at in self.kills if before < at < now), 0.0)
                    if not kill:
                        continue
                    had_s = self.own_time(kill) - self.own_time(before)
                    if had_s > COMMITTED_S:
                        yield f"{name}: delivered {had_s:.1f} s before the crash"


async def crashes(directory: Path, *, seed: int, kills: int, slots: int = SLOTS) -> Ordeal:
    """
    Kill the agent *kills* times.
    """

    async def trouble(ordeal: Ordeal) -> None:
        while len(ordeal.kills) < kills:
            await ordeal.crash()

    return await _run(directory, seed, slots, trouble)


async def faults(directory: Path, *, seed: int, count: int, slots: int = SLOTS) -> Ordeal:
    """
    Let the destinations fail in *count* ways, one after the other, while one agent runs.
    """

    async def trouble(ordeal: Ordeal) -> None:
        ordeal.vary()
        await ordeal.start()
        kinds: list[tuple[str, str]] = []
        for _ in range(count):
            kinds = kinds or ordeal.random.sample(storms.KINDS, k=len(storms.KINDS))
            destination, kind = kinds.pop()
            met = await storms.one(ordeal.world, destination, kind, ordeal.random)
            ordeal.faults[f"{destination}: {kind}"] += met

    return await _run(directory, seed, slots, trouble)


async def _run(
    directory: Path, seed: int, slots: int, trouble: Callable[[Ordeal], Awaitable[None]]
) -> Ordeal:
    async with World(directory) as world:
        ordeal = Ordeal(world, seed=seed, slots=slots)
        watch = asyncio.create_task(ordeal.own_time.sample(ordeal.pid))
        try:
            await ordeal.begin()
            await trouble(ordeal)
            await ordeal.catch_up()
            await ordeal.check()
        finally:
            watch.cancel()
            await asyncio.wait((watch,))
            await ordeal.kill_writer()
    return ordeal


def figures(ordeal: Ordeal) -> str:
    """
    Return what was done and what was found, for people.
    """
    found = ordeal.found
    parts = [
        f"seed {ordeal.seed}",
        f"{len(ordeal.kills)} crashes survived",
        f"{ordeal.faults.total()} faults met",
        f"{found.lines} lines checked at each destination ({found.owed} owed)",
        *(f"{route}: {lost} lines in loss records" for route, lost in found.lost.items()),
        *(f"{route}: {count} not owed and missing" for route, count in found.excused.items()),
        *(f"{route}: {count} repeated" for route, count in found.duplicates.items()),
        f"{found.unknown} loss records of files without a whole first line",
        *(f"{kind}: {count}" for kind, count in sorted(ordeal.faults.items())),
    ]
    return "\n".join(parts)


def main() -> int:
    """
    Run one ordeal in a directory of its own, and print its figures.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.edge.ordeal")
    parser.add_argument("trouble", choices=("crashes", "faults"))
    parser.add_argument("--count", type=int, default=50, help="kills, or storms")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--slots", type=int, default=SLOTS, help="containers at a time")
    parser.add_argument("--keep", action="store_true", help="keep the directory of any run")
    args = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="tailrace-ordeal-"))
    run = (
        crashes(directory, seed=args.seed, kills=args.count, slots=args.slots)
        if args.trouble == "crashes"
        else faults(directory, seed=args.seed, count=args.count, slots=args.slots)
    )
    ordeal = asyncio.run(run)
    print(figures(ordeal))
    for problem in ordeal.found.problems:
        print(f"PROBLEM {problem}")
    if ordeal.found.problems:
        print(
            f"again: python -m tests.edge.ordeal {args.trouble} --count {args.count} --seed {args.seed}"
        )
    if args.keep or ordeal.found.problems:
        print(directory)
    else:
        shutil.rmtree(directory)
    return bool(ordeal.found.problems)


if __name__ == "__main__":
    sys.exit(main())
