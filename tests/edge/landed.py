"""
What is in the destinations and in the state directory after an ordeal.
"""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from pyarrow import parquet

from tests.edge.check import Row

if TYPE_CHECKING:
    from tests.e2e.world import World


def events(world: World) -> list[list[str]]:
    """
    Return what is in CloudWatch, stream by stream.
    """
    return [
        [json.loads(message)["log"] for _, message in events]
        for group in world.cloudwatch.groups.values()
        for events in group.streams.values()
    ]


def losses(world: World) -> list[dict[str, Any]]:
    """
    Return every loss record.
    """
    with closing(sqlite3.connect(world.state / "tailrace.db")) as database:
        assert not database.execute("SELECT * FROM losses_dropped").fetchall()
        found = database.execute(
            "SELECT name, log, file_id, start, stop, reason FROM losses JOIN routes ON routes.id = route_id"
        ).fetchall()
    names = ("route", "log", "file_id", "start", "stop", "reason")
    return [dict(zip(names, row, strict=True)) for row in found]


def rows(world: World) -> list[list[Row]]:
    """
    Return what is in S3, row group by row group.
    """
    groups: list[list[Row]] = []
    for stored in world.s3.objects.values():
        file = parquet.ParquetFile(io.BytesIO(stored.body))
        for index in range(file.num_row_groups):
            table = file.read_row_group(index, columns=list(Row._fields))
            columns = [table.column(name).to_pylist() for name in Row._fields]
            groups.append([Row(*row) for row in zip(*columns, strict=True)])
    return groups
