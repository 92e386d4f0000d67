"""
The paths that are measured, and how each program is configured for them.

| path | what happens to the lines |
|---|---|
| blackhole | read, parsed, dropped |
| cloudwatch | PutLogEvents in the format of Container Insights, plain HTTP |
| cloudwatch-tls | the same over TLS |
| parquet | staged, sealed, uploaded to S3, plain HTTP |
| both | cloudwatch-tls and parquet, as two routes |

The peer, Fluent Bit, does less on two of them: its records carry no pod metadata, because its filter
needs an API server, and its objects in S3 are gzipped JSON lines.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATHS = ("blackhole", "cloudwatch", "cloudwatch-tls", "parquet", "both")
DRAIN_TIMEOUT_S = 30
REGION = "us-east-1"
BUCKET = "bench"
GROUP = "/aws/containerinsights/bench/application"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """
    Where the counting server is.
    """

    plain: str
    tls: str
    authority: str


def environment(endpoints: Endpoints) -> dict[str, str]:
    """
    Return the environment of a measured program: credentials that nobody checks, and no proxy.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CA_BUNDLE": endpoints.authority,
        "SSL_CERT_FILE": endpoints.authority,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def routes(path: str, endpoints: Endpoints) -> list[dict[str, object]]:
    """
    Return the routes of Tailrace for *path*.
    """
    if path == "blackhole":
        return [{"name": "blackhole", "sink": {"type": "blackhole"}}]
    if path == "both":
        return routes("cloudwatch-tls", endpoints) + routes("parquet", endpoints)
    if path == "parquet":
        sink: dict[str, object] = {
            "type": "parquet",
            "region": REGION,
            "endpoint_url": endpoints.plain,
            "url": f"s3://{BUCKET}/logs",
        }
        return [{"name": "archive", "sink": sink}]
    secure = path.endswith("-tls")
    sink = {
        "type": "cloudwatch",
        "region": REGION,
        "endpoint_url": endpoints.tls if secure else endpoints.plain,
        "group": GROUP,
        "stream": "{namespace}.{pod}.{container}",
        "format": "container_insights",
    }
    if secure:
        sink["ca_bundle"] = endpoints.authority
    return [{"name": "cloudwatch", "sink": sink}]


def tailrace_config(
    path: str, endpoints: Endpoints, *, directory: str, pattern: str, admin: str = "127.0.0.1:0"
) -> str:
    """
    Write a configuration to *directory* and return its path.
    """
    config = {
        "cluster": "bench",
        "node": "bench-node",
        "state_dir": os.path.join(directory, "state"),
        "drain_timeout_s": DRAIN_TIMEOUT_S,
        "admin": {"listen": admin},
        "log": {"format": "text", "level": "warning"},
        "sources": [{"name": "containers", "type": "files", "paths": [pattern]}],
        "routes": routes(path, endpoints),
    }
    target = os.path.join(directory, "tailrace.yaml")
    with open(target, "w") as file:
        yaml.safe_dump(config, file, sort_keys=False)
    return target


def tailrace_replay(config: str, files: Sequence[str], report: str) -> list[str]:
    """
    Return the command that reads *files* to their end.
    """
    return [sys.executable, "-m", "agent", "replay", "-c", config, "--report", report, *files]


def tailrace_run(config: str) -> list[str]:
    """
    Return the command that follows.
    """
    return [sys.executable, "-m", "agent", "run", "-c", config]


#: Fluent Bit reads the files from their heads and exits at their ends.
FLUENT_BIT_HEAD = """\
[SERVICE]
    Flush         1
    Grace         30
    Log_Level     warn
    Parsers_File  {directory}/parsers.conf

[INPUT]
    Name              tail
    Path              {pattern}
    Read_from_Head    On
    Exit_On_Eof       On
    Refresh_Interval  1
    Tag               kube.*
    multiline.parser  cri
    Buffer_Chunk_Size 256k
    Buffer_Max_Size   2M
    Mem_Buf_Limit     64M
"""
FLUENT_BIT_OUTPUTS: Mapping[str, str] = {
    "blackhole": """
[OUTPUT]
    Name   null
    Match  *
""",
    "cloudwatch": """
[OUTPUT]
    Name               cloudwatch_logs
    Match              *
    region             {region}
    endpoint           {host}
    port               {port}
    tls                {tls}
    tls.ca_file        {authority}
    log_group_name     {group}
    log_stream_prefix  bench-
    auto_create_group  On
    workers            1
""",
    "parquet": """
[OUTPUT]
    Name             s3
    Match            *
    region           {region}
    endpoint         {plain}
    tls              Off
    bucket           {bucket}
    total_file_size  100M
    upload_timeout   1m
    use_put_object   On
    compression      gzip
    store_dir        {directory}/s3
    workers          1
""",
}
FLUENT_BIT_PARSERS = """\
[PARSER]
    Name         cri
    Format       regex
    Regex        ^(?<time>[^ ]+) (?<stream>stdout|stderr) (?<logtag>[^ ]*) (?<log>.*)$
    Time_Key     time
    Time_Format  %Y-%m-%dT%H:%M:%S.%L%z
"""


def fluent_bit_config(path: str, endpoints: Endpoints, *, directory: str, pattern: str) -> str:
    """
    Write the peer's configuration for *path* to *directory* and return its path.
    """
    outputs = ["cloudwatch-tls", "parquet"] if path == "both" else [path]
    text = FLUENT_BIT_HEAD
    for output in outputs:
        secure = output.endswith("-tls")
        host, _, port = (
            (endpoints.tls if secure else endpoints.plain).rpartition("/")[2].partition(":")
        )
        text += FLUENT_BIT_OUTPUTS[output.removesuffix("-tls")].format_map(
            {
                "region": REGION,
                "host": host,
                "port": port,
                "tls": "On" if secure else "Off",
                "authority": endpoints.authority,
                "group": GROUP,
                "plain": endpoints.plain,
                "bucket": BUCKET,
                "directory": directory,
            }
        )
    target = os.path.join(directory, "fluent-bit.conf")
    with open(target, "w") as file:
        file.write(text.replace("{directory}", directory).replace("{pattern}", pattern))
    with open(os.path.join(directory, "parsers.conf"), "w") as file:
        file.write(FLUENT_BIT_PARSERS)
    return target
