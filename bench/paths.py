"""
The paths that are measured, and how Tailrace is configured for them.

| path | what happens to the lines |
|---|---|
| blackhole | read, parsed, dropped |
| message | the bare lines, PutLogEvents over TLS |
| cloudwatch | records of Container Insights with labels, JSON merged, PutLogEvents over TLS |
| parquet | staged with metadata, sealed in windows of 8 MiB, uploaded to S3 over plain HTTP |
| parquet-128 | the same in windows of 128 MiB, the default |
| both | cloudwatch and parquet-128, as two routes |

The last four know the pods from an API server (bench/kube.py); bench/peers.py has the same for others.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from bench.constants import BUCKET, FLUSH_S, GROUP, REGION
from bench.pods import NODE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.kube import KubeAccess

PATHS = ("blackhole", "message", "cloudwatch", "parquet", "parquet-128", "both")
ASKING = ("cloudwatch", "parquet", "parquet-128", "both")
DRAIN_TIMEOUT_S = 30
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """
    Where the counting server is, and the API server (None: nobody knows the pods).
    """

    plain: str
    tls: str
    authority: str
    kube: KubeAccess | None = None


def environment(endpoints: Endpoints) -> dict[str, str]:
    """
    Return the environment of a measured program: credentials that nobody checks, and no proxy.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        # Without compiled modules on disk every start would compile hundreds of them.
        if not name.startswith(("AWS_", "KUBERNETES_")) and name != "PYTHONDONTWRITEBYTECODE"
    }
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


def routes(path: str, endpoints: Endpoints) -> list[dict[str, Any]]:
    """
    Return the routes of Tailrace for *path*.
    """
    if path == "blackhole":
        return [{"name": "blackhole", "sink": {"type": "blackhole"}}]
    if path == "both":
        return routes("cloudwatch", endpoints) + routes("parquet-128", endpoints)
    if path.startswith("parquet"):
        sink: dict[str, Any] = {
            "type": "parquet",
            "region": REGION,
            "endpoint_url": endpoints.plain,
            "url": f"s3://{BUCKET}/logs",
            "window_bytes_max": (8 if path == "parquet" else 128) * MIB,
        }
        return [{"name": "archive", "sink": sink}]
    sink = {
        "type": "cloudwatch",
        "region": REGION,
        "endpoint_url": endpoints.tls,
        "ca_bundle": endpoints.authority,
        "group": GROUP,
        "stream": "{namespace}.{pod}.{container}",
        "linger_s": FLUSH_S,
    }
    if path == "message":
        return [{"name": "message", "sink": sink | {"format": "message"}}]
    return [{"name": "cloudwatch", "sink": sink | {"format": "container_insights", "labels": True}}]


def tailrace_config(
    path: str,
    endpoints: Endpoints,
    *,
    directory: str,
    pattern: str,
    admin: str = "127.0.0.1:0",
    metadata: bool | None = None,
    made: Sequence[Mapping[str, Any]] | None = None,
    source: Mapping[str, Any] | None = None,
) -> str:
    """
    Write a configuration to *directory* and return its path.

    Args:
        metadata: whether to ask the API server; None: where the path uses what it knows.
        made: routes in place of the path's own.
        source: settings of the source that are not the defaults.
    """
    asked = path in ASKING if metadata is None else metadata
    kube = (
        {"kubeconfig": endpoints.kube.kubeconfig}
        if asked and endpoints.kube is not None
        else {"enabled": False}
    )
    config = {
        "cluster": "bench",
        "node": NODE,
        "state_dir": os.path.join(directory, "state"),
        "drain_timeout_s": DRAIN_TIMEOUT_S,
        "admin": {"listen": admin},
        "log": {"format": "text", "level": "warning"},
        # Off AWS nobody is asked for a zone, however long that may take.
        "instance": {"region": REGION, "zone": f"{REGION}a", "instance_id": "i-0123456789abcdef0"},
        "kubernetes": kube,
        "sources": [
            {"name": "containers", "type": "files", "paths": [pattern]} | dict(source or {})
        ],
        "routes": list(made or routes(path, endpoints)),
    }
    target = os.path.join(directory, "tailrace.yaml")
    with open(target, "w") as file:
        yaml.safe_dump(config, file, sort_keys=False)
    return target


def tailrace_replay(
    config: str, files: Sequence[str], report: str, *, workers: int = 0
) -> list[str]:
    """
    Return the command that reads *files* to their end, shared out among *workers* if there are any.
    """
    shared = ["--workers", str(workers)] if workers else []
    command = [sys.executable, "-m", "agent", "replay", "-c", config, "--report", report]
    return [*command, *shared, *files]


def tailrace_run(config: str) -> list[str]:
    """
    Return the command that follows.
    """
    return [sys.executable, "-m", "agent", "run", "-c", config]
