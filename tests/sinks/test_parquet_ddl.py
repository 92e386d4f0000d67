"""
The Athena table: every column of the files, every partition of the path.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from agent.cli.ddl import athena_ddl
from agent.cli.seal_rows import SCHEMA
from agent.core.errors import StopError
from agent.sinks.parquet_manifest import Partition, cluster_part
from agent.sinks.parquet_settings import ParquetSettings
from tests.sinks.parquet_kit import Kit, read_parquet

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = ParquetSettings(url="s3://logs-bucket/app/")
ARROW_TYPES = {
    "timestamp": pa.timestamp("ms", tz="UTC"),
    "bigint": pa.int64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "map<string,string>": pa.map_(pa.string(), pa.string()),
}


def declared(ddl: str) -> tuple[dict[str, str], dict[str, str]]:
    """
    Return the columns and the partition columns of *ddl*, with their types.
    """
    columns, _, partitions = ddl.partition("PARTITIONED BY")
    pattern = re.compile(r"^  `(\w+)` ([\w<>,]+) COMMENT", re.MULTILINE)
    return dict(pattern.findall(columns)), dict(pattern.findall(partitions))


async def test_the_table_declares_what_the_files_hold(tmp_path: Path) -> None:
    """
    Same names, same order, compatible types; partition columns are in the path alone.
    """
    kit = Kit(tmp_path)
    await kit.run(20)
    columns, partitions = declared(athena_ddl(SETTINGS, table="logs", cluster="prod"))
    found = read_parquet(kit.target)
    files = found.drop_columns(["cluster", "dt", "hour"]).schema
    assert files.names == list(columns) == SCHEMA.names
    assert list(partitions) == ["cluster", "dt", "hour"]
    for field in files:
        expected = ARROW_TYPES[columns[field.name]]
        assert field.type == expected, field.name
    assert all(name == name.lower() for name in columns)


def test_partitions_are_projected() -> None:
    """
    The template leads to the paths that the sink writes.
    """
    ddl = athena_ddl(SETTINGS, table="audit.logs", cluster="prod")
    properties = dict(re.findall(r"^  '([\w.]+)' = '(.*?)'", ddl, re.MULTILINE))
    template = properties["storage.location.template"]
    path = Partition(cluster_part("prod"), 0).path
    assert template.replace("${cluster}", "prod").replace("${dt}", "1970-01-01").replace(
        "${hour}", "00"
    ) == (f"s3://logs-bucket/app/{path}/")
    assert properties["projection.enabled"] == "true"
    assert properties["projection.cluster.type"] == "enum"
    assert properties["projection.cluster.values"] == "prod"
    assert properties["projection.hour.digits"] == "2"
    assert properties["projection.dt.range"].startswith("2026-01-01,NOW")
    assert "LOCATION 's3://logs-bucket/app/'" in ddl
    assert "`audit`.`logs`" in ddl


def test_an_unknown_cluster_is_injected() -> None:
    """
    Without a configured cluster, queries name one.
    """
    ddl = athena_ddl(SETTINGS, table="logs", cluster="")
    assert "'projection.cluster.type' = 'injected'" in ddl
    assert "cluster.values" not in ddl


@pytest.mark.parametrize(
    ("url", "table", "date", "text"),
    [
        ("file:///tmp/x", "logs", "2026-01-01", "url"),
        ("s3://logs-bucket", "Logs;", "2026-01-01", "table"),
        ("s3://logs-bucket", "logs", "today", "date_first"),
    ],
)
def test_what_athena_would_not_take_is_refused(url: str, table: str, date: str, text: str) -> None:
    """
    Exit 78 with what was wrong.
    """
    with pytest.raises(StopError, match=f"^{text}: got") as caught:
        athena_ddl(ParquetSettings(url=url), table=table, cluster="", date_first=date)
    assert caught.value.exit_code == 78
