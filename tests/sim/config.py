"""
The configuration of a run: small limits and short times, so that a run meets them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.config.values import AdminConfig, Config, RouteConfig, SourceConfig
from agent.runtime.kubernetes_config import KubernetesSettings
from agent.sinks.blackhole import BlackholeSettings
from agent.sinks.cloudwatch_settings import CloudWatchSettings
from agent.sinks.parquet_settings import ParquetSettings
from agent.sources.settings import FilesSettings
from agent.transforms.parse import ParseSettings
from tests.sim.oracle import BLACKHOLE, CLOUDWATCH, PARQUET

if TYPE_CHECKING:
    from tests.sim.schedule import Plan

STATE_DIR = "/var/lib/tailrace"
LOGS_DIR = "/var/log"
COMMIT_INTERVAL_S = 1.0
BUDGET_BYTES = 4 << 20
#: The last digit of a row's first number.
SHARD = r"(?P<shard>\d)>"


def config_of(plan: Plan) -> Config:
    """
    Return the configuration of a run.
    """
    # Rows of a segment go to several streams and prefixes, more than one log may have.
    shard = "{fields.shard|none}" if plan.shards else ""
    transforms = (ParseSettings(parse="regex", pattern=SHARD),) if plan.shards else ()
    sinks: dict[str, Any] = {
        CLOUDWATCH: CloudWatchSettings(
            region="eu-central-1",
            group="/logs",
            stream=f"{{namespace|none}}-{{pod|none}}-{{container|none}}{shard}",
            format=plan.message_format,  # type: ignore[arg-type]
            linger_s=1.0,
            request_timeout_s=5.0,
        ),
        PARQUET: ParquetSettings(
            url="s3://bucket-of-logs/p",
            prefix=shard,
            region="eu-central-1",
            window_age_s=6.0,
            window_bytes_max=1000 if plan.small_windows else 128 << 20,
            frame_age_s=0.5,
            frame_bytes=8192,
            multipart_bytes_min=1500 if plan.multipart else 16 << 20,
            part_bytes=700 if plan.multipart else 8 << 20,
        ),
        BLACKHOLE: BlackholeSettings(),
    }
    return Config(
        cluster="c1",
        node="n1",
        state_dir=STATE_DIR,
        memory_budget_bytes=BUDGET_BYTES,
        commit_interval_s=COMMIT_INTERVAL_S,
        kubernetes=KubernetesSettings(enabled=False),
        admin=AdminConfig(listen=""),
        sources=(
            SourceConfig(
                name="containers",
                settings=FilesSettings(
                    paths=(f"{LOGS_DIR}/pods/*/*/*.log", f"{LOGS_DIR}/app/*.log"),
                    chunk_bytes=plan.chunk_bytes,
                    piece_timeout_s=5.0,
                    idle_after_s=3.0,
                ),
            ),
        ),
        routes=tuple(
            RouteConfig(
                name=route,
                source="containers",
                type=sinks[route].type,
                sink=sinks[route],
                transforms=transforms,
            )
            for route in plan.routes
        ),
    )
