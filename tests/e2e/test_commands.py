"""
The commands as processes, with the exit codes and texts that a person meets.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agent import __version__
from tests.e2e.world import World, tailrace

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = (
    "run",
    "replay",
    "validate",
    "schema",
    "ddl",
    "explain",
    "test",
    "status",
    "losses",
    "state reset",
    "state rename",
)


async def test_version_and_help() -> None:
    """
    --version names the version; --help every command; that of each command has examples.
    """
    assert await tailrace("--version") == (0, f"tailrace {__version__}\n", "")
    top = await tailrace("--help")
    assert top.code == 0
    for command in COMMANDS:
        assert command.split()[0] in top.out
        done = await tailrace(*command.split(), "--help")
        assert (done.code, done.err) == (0, "")
        assert f"tailrace {command}" in done.out
        assert "example" in done.out


async def test_validate_and_schema(tmp_path: Path) -> None:
    """
    A good configuration is shown as it was understood and has no effect; the schema knows its keys.
    """
    async with World(tmp_path) as world:
        world.write_config()
        done = await tailrace("validate", "-c", world.config_path)
        assert (done.code, done.err) == (0, "")
        for words in ("valid", "cloudwatch", "archive", "containers", str(world.pods)):
            assert words in done.out
        assert not world.state.exists()
        assert not world.cloudwatch.requests
        done = await tailrace("schema")
        assert (done.code, done.err) == (0, "")
        schema = json.loads(done.out)
        assert set(world.settings) | {"routes"} <= set(schema["properties"])


async def test_ddl(tmp_path: Path) -> None:
    """
    The table of a Parquet route, with partition projection; other routes and names are refused with 78.
    """
    async with World(tmp_path) as world:
        world.routes.append(
            {"name": "local", "sink": {"type": "parquet", "url": f"file://{tmp_path}/local"}}
        )
        world.write_config()
        done = await tailrace("ddl", "-c", world.config_path, "archive", "--table", "logs.pods")
        assert (done.code, done.err) == (0, "")
        for words in (
            "CREATE EXTERNAL TABLE",
            "`logs`.`pods`",
            "PARTITIONED BY",
            "'projection.enabled' = 'true'",
            "'projection.cluster.values' = 'test'",
            "s3://logs/prefix/",
        ):
            assert words in done.out
        for route, words in (
            ("absent", "no route is called"),
            ("cloudwatch", "parquet"),
            ("local", "s3://"),
        ):
            done = await tailrace("ddl", "-c", world.config_path, route)
            assert (done.code, done.out) == (78, "")
            assert words in done.err
        done = await tailrace("ddl", "-c", world.config_path, "archive", "--since", "yesterday")
        assert done.code == 78


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("run", "--nonsense"), ("replay",)])
async def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """
    Exit 64 and the usage.
    """
    done = await tailrace(*arguments)
    assert done.code == 64
    assert "usage: tailrace" in done.err
