"""
AWS on loopback: moto's server as a library, and what was delivered to it.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import duckdb
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.check import Key, Lines

REGION = "us-east-1"
#: Credentials that nobody checks; and loopback is not reached through a proxy.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


@contextmanager
def local_cloud() -> Iterator[str]:
    """
    Serve AWS on a free loopback port for the length of the block; yields its URL.
    """
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]  # A profile or an endpoint of the user is not meant here.
    os.environ.update(ENVIRONMENT)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def client(service: str, url: str) -> Any:
    """
    Make a boto3 client of *service* at *url*.
    """
    return boto3.client(service, endpoint_url=url, region_name=REGION)


def delivered_events(url: str, group: str) -> dict[Key, Lines]:
    """
    Every event of *group*, by the container that its record names.
    """
    logs = client("logs", url)
    found: dict[Key, Lines] = {}
    for page in logs.get_paginator("describe_log_streams").paginate(logGroupName=group):
        for stream in page["logStreams"]:
            for message in _messages(logs, group, stream["logStreamName"]):
                record = json.loads(message)
                kubernetes = record["kubernetes"]
                key = (
                    kubernetes["namespace_name"],
                    kubernetes["pod_name"],
                    kubernetes["container_name"],
                )
                if stream["logStreamName"] != ".".join(key):
                    raise AssertionError(f"{key} is in stream {stream['logStreamName']}")
                found.setdefault(key, Counter())[record["stream"], record["log"]] += 1
    return found


def _messages(logs: Any, group: str, stream: str) -> Iterator[str]:
    token: dict[str, str] = {}
    while True:
        page = logs.get_log_events(
            logGroupName=group, logStreamName=stream, startFromHead=True, limit=10_000, **token
        )
        yield from (event["message"] for event in page["events"])
        # At the end the service answers with the token that it was given.
        if page["nextForwardToken"] == token.get("nextToken"):
            return
        token = {"nextToken": page["nextForwardToken"]}


def download(url: str, bucket: str, directory: str) -> list[str]:
    """
    Copy every object of *bucket* below *directory*, under its key; returns the paths.
    """
    s3 = client("s3", url)
    paths: list[str] = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            path = os.path.join(directory, item["Key"])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            s3.download_file(bucket, item["Key"], path)
            paths.append(path)
    return paths


def open_archive(directory: str) -> duckdb.DuckDBPyConnection:
    """
    Open a database with the view `logs` over all Parquet files below *directory*.
    """
    connection = duckdb.connect()
    pattern = os.path.join(directory, "**", "*.parquet").replace("'", "''")
    connection.execute(
        f"CREATE VIEW logs AS SELECT * FROM read_parquet('{pattern}', hive_partitioning = true)"
    )
    return connection


def delivered_rows(connection: duckdb.DuckDBPyConnection) -> dict[Key, Lines]:
    """
    Every row of the view `logs`, by container.
    """
    found: dict[Key, Lines] = {}
    query = "SELECT namespace, pod, container, stream, message FROM logs"
    for namespace, pod, container, stream, message in connection.execute(query).fetchall():
        found.setdefault((namespace, pod, container), Counter())[stream, message] += 1
    return found
