"""
What happens to log files, through the whole agent: rotated, cut, deleted, gzipped, linked, and many.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from demo import writer
from tests.e2e.pods import rfc3339
from tests.e2e.world import World
from tests.fakes import kubelet

if TYPE_CHECKING:
    from pathlib import Path


def written_by(containers: list[writer.Container]) -> Counter[tuple[str, str, str]]:
    return Counter((item.pod, line.stream, line.text) for item in containers for line in item.lines)


async def test_rotations_of_the_demo(tmp_path: Path) -> None:
    """
    Renames, gzip of older generations, pieces of both streams, a line split by each rotation: nothing twice.
    """
    async with World(tmp_path) as world:
        containers = [
            writer.Container(str(world.pods), namespace="shop", pod=f"web-{index}", name="app")
            for index in range(2)
        ]
        await world.start()
        for _ in range(3):
            for container in containers:
                container.write(20)
                container.write_interleaved_pieces()
            await world.until_or_ended(0.1)
            for container in containers:
                container.rotate()
        for container in containers:
            container.write(5)
        expected = written_by(containers)
        await world.until(lambda: expected.keys() <= world.events().keys(), "all lines")
        assert await world.stop() == 0
        for container in containers:
            container.close()
        assert world.events() == expected
        assert world.rows() == expected


async def test_a_kubelet_rotates_while_the_agent_is_stopped(tmp_path: Path, free_port: int) -> None:
    """
    What was live is renamed, then gzipped, meanwhile: its unread rest is read from there, and once.
    """
    async with World(tmp_path) as world:
        rotation = kubelet.Kubelet()
        container = kubelet.Container(
            world.pods, namespace="shop", pod="web-1", uid="aa-bb", name="app"
        )
        container.lines(20)
        world.only("archive")
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        for lines in (20, 30):
            await world.start()
            await world.read(lines)
            assert await world.stop() == 0
            container.lines(10)
            rotation.rotate(container)
            container.lines(10)
            rotation.rotate(container)
            container.lines(10)
        await world.start()
        await world.read(30)
        assert await world.stop() == 0
        container.stop()
        assert list(container.directory.glob("*.gz"))
        found = Counter(text for _, _, text in world.rows().elements())
        assert found == Counter(text.decode() for text in container.written)
        assert not await world.losses()


async def test_copytruncate_deletion_and_recreation(tmp_path: Path) -> None:
    """
    Cut after a copy; deleted while a writer goes on; made again, perhaps with the inode of the deleted one.
    """
    async with World(tmp_path) as world:
        cut, deleted, again = (world.pod(name) for name in ("cut", "deleted", "again"))
        for pod in (cut, deleted, again):
            pod.lines(20)
        await world.start()
        await world.delivered(cut, deleted, again)
        shutil.copy2(cut.path, cut.path.with_name("0.log.1"))
        os.truncate(cut.path, 0)
        cut.lines(10)
        with deleted.path.open("ab") as file:
            deleted.path.unlink()
            # The writer goes on in the file that has no name any more.
            for index in range(10):
                file.write(f"{rfc3339(datetime.now(UTC))} stdout F last {index}\n".encode())
                deleted.expect(f"last {index}")
            file.flush()
            await world.delivered(cut, deleted)
        again.path.unlink()
        again.lines(10)
        await world.delivered(cut, deleted, again)
        assert await world.stop() == 0
        world.assert_exact(cut, deleted, again)
        assert not await world.losses()


async def test_start_at_the_end_and_later_from_the_cursors(tmp_path: Path) -> None:
    """
    `end`: what was there at the first start is left out, new files are read whole, restarts resume.
    """
    async with World(tmp_path) as world:
        world.source["start"] = "end"
        old = world.pod("old")
        old.lines(20)
        old.written.clear()
        await world.start()
        await world.until_committed(str(old.path))
        fresh = world.pod("fresh")
        fresh.lines(10)
        old.write("after the start")
        await world.delivered(old, fresh)
        assert await world.stop() == 0
        old.write("while it was stopped")
        later = world.pod("later")
        later.lines(10)
        await world.start()
        await world.delivered(old, fresh, later)
        assert await world.stop() == 0
        world.assert_exact(old, fresh, later)


async def test_new_files_are_noticed_without_a_rescan(tmp_path: Path) -> None:
    """
    Rescans are an hour away: a new pod, and a new container's restart, come from the watches.
    """
    async with World(tmp_path) as world:
        world.source["rescan_interval_s"] = world.source["rescan_full_interval_s"] = 3600
        first = world.pod("first")
        first.lines(5)
        await world.start()
        await world.delivered(first)
        pods = [world.pod(f"new-{index}") for index in range(3)]
        for pod in pods:
            pod.lines(5)
        await world.delivered(first, *pods)
        assert await world.stop() == 0
        world.assert_exact(first, *pods)


async def test_links_of_var_log_containers(tmp_path: Path) -> None:
    """
    Links are followed to the pods' files and through their rotations; pod and container come from the link.
    """
    async with World(tmp_path) as world:
        links = tmp_path / "containers"
        links.mkdir()
        world.source["paths"] = [f"{links}/*.log"]
        pod = world.pod("web-1")
        pod.lines(10)
        (links / f"web-1_shop_app-{'a' * 64}.log").symlink_to(pod.path)
        await world.start()
        await world.delivered(pod)
        pod.rotate()
        pod.lines(10)
        await world.delivered(pod)
        assert await world.stop() == 0
        world.assert_exact(pod)
        assert set(world.columns("namespace", "pod", "container")) == {("shop", "web-1", "app")}


async def test_a_thousand_idle_files(tmp_path: Path) -> None:
    """
    All are known; descriptors stay below the limit; a line in one of them arrives; a stop is clean.
    """
    async with World(tmp_path) as world:
        world.source.update({"open_files_max": 64, "start": "end", "idle_after_s": 0.2})
        world.only("cloudwatch")
        pods = [world.pod(f"idle-{index}") for index in range(1000)]
        for pod in pods:
            pod.write("old")
            pod.written.clear()
        await world.start()
        await world.until_committed(str(pods[-1].path), logs=1000)
        assert world.agent is not None
        descriptors = f"/proc/{world.agent.pid}/fd"
        await world.until(
            lambda: sum("/0.log" in target for target in _targets(descriptors)) <= 64,
            "descriptors are given back",
        )
        chosen = pods[::250]
        for pod in chosen:
            pod.lines(2)
        await world.delivered(*chosen)
        assert await world.stop() == 0
        world.assert_cloudwatch_exact(*chosen)


def _targets(directory: str) -> list[str]:
    found = []
    for name in os.listdir(directory):
        # A descriptor may be closed between the listing and the look.
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"{directory}/{name}"))
    return found


async def test_generations_that_were_gzipped_before_the_first_start(tmp_path: Path) -> None:
    """
    A Log is read oldest first: its gz, then what was renamed, then the live file.
    """
    async with World(tmp_path) as world:
        pod = world.pod("web-1")
        for _ in range(2):
            pod.lines(10)
            pod.rotate()
        packed = min(pod.directory.glob("0.log.*"))
        packed.with_name(packed.name + ".gz").write_bytes(gzip.compress(packed.read_bytes()))
        packed.unlink()
        pod.lines(10)
        await world.start()
        await world.delivered(pod)
        assert await world.stop() == 0
        world.assert_exact(pod)
        order = [text for _, text in sorted(world.columns("time_ns", "message"))]
        assert order == [text for _, _, text in pod.written]
