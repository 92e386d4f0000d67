"""
What a route will never deliver is kept whole, before its loss is committed, and `tailrace replay` sends it again.
"""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest

from agent.core.batch import LossReason
from tests.e2e.world import World, sample, tailrace
from tests.edge.test_poison import MARK, SCRIPTS, START

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pods import Pod


def letters(world: World) -> dict[str, bytes]:
    """
    Return the dead letters of *world* by their path below the directory.
    """
    root = world.state / "dead-letters"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def letter_of(route: str, reason: str, pod: Pod) -> str:
    """
    Return where the dead letters of *pod* are.
    """
    return f"{route}/{reason}{pod.path}"


async def told(world: World, *arguments: str) -> str:
    """
    Return what a command says about the state directory.
    """
    done = await tailrace(*arguments, "-c", world.config_path)
    assert done.code == 0, done
    return done.out


async def test_refused_events_are_kept_and_sent_again(tmp_path: Path) -> None:
    """
    A line and a row of pieces that CloudWatch always refuses: their own lines are kept, and no others.

    status and losses say where; when the service takes them, a replay of the route delivers them, once, and the other
    route sees nothing of it.
    """
    async with World(tmp_path) as world:
        pod, other = world.pod("web-1"), world.pod("db-0", "data")
        world.cloudwatch.poison = lambda message: MARK in message
        pod.lines(20)
        pod.write(f"alone {MARK}")
        pod.write("begun, ", tag="P")
        pod.write("between", stream="stderr")
        pod.write(f"and ended with {MARK}", tag="F")
        pod.lines(20)
        other.lines(20)
        await world.start()
        good = {line for line in (*pod.written, *other.written) if MARK not in line[2]}
        await world.until(lambda: good <= world.events().keys(), "the other lines arrived")
        await world.until(lambda: letters(world), "the refused ones are kept")
        assert await world.stop() == 0, world.log
        world.assert_parquet_exact(pod, other)
        lines = pod.path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if MARK.encode() in line or b" P " in line]
        assert len(kept) == 3
        path = letter_of("cloudwatch", "refused", pod)
        assert letters(world) == {path: b"".join(kept)}
        status, losses = await told(world, "status"), await told(world, "losses")
        assert f"tailrace replay --route cloudwatch {world.state}/dead-letters/cloudwatch" in status
        assert f"dead letter {world.state}/dead-letters/{path}" in losses
        found = json.loads(await told(world, "losses", "--json"))
        assert {row["reason"] for row in found} == {"refused"}
        assert sum(row["rows"] for row in found) == 2
        plain = json.loads(await told(world, "status", "--json"))["dead_letters"]
        assert plain == [{"route": "cloudwatch", "files": 1, "bytes": len(b"".join(kept))}]
        world.cloudwatch.poison = lambda _message: False
        objects = len(world.s3.objects)
        arguments = ("replay", "-c", world.config_path, "--route", "cloudwatch")
        done = await tailrace(*arguments, world.state / "dead-letters" / "cloudwatch")
        assert done.code == 0, done
        world.assert_cloudwatch_exact(pod, other)
        assert len(world.s3.objects) == objects
        done = await tailrace(*arguments[:-1], "absent", world.state)
        assert done.code == 78
        assert "no route is called 'absent'; there are cloudwatch, archive" in done.err


async def test_poison_is_kept(tmp_path: Path) -> None:
    """
    The chunk that an encoder cannot get through is in a dead letter, and nothing of it is missing there.
    """
    async with World(tmp_path) as world:
        world.source["chunk_bytes"] = 4096
        pod = world.pod("web-1")
        pod.lines(100)
        pod.write(f"a line with {MARK}")
        pod.lines(100)
        script = tmp_path / "agent_with_poison.py"
        script.write_text(SCRIPTS["cloudwatch"] + START)
        await world.start(program=(str(script),), env={"PYTHONPATH": os.getcwd()})
        last = pod.written[-1]
        await world.until(lambda: last in world.events(), "the last line arrived")
        assert await world.stop() == 0, world.log
        kept = letters(world)
        assert list(kept) == [letter_of("cloudwatch", "poison", pod)]
        missing = [
            text for name, stream, text in pod.written if (name, stream, text) not in world.events()
        ]
        assert missing
        found = [line.split(b" ", 3)[3].decode() for line in kept.popitem()[1].splitlines()]
        assert found == missing
        losses = json.loads(await told(world, "losses", "--json"))
        assert {row["reason"] for row in losses} == {LossReason.POISON}
        assert all(row["detail"].startswith("dead letter ") for row in losses)


def _has_rejected(count: int, found: dict[str, float]) -> bool:
    return (
        found.get(sample("tailrace_rejected_rows_total", reason="refused", route="cloudwatch"))
        == count
    )


async def test_full(tmp_path: Path, free_port: int) -> None:
    """
    Past dead_letter_bytes_max nothing is kept and nothing is deleted; it is said, counted and in the loss record.
    """
    async with World(tmp_path) as world:
        world.settings["dead_letter_bytes_max"] = 200
        world.settings["admin"] = {"listen": f"127.0.0.1:{free_port}"}
        world.only("cloudwatch")
        world.cloudwatch.poison = lambda message: MARK in message
        pod = world.pod("web-1")
        await world.start()
        for number in range(3):
            pod.write(f"{number} {MARK} {'x' * 80}")
            pod.write(f"good {number}")
            # One checkpoint each: the first one fits, the others do not.
            await world.until(lambda: pod.written[-1] in world.events(), "the good line arrived")
            await world.started()
            await world.until_metrics(partial(_has_rejected, number + 1), "the refusal is recorded")
        found = await world.metrics()
        dropped = 'tailrace_dead_letters_dropped_total{reason="refused",route="cloudwatch"}'
        assert found[dropped] == 2
        assert await world.stop() == 0, world.log
        (content,) = letters(world).values()
        assert content.count(b"\n") == 1
        assert b" 0 " in content
        assert "replay and delete what is in" in world.log
        losses = json.loads(await told(world, "losses", "--json"))
        assert sum(row["rows"] for row in losses) == 3
        nowhere = [row for row in losses if "no dead letter" in row["detail"]]
        assert sum(row["rows"] for row in nowhere) == 2


async def test_killed_between_the_letter_and_its_loss(tmp_path: Path) -> None:
    """
    The letter may be there twice, the loss is recorded once, and nothing else is repeated in Parquet.
    """
    async with World(tmp_path) as world:
        world.cloudwatch.poison = lambda message: MARK in message
        pod = world.pod("web-1")
        pod.lines(10)
        pod.write(f"alone {MARK}")
        pod.lines(10)
        await world.start(crash_at="letters_kept:1")
        assert await world.ended() == -signal.SIGKILL
        (before,) = letters(world).values()
        # As a crash in the middle of the write would leave it.
        path = world.state / "dead-letters" / letter_of("cloudwatch", "refused", pod)
        path.write_bytes(before + b"2026-11-22T10:15:00Z stdout F torn")
        await world.start()
        await world.until(lambda: pod.written[-1] in world.events(), "the last line arrived")
        await world.until(lambda: path.read_bytes() == before * 2, "the letter is kept again")
        assert await world.stop() == 0, world.log
        losses = json.loads(await told(world, "losses", "--json"))
        assert [row["rows"] for row in losses] == [1]
        world.assert_parquet_exact(pod)


@pytest.mark.parametrize("reasons", [[], ["too_old"]])
async def test_reasons_are_a_choice(reasons: list[str], tmp_path: Path) -> None:
    """
    Lines that are too old are kept where the configuration says so.
    """
    async with World(tmp_path) as world:
        world.settings["dead_letter_reasons"] = reasons
        world.only("cloudwatch")
        pod = world.pod("web-1")
        old = "2020-01-01T00:00:00.000000000Z stdout F old {}\n"
        pod.raw("".join(old.format(number) for number in range(5)).encode())
        pod.write("new")
        await world.start()
        await world.until(lambda: pod.written[-1] in world.events(), "the new line arrived")
        assert await world.stop() == 0, world.log
        kept = [old.format(number) for number in range(5)] if reasons else []
        assert b"".join(letters(world).values()).decode() == "".join(kept)
        (loss,) = json.loads(await told(world, "losses", "--json"))
        assert (loss["reason"], loss["rows"]) == ("too_old", 5)
