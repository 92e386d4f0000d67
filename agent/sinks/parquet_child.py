"""
Sealed windows and the child that makes Parquet files of them (`tailrace seal`, cli/seal.py).

A window's directory holds the spec, the files and, when all are durable, the manifest.  Whoever finds one does not
ask how often a child had to be started for it.
"""

from __future__ import annotations

import os
from itertools import accumulate
from typing import TYPE_CHECKING

import msgspec

from agent.core.errors import RetryError, StopError
from agent.sinks.parquet_manifest import SPEC_NAME, SealManifest, SealSpec, read_manifest
from agent.sinks.parquet_staging import make_directories, write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.checkpoint import Window
    from agent.core.host import Host, StateDisk
    from agent.sinks.parquet_recovery import StagingPaths
    from agent.sinks.parquet_settings import ParquetSettings

#: Decoded rows that wait in the child for their row group, in row groups: the open hour and a late one.
PENDING_ROW_GROUPS = 2
#: Bytes of staging, and windows, that one child is given at most: it takes 0.15 to 0.3 s of CPU to start one.
CHILD_BYTES_MAX, CHILD_WINDOWS_MAX = 64 << 20, 64
EXIT_STATE_BROKEN = 70


class SealChild:
    """
    Starts the children of one route.
    """

    def __init__(
        self, settings: ParquetSettings, *, paths: StagingPaths, node: str, host: Host
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._node = node
        self._host = host
        # What one has made is uploaded when it ends: by then a full sink waits for room.
        self._bytes_max = min(CHILD_BYTES_MAX, settings.staged_at_once_max)

    def takes(self, windows: Sequence[Window]) -> int:
        """
        Return how many of *windows*, from the first on, one child is to seal.
        """
        ends = accumulate(window.staging_length for window in windows[:CHILD_WINDOWS_MAX])
        return max(1, sum(end <= self._bytes_max for end in ends))

    async def manifest(self, window: Window) -> SealManifest | None:
        """
        Return what a child says to have made of *window*; None before that.
        """
        return await self._host.run_blocking(
            read_manifest,
            self._host.state_disk,
            self._paths.sealed(window.number),
            window.staging_length,
        )

    async def run(self, windows: Sequence[Window], failures: int) -> RetryError | None:
        """
        Let a child make files of *windows*; return why it could not, of one of them.

        Raises StopError where the state directory is broken.
        """
        paths = []
        for window in windows:
            paths.append(os.path.join(self._paths.sealed(window.number), SPEC_NAME))
            spec = self._spec(window, failures)
            await self._host.run_blocking(_write_spec, self._host.state_disk, paths[-1], spec)
        numbers = dict.fromkeys((windows[0].number, windows[-1].number))
        name = f"seal {self._paths.route}/{'-'.join(map(str, numbers))}"
        code, stderr = await self._host.run_child(["seal", *paths], name=name)
        if code == EXIT_STATE_BROKEN:
            raise StopError(stderr.strip(), exit_code=code)
        if code == 0:
            return None
        return RetryError(f"{name} ended with {code}: {stderr.strip()[-500:]}", code=f"exit{code}")

    def _spec(self, window: Window, failures: int) -> SealSpec:
        settings = self._settings
        # A child that the kernel killed for its memory gets through with less of it.
        row_group_bytes = max(1 << 20, settings.row_group_bytes_max >> min(failures, 4))
        return SealSpec(
            route=self._paths.route,
            node=self._node,
            window=window.number,
            staging_path=self._paths.staging(window.number),
            staging_length=window.staging_length,
            directory=self._paths.sealed(window.number),
            compression_level=settings.compression_level,
            row_group_rows_max=settings.row_group_rows_max,
            row_group_bytes_max=row_group_bytes,
            pending_bytes_max=PENDING_ROW_GROUPS * row_group_bytes,
            columns=tuple((item.name, item.type) for item in settings.promoted),
        )


def _write_spec(disk: StateDisk, path: str, spec: SealSpec) -> None:
    # The child makes files durable, and the directories below this one.
    make_directories(disk, os.path.dirname(path))
    write_file(disk, path, msgspec.json.encode(spec), durable=False)
