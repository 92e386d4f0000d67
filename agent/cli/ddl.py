"""
The Athena table over a Parquet route's objects.

Partitions are projected, not registered: no crawler, no `ALTER TABLE` an hour, no Glue permission for the
agent.  Projection works in Athena only; other engines (Redshift Spectrum, EMR) need real partitions.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from agent.config.load import load
from agent.core.batch import Resource
from agent.core.errors import StopError, shown
from agent.core.templates import Template, legal_key
from agent.sinks.parquet_manifest import cluster_part
from agent.sinks.parquet_schema import PARTITIONS, columns_with

if TYPE_CHECKING:
    import argparse

    from agent.sinks.parquet_schema import Column
    from agent.sinks.parquet_settings import ParquetSettings

SERDE = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
INPUT_FORMAT = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
OUTPUT_FORMAT = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"
#: Glue's names: letters, digits and underscores, in lower case.
_TABLE = re.compile(r"(?:[a-z0-9_]{1,255}\.)?[a-z0-9_]{1,255}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def main(args: argparse.Namespace) -> int:
    """
    Print the table of a route.  Exit code 78: no such route, or one without Parquet on S3.
    """
    config = load(args.config)
    routes = {route.name: route.sink for route in config.routes}
    if args.route not in routes:
        raise StopError(
            f"{args.config}: routes: no route is called {shown(args.route)}; there are {', '.join(routes)}",
            exit_code=os.EX_CONFIG,
        )
    settings = routes[args.route]
    if settings.type != "parquet":
        raise StopError(
            f"{args.config}: route {args.route} has a {settings.type} sink; "
            "tables are for routes with a parquet sink",
            exit_code=os.EX_CONFIG,
        )
    table = args.table or re.sub(r"[^a-z0-9_]", "_", args.route.lower())
    sys.stdout.write(
        athena_ddl(
            settings,
            table=table,
            cluster=config.cluster,
            date_first=args.since,
            prefix=args.prefix,
        )
    )
    return 0


def athena_ddl(
    settings: ParquetSettings,
    *,
    table: str,
    cluster: str,
    date_first: str = "2026-01-01",
    prefix: str = "",
) -> str:
    """
    Return `CREATE EXTERNAL TABLE` for the objects that *settings* write.

    Args:
        settings: of the route's sink, with an s3:// url.
        table: `table` or `database.table`, lower case.
        cluster: the configured cluster: the only value of that partition; with "" every query has to name one.
        date_first: the first day that a query without a condition on dt looks at, yyyy-MM-dd.
            Every hour from here on is a place to look: early days without data cost time.
        prefix: one that the route's template makes; needed where that has variables.

    Raises:
        StopError: (78) for a file:// url, and for names and dates that Athena would not take.
    """
    where = settings.destination
    if not where.bucket:
        raise _refused("url", settings.url, "s3://bucket/prefix: Athena reads from S3 alone")
    if not _TABLE.fullmatch(table):
        raise _refused("table", table, "table or database.table of a-z, 0-9 and _")
    if not _DATE.fullmatch(date_first):
        raise _refused("date_first", date_first, "a day as yyyy-MM-dd")
    location = f"s3://{where.bucket}/{where.prefix}{_prefix(settings.prefix, prefix)}"
    properties = _projection(cluster, date_first) | {
        "storage.location.template": location
        + "/".join(f"{item.name}=${{{item.name}}}" for item in PARTITIONS)
        + "/",
        "classification": "parquet",
        "parquet.compression": "ZSTD",
    }
    columns = columns_with((item.name, item.type) for item in settings.promoted)
    name = ".".join(f"`{part}`" for part in table.split("."))
    return (
        f"CREATE EXTERNAL TABLE IF NOT EXISTS {name} (\n{_columns(columns)}\n)\n"
        "COMMENT 'Container logs, written by Tailrace'\n"
        f"PARTITIONED BY (\n{_columns(PARTITIONS)}\n)\n"
        f"ROW FORMAT SERDE '{SERDE}'\n"
        f"STORED AS INPUTFORMAT '{INPUT_FORMAT}'\n"
        f"OUTPUTFORMAT '{OUTPUT_FORMAT}'\n"
        f"LOCATION '{_quoted(location)}'\n"
        f"TBLPROPERTIES (\n{_properties(properties)}\n);\n"
    )


def _prefix(template: str, prefix: str) -> str:
    if not template:
        return ""
    if Template(template).variables:
        if not prefix:
            raise _refused("prefix", prefix, f"one that {template} makes: each has its own table")
    else:
        prefix = legal_key(Template(template).render(Resource(path="")))
    return prefix.strip("/") + "/"


def _projection(cluster: str, date_first: str) -> dict[str, str]:
    # `injected` where the value is not known here: it has no list of values to look through.
    known = {
        "projection.cluster.type": "enum",
        "projection.cluster.values": cluster_part(cluster),
    }
    return {
        "projection.enabled": "true",
        **(known if cluster else {"projection.cluster.type": "injected"}),
        "projection.dt.type": "date",
        # A day more than now: rows of clocks that are ahead.
        "projection.dt.range": f"{date_first},NOW+1DAYS",
        "projection.dt.format": "yyyy-MM-dd",
        "projection.dt.interval": "1",
        "projection.dt.interval.unit": "DAYS",
        "projection.hour.type": "integer",
        "projection.hour.range": "0,23",
        "projection.hour.digits": "2",
    }


def _columns(columns: tuple[Column, ...]) -> str:
    return ",\n".join(
        f"  `{item.name}` {item.type} COMMENT '{_quoted(item.comment)}'" for item in columns
    )


def _properties(properties: dict[str, str]) -> str:
    return ",\n".join(f"  '{name}' = '{_quoted(value)}'" for name, value in properties.items())


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _refused(what: str, value: str, expected: str) -> StopError:
    return StopError(f"{what}: got {shown(value)}, expected {expected}", exit_code=78)
