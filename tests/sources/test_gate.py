"""
The select stage: what a route does not open, what it waits for, and which rows it takes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.core import counters as metric
from agent.core.cursor import resume_place
from agent.core.pod_facts import Wanted
from agent.core.pods import Pods
from agent.core.select import SelectSettings
from agent.sources.settings import FilesSettings
from tests.core.pods_kit import pod, status
from tests.fakes.kubelet import Container, Kubelet
from tests.fakes.source_host import Source
from tests.sources.conftest import UID

if TYPE_CHECKING:
    from pathlib import Path


DECIDING = Wanted(
    deciding_labels=frozenset({"app"}),
    deciding_annotations=("tailrace.io/exclude", "fluentbit.io/exclude"),
)
BY_LABEL = SelectSettings(labels="app=web")


def known(pods: Pods, **fields: object) -> None:
    """
    Let the API server tell of the container's pod.
    """
    pods.apply_pod(pod("cart-0", UID, status__containerStatuses=[status()], **fields))


async def test_a_path_that_is_excluded_is_not_held_open(
    settings: FilesSettings, container: Container
) -> None:
    """
    No route wants it, so no descriptor stays; another route's wish keeps it open.
    """
    container.lines(1)
    nobody, somebody = Source(settings), Source(settings, routes=("r", "s"))
    await nobody.start(select=SelectSettings(exclude_namespaces=("shop",)))
    await nobody.settle(1)
    assert nobody.files.descriptors.count == 0
    await somebody.start(select=SelectSettings(exclude_namespaces=("shop",)))
    route = await somebody.start("s")
    await somebody.settle(1)
    assert somebody.files.descriptors.count == 1
    assert route.texts(container.path) == container.written
    nobody.close()
    somebody.close()


async def test_an_excluded_log_that_rotates_leaves_nothing(
    settings: FilesSettings, container: Container
) -> None:
    """
    No commit ever lets go of what no route reads.
    """
    kubelet = Kubelet()
    source = Source(settings)
    container.lines(1)
    await source.start(select=SelectSettings(exclude_namespaces=("shop",)))
    for _ in range(20):
        kubelet.rotate(container)
        container.lines(1)
        await source.settle(2, step_s=0.5)
        (log,) = source.files.logs.values()
        assert (source.files.descriptors.count, len(log.opened)) == (0, 0)
        assert len(log.chain.generations) <= 6
    source.close()


async def test_reading_waits_until_the_pod_is_known(
    settings: FilesSettings, container: Container
) -> None:
    """
    The descriptor is held meanwhile, and every line then has its metadata.
    """
    container.lines(3)
    pods = Pods()
    source = Source(settings, pods=pods)
    route = await source.start()
    await source.settle(2)
    assert route.texts(container.path) == []
    assert source.files.descriptors.count == 1
    assert not route.reader.exhausted()
    known(pods, metadata__labels={"app": "web"})
    await source.settle(1)
    assert route.texts(container.path) == container.written
    assert route.segments[0].resource.labels == (("app", "web"),)
    source.close()


@pytest.mark.parametrize("docker", [False, True])
async def test_a_link_of_the_kubelet_is_known_by_what_it_leads_to(
    docker: bool, tmp_path: Path, container: Container
) -> None:
    """
    As in /var/log/containers: no uid in the name; with dockerd its target is one more link.
    """
    link = tmp_path / "containers" / f"cart-0_shop_app-{'ab' * 32}.log"
    link.parent.mkdir()
    link.symlink_to(container.path)
    if docker:
        files = tmp_path / "docker"
        files.mkdir()
        container.path.rename(files / "json.log")
        container.path.symlink_to(files / "json.log")
    container.lines(3)
    pods = Pods()
    known(pods, metadata__labels={"app": "web"})
    source = Source(FilesSettings(paths=(f"{link.parent}/*.log",)), pods=pods)
    route = await source.start()
    await source.settle(1)
    assert route.texts(link) == container.written
    resource = route.segments[0].resource
    assert (resource.path, resource.pod_uid, resource.restart) == (str(link), UID, "0")
    assert resource.labels == (("app", "web"),)
    source.close()


async def test_a_link_that_leads_to_another_pod_gives_no_metadata(
    tmp_path: Path, container: Container
) -> None:
    """
    Its name and its target disagree: the lines are delivered with what the name says.
    """
    link = tmp_path / f"cart-1_shop_app-{'ab' * 32}.log"
    link.symlink_to(container.path)
    container.lines(1)
    source = Source(FilesSettings(paths=(f"{tmp_path}/*.log",)), pods=Pods())
    route = await source.start()
    await source.settle(6)
    assert route.texts(link) == container.written
    resource = route.segments[0].resource
    assert (resource.pod, resource.pod_uid, resource.metadata) == ("cart-1", "", None)
    source.close()


@pytest.mark.parametrize(("action", "delivered"), [("deliver", 3), ("hold", 0), ("drop", 0)])
async def test_a_pod_that_is_not_known_in_time(
    settings: FilesSettings, container: Container, action: str, delivered: int
) -> None:
    """
    After the wait the route's choice decides, and is counted once.
    """
    container.lines(3)
    source = Source(settings, pods=Pods())
    route = await source.start(on_missing=action)  # type: ignore[arg-type]
    await source.settle(6)
    assert len(route.texts(container.path)) == delivered
    assert source.counters.get(metric.METADATA_MISSING, "r", action) == 1
    dropped = 3 if action == "drop" else 0
    assert source.counters.get(metric.FILTERED_ROWS, "r") == dropped
    source.close()


async def test_what_was_held_is_delivered_whole_although_its_file_is_gone(
    settings: FilesSettings, container: Container
) -> None:
    """
    The pod is deleted during an outage of the API server, and known after it.
    """
    container.lines(3)
    pods = Pods(DECIDING)
    source = Source(settings, pods=pods)
    route = await source.start(select=BY_LABEL, on_missing="hold")
    await source.settle(6)
    container.stop()
    container.path.unlink()
    await source.settle(12)
    assert route.texts(container.path) == []
    known(pods, metadata__labels={"app": "web"})
    await source.settle(8)
    assert route.texts(container.path) == container.written
    assert not route.losses
    source.close()


async def test_a_label_excludes_and_its_edit_is_seen(
    settings: FilesSettings, container: Container
) -> None:
    """
    Lines of an excluded pod are read and taken out; after an edit the next ones are delivered.
    """
    container.lines(2)
    pods = Pods(DECIDING)
    known(pods, metadata__labels={"app": "other"})
    source = Source(settings, pods=pods)
    route = await source.start(select=BY_LABEL, on_missing="hold")
    await source.settle(1)
    assert route.texts(container.path) == []
    assert source.counters.get(metric.FILTERED_ROWS, "r") == 2
    cursors, _ = route.commit()
    assert resume_place(cursors[str(container.path)]).offset == container.path.stat().st_size
    known(pods, metadata__labels={"app": "web"})
    container.write(b"after the edit")
    await source.settle(1)
    assert route.texts(container.path) == [b"after the edit"]
    source.close()


async def test_an_annotation_excludes_one_stream(
    settings: FilesSettings, container: Container
) -> None:
    """
    fluentbit.io/exclude_stderr takes the rows of stderr out, and stdout stays whole.
    """
    pods = Pods(DECIDING)
    known(pods, metadata__annotations={"fluentbit.io/exclude_stderr": "true"})
    container.write(b"out 1")
    container.write(b"err 1", stream="stderr")
    container.write(b"out 2")
    source = Source(settings, pods=pods)
    route = await source.start(select=SelectSettings(annotations=("fluentbit",)))
    await source.settle(1)
    assert route.texts(container.path) == [b"out 1", b"out 2"]
    assert source.counters.get(metric.FILTERED_ROWS, "r") == 1
    source.close()


async def test_metadata_of_a_deleted_pod_stays_until_its_logs_are_drained(
    settings: FilesSettings, container: Container
) -> None:
    """
    The last lines of a pod that the API server has forgotten still carry its labels.
    """
    pods = Pods()
    known(pods, metadata__labels={"app": "web"})
    container.lines(1)
    source = Source(settings, pods=pods)
    route = await source.start()
    await source.settle(1)
    pods.delete_pod(UID)
    container.write(b"last words")
    container.stop()
    container.path.unlink()
    await source.settle(8)
    assert route.texts(container.path) == container.written
    assert all(item.resource.labels for item in route.segments if item.rows)
    assert pods.deleted == 1
    route.commit()
    for log in route.reader.finished():
        route.reader.forget(log)
    await source.settle(1)
    assert (pods.live, pods.deleted) == (0, 0)
    source.close()
