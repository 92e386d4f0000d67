"""
The files source over what a kubelet does: rotation, gzip, deletion, restarts of the agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.core.batch import LossReason
from tests.fakes.kubelet import Container, Kubelet
from tests.fakes.source_host import Source

if TYPE_CHECKING:
    from pathlib import Path

    from agent.sources.settings import FilesSettings


async def test_reads_what_is_there_and_what_comes(
    settings: FilesSettings, container: Container
) -> None:
    """
    Lines written before and after the start arrive once and in order.
    """
    container.lines(3)
    source = Source(settings)
    route = await source.start()
    await source.settle()
    container.lines(2)
    await source.settle(1)
    assert route.texts(container.path) == container.written
    source.close()


async def test_resource_comes_from_the_path(settings: FilesSettings, container: Container) -> None:
    """
    A segment carries namespace, pod, uid, container and restart.
    """
    container.lines(1)
    source = Source(settings)
    route = await source.start()
    await source.settle()
    resource = route.segments[0].resource
    assert (resource.namespace, resource.pod, resource.container) == ("shop", "cart-0", "app")
    assert resource.pod_uid == "11111111-2222-3333-4444-555555555555"
    assert (resource.restart, resource.cluster, resource.node) == ("0", "c1", "n1")
    source.close()


@pytest.mark.parametrize("commit", [True, False])
async def test_kubelet_rotations_lose_and_repeat_nothing(
    settings: FilesSettings, container: Container, commit: bool
) -> None:
    """
    Ten rotations with gzip and removal of old files, writes between all steps.
    """
    kubelet = Kubelet()
    source = Source(settings)
    container.lines(1)
    route = await source.start()
    for _ in range(10):
        for _step in kubelet.rotate_steps(container):
            container.lines(2)
            await source.settle(0.4)
        await source.settle(2)
        if commit:
            route.commit()
    await source.settle(20)
    assert route.texts(container.path) == container.written
    assert not route.losses
    if commit:
        route.commit()
        assert len(source.host.disk.opened) <= 2
    source.close()


async def test_failed_reopen_renames_back(settings: FilesSettings, container: Container) -> None:
    """
    A rotation that the kubelet undoes is no new generation.
    """
    source = Source(settings)
    container.lines(1)
    route = await source.start()
    for _step in Kubelet().rotate_steps(container, reopen_fails=True):
        container.lines(2)
        await source.settle(1)
    container.lines(1)
    await source.settle(1)
    assert route.texts(container.path) == container.written
    assert {segment.generation for segment in route.segments} == {0}
    source.close()


async def test_backlog_in_gz_is_read_from_gz(settings: FilesSettings, container: Container) -> None:
    """
    Generations that were compressed before the start are read oldest first.
    """
    kubelet = Kubelet()
    for _ in range(4):
        container.lines(50)
        kubelet.rotate(container)
    container.lines(5)
    assert list(container.directory.glob("*.gz"))
    source = Source(settings)
    route = await source.start()
    await source.settle(30)
    assert route.texts(container.path) == container.written[-205:]
    source.close()


async def test_restart_resumes_inside_a_gz(settings: FilesSettings, container: Container) -> None:
    """
    A generation read halfway, then rotated and gzipped while the agent was down, is resumed in its gz.
    """
    kubelet = Kubelet()
    container.lines(10)
    source = Source(settings)
    route = await source.start()
    await source.settle()
    cursors, rows = route.commit()
    source.close()
    container.lines(10)
    kubelet.rotate(container)
    container.lines(10)
    kubelet.rotate(container)
    container.lines(10)
    assert len(list(container.directory.glob("*.gz"))) == 1
    again = Source(settings, rows=rows)
    resumed = await again.start(cursors=cursors, first_start=False)
    await again.settle(10)
    assert route.texts(container.path) + resumed.texts(container.path) == container.written
    assert not resumed.losses
    assert resumed.segments[0].file_id == route.segments[0].file_id
    again.close()


async def test_pieces_join_over_a_rotation_and_a_restart(
    settings: FilesSettings, container: Container
) -> None:
    """
    A row that begins in one generation and ends in the next is whole, even if the agent restarts between.
    """
    container.write(b"begin ", tag="P")
    source = Source(settings)
    route = await source.start()
    await source.settle()
    cursors, rows = route.commit()
    source.close()
    Kubelet().rotate(container)
    container.write(b"end")
    again = Source(settings, rows=rows)
    resumed = await again.start(cursors=cursors, first_start=False)
    await again.settle(10)
    assert resumed.texts(container.path) == [b"begin end"]
    (segment,) = [segment for segment in resumed.segments if segment.rows]
    assert segment.generation == 1
    assert segment.earlier_file_ids.keys() == {0}
    again.close()


async def test_piece_without_end_is_released(settings: FilesSettings, container: Container) -> None:
    """
    After piece_timeout_s an open piece becomes a row, in a segment without bytes.
    """
    container.write(b"no end", tag="P")
    source = Source(settings)
    route = await source.start()
    await source.settle(59)
    assert route.texts(container.path) == []
    await source.settle(3)
    assert route.texts(container.path) == [b"no end"]
    assert route.segments[-1].start == route.segments[-1].stop == container.path.stat().st_size
    container.lines(1)
    await source.settle(1)
    assert route.texts(container.path)[1:] == container.written
    source.close()


async def test_deleted_while_open_is_drained(settings: FilesSettings, container: Container) -> None:
    """
    Lines written just before the deletion, a last one without newline and an open piece arrive; then the Log ends.
    """
    container.lines(2)
    source = Source(settings)
    route = await source.start()
    await source.settle()
    container.lines(2)
    container.write(b"piece", tag="P", stream="stderr")
    container.raw(b"2026-11-22T10:15:00.5Z stdout F unfinished")
    Kubelet().remove(container)
    await source.settle(10)
    assert route.texts(container.path) == [*container.written, b"unfinished", b"piece"]
    assert route.reader.finished() == [str(container.path)]
    assert not route.losses
    route.commit()
    assert not source.files.logs
    source.close()


async def test_log_that_comes_back_is_read_anew(
    settings: FilesSettings, container: Container
) -> None:
    """
    A path that is used again after its Log was forgotten is a Log from its beginning.
    """
    container.lines(2)
    source = Source(settings)
    route = await source.start()
    await source.settle()
    Kubelet().remove(container)
    await source.settle(10)
    route.commit()
    container.reopen()
    container.lines(2)
    await source.settle(1)
    assert route.texts(container.path) == container.written
    source.close()


async def test_deleted_unread_file_is_a_loss(settings: FilesSettings, container: Container) -> None:
    """
    Bytes that were known and that no file has any more are recorded with their range.
    """
    container.lines(2)
    source = Source(settings)
    route = await source.start()
    await source.settle()
    cursors, _ = route.commit()
    container.lines(3)
    await source.files.tick()
    rows = route.reader.generation_rows(cursors)
    source.close()
    size = container.path.stat().st_size
    Kubelet().remove(container)
    again = Source(settings, rows=rows)
    resumed = await again.start(cursors=cursors, first_start=False)
    await again.settle(1)
    (loss,) = resumed.losses
    assert (loss.start, loss.stop) == (route.segments[-1].stop, size)
    assert loss.reason is LossReason.DELETED
    assert resumed.reader.finished() == [str(container.path)]
    again.close()


async def test_lost_generation_does_not_stop_the_log(
    settings: FilesSettings, container: Container
) -> None:
    """
    The kubelet removed the generation of the cursor: a loss, and then all that is left, in order.
    """
    kubelet = Kubelet()
    container.lines(4)
    source = Source(settings)
    route = await source.start()
    await source.settle()
    cursors, _ = route.commit()
    container.lines(4)
    await source.files.tick()
    rows = route.reader.generation_rows(cursors)
    source.close()
    for _ in range(6):
        kubelet.rotate(container)
        container.lines(3)
    again = Source(settings, rows=rows)
    resumed = await again.start(cursors=cursors, first_start=False)
    await again.settle(10)
    (loss,) = resumed.losses
    assert loss.generation == 0
    texts = resumed.texts(container.path)
    assert texts == container.written[-len(texts) :]
    assert len(texts) >= 12
    again.close()


async def test_reused_inode_is_another_file(settings: FilesSettings, container: Container) -> None:
    """
    A container restart while the agent is down may get the inode of the old file: the head tells.
    """
    container.lines(4)
    source = Source(settings)
    route = await source.start()
    await source.settle()
    cursors, rows = route.commit()
    source.close()
    container.path.write_bytes(b"")  # The same inode, another content.
    container.write(
        b"another life, with a longer text than the four lines that were there before it " * 6
    )
    again = Source(settings, rows=rows)
    resumed = await again.start(cursors=cursors, first_start=False)
    await again.settle(10)
    assert resumed.texts(container.path) == container.written[-1:]
    assert not resumed.losses
    assert {segment.generation for segment in resumed.segments if segment.rows} == {1}
    again.close()


async def test_new_container_is_noticed_and_its_short_life_kept(
    settings: FilesSettings, root: Path
) -> None:
    """
    A pod that lives for a second: seen by one tick, gone at the next, all its lines kept.
    """
    source = Source(settings)
    route = await source.start()
    await source.settle()
    short = Container(root, namespace="jobs", pod="j-1", uid="aa-bb", name="main")
    short.lines(3)
    await source.files.tick()
    source.host.watches.pending.append((str(root), None))
    await source.files.tick()
    Kubelet().remove(short)
    short.directory.rmdir()
    short.directory.parent.rmdir()
    await source.settle(10)
    assert route.texts(short.path) == short.written
    assert not route.losses
    source.close()


async def test_two_routes_are_independent(settings: FilesSettings, container: Container) -> None:
    """
    A route that is far behind still gets what the other has committed and the kubelet has removed.
    """
    kubelet = Kubelet()
    container.lines(2)
    source = Source(settings, routes=("fast", "slow"))
    fast = await source.start("fast")
    slow = await source.start("slow")
    del source.routes["slow"]
    for _ in range(8):
        kubelet.rotate(container)
        container.lines(2)
        await source.settle(3)
        fast.commit()
    assert fast.texts(container.path) == container.written
    await slow.read_all()
    assert slow.texts(container.path) == container.written
    assert len(source.host.disk.opened) > 2
    slow.commit()
    assert len(source.host.disk.opened) <= 2
    slow.reader.close()
    source.close()


async def test_route_restarts_from_its_commit(
    settings: FilesSettings, container: Container
) -> None:
    """
    A new reader of the same process repeats what was read and not committed, and nothing else.
    """
    kubelet = Kubelet()
    container.lines(2)
    source = Source(settings)
    route = await source.start()
    await source.settle()
    cursors, _ = route.commit()
    container.lines(2)
    kubelet.rotate(container)
    container.lines(2)
    kubelet.rotate(container)
    container.lines(2)
    await source.settle(10)
    assert route.texts(container.path) == container.written
    route.reader.close()
    again = await source.start(cursors=cursors, first_start=False)
    await source.settle(1)
    assert again.texts(container.path) == container.written[2:]
    source.close()


async def test_route_restarts_twice_behind_a_log_that_it_has_forgotten(
    settings: FilesSettings, container: Container
) -> None:
    """
    Another route still holds the deleted file, so the Log is known, and its lines are not repeated.
    """
    container.lines(3)
    source = Source(settings, routes=("fast", "slow"))
    fast, slow = await source.start("fast"), await source.start("slow")
    await source.settle(1)
    fast.commit()
    container.path.unlink()
    await source.settle(10)
    (log,) = source.files.logs.values()
    fast.commit()
    source.files.forgotten(log, "fast")
    assert slow.texts(container.path) == container.written
    for _ in range(2):
        fast.reader.close()
        fast = await source.start("fast", first_start=False)
        await source.settle(1)
        assert not fast.segments
    source.close()
