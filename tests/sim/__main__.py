"""
`python -m tests.sim`: run seeds, and say how to see a failure again.

    --seed 123 [--ticks 30] [--trace]    one run
    --seeds 0-1999 [--jobs 2]            many
    --mutants [NAME…]                    whether the simulation finds bugs that were put in on purpose
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sim.promise import BrokenPromise
    from tests.sim.schedule import Plan

#: After so many failures nobody reads on.
FAILURES_MAX = 5


def main(arguments: Sequence[str]) -> int:
    """
    Run the command; returns its exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", default="0-1999", help="first-last")
    parser.add_argument("--ticks", type=float, default=30, help="virtual seconds of events")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--share", default="0/1", help="of the seeds: number/of")
    parser.add_argument(
        "--trace", action="store_true", help="print what happens, in the shortest run that shows it"
    )
    parser.add_argument("--mutants", nargs="*", help="names; none: all of them")
    args = parser.parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of paths are iterated over: their order is part of the run.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        os.execve(sys.executable, [sys.executable, "-m", "tests.sim", *arguments], environment)
    if args.mutants is not None:
        from tests.sim.mutants import find_all

        return find_all(args.mutants, jobs=args.jobs)
    if args.seed is not None:
        return _run_one(args.seed, args.ticks, trace=args.trace)
    if args.jobs > 1:
        return _run_shared(args.seeds, args.ticks, args.jobs)
    return _run_many(args.seeds, args.ticks, args.share)


def _run_one(seed: int, ticks: float, *, trace: bool) -> int:
    from tests.sim.schedule import plan_of
    from tests.sim.world import World

    plan = plan_of(seed, ticks)
    world = World(plan)
    broken = world.run()
    if broken is not None:
        plan = report(plan, broken, ticks)
    if trace:
        shown = World(plan)
        shown.print_trace = True
        shown.run()
    if broken is not None:
        return 1
    print(f"seed {seed}: every promise is kept; digest {world.digest}")
    return 0


def _run_many(seeds: str, ticks: float, share: str) -> int:
    from tests.sim.schedule import plan_of
    from tests.sim.world import World

    first, _, last = seeds.partition("-")
    number, _, of = share.partition("/")
    chosen = range(int(first) + int(number), int(last or first) + 1, int(of))
    started = time.process_time()
    failures = lines = lives = events = 0
    for seed in chosen:
        plan = plan_of(seed, ticks)
        world = World(plan)
        broken = world.run()
        lines, lives = lines + world.pieces, lives + world.lives
        events += len(plan.events)
        if broken is not None:
            failures += 1
            report(plan, broken, ticks)
            if failures == FAILURES_MAX:
                break
    spent = time.process_time() - started
    print(
        f"{len(chosen)} seeds, {failures} failures; {lines} lines, {lives} lives of the agent, {events} events; "
        f"{spent / max(1, len(chosen)) * 1000:.0f} ms of CPU each"
    )
    return 1 if failures else 0


def _run_shared(seeds: str, ticks: float, jobs: int) -> int:
    command = [sys.executable, "-m", "tests.sim", "--seeds", seeds, "--ticks", f"{ticks:g}"]
    children = [
        subprocess.Popen([*command, "--share", f"{number}/{jobs}"]) for number in range(jobs)
    ]
    return max(child.wait() for child in children)


def report(plan: Plan, broken: BrokenPromise, ticks: float) -> Plan:
    """
    Print what broke, the shortest way there, which is returned, and the command that shows it again.
    """
    from tests.sim.shrink import shrink

    print(f"seed {plan.seed} broke {broken}", flush=True)
    shorter, found = shrink(plan, broken)
    print(f"  {len(shorter.events)} of {len(plan.events)} events are enough for\n  {found}")
    print(f"  routes {' '.join(plan.routes)}, formats {' '.join(plan.formats)}")
    for event in shorter.events:
        print(f"    {event}")
    ticked = "" if ticks == 30 else f" TICKS={ticks:g}"
    print(f"  again: make sim SEED={plan.seed}{ticked}", flush=True)
    return shorter


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
