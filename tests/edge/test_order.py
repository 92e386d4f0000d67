"""
Lines of a Log stay in their order: within a stream of CloudWatch, and within a row group of Parquet.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from pyarrow import parquet

from tests.e2e.world import World
from tests.fakes.cloudwatch import THROTTLED

if TYPE_CHECKING:
    from pathlib import Path

_NUMBER = re.compile(r"line ([0-9]+)\"?")


async def test_order_survives_rotation_throttling_and_retries(tmp_path: Path) -> None:
    """
    Several pods, several requests a stream, several rotations, throttled at first: nothing overtakes.
    """
    async with World(tmp_path) as world:
        world.cloudwatch.script(*[THROTTLED] * 3)
        pods = [world.pod(f"web-{index}") for index in range(3)]
        await world.start()
        for _ in range(4):
            for pod in pods:
                pod.lines(60)
                pod.rotate()
                pod.lines(5)
            await world.until_or_ended(0.3)
        await world.delivered(*pods)
        assert await world.stop() == 0, world.log
        world.assert_exact(*pods)
        for group in world.cloudwatch.groups.values():
            for name, events in group.streams.items():
                numbers = [int(_NUMBER.search(message).group(1)) for _, message in events]  # type: ignore[union-attr]
                assert numbers == list(range(260)), name
        for stored in world.s3.objects.values():
            file = parquet.ParquetFile(io.BytesIO(stored.body))
            for index in range(file.num_row_groups):
                group = file.read_row_group(index, columns=["pod", "file_id", "offset", "message"])
                rows = group.to_pylist()
                places = [(row["pod"], row["file_id"]) for row in rows]
                runs = [
                    place for at, place in enumerate(places) if place != places[at - 1] or not at
                ]
                assert len(runs) == len(set(runs)), "a file is in one piece"
                for pod in {row["pod"] for row in rows}:
                    mine = [int(row["message"].split()[-1]) for row in rows if row["pod"] == pod]
                    assert mine == sorted(mine)
                for run in set(runs):
                    offsets = [row["offset"] for row in rows if (row["pod"], row["file_id"]) == run]
                    assert offsets == sorted(offsets)
