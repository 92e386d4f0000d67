"""
`tailrace seal`: from staging to Parquet, the same every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow.parquet as pq
import pytest

from agent._fastparse import (
    FLAG_EARLIER,
    FLAG_INVALID,
    FLAG_TRUNCATED,
    FLAG_UNTERMINATED,
)
from agent.cli import seal_window
from agent.sinks.parquet_manifest import MANIFEST_NAME
from tests.sinks.parquet_kit import START_NS, read_parquet
from tests.sinks.seal_kit import segment, spec_of

if TYPE_CHECKING:
    from pathlib import Path

HOUR_NS = 3600 * 10**9


def messages(directory: Path) -> list[str]:
    return sorted(read_parquet(directory).column("message").to_pylist())


def test_the_same_window_gives_the_same_keys_and_rows(tmp_path: Path) -> None:
    """
    Sealed again, also over what an interrupted run left, nothing differs.
    """
    frames = [[segment(pod=f"p{n}", file=n, start=0, times=[START_NS] * 5)] for n in range(3)]
    spec = spec_of(tmp_path, *frames)
    first = seal_window.seal(spec)
    rows = read_parquet(tmp_path / "sealed").to_pylist()
    (tmp_path / "sealed" / "cluster=old").mkdir()
    (tmp_path / "sealed" / "cluster=old" / "x.parquet").write_bytes(b"half")
    (tmp_path / "sealed" / MANIFEST_NAME).unlink()
    again = seal_window.seal(spec)
    assert again == first
    assert read_parquet(tmp_path / "sealed").to_pylist() == rows
    assert not (tmp_path / "sealed" / "cluster=old").exists()


@pytest.mark.parametrize("change", [{"window": 1}, {"node": "m"}, {"route": "other"}])
def test_another_window_has_other_keys(tmp_path: Path, change: dict[str, Any]) -> None:
    """
    Window, node and route are part of the key.
    """
    spec = spec_of(tmp_path, [segment(pod="p", file=1, start=0, times=[START_NS])])
    first = seal_window.seal(spec).objects[0].key
    (tmp_path / "sealed" / MANIFEST_NAME).unlink()
    assert seal_window.seal(msgspec.structs.replace(spec, **change)).objects[0].key != first


def test_other_byte_ranges_have_other_keys(tmp_path: Path) -> None:
    """
    The same window number after a lost state directory does not hide other rows.
    """
    one = seal_window.seal(spec_of(tmp_path, [segment(pod="p", file=1, start=0, times=[START_NS])]))
    (tmp_path / "0.staging").unlink()
    two = seal_window.seal(spec_of(tmp_path, [segment(pod="p", file=1, start=1, times=[START_NS])]))
    assert one.objects[0].key != two.objects[0].key


def test_segments_are_ordered_and_rows_are_not(tmp_path: Path) -> None:
    """
    By pod and file within a row group; the rows of a file stay as they were staged.
    """
    spec = spec_of(
        tmp_path,
        [
            segment(pod="b", file=2, start=0, times=[START_NS + 2, START_NS]),
            segment(pod="a", file=1, start=2, times=[START_NS + 1, START_NS]),
        ],
        [segment(pod="a", file=1, start=0, times=[START_NS])],
    )
    manifest = seal_window.seal(spec)
    found = pq.read_table(tmp_path / "sealed" / manifest.objects[0].key, partitioning=None)
    assert found.column("message").to_pylist() == ["a 1 2", "a 1 3", "a 1 0", "b 2 0", "b 2 1"]
    assert found.column("time_ns").to_pylist()[:2] == [START_NS + 1, START_NS]


def test_rows_go_to_the_hour_of_their_event(tmp_path: Path) -> None:
    """
    A segment that crosses hours is split, 1970 and 2100 and before 1970 have a partition each.
    """
    times = [0, -1, 4_102_444_800 * 10**9, 3_599_999_999_999, 3_600_000_000_000, 0]
    spec = spec_of(tmp_path, [segment(pod="p", file=1, start=0, times=times)])
    manifest = seal_window.seal(spec)
    rows = {item.key.rpartition("/")[0]: item.rows for item in manifest.objects}
    assert rows == {
        "cluster=prod/dt=1969-12-31/hour=23": 1,
        "cluster=prod/dt=1970-01-01/hour=00": 3,
        "cluster=prod/dt=1970-01-01/hour=01": 1,
        "cluster=prod/dt=2100-01-01/hour=00": 1,
    }
    found = read_parquet(tmp_path / "sealed").to_pylist()
    by_time = {row["time_ns"]: row for row in found}
    assert by_time[-1]["time"].isoformat() == "1969-12-31T23:59:59.999000+00:00"
    assert sorted(row["message"] for row in found) == [f"p 1 {n}" for n in range(6)]


def test_clusters_are_legal_partitions(tmp_path: Path) -> None:
    """
    No name breaks the path; two that become one share an object.
    """
    spec = spec_of(
        tmp_path,
        [
            segment(pod="a", file=1, start=0, times=[START_NS], cluster="eu/1"),
            segment(pod="b", file=2, start=0, times=[START_NS], cluster="eu-1"),
            segment(pod="c", file=3, start=0, times=[START_NS], cluster=""),
        ],
    )
    clusters = [item.key.split("/")[0] for item in seal_window.seal(spec).objects]
    assert clusters == ["cluster=eu-1", "cluster=unknown"]
    assert len(messages(tmp_path / "sealed")) == 3


def test_flags_become_columns(tmp_path: Path) -> None:
    """
    Stream, oddities and the file of a row that began in an earlier generation.
    """
    flags = [0, 1 | FLAG_TRUNCATED, 2 | FLAG_UNTERMINATED, 1 | FLAG_EARLIER, FLAG_INVALID, 1]
    spec = spec_of(
        tmp_path,
        [
            segment(pod="a", file=1, start=0, times=[START_NS]),
            segment(
                pod="p",
                file=5,
                start=0,
                times=[START_NS] * 6,
                flags=flags,
                earlier=(-1, 4, -1),
                earlier_file_ids={4: "e" * 32},
            ),
        ],
    )
    seal_window.seal(spec)
    found = read_parquet(tmp_path / "sealed").to_pylist()[1:]
    assert [row["stream"] for row in found] == [
        "other", "stdout", "stderr", "stdout", "other", "stdout"
    ]  # fmt: skip
    assert [row["truncated"] for row in found] == [False, True, False, False, False, False]
    assert [row["unterminated"] for row in found] == [False, False, True, False, False, False]
    assert [row["invalid"] for row in found] == [False, False, False, False, True, False]
    own = f"{5:032x}"
    assert [row["file_id"] for row in found] == [own, own, own, "e" * 32, own, own]
    assert dict(found[0]["labels"]) == {"app": "p"}


def test_metadata_has_its_columns(tmp_path: Path) -> None:
    """
    Per segment, as an edit shows in the next one; NULL where it is not known.
    """
    known: Any = {"image": "acme/web:1", "pod_ip": "10.0.0.9", "container_id": "b" * 64}
    owner: Any = {"owner_kind": "Deployment", "owner_name": "web"}
    spec = spec_of(
        tmp_path,
        [
            segment(
                pod="p", file=1, start=0, times=[1, 2], region="eu-central-1", **known, **owner
            ),
            segment(pod="p", file=1, start=2, times=[3], image="acme/web:2"),
        ],
        [segment(pod="", file=2, start=0, times=[4])],
    )
    seal_window.seal(spec)
    rows = read_parquet(tmp_path / "sealed").sort_by("time_ns").to_pylist()
    names = ("image", "pod_ip", "container_id", "owner_kind", "owner_name", "region", "zone")
    full = ("acme/web:1", "10.0.0.9", "b" * 64, "Deployment", "web", "eu-central-1", None)
    nothing = (None,) * (len(names) - 1)
    assert [tuple(row[name] for name in names) for row in rows] == [
        full,
        full,
        ("acme/web:2", *nothing),
        (None, *nothing),
    ]
    assert [dict(row["labels"]) for row in rows] == [{"app": "p"}] * 3 + [{}]


def test_row_groups_are_bounded(tmp_path: Path) -> None:
    """
    By rows, and by bytes; also where one segment alone is larger.
    """
    frames = [
        [segment(pod="p", file=1, start=40 * n, times=[START_NS] * (40 if n else 350))]
        for n in range(10)
    ]
    spec = spec_of(tmp_path, *frames, row_group_rows_max=100)
    path = tmp_path / "sealed" / seal_window.seal(spec).objects[0].key
    metadata = pq.ParquetFile(path).metadata
    sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert max(sizes) <= 100
    assert sum(sizes) == 710
    spec = msgspec.structs.replace(spec, row_group_rows_max=1000, row_group_bytes_max=4000)
    path = tmp_path / "sealed" / seal_window.seal(spec).objects[0].key
    assert pq.ParquetFile(path).metadata.num_row_groups > 3


def test_more_partitions_than_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A window of many hours is read several times, with few files open and little in memory.
    """
    monkeypatch.setattr(seal_window, "PARTITIONS_OPEN_MAX", 3)
    times = [hour * HOUR_NS for hour in range(10)]
    frames = [[segment(pod="p", file=1, start=10 * n, times=times)] for n in range(4)]
    spec = spec_of(tmp_path, *frames, pending_bytes_max=100)
    manifest = seal_window.seal(spec)
    assert [item.rows for item in manifest.objects] == [4] * 10
    assert len(set(messages(tmp_path / "sealed"))) == 40


def test_the_files_are_what_athena_reads(tmp_path: Path) -> None:
    """
    Milliseconds, zstd, dictionaries, delta encoding, statistics, no partition column, no Arrow schema.
    """
    spec = spec_of(tmp_path, [segment(pod="p", file=1, start=0, times=[START_NS] * 50)])
    path = tmp_path / "sealed" / seal_window.seal(spec).objects[0].key
    file = pq.ParquetFile(path)
    columns = {}
    group = file.metadata.row_group(0)
    for index in range(group.num_columns):
        column = group.column(index)
        columns[column.path_in_schema] = column
        assert column.compression == "ZSTD"
    assert {"cluster", "dt", "hour"}.isdisjoint(columns)
    assert "RLE_DICTIONARY" in columns["pod"].encodings
    assert "RLE_DICTIONARY" in columns["labels.key_value.value"].encodings
    assert "RLE_DICTIONARY" not in columns["message"].encodings
    assert "DELTA_BINARY_PACKED" in columns["time_ns"].encodings
    assert "DELTA_BINARY_PACKED" in columns["offset"].encodings
    assert columns["time"].statistics.has_min_max
    assert columns["pod"].statistics.min == "p"
    assert "milliseconds" in str(file.schema.column(0).logical_type)
    assert file.schema_arrow.metadata is None
