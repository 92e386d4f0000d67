"""
The prefix of a Parquet route: where it puts rows, and what it cannot be made to do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.cli.ddl import athena_ddl
from agent.core import counters as metric
from agent.core.batch import Resource
from agent.core.counters import Counters
from agent.core.errors import StopError
from agent.sinks.parquet_prefixes import Prefixes
from agent.sinks.parquet_settings import ParquetSettings
from tests.fakes.metadata import metadata
from tests.sinks.parquet_kit import PARTS, ROW_BYTES, Kit, read_parquet

if TYPE_CHECKING:
    from pathlib import Path

    from agent.core.batch import Segment


def prefix_of(text: str, resource: Resource) -> str:
    """
    Return the prefix that the template *text* makes for *resource*.
    """
    settings = ParquetSettings(url="s3://logs-bucket", prefix=text)
    prefixes = Prefixes(settings, route="r", counters=Counters(), tell=lambda *_, **__: None)

    class OfResource:
        def __init__(self) -> None:
            self.resource = resource
            self.values = ()

    segment: Segment = OfResource()  # type: ignore[assignment]
    return prefixes.of([segment])[0]


async def test_rows_of_different_prefixes_go_to_different_objects(tmp_path: Path) -> None:
    """
    Every row once, below its pod's prefix; partitions below that.
    """
    kit = Kit(tmp_path, prefix="team={labels.pod}/{labels.absent}")
    await kit.run(60)
    found = {path.relative_to(kit.target).parts for path in kit.target.rglob("*.parquet")}
    assert {parts[:2] for parts in found} == {
        (f"team=web-{index}", "unknown") for index in range(3)
    }
    assert all(parts[2].startswith("cluster=") and len(parts) == 6 for parts in found)
    for index in range(3):
        rows = read_parquet(kit.target / f"team=web-{index}" / "unknown")
        assert set(rows["pod"].to_pylist()) == {f"web-{index}"}
    assert read_parquet(kit.target).num_rows == 60
    # Once for a Resource object, and the kit makes one for each segment.
    assert kit.counters.get(metric.NAME_FALLBACKS, "archive", "labels.absent") > 0
    said = [event for event in kit.host.told if event[0] == "name_fallback"]
    assert len(said) == 1


async def test_rows_of_a_segment_go_to_the_prefixes_of_their_values(tmp_path: Path) -> None:
    """
    Every row once, below the value of its field; a segment is whole in one frame, however small frames are.
    """
    kit = Kit(tmp_path, prefix="n={fields.n}/{fields.gone|none}")
    object.__setattr__(kit.settings, "frame_bytes", 1)
    await kit.run(60)
    for turn in range(PARTS):
        rows = read_parquet(kit.target / f"n=v{turn}" / "none")
        numbers = [offset // ROW_BYTES for offset in rows["offset"].to_pylist()]
        assert sorted(numbers) == list(range(turn, 60, PARTS))
    assert read_parquet(kit.target).num_rows == 60
    assert kit.share.held == 0


@pytest.mark.parametrize(
    ("label", "first"),
    [
        ("a", "a"),
        ("..", "__-"),
        ("../../etc", ".._.._etc-"),
        ("manifest.json", "manifest.json-"),
        ("spec.json", "spec.json-"),
        ("a b", "a_b-"),
        ("x" * 500, "x" * 119 + "-"),
    ],
)
def test_no_label_leads_astray(label: str, first: str) -> None:
    """
    One part, legal as a directory and in a key, and none of the names that the seal child needs.
    """
    resource = Resource(path="/p", pod="web", metadata=metadata(annotations=(("a", label),)))
    part, slash, rest = prefix_of("{annotations.a}/{pod}", resource).partition("/")
    assert (slash, rest) == ("/", "web")
    assert part == label if label == first else part.startswith(first)
    assert len(part) <= 140
    assert part not in {"manifest.json", "spec.json", ".", ".."}


def test_without_a_template_there_is_no_prefix() -> None:
    assert prefix_of("", Resource(path="/p")) == ""
    assert prefix_of("/logs//{cluster}/../x/", Resource(path="/p", cluster="c")) == "logs/c/x"


def test_an_edit_moves_the_rows_that_follow() -> None:
    one = Resource(path="/p", pod="web", metadata=metadata(labels=(("team", "a"),)))
    other = replace(one, metadata=metadata(labels=(("team", "b"),)))
    assert prefix_of("{labels.team}", one) == "a"
    assert prefix_of("{labels.team}", other) == "b"


def test_a_template_that_cannot_be_parsed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"prefix: template .*did you mean \{namespace\}"):
        ParquetSettings(url="s3://logs-bucket", prefix="{namespce}")


def test_the_table_is_that_of_a_prefix() -> None:
    """
    A constant one is known, of others one has to be named.
    """
    constant = ParquetSettings(url="s3://logs-bucket/app", prefix="containers/")
    ddl = athena_ddl(constant, table="logs", cluster="c")
    assert "LOCATION 's3://logs-bucket/app/containers/'" in ddl
    assert "'storage.location.template' = 's3://logs-bucket/app/containers/cluster=" in ddl
    by_team = ParquetSettings(url="s3://logs-bucket/app", prefix="{labels.team|none}")
    ddl = athena_ddl(by_team, table="logs", cluster="c", prefix="shop")
    assert "LOCATION 's3://logs-bucket/app/shop/'" in ddl
    with pytest.raises(StopError, match=r"^prefix: got .*labels.team"):
        athena_ddl(by_team, table="logs", cluster="c")
