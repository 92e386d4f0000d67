"""
A scan that fails leaves nothing to the garbage collector, which comes seldom.
"""

from __future__ import annotations

import errno
import gc
from typing import TYPE_CHECKING

import pytest

from agent.sources.discovery import Scan
from tests.fakes.source_host import Source

if TYPE_CHECKING:
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
    gc.collect()
    gc.disable()
    try:
        await source.start()
        await source.settle(5, step_s=1.0)
        assert not any(isinstance(item, Scan) for item in gc.get_objects())
    finally:
        gc.enable()
        source.close()
