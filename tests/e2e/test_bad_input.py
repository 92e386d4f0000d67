"""
Bad input: counted by kind, with its neighbours intact, in bounded memory.
"""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from tests.e2e.pods import rfc3339
from tests.e2e.world import IDENTITY, REPOSITORY, World, sample

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pods import Pod

MIB = 1 << 20
LONG_BYTES = 50 * MIB
LINE_BYTES_MAX = MIB
#: An agent with two routes, 32 MiB of budget and the SDK; the 50 MB line would double it.
MEMORY_MAX = 170 * MIB
#: For a child that imports it: an encoder of CloudWatch's that does not get through a word.
POISON = """
from agent.runtime import supervisor
from agent.sinks.cloudwatch_payloads import Encoder

supervisor.BACKOFF_S_MIN = 0.05
encode = Encoder._encode

def poisoned(self, head, segments, columns, *rest, **options):
    if any(b"POISON" in bytes(part.data) for part in columns):
        raise MemoryError("poisoned")
    return encode(self, head, segments, columns, *rest, **options)

Encoder._encode = poisoned
"""
#: For a child that imports it: files that cannot be opened, by an errno's name in their path, until `healed`.
BROKEN_FILES = """
import errno
import os

system_open = os.open
healed = os.environ["HEALED"]

def open(path, *rest, **options):
    for name in ("EIO", "EMFILE"):
        if name.lower() in str(path) and str(path).endswith(".log") and not os.path.exists(healed):
            raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)), path)
    return system_open(path, *rest, **options)

os.open = open
"""


def patched(directory: Path, source: str) -> dict[str, str]:
    """
    Return the environment of a child that begins with *source*.
    """
    (directory / "sitecustomize.py").write_text(source)
    return {"PYTHONPATH": f"{directory}:{REPOSITORY}", "HEALED": str(directory / "healed")}


def _at_least(name: str, count: int, found: dict[str, float]) -> bool:
    return found.get(name, 0) >= count


def head() -> bytes:
    return rfc3339(datetime.now(UTC)).encode()


def peak_bytes(pid: int) -> int:
    """
    Return the most memory that the process has had.
    """
    with open(f"/proc/{pid}/status") as file:
        (line,) = [line for line in file if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def write_odd_lines(pod: Pod) -> None:
    """
    Append every kind of odd line, each between two good ones.
    """
    odd: tuple[tuple[bytes, str], ...] = (
        (head() + b" stdout F \n", ""),
        (head() + b" stdout F\n", ""),
        (head() + b" stdout F nul \0 in it\n", "nul \0 in it"),
        (head() + b" stdout F \xff\xfe\x80 binary\n", "\ufffd\ufffd\ufffd binary"),
        (head() + b" stdout F ends with a return\r\n", "ends with a return"),
    )
    for index, (line, text) in enumerate(odd):
        pod.write(f"before {index}")
        pod.raw(line)
        pod.expect(text)
        pod.write(f"after {index}")


async def test_long_binary_and_empty_lines_and_a_kill_in_the_middle(
    tmp_path: Path, free_port: int
) -> None:
    """
    A 50 MB line is cut; what is odd is kept and counted; kill -9 in the middle changes nothing.
    """
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        world.settings["commit_interval_s"] = 0.02
        world.sink("archive")["frame_age_s"] = 0.02
        world.source["chunk_bytes"] = 16 << 10
        pod, raw = world.pod("odd"), world.pod("long")
        write_odd_lines(pod)
        raw.write("before")
        content = os.urandom(LINE_BYTES_MAX).hex().encode()[:LINE_BYTES_MAX]
        raw.raw(head() + b" stdout F " + content + b"x" * (LONG_BYTES - len(content)) + b"\n")
        raw.write("after")
        # In the middle of the long line: it takes 3,200 chunks.
        await world.start(crash_at="commit_after:8")
        assert await world.ended() == -signal.SIGKILL, world.log
        await world.start()
        await world.started()
        await world.delivered(pod)
        await world.until(lambda: ("long", "stdout", "after") in world.events(), "the last line")
        metrics = await world.until_metrics(
            lambda found: not any("tailrace_log_lag" in name for name in found), "no lag"
        )
        assert world.agent is not None
        assert peak_bytes(world.agent.pid) < MEMORY_MAX
        # The second agent had a part of it to read, not all.
        discarded = metrics[sample("tailrace_discarded_bytes_total", route="archive")]
        assert 0 < discarded < LONG_BYTES - LINE_BYTES_MAX
        assert await world.stop() == 0
        (cut,) = [
            message
            for name, message, truncated in world.columns("pod", "message", "truncated")
            if truncated
        ]
        assert cut.encode() == content[: len(cut)]
        assert LINE_BYTES_MAX - 100 < len(cut) <= LINE_BYTES_MAX
        raw.expect(cut)
        world.assert_parquet_exact(pod, raw)
        # CloudWatch's record is cut once more, at its own limit, with a mark; neighbours are not.
        long = [text for name, _, text in world.events() if len(text) > 100_000]
        assert long
        assert all(text[:1000] == cut[:1000] for text in long)
        missing = {*pod.written, *raw.written} - set(world.events())
        assert {len(text) for _, _, text in missing} <= {len(cut)}


async def test_odd_lines_are_counted_by_kind(tmp_path: Path, free_port: int) -> None:
    """
    Empty, invalid and unterminated rows have each a count; a file of newlines has rows, none is dropped.
    """
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        pod, newlines = world.pod("odd"), world.pod("newlines")
        write_odd_lines(pod)
        pod.raw(b"no header at all\n")
        pod.expect("no header at all", stream="other")
        newlines.raw(b"\n" * 100)
        await world.start()
        await world.started()
        metrics = await world.until_metrics(
            lambda found: found.get(sample("tailrace_read_lines_total", route="archive"), 0) >= 116,
            "all lines are read",
        )
        kinds = {
            kind: metrics.get(sample("tailrace_odd_rows_total", route="archive", kind=kind), 0)
            for kind in ("empty", "invalid")
        }
        assert kinds["empty"] >= 2
        assert kinds["invalid"] >= 1
        assert await world.stop() == 0
        rows = world.columns("pod", "message", "invalid")
        assert sum(name == "newlines" for name, _, _ in rows) == 100
        assert [text for _, text, invalid in rows if invalid and text] == ["no header at all"]
        assert {text for name, _, text in world.rows() if name == "odd"} == {
            text for _, _, text in pod.written
        }


async def test_timestamps_of_1970_and_2100(tmp_path: Path) -> None:
    """
    CloudWatch's refusal is a loss record and takes no neighbour along; Parquet has the partitions.
    """
    async with World(tmp_path) as world:
        pod, strange = world.pod("web-1"), world.pod("strange")
        pod.lines(10)
        moments = (datetime(1970, 1, 1, 5, tzinfo=UTC), datetime(2100, 6, 1, 12, tzinfo=UTC))
        strange.lines(2)
        for moment in moments:
            strange.lines(3, at=moment)
            strange.lines(2)
        await world.start()
        valid = {line for line in strange.written if int(line[2].split()[-1]) not in LOST}
        await world.until(lambda: valid <= world.events().keys(), "the valid neighbours")
        await world.delivered(pod)
        assert await world.stop() == 0
        world.assert_parquet_exact(pod, strange)
        assert {text for name, _, text in world.events() if name == "strange"} == {
            text for _, _, text in valid
        }
        partitions = {key.split("/dt=")[1].split("/")[0] for key in world.s3.objects}
        assert {"1970-01-01", "2100-06-01"} <= partitions
        hours = {key.split("/hour=")[1].split("/")[0] for key in world.s3.objects}
        assert {"05", "12"} <= hours
        losses = await world.losses()
        assert {loss["route"] for loss in losses} == {"cloudwatch"}
        rows: dict[str, int] = {}
        for loss in losses:
            rows[loss["reason"]] = rows.get(loss["reason"], 0) + loss["rows"]
            assert loss["log"] == str(strange.path)
            assert 0 <= loss["start"] < loss["stop"] <= strange.path.stat().st_size
        assert rows == {"too_old": 3, "too_new": 3}


#: Numbers of the lines of 1970 and of 2100.
LOST = (2, 3, 4, 7, 8, 9)


async def test_one_poison_chunk(tmp_path: Path, free_port: int) -> None:
    """
    The route that cannot encode it restarts, isolates and records it; the other route notices nothing.
    """
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        pod, poison = world.pod("web-1"), world.pod("poison")
        pod.lines(20)
        poison.lines(20)
        await world.start(env=patched(tmp_path, POISON))
        await world.delivered(pod, poison)
        await world.until_metrics(
            lambda found: not any("tailrace_log_lag" in name for name in found), "no lag"
        )
        good = list(poison.written)
        poison.write("POISON")
        restarts = sample("tailrace_route_restarts_total", route="cloudwatch")
        await world.until_metrics(lambda found: found.get(restarts, 0) >= 3, "three failures")
        poison.lines(10)
        pod.lines(10)
        await world.delivered(pod)
        last = poison.written[-1]
        await world.until(lambda: last in world.events(), "lines after the poison")
        # The loss is recorded once its lines are kept, by the next checkpoint.
        losses = sample("tailrace_losses_total", route="cloudwatch", reason="poison")
        metrics = await world.until_metrics(lambda found: losses in found, "the loss is recorded")
        assert metrics[restarts] == 3
        assert sample("tailrace_route_restarts_total", route="archive") not in metrics
        assert metrics[losses] == 1
        assert await world.stop() == 0
        (loss,) = await world.losses()
        assert (loss["route"], loss["reason"], loss["log"]) == (
            "cloudwatch",
            "poison",
            str(poison.path),
        )
        content = poison.path.read_bytes()[loss["start"] : loss["stop"]]
        assert b"POISON" in content
        assert content.count(b"\n") == 1
        assert set(good) < set(world.events())
        world.assert_parquet_exact(pod, poison)


async def test_an_unreadable_file(tmp_path: Path, free_port: int) -> None:
    """
    It is counted and tried again; others go on; it is read when it can be.
    """
    # root reads everything, unless it may not.
    prefix = (
        ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    )
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        world.source["rescan_interval_s"] = 0.3
        pod, secret = world.pod("web-1"), world.pod("secret")
        pod.lines(10)
        secret.lines(10)
        secret.path.chmod(0)
        await world.start(prefix=prefix)
        await world.started()
        await world.delivered(pod)
        await world.until_metrics(
            lambda found: found.get(sample("tailrace_file_errors_total", error="EACCES")), "EACCES"
        )
        assert (await world.get("/healthz"))[0] == 200
        pod.lines(10)
        await world.delivered(pod)
        secret.path.chmod(0o644)
        await world.delivered(pod, secret)
        assert await world.stop() == 0
        world.assert_exact(pod, secret)


async def test_files_that_fail(tmp_path: Path, free_port: int) -> None:
    """
    EIO and EMFILE: each is counted and the file tried again; others go on; then it is read.
    """
    async with World(tmp_path) as world:
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        world.source["rescan_interval_s"] = 0.3
        pods = [world.pod(name) for name in ("web-1", "eio", "emfile")]
        for pod in pods:
            pod.lines(10)
        await world.start(env=patched(tmp_path, BROKEN_FILES))
        await world.started()
        await world.delivered(pods[0])
        for name in ("EIO", "EMFILE"):
            series = sample("tailrace_file_errors_total", error=name)
            await world.until_metrics(partial(_at_least, series, 2), name)
        pods[0].lines(10)
        await world.delivered(pods[0])
        assert {name for name, _, _ in world.events()} == {"web-1"}
        (tmp_path / "healed").touch()
        await world.delivered(*pods)
        assert await world.stop() == 0
        world.assert_exact(*pods)
        assert not await world.losses()


async def test_too_few_descriptors(tmp_path: Path) -> None:
    """
    With fewer descriptors than files all lines of all files arrive, and routes keep what they need themselves.
    """
    async with World(tmp_path) as world:
        pods = [world.pod(f"web-{index}") for index in range(70)]
        for pod in pods:
            pod.lines(3)
        await world.start(prefix=("sh", "-c", 'ulimit -n 96 && exec "$@"', "sh"))
        await world.delivered(*pods)
        assert await world.stop() == 0
        world.assert_exact(*pods)
        assert "EMFILE" in world.log
        assert "route_failed" not in world.log


async def test_identities_are_the_same_after_the_state_is_lost(tmp_path: Path) -> None:
    """
    Without its state directory the agent gives every row the identity that it had: duplicates can be found.
    """
    async with World(tmp_path) as world:
        pod = world.pod("web-1")
        pod.lines(20)
        found = []
        for name in ("state", "another"):
            world.settings["state_dir"] = str(tmp_path / name)
            world.forget()
            await world.start()
            await world.delivered(pod)
            assert await world.stop() == 0
            found.append(sorted(world.columns(*IDENTITY, "message")))
        assert found[0] == found[1]
        assert len(found[0]) == 20
