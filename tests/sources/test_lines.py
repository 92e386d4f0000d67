"""
Lines of a loss, read again: their own row's and no other's, over reads, generations and compression.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.core.batch import Loss, LossReason
from agent.sources import lines as lines_module
from agent.sources.lines import Lines
from tests.fakes.kubelet import Kubelet
from tests.fakes.source_host import Source

if TYPE_CHECKING:
    from pathlib import Path

    from agent.sources.settings import FilesSettings
    from tests.fakes.kubelet import Container


def loss(path: Path, start: int, stop: int, rows: int, *, generation: int = 0) -> Loss:
    """
    A loss of *rows* rows.
    """
    return Loss(str(path), "f" * 32, generation, start, stop, LossReason.REFUSED, rows)


@pytest.fixture(params=[7, 256 << 10])
def small_reads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Reads of a few bytes, and of all.
    """
    monkeypatch.setattr(lines_module, "READ_BYTES", request.param)


@pytest.mark.usefixtures("small_reads")
@pytest.mark.parametrize("packed", [False, True])
async def test_a_row_over_pieces_streams_and_generations(
    packed: bool, settings: FilesSettings, container: Container
) -> None:
    """
    A row that begins in one generation and ends in the next, with lines of the other stream between.
    """
    kubelet = Kubelet()
    container.write(b"first")
    start = container.path.stat().st_size
    container.write(b"one ", tag="P")
    stop = container.path.stat().st_size
    container.write(b"not mine", stream="stderr")
    kubelet.rotate(container)
    container.write(b"two ", tag="P")
    container.write(b"nor this", stream="stderr")
    container.write(b"three", b"behind")
    if packed:
        kubelet.rotate(container)
        kubelet.rotate(container)
    source = Source(settings)
    await source.start()
    await source.settle(10)
    lines = Lines(source.files)
    found = await lines.of(loss(container.path, start, stop, 1))
    assert [line.split(b" ", 3)[3] for line in found.splitlines()] == [b"one ", b"two ", b"three"]
    both = await lines.of(loss(container.path, 0, stop, 2))
    assert len(both.splitlines()) == 4
    alone = await lines.of(loss(container.path, 0, start, 1))
    assert alone.endswith(b" stdout F first\n")
    source.close()


@pytest.mark.usefixtures("small_reads")
async def test_a_row_that_was_joined(settings: FilesSettings, container: Container) -> None:
    """
    Where lines are joined, a row is all lines of its stream in the range; no line of a trace is left out.
    """
    container.write(b"Error: x", b"\tat a")
    container.write(b"not mine", stream="stderr")
    container.write(b"\tat ", tag="P")
    container.write(b"b")
    stop = container.path.stat().st_size
    container.write(b"behind")
    source = Source(settings)
    await source.start()
    await source.settle(6)
    one = loss(container.path, 0, stop, 1)
    found = await Lines(source.files, joined=True).of(one)
    texts = [line.split(b" ", 3)[3] for line in found.splitlines()]
    assert texts == [b"Error: x", b"\tat a", b"\tat ", b"b"]
    assert len((await Lines(source.files).of(one)).splitlines()) == 1
    source.close()


async def test_docker_raw_and_lines_without_an_end(
    settings: FilesSettings, raw_settings: FilesSettings, container: Container, app_log: Path
) -> None:
    """
    Pieces of docker are known by their text; a raw line is a row; what is too long is cut, and an end is added.
    """
    record = b'{"log":"%s","stream":"stdout","time":"2026-11-22T10:15:00Z"}\n'
    container.raw(record % b"one " + record % rb"two\n" + record % rb"three\n")
    source = Source(settings)
    await source.start()
    await source.settle(1)
    found = await Lines(source.files).of(loss(container.path, 0, 10, 1))
    assert found == record % b"one " + record % rb"two\n"
    source.close()
    app_log.write_bytes(b"x" * 9000 + b"\nshort\nwithout an end")
    source = Source(replace(raw_settings, line_bytes_max=1024))
    await source.start()
    await source.settle(1)
    lines = Lines(source.files)
    assert await lines.of(loss(app_log, 0, 9001, 1)) == b"x" * 2048 + b"\n"
    assert await lines.of(loss(app_log, 9001, 9007, 0)) == b"short\n"
    assert await lines.of(loss(app_log, 9007, 9020, 0)) == b"without an end\n"
    source.close()


async def test_a_file_that_is_gone(settings: FilesSettings, container: Container) -> None:
    """
    An error says so: the loss is recorded without its lines.
    """
    container.lines(3)
    source = Source(settings)
    await source.start()
    await source.settle(1)
    lines = Lines(source.files)
    with pytest.raises(FileNotFoundError, match="generation 7 is not known"):
        await lines.of(loss(container.path, 0, 10, 1, generation=7))
    with pytest.raises(FileNotFoundError, match="is not followed"):
        await lines.of(loss(container.path.with_name("1.log"), 0, 10, 1))
    source.close()
