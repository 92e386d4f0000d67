"""
The source `journal` in the agent as a process, over a real journal.
"""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e.world import World, sample
from tests.fakes.cloudwatch import REGION
from tests.fakes.journal import Journal, real

if TYPE_CHECKING:
    from pathlib import Path


def follow(world: World, journal: Journal) -> None:
    """
    Let the archive of *world* read the kubelet's entries in *journal*.
    """
    world.only("archive")
    world.settings["sources"] = [
        {
            "name": "kubelet",
            "type": "journal",
            "units": ["kubelet.service"],
            "directory": str(journal.directory),
        }
    ]
    (route,) = world.routes
    route["transforms"] = [{"parse": "component"}]
    route["sink"] |= {"column_sets": ["components"], "window_age_s": 0.5}


async def entries(world: World, count: int) -> None:
    """
    Wait until this run of the agent has put so many entries into the spool.
    """
    name = sample("tailrace_journal_entries_total", source="kubelet")
    await world.started()
    await world.until_metrics(lambda found: found.get(name, 0) >= count, f"{count} entries")


async def rows(world: World, count: int) -> None:
    """
    Wait until so many rows have been uploaded.
    """
    await world.until(lambda: len(world.columns("message")) >= count, f"{count} rows")


@real
async def test_every_entry_once_over_kills(tmp_path: Path, free_port: int) -> None:
    """
    Entries from before the start, from while it ran, and from while it did not: each is one row, in their order.
    """
    journal = Journal(tmp_path / "journal")
    async with World(tmp_path) as world:
        follow(world, journal)
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        klog = [f'I1122 19:00:01.{n:06}    4211 kubelet.go:{n}] "Entry" n={n}' for n in range(60)]
        journal.write(*klog[:20])
        journal.write("of another unit", unit="sshd.service")
        await world.start()
        await entries(world, 20)
        journal.write(*klog[20:30])
        await entries(world, 30)
        await world.kill()
        journal.write(*klog[30:40])
        await world.start()
        journal.write(*klog[40:])
        await entries(world, 30)
        await world.kill()
        await world.start()
        odd: list[str | bytes] = ["two\nlines", b"not UTF-8: \xff", "x" * 100_000]
        journal.write(*odd)
        await entries(world, 3)
        await rows(world, 63)
        metrics = await world.metrics()
        assert await world.stop() == 0
        assert not metrics.get(sample("tailrace_journal_gaps_total", source="kubelet"))
        names = ("time_ns", "message", "container", "level", "caller")
        found = sorted(world.columns(*names))
        assert [row[1] for row in found] == [*klog, odd[0], "not UTF-8: \ufffd", odd[2]]
        assert found[0][2:] == ("kubelet", "INFO", "kubelet.go:0")
        assert found[0][0] == (journal.began_us + 1) * 1000
        assert await world.losses() == []


@real
@pytest.mark.parametrize("point", ["spool_written", "spool_counts", "spool_named", "commit_after"])
async def test_killed_at_points_and_moments(point: str, tmp_path: Path) -> None:
    """
    While entries come without a pause: killed at *point*, then at any moment, each is one row.
    """
    journal = Journal(tmp_path / "journal")
    chance = random.Random(point)
    sent: list[str] = []

    def write() -> None:
        messages = [f"entry {len(sent) + n}" for n in range(chance.randrange(1, 30))]
        sent.extend(messages)
        journal.write(*messages)

    async with World(tmp_path) as world:
        follow(world, journal)
        write()
        await world.start(crash_at=f"{point}:{chance.randrange(1, 4)}")
        assert world.agent is not None
        while world.agent.returncode is None and len(sent) < 1000:
            write()
            await world.until_or_ended(0.3)
        assert await world.ended() == -signal.SIGKILL, world.log
        for _ in range(3):
            write()
            await world.start()
            await world.until_or_ended(chance.uniform(0.8, 2.5))
            write()
            await world.until_or_ended(chance.uniform(0, 1.2))
            await world.kill()
        write()
        await world.start()
        await rows(world, len(sent))
        assert await world.stop() == 0
        found = [message for (message,) in world.columns("message")]
        assert sorted(found) == sorted(sent)
        assert await world.losses() == []


@real
async def test_entries_of_every_boot(tmp_path: Path, free_port: int) -> None:
    """
    What was written while the machine went down, and what was there before the first start.
    """
    journal = Journal(tmp_path / "journal")
    async with World(tmp_path) as world:
        follow(world, journal)
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        journal.write("one")
        journal.reboot()
        journal.write("two")
        await world.start()
        await entries(world, 2)
        await world.kill()
        journal.write("three")
        journal.reboot()
        journal.write("four")
        await world.start()
        await rows(world, 4)
        assert await world.stop() == 0
        found = sorted(world.columns("time_ns", "message"))
        assert [message for _, message in found] == ["one", "two", "three", "four"]
        assert await world.losses() == []


@real
async def test_a_full_spool(tmp_path: Path, free_port: int) -> None:
    """
    While a route stands still the spool grows to its limit and no further; then everything arrives, once.
    """
    journal = Journal(tmp_path / "journal")
    # Twice as much as there is room for; incompressible, or the journal is made for ever.
    sent = [f"{n} {random.Random(n).randbytes(50_000).hex()}" for n in range(330)]
    async with World(tmp_path) as world:
        follow(world, journal)
        world.settings["sources"][0]["spool_bytes_max"] = 16 << 20
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        world.settings["memory_budget_bytes"] = 32 << 20
        (route,) = world.routes
        route["name"], route["transforms"] = "cloudwatch", []
        route["sink"] = {
            "type": "cloudwatch",
            "region": REGION,
            "endpoint_url": world.cloudwatch.url,
            "group": "/test/journal",
            "stream": "{container}",
            "format": "message",
            "linger_s": 0.1,
        }
        await world.cloudwatch.go_away()
        journal.write(*sent)
        await world.start()
        await world.started()
        held = sample("tailrace_spool_bytes", source="kubelet")
        await world.until_metrics(lambda found: found.get(held, 0) >= 16 << 20, "a full spool")
        await world.until(lambda: "the spool is full" in world.log, "word of it")
        metrics = await world.metrics()
        read = metrics[sample("tailrace_journal_entries_total", source="kubelet")]
        assert read < len(sent)
        assert metrics[held] < 18 << 20
        journal.write("the last one")
        await world.cloudwatch.come_back()
        await world.until(
            lambda: len(world.cloudwatch.messages("/test/journal")) > len(sent), "all events"
        )
        assert await world.stop() == 0
        found = world.cloudwatch.messages("/test/journal")
        assert [message.split()[0] for message in found] == [*map(str, range(len(sent))), "the"]
        assert await world.losses() == []


@real
async def test_entries_that_the_journal_has_deleted(tmp_path: Path, free_port: int) -> None:
    """
    What journald removed before it was read cannot be had: that is said, counted and recorded, and reading goes on.
    """
    journal = Journal(tmp_path / "journal")
    async with World(tmp_path) as world:
        follow(world, journal)
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        journal.write("one", "two")
        await world.start()
        await entries(world, 2)
        await world.kill()
        journal.vacuum()
        journal.write("five", "six")
        await world.start()
        await rows(world, 4)
        metrics = await world.metrics()
        assert await world.stop() == 0
        assert metrics[sample("tailrace_journal_gaps_total", source="kubelet")] == 1
        assert "journal_gap" in world.log
        (loss,) = await world.losses()
        assert (loss["route"], loss["reason"]) == ("archive", "deleted")
        assert loss["log"] == "journal of kubelet"
        assert loss["detail"].startswith("journald deleted entries behind that of 20")
        assert loss["detail"].endswith("an unknown number of all units are gone")
        losses = sample("tailrace_losses_total", route="archive", reason="deleted")
        assert metrics[losses] == 1
        assert sorted(message for (message,) in world.columns("message")) == [
            *("five", "one", "six", "two"),
        ]


async def test_without_journalctl(tmp_path: Path) -> None:
    """
    It is said what is missing, and other sources go on.
    """
    async with World(tmp_path) as world:
        world.only("cloudwatch")
        world.settings["sources"].append(
            {"name": "kubelet", "type": "journal", "journalctl": "/nowhere/journalctl"}
        )
        world.routes.append({"name": "j", "source": "kubelet", "sink": {"type": "blackhole"}})
        pod = world.pod("web-1")
        pod.lines(3)
        await world.start()
        await world.delivered(pod)
        await world.until(lambda: "journalctl: No such file" in world.log, "what is missing")
        assert "install systemd's journalctl" in world.log
        assert await world.stop() == 0


async def test_a_journalctl_that_fails(tmp_path: Path, free_port: int) -> None:
    """
    What it says at its end is told, what is no entry is counted, and the next one goes on at the cursor.
    """
    entry = '{"__CURSOR":"%s","__REALTIME_TIMESTAMP":"1795374001123456","MESSAGE":"%s"}'
    first, second = entry % ("a", "one"), entry % ("b", "two")
    script = tmp_path / "journalctl"
    script.write_text(
        "#!/bin/sh\n"
        f"case \"$*\" in *--cursor=b*) echo '{second}';; *--cursor=*) exit 9;;\n"
        f"*) echo '{first}'; echo garbage; echo '{second}';; esac\n"
        "echo 'Failed to open files' >&2; exit 3\n"
    )
    script.chmod(0o755)
    async with World(tmp_path) as world:
        world.only("archive")
        world.routes[0]["sink"]["window_age_s"] = 0.5
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        world.settings["sources"] = [
            {"name": "kubelet", "type": "journal", "journalctl": str(script)}
        ]
        await world.start()
        await rows(world, 2)
        reason = "journalctl ended with exit code 3: Failed to open files"
        await world.until(lambda: world.log.count(reason) > 1, "two failures")
        metrics = await world.metrics()
        assert await world.stop() == 0
        assert metrics[sample("tailrace_journal_unread_total", source="kubelet")] == 1
        assert not metrics.get(sample("tailrace_journal_gaps_total", source="kubelet"))
        assert sorted(world.columns("message", "container")) == [
            ("one", "journal"),
            ("two", "journal"),
        ]
