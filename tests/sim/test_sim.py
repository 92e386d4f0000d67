"""
The simulation, in short: a hundred seeds, what it has found before, and bugs that it must find.

The long form is `make sim` (2,000 seeds) and `make sim-mutants` (all of them).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.sim.mutants import MUTANTS
from tests.sim.schedule import Event, Plan, plan_of
from tests.sim.shrink import shrink
from tests.sim.world import World

#: A mutant, a seed that finds it, and the promise that it breaks.
KNOWN = [
    ("one_offset_for_both_streams", 0, "P1"),
    ("staging_not_cut_at_start", 4, "P4"),
    ("charge_not_released", 0, "P6"),
]


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """
    Run the simulation as a person does.
    """
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(
        [sys.executable, "-m", "tests.sim", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_of(
    *events: tuple[float, str, tuple[object, ...]],
    routes: tuple[str, ...],
    formats: tuple[str, ...] = ("cri",),
) -> World:
    """
    Run these events and return the world behind them.
    """
    plan = Plan(
        1, routes, formats, 4096, "message", False, tuple(Event(*event) for event in events)
    )
    world = World(plan)
    broken = world.run()
    assert broken is None, broken
    return world


@pytest.mark.timeout(300)
def test_a_hundred_seeds_keep_every_promise() -> None:
    """
    Crashes at any await, power losses, rotations, faults of both services and of the disk.
    """
    done = simulate("--seeds", "0-99")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 seeds, 0 failures" in done.stdout


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """
    What a person sees again is what has failed.
    """
    digests = [re.findall("digest (.*)", simulate("--seed", "3").stdout) for _ in range(2)]
    assert digests[0] == digests[1] != []


@pytest.mark.parametrize(("name", "seed", "promise"), KNOWN, ids=str)
def test_a_bug_that_was_put_in_is_found(name: str, seed: int, promise: str) -> None:
    """
    A simulation that finds nothing proves nothing.
    """
    with MUTANTS[name]():
        broken = World(plan_of(seed)).run()
    assert broken is not None
    assert broken.promise == promise


def test_a_failure_is_shrunk_to_what_it_needs() -> None:
    """
    Few events are left, they still break the same promise, and without the bug they break none.
    """
    plan = plan_of(0)
    with MUTANTS["one_offset_for_both_streams"]():
        broken = World(plan).run()
        assert broken is not None
        shorter, found = shrink(plan, broken)
    assert found.promise == broken.promise
    assert len(shorter.events) <= 4
    assert World(shorter).run() is None


def test_a_failure_says_how_to_see_it_again() -> None:
    """
    The report names the promise, the events and the command.
    """
    code = (
        "import sys\n"
        "from tests.sim.__main__ import main\n"
        "from tests.sim.mutants import MUTANTS\n"
        "with MUTANTS['one_offset_for_both_streams']():\n"
        "    sys.exit(main(['--seed', '0']))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr
    assert "seed 0 broke P1" in done.stdout
    assert "events are enough for" in done.stdout
    assert "again: make sim SEED=0" in done.stdout


# -- what it has found --------------------------------------------------------------------------


def test_a_rotated_file_is_not_read_again_when_the_live_one_is_deleted() -> None:
    """
    The rotated file was delivered and forgotten, and with the live one gone nothing told that it was old.
    """
    world = run_of(
        (1.0, "write", (0, 20, "plain")),
        (3.0, "rotate", (0, "plain")),
        (5.0, "write", (0, 20, "plain")),
        (9.0, "delete", (0, "live")),
        routes=("cw", "s3"),
    )
    assert world.oracle.repeated == 0


def test_a_rotated_file_is_not_read_again_when_the_live_one_is_truncated() -> None:
    """
    The same, with `> app.log` instead of a removal.
    """
    world = run_of(
        (1.0, "write", (0, 1, "plain")),
        (2.0, "rotate", (0, "plain")),
        (3.0, "write", (0, 20, "plain")),
        (9.0, "rotate", (0, "truncate")),
        routes=("cw", "s3"),
        formats=("raw",),
    )
    assert world.oracle.repeated == 0


def test_a_file_that_a_power_loss_shortened_is_not_new_to_the_start_after_the_next() -> None:
    """
    The store still counted the bytes that were gone, so to a start without a power loss the file looked cut.
    """
    world = run_of(
        (1.0, "write", (0, 20, "plain")),
        (8.0, "power", (1.0,)),
        (14.0, "kill", (1.0, 0)),
        routes=("cw", "s3"),
    )
    assert world.oracle.repeated == 0


def test_rows_of_one_stream_keep_their_order_in_a_row_group_across_a_crash() -> None:
    """
    An open row of stderr is read again from its start, in a segment that begins before rows of stdout.
    """
    run_of(
        (1.0, "write", (0, 60, "pieces")),
        (3.5, "write", (0, 3, "pieces")),
        (5.0, "kill", (0.1, 0)),
        (5.5, "write", (0, 20, "pieces")),
        routes=("s3", "bh"),
    )


def test_growth_that_one_route_sees_first_is_told_to_the_others() -> None:
    """
    The reader of one route looked at the file before the tick did, and the other waited for the next line.
    """
    broken = World(plan_of(967)).run()
    assert broken is None, broken
