"""
Open rows under a small budget: dropped from memory, read again when they end, never lost, joined as ever.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from agent._fastparse import FLAG_UNTERMINATED
from agent.core.batch import LossReason
from agent.core.counters import READ_BYTES
from agent.sources.settings import FilesSettings
from tests.fakes.kubelet import Container, Kubelet
from tests.fakes.source_host import Source

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1 << 10
LINE_BYTES_MAX = 16 * KIB
PIECE_BYTES = KIB
#: Two rows of LINE_BYTES_MAX fit into half of what is guaranteed, three do not.
BUDGET_BYTES = 160 * KIB


@pytest.fixture
def settings(root: Path) -> FilesSettings:
    """
    Small rows and chunks.
    """
    return FilesSettings(
        paths=(f"{root}/*/*/*.log",),
        line_bytes_max=LINE_BYTES_MAX,
        chunk_bytes=4 * KIB,
        rotate_grace_s=1.0,
    )


def containers(root: Path, count: int) -> list[Container]:
    """
    Return *count* containers.
    """
    uid = "11111111-2222-3333-4444-555555555555"
    return [
        Container(root, namespace="shop", pod=f"cart-{number}", uid=uid, name="app")
        for number in range(count)
    ]


def piece(container: Container, number: int, *, stream: str = "stdout", tag: str = "P") -> bytes:
    """
    Write one piece and return it.
    """
    content = b"%s-%05d-" % (container.path.parts[-3][-14:-8].encode(), number)
    content = content.ljust(PIECE_BYTES, b"x")
    container.write(content, stream=stream, tag=tag)
    return content


async def test_rows_of_many_logs_at_once(settings: FilesSettings, root: Path) -> None:
    """
    Of 40 open rows of 14 KiB few fit: the others wait in their files, and each is whole when its end has come.

    What is held never passes the part for carries and the row that is being completed; no file is read three times.
    """
    source = Source(settings, budget_bytes=BUDGET_BYTES)
    route = await source.start()
    share = source.budget.shares["r"]
    expected: dict[str, bytes] = defaultdict(bytes)
    running = containers(root, 40)
    for number in range(14):
        for container in running:
            expected[str(container.path)] += piece(container, number)
        await source.settle(0.2)
        assert share.held == share.carried <= share.guaranteed // 2 + LINE_BYTES_MAX * 3 // 2
    assert sum(follow.reread is not None for follow in route.reader._follows.values()) > 30
    assert not route.texts(running[0].path)
    for container in running:
        expected[str(container.path)] += piece(container, 99, tag="F")
    await source.settle(2)
    for container in running:
        assert route.texts(container.path) == [expected[str(container.path)]]
    assert share.held == 0
    size = sum(container.path.stat().st_size for container in running)
    assert source.host.disk.bytes_read < 3 * size
    assert source.counters.total(READ_BYTES) == size, "counted once, however often read"
    source.close()


@pytest.mark.parametrize("seed", range(12))
async def test_any_interleaving(seed: int, settings: FilesSettings, root: Path) -> None:
    """
    Pieces of both streams, whole lines between them, rotations, restarts of the route: nothing is missing.

    The rows are those of a route with all the memory there is, each exactly once, in the order of its stream.
    """
    rng = random.Random(seed)
    running = containers(root, 8)
    kubelet = Kubelet()
    source = Source(settings, budget_bytes=rng.choice((32, 64, 128)) * KIB)
    route = await source.start()
    open_rows: dict[tuple[int, str], bytes] = defaultdict(bytes)
    expected: dict[tuple[int, str], list[bytes]] = defaultdict(list)
    before: dict[str, list[bytes]] = defaultdict(list)
    for number in range(200):
        index, stream = rng.randrange(8), rng.choice(("stdout", "stdout", "stderr"))
        key = index, stream
        if len(open_rows[key]) >= 14 * KIB or rng.random() < 0.08:
            expected[key].append(
                open_rows.pop(key, b"") + piece(running[index], number, stream=stream, tag="F")
            )
        else:
            open_rows[key] += piece(running[index], number, stream=stream)
        if rng.random() < 0.3:
            await source.settle(0.2)
        if rng.random() < 0.02:
            kubelet.rotate(running[index])
        if rng.random() < 0.01:
            cursors, _ = route.commit()
            for log, texts in route.messages.items():
                before[log] += texts
            route.reader.close()
            assert source.budget.held == 0
            route = await source.start(cursors=cursors, first_start=False)
    for (index, stream), content in list(open_rows.items()):
        if content:
            end = piece(running[index], 999, stream=stream, tag="F")
            expected[index, stream].append(content + end)
    await source.settle(5)
    for index, container in enumerate(running):
        found = before[str(container.path)] + route.texts(container.path)
        rows = expected[index, "stdout"] + expected[index, "stderr"]
        assert sorted(found) == sorted(rows)
        for stream in ("stdout", "stderr"):
            mine = expected[index, stream]
            assert [text for text in found if text in mine] == mine
    assert not route.losses
    assert source.budget.held == 0
    source.close()


async def test_an_end_that_never_comes(settings: FilesSettings, root: Path) -> None:
    """
    After piece_timeout_s every row is released as it is, also those that are not in memory.
    """
    source = Source(settings, budget_bytes=BUDGET_BYTES)
    route = await source.start()
    running = containers(root, 20)
    rows = {
        container.path: b"".join(piece(container, number) for number in range(12))
        for container in running
    }
    await source.settle(1)
    assert not route.messages
    await source.settle(settings.piece_timeout_s + 5, step_s=1.0)
    for path, content in rows.items():
        assert route.texts(path) == [content]
        assert route.flags[str(path)][0] & FLAG_UNTERMINATED
    assert source.budget.held == 0
    source.close()


async def test_a_busy_other_stream_is_not_held_up_for_ever(
    settings: FilesSettings, root: Path
) -> None:
    """
    Behind a row that is not in memory the other stream waits, at most for piece_timeout_s; nothing of it is lost.
    """
    source = Source(settings, budget_bytes=BUDGET_BYTES)
    route = await source.start()
    running = containers(root, 20)
    for container in running:
        for number in range(12):
            piece(container, number)
    await source.settle(1)
    lines = [b"line %d" % number for number in range(200)]
    for container in running:
        container.write(*lines, stream="stderr")
    await source.settle(settings.piece_timeout_s + 5, step_s=1.0)
    for container in running:
        assert [text for text in route.texts(container.path) if text in lines] == lines
    for container in running:
        assert len(route.texts(container.path)) == 201
    source.close()


@pytest.mark.parametrize("how", ["cut", "deleted"])
async def test_a_file_that_is_gone_before_its_row_is_read_again(
    how: str, settings: FilesSettings, root: Path
) -> None:
    """
    A deleted file is still open and gives the row; of one that was cut, the beginning of the row is a loss.
    """
    source = Source(settings, budget_bytes=BUDGET_BYTES)
    route = await source.start()
    running = containers(root, 20)
    rows = {
        container.path: b"".join(piece(container, number) for number in range(12))
        for container in running
    }
    await source.settle(1)
    dropped = [
        follow.log.key for follow in route.reader._follows.values() if follow.reread is not None
    ]
    assert len(dropped) > 10
    for container in running:
        if how == "cut":
            os.truncate(container.path, 0)
            container.write(b"fresh start")
        else:
            container.stop()
            container.path.unlink()
    await source.settle(30)
    if how == "deleted":
        assert not route.losses
    else:
        begun = [loss.log for loss in route.losses if "dropped from memory" in loss.detail]
        assert sorted(begun) == sorted(dropped)
        assert {loss.reason for loss in route.losses} == {LossReason.TRUNCATED}
    for path, content in rows.items():
        # A row that is in memory is ended by what comes next in its Log.
        kept = b"" if how == "cut" and str(path) in dropped else content
        assert route.texts(path) == [kept + (b"fresh start" if how == "cut" else b"")]
    assert source.budget.held == 0
    source.close()
