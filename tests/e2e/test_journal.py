"""
The source `journal` in the agent as a process, over a real journal.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.world import World, sample

REMOTE = Path("/lib/systemd/systemd-journal-remote")

real = pytest.mark.skipif(
    not (REMOTE.exists() and shutil.which("journalctl")),
    reason="makes a journal with systemd-journal-remote, which is not installed",
)


class Journal:
    """
    A journal in a directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        #: Time of the first entry.
        self.began_us = time.time_ns() // 1000
        self._count = 0
        self._boot = os.urandom(16).hex()

    def write(
        self, *messages: str | bytes, unit: str = "kubelet.service", **more: str | int
    ) -> None:
        """
        Append an entry for each of *messages*, with the fields *more*.
        """
        text = b""
        for message in messages:
            self._count += 1
            data = message.encode() if isinstance(message, str) else message
            fields = {
                "__REALTIME_TIMESTAMP": self.began_us + self._count,
                "__MONOTONIC_TIMESTAMP": 1_000 + self._count,
                "_BOOT_ID": self._boot,
                "_HOSTNAME": "ip-1",
                "PRIORITY": 6,
                **({"_SYSTEMD_UNIT": unit} if unit else {}),
                **more,
            }
            text += "".join(f"{name}={value}\n" for name, value in fields.items()).encode()
            # The form for bytes of any kind: its length as eight bytes, the smallest first.
            text += b"MESSAGE\n" + len(data).to_bytes(8, "little") + data + b"\n\n"
        path = self.directory / "system.journal"
        subprocess.run(
            [REMOTE, "-o", path, "-"], input=text, check=True, timeout=60, capture_output=True
        )

    def vacuum(self) -> None:
        """
        Delete every entry.
        """
        for path in self.directory.iterdir():
            path.unlink()


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
async def test_entries_that_the_journal_has_deleted(tmp_path: Path, free_port: int) -> None:
    """
    What journald removed before it was read cannot be had: that is said and counted, and reading goes on.
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
