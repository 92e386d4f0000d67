"""
A scan that fails leaves nothing to the garbage collector, which comes seldom.
"""

from __future__ import annotations

import errno
import gc
import itertools
from typing import TYPE_CHECKING

import pytest

from agent.sources.discovery import Scan
from tests.fakes.garbage import without_collector
from tests.fakes.source_host import Source

if TYPE_CHECKING:
    from pathlib import Path

    from agent.core.host import FileStat
    from agent.sources.settings import FilesSettings
    from tests.fakes.kubelet import Container


@pytest.mark.parametrize("kind", ["file", "directory"])
async def test_a_scan_with_errors_is_no_garbage(
    settings: FilesSettings, container: Container, kind: str
) -> None:
    """
    Every file that it saw would wait with it.
    """
    source = Source(settings)
    disk = source.host.disk
    if kind == "file":
        disk.fail_open = {str(container.path): errno.EACCES}
    else:
        disk.fail_list[str(container.directory)] = errno.EACCES
    container.lines(2)
    with without_collector():
        await source.start()
        await source.settle(5, step_s=1.0)
        assert not any(isinstance(item, Scan) for item in gc.get_objects())
    source.close()


async def test_a_file_that_is_gone_before_it_is_seen_leaves_nothing(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    One that comes and goes while its directory is listed.
    """
    source = Source(raw_settings)
    directory = app_log.parent
    await source.start()
    disk = source.host.disk
    list_all, numbers = disk.list, itertools.count(1)

    def list_meanwhile(path: str) -> list[tuple[str, FileStat]]:
        passing = directory / f"job-{next(numbers)}.log"
        passing.write_bytes(b"x\n")
        try:
            return list_all(path)
        finally:
            passing.unlink()

    disk.list = list_meanwhile  # type: ignore[assignment, method-assign]
    await source.settle(20, step_s=0.5)
    disk.list = list_all  # type: ignore[method-assign]
    await source.settle(10, step_s=0.5)
    assert next(numbers) > 20
    assert not source.files.logs
    assert not source.files._discovery.homes[str(directory)]
    source.close()
