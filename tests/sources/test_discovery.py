"""
Finding files: globs, links, events, rescans without events, where to start.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.runtime.watches import InotifyWatches
from agent.sources.globs import Globs
from agent.sources.settings import FilesSettings
from tests.fakes.kubelet import Container, Kubelet
from tests.fakes.source_host import Source, SourceHost

if TYPE_CHECKING:
    from pathlib import Path


def put(path: Path, data: bytes) -> Path:
    """
    Append to a file, made with its directories.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)
    return path


@pytest.mark.parametrize(
    ("pattern", "wanted", "unwanted"),
    [
        ("{}/a/*.log", ["a/x.log"], ["x.log", "a/b/x.log", "a/x.txt"]),
        ("{}/**/*.log", ["x.log", "a/x.log", "a/b/c/x.log"], ["a/x.txt"]),
        ("{}/*/b/[xy].log", ["a/b/x.log", "c/b/y.log"], ["a/b/z.log", "a/c/x.log"]),
        ("{}/a/x.log", ["a/x.log"], ["a/y.log"]),
        ("{}/*", ["app", "app.log"], ["a/x.log"]),
    ],
)
async def test_globs(tmp_path: Path, pattern: str, wanted: list[str], unwanted: list[str]) -> None:
    """
    Exactly the files that a pattern names become Logs.
    """
    for name in wanted + unwanted:
        put(tmp_path / name, b"x\n")
    source = Source(FilesSettings(paths=(pattern.format(tmp_path),)))
    await source.start()
    assert set(source.files.logs) == {str(tmp_path / name) for name in wanted}
    source.close()


async def test_rotated_files_are_no_logs_of_their_own(tmp_path: Path) -> None:
    """
    A glob that matches rotated names as well finds one Log; `.tmp` is nobody's.
    """
    for name in ("app.log", "app.log.1", "app.log-20261122", "app.log.2.gz.tmp"):
        put(tmp_path / name, b"x " + name.encode() + b"\n")
    source = Source(FilesSettings(paths=(f"{tmp_path}/*",)))
    route = await source.start()
    await source.settle(10)
    assert set(source.files.logs) == {str(tmp_path / "app.log")}
    assert route.texts(tmp_path / "app.log") == [
        b"x app.log-20261122",
        b"x app.log.1",
        b"x app.log",
    ]
    source.close()


async def test_exclude(tmp_path: Path) -> None:
    """
    Excluded paths are not followed; `*` does not cross directories.
    """
    put(tmp_path / "kube-system_a_1" / "c" / "0.log", b"x\n")
    put(tmp_path / "shop_a_2" / "c" / "0.log", b"x\n")
    source = Source(
        FilesSettings(
            paths=(f"{tmp_path}/*/*/*.log",),
            exclude=(f"{tmp_path}/kube-system_*/*/*.log", f"{tmp_path}/*.log"),
        )
    )
    await source.start()
    assert set(source.files.logs) == {str(tmp_path / "shop_a_2" / "c" / "0.log")}
    source.close()


def test_exclusion_patterns_match_whole_paths() -> None:
    """
    An exclusion names paths, component by component.
    """
    globs = Globs(("/a/**/*.log",), ("/a/b/*.log", "/a/**/secret/*.log"))
    places = globs.roots["/a"]
    inside = globs.enter(places, "b")
    assert not globs.wants("/a/b", inside, "x.log")
    assert globs.wants("/a/b/c", globs.enter(inside, "c"), "x.log")
    deep = globs.enter(globs.enter(inside, "c"), "secret")
    assert not globs.wants("/a/b/c/secret", deep, "x.log")
    assert globs.wants("/a/b", inside, "y.logs.log") is False


async def test_links_to_files_elsewhere(tmp_path: Path, root: Path, container: Container) -> None:
    """
    As in /var/log/containers: rotated siblings are beside the target; a dangling instant is no deletion.
    """
    links = tmp_path / "containers"
    links.mkdir()
    link = links / f"cart-0_shop_app-{'ab' * 32}.log"
    link.symlink_to(container.path)
    (links / "dangling_shop_app-00.log").symlink_to(tmp_path / "nowhere")
    source = Source(FilesSettings(paths=(f"{links}/*.log",)))
    kubelet = Kubelet()
    container.lines(2)
    route = await source.start()
    for _ in range(3):
        for _step in kubelet.rotate_steps(container):
            container.lines(2)
            await source.settle(0.4)
        await source.settle(3)
    assert route.texts(link) == container.written
    assert route.segments[0].resource.pod == "cart-0"
    assert set(source.files.logs) == {str(link)}
    link.unlink()
    kubelet.remove(container)
    await source.settle(10)
    assert route.reader.finished() == [str(link)]
    source.close()


async def test_links_to_followed_files_are_not_read_twice(
    tmp_path: Path, root: Path, container: Container
) -> None:
    """
    Both well-known trees in one source: one Log.
    """
    links = tmp_path / "containers"
    links.mkdir()
    (links / "cart-0_shop_app-00.log").symlink_to(container.path)
    container.lines(1)
    source = Source(FilesSettings(paths=(f"{root}/*/*/*.log", f"{links}/*.log")))
    route = await source.start()
    await source.settle(1)
    assert list(route.messages) == [str(container.path)]
    source.close()


async def test_linked_directories_are_followed(tmp_path: Path) -> None:
    """
    A directory behind a link is entered.
    """
    put(tmp_path / "data" / "pods" / "x.log", b"x\n")
    (tmp_path / "log").symlink_to(tmp_path / "data")
    source = Source(FilesSettings(paths=(f"{tmp_path}/log/*/*.log",)))
    route = await source.start()
    await source.settle()
    assert route.texts(tmp_path / "log" / "pods" / "x.log") == [b"x"]
    source.close()


async def test_new_files_within_a_second_through_inotify(root: Path) -> None:
    """
    A pod, its container directory and its file appear; events on directories alone, no rescan, find it.
    """
    watches = InotifyWatches()
    settings = FilesSettings(
        paths=(f"{root}/*/*/*.log",), rescan_interval_s=1e6, rescan_full_interval_s=1e6
    )
    source = Source(settings, host=SourceHost(watches=watches))
    route = await source.start()
    started = source.host.clock.seconds
    pod = Container(root, namespace="n", pod="p", uid="u", name="c")
    pod.lines(3)
    while not route.texts(pod.path):
        await source.files.tick()
        await route.read_all()
        source.host.clock.seconds += 0.2
        assert source.host.clock.seconds - started <= 1.0
    assert route.texts(pod.path) == pod.written
    source.close()
    watches.close()


async def test_idle_file_wakes_through_its_watch(root: Path, container: Container) -> None:
    """
    A quiet file leaves the tick; its next write brings it back by event alone.
    """
    watches = InotifyWatches()
    settings = FilesSettings(
        paths=(f"{root}/*/*/*.log",), rescan_interval_s=1e6, rescan_full_interval_s=1e6
    )
    container.lines(1)
    source = Source(settings, host=SourceHost(watches=watches))
    route = await source.start()
    for _ in range(2):
        for _ in range(60):
            await source.files.tick()
            await route.read_all()
            source.host.clock.seconds += 0.2
        assert source.files.states() == (0, 1)
        container.lines(1)
        await source.files.tick()
        await route.read_all()
        assert route.texts(container.path) == container.written
    source.close()
    watches.close()


async def test_without_inotify_rescans_find_everything(root: Path, container: Container) -> None:
    """
    ENOSPC: said once; new files within about a second, idle ones wake.
    """
    host = SourceHost()
    host.watches.error = errno.ENOSPC
    source = Source(FilesSettings(paths=(f"{root}/*/*/*.log",)), host=host)
    route = await source.start()
    container.lines(1)
    await source.settle(20)
    new = Container(root, namespace="n", pod="p", uid="u", name="c")
    new.lines(1)
    container.lines(1)
    await source.settle(1.2)
    assert route.texts(new.path) == new.written
    assert route.texts(container.path) == container.written
    assert [event for event, _ in host.told].count("watches_unavailable") == 1
    source.close()


async def test_overflow_rescans_everything(root: Path, settings: FilesSettings) -> None:
    """
    Events that the kernel dropped cost nothing but a full rescan.
    """
    slow = replace(settings, rescan_interval_s=1e6, rescan_full_interval_s=1e6)
    source = Source(slow)
    route = await source.start()
    new = Container(root, namespace="n", pod="p", uid="u", name="c")
    new.lines(1)
    source.host.watches.pending.append(("", None))
    await source.files.tick()
    await route.read_all()
    assert route.texts(new.path) == new.written
    source.close()


async def test_root_that_does_not_exist_yet(tmp_path: Path) -> None:
    """
    The directory of the glob comes after the agent.
    """
    source = Source(FilesSettings(paths=(f"{tmp_path}/later/pods/*/*.log",)))
    route = await source.start()
    await source.settle(1)
    path = put(tmp_path / "later" / "pods" / "p" / "x.log", b"x\n")
    await source.settle(1.2)
    assert route.texts(path) == [b"x"]
    source.close()


async def test_a_log_that_is_over_is_forgotten_in_a_directory_that_changes_all_the_time(
    tmp_path: Path,
) -> None:
    """
    A container that starts again and again: whoever forgets first does not begin anew while the other one has yet to.
    """
    over, busy = tmp_path / "0.log", tmp_path / "1.log"
    put(over, b"a\nb\n")
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",)), routes=("first", "second"))
    routes = [await source.start(route=name) for name in ("first", "second")]
    over.unlink()
    for turn in range(60):
        put(busy, b"x\n")
        put(tmp_path / f"2.log.{turn}", b"other\n")
        await source.settle(0.4)
        routes[turn % 2].commit()
    assert [route.texts(over) for route in routes] == [[b"a", b"b"]] * 2
    assert set(source.files.logs) == {str(busy), str(tmp_path / "2.log")}
    source.close()


async def test_a_route_that_restarts_does_not_begin_what_it_has_forgotten(tmp_path: Path) -> None:
    """
    The other route, which has yet to forget it, is the last one then.
    """
    over = put(tmp_path / "0.log", b"a\nb\n")
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",)), routes=("first", "second"))
    first, second = [await source.start(route=name) for name in ("first", "second")]
    over.unlink()
    await source.settle(10)
    first.commit()
    second.commit()
    assert set(source.files.logs) == {str(over)}
    again = await source.start(route="second")
    await source.settle(1)
    first.commit()
    assert source.files.logs == {}
    assert again.texts(over) == []
    source.close()
