"""
Fluent Bit, configured for every path as AWS's Container Insights configures it.

| path | its pipeline |
|---|---|
| blackhole | tail with the CRI parser, null |
| message | tail, cloudwatch_logs with `log_key log` over TLS |
| cloudwatch | tail, kubernetes (labels, JSON merged as `log_processed`), cloudwatch_logs over TLS |
| parquet, parquet-128 | tail, kubernetes, s3: gzipped JSON lines in objects of 8 MB |
| both | the last two behind one tail |

Where a choice costs it CPU, the cheaper one is taken: buffers in memory, one multiline parser, one worker,
no annotations.  Its kubernetes filter asks the bench's API server over TLS.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bench.constants import BUCKET, FLUSH_S, GROUP, REGION

if TYPE_CHECKING:
    from bench.paths import Endpoints

SERVICE = """\
[SERVICE]
    Flush         {flush_s}
    Grace         30
    Log_Level     warn
"""
INPUT = """
[INPUT]
    Name              tail
    Tag               kube.*
    Path              {containers}/*.log
    multiline.parser  cri
    Read_from_Head    On
    Refresh_Interval  10
    Buffer_Chunk_Size 256k
    Buffer_Max_Size   2M
    Mem_Buf_Limit     50M
"""
READS = "    Exit_On_Eof       On\n"
#: Positions are kept as in production, so that both programs pay for them.
FOLLOWS = "    DB                {directory}/tail.db\n"
KUBERNETES = """
[FILTER]
    Name             kubernetes
    Match            kube.*
    Kube_URL         {kube_url}
    Kube_CA_File     {kube_authority}
    Kube_Token_File  {token_file}
    Kube_Tag_Prefix  kube.{tag_prefix}
    Merge_Log        On
    Merge_Log_Key    log_processed
    Keep_Log         On
    Labels           On
    Annotations      Off
    Buffer_Size      0
"""
CLOUDWATCH = """
[OUTPUT]
    Name               cloudwatch_logs
    Match              *
    region             {region}
    endpoint           {host}
    port               {port}
    tls.ca_file        {authority}
    log_group_name     {group}
    log_stream_prefix  bench-
    auto_create_group  On
    workers            1
"""
MESSAGE = "    log_key            log\n"
S3 = """
[OUTPUT]
    Name             s3
    Match            *
    region           {region}
    endpoint         {plain}
    tls              Off
    bucket           {bucket}
    s3_key_format    /logs/$TAG/%Y/%m/%d/%H-%M-%S-$UUID.gz
    total_file_size  8M
    upload_timeout   1m
    use_put_object   On
    compression      gzip
    store_dir        {directory}/s3
    workers          1
"""
NULL = """
[OUTPUT]
    Name   null
    Match  *
"""
OUTPUTS = {
    "blackhole": NULL,
    "message": CLOUDWATCH + MESSAGE,
    "cloudwatch": KUBERNETES + CLOUDWATCH,
    "parquet": KUBERNETES + S3,
    "parquet-128": KUBERNETES + S3,
    "both": KUBERNETES + CLOUDWATCH + S3,
}


class FluentBit:
    """
    A binary of Fluent Bit.
    """

    name = "fluent-bit"

    def __init__(self, binary: str) -> None:
        self._binary = binary

    def reads(
        self, path: str, endpoints: Endpoints, *, directory: str, containers: str
    ) -> list[str]:
        """
        Read to the end.  A flush of 1 s only makes the end come sooner.
        """
        return self._command(READS, path, endpoints, directory, containers, flush_s=1)

    def follows(
        self, path: str, endpoints: Endpoints, *, directory: str, containers: str
    ) -> list[str]:
        """
        Follow.
        """
        return self._command(FOLLOWS, path, endpoints, directory, containers, flush_s=FLUSH_S)

    def settings(self) -> str:
        """
        Say what it does not compress.
        """
        return (
            f"Flush {FLUSH_S} s (1 s where files are read to their end), PutLogEvents plain (it has no compression "
            "for them), S3 objects of 8 MB gzipped JSON, buffers in memory, one worker an output"
        )

    def _command(
        self,
        mode: str,
        path: str,
        endpoints: Endpoints,
        directory: str,
        containers: str,
        *,
        flush_s: int,
    ) -> list[str]:
        host, _, port = endpoints.tls.rpartition("/")[2].partition(":")
        kube = endpoints.kube
        if "[FILTER]" in OUTPUTS[path] and kube is None:
            raise RuntimeError(f"{path}: Fluent Bit needs the API server, and there is none")
        text = (SERVICE + INPUT + mode + OUTPUTS[path]).format_map(
            {
                "flush_s": flush_s,
                "directory": directory,
                "containers": containers,
                "kube_url": kube.url if kube else "",
                "kube_authority": kube.authority if kube else "",
                "token_file": kube.token_file if kube else "",
                "tag_prefix": containers.strip("/").replace("/", ".") + ".",
                "region": REGION,
                "host": host,
                "port": port,
                "authority": endpoints.authority,
                "group": GROUP,
                "plain": endpoints.plain,
                "bucket": BUCKET,
            }
        )
        target = os.path.join(directory, "fluent-bit.conf")
        with open(target, "w") as file:
            file.write(text)
        return [self._binary, "-c", target]
