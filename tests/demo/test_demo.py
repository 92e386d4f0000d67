"""
The demo's writer writes what a node writes, and its checks see what is wrong.
"""

from __future__ import annotations

import glob
import gzip
import json
import os
import re
from collections import Counter
from typing import TYPE_CHECKING

import duckdb
import pytest
from rich.console import Console

from demo import cloud, demo
from demo.check import compare, judge
from demo.writer import PIECE_BYTES, Container, cri_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CRI_LINE = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,8}[1-9])?Z) (stdout|stderr) ([PF]) (.*)"
)


def physical_lines(container: Container) -> list[bytes]:
    """
    All lines of a container's files, oldest generation first.
    """
    names = [*sorted(glob.glob(f"{container.path}.*")), container.path]
    content = b""
    for name in names:
        with gzip.open(name) if name.endswith(".gz") else open(name, "rb") as file:
            content += file.read()
    assert content.endswith(b"\n")
    return content.splitlines()


def joined(lines: list[bytes]) -> Counter[tuple[str, str]]:
    """
    What an agent should make of them.
    """
    found: Counter[tuple[str, str]] = Counter()
    open_pieces = {b"stdout": b"", b"stderr": b""}
    for line in lines:
        match = CRI_LINE.fullmatch(line)
        assert match, line
        _, stream, tag, content = match.groups()
        assert len(content) <= PIECE_BYTES
        open_pieces[stream] += content
        if tag == b"F":
            found[stream.decode(), open_pieces[stream].decode()] += 1
            open_pieces[stream] = b""
    assert not any(open_pieces.values())
    return found


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    made = Container(str(tmp_path), namespace="shop", pod="web-1", name="app")
    yield made
    made.close()


def written(container: Container) -> Counter[tuple[str, str]]:
    return Counter((line.stream, line.text) for line in container.lines)


def test_lines_come_back_over_pieces_and_rotations(container: Container) -> None:
    """
    Read in order and joined per stream, the files hold exactly what was written.
    """
    container.write(200)
    container.write_interleaved_pieces()
    container.rotate()
    container.write(100)
    container.rotate()
    container.write(100)
    lines = physical_lines(container)
    assert len(lines) == container.lines_physical
    assert joined(lines) == written(container)
    assert len(set(container.lines)) == len(container.lines)


def test_rotation_leaves_what_the_kubelet_leaves(container: Container) -> None:
    """
    The older rotated file is gzipped, the newest is not, and a line begins in it and ends in the live one.
    """
    container.write(10)
    container.rotate()
    container.rotate()
    names = sorted(os.listdir(os.path.dirname(container.path)))
    assert [re.sub(r"\d{8}-\d{6}", "T", name) for name in names] == [
        "0.log",
        "0.log.T.gz",
        "0.log.T",
    ]
    with open(os.path.join(os.path.dirname(container.path), names[2]), "rb") as file:
        last = file.read().splitlines()[-1].split(b" ", 3)
    with open(container.path, "rb") as file:
        first, second = (line.split(b" ", 3) for line in file.read().splitlines()[:2])
    assert (last[1], last[2]) == (b"stdout", b"P")
    assert (first[1], first[2]) == (b"stderr", b"F")
    assert (second[1], second[2]) == (b"stdout", b"F")


def test_pieces_of_both_streams_interleave(container: Container) -> None:
    """
    A piece of one stream stands between two of the other, cut inside a character.
    """
    container.write_interleaved_pieces()
    heads = [line.split(b" ", 3)[1:3] for line in physical_lines(container)]
    assert heads[:4] == [[b"stdout", b"P"], [b"stderr", b"P"], [b"stdout", b"P"], [b"stderr", b"P"]]
    assert [tag for _, tag in heads].count(b"F") == 2


def test_a_deleted_pod_leaves_nothing(container: Container) -> None:
    """
    Its lines are remembered all the same.
    """
    container.write(10)
    container.delete_pod()
    assert not os.path.exists(container.pod_directory)
    assert len(container.lines) == 10


@pytest.mark.parametrize(
    ("now_ns", "text"),
    [
        (1_795_375_801_120_000_000, "2026-11-22T19:30:01.12Z"),
        (1_795_375_801_000_000_000, "2026-11-22T19:30:01Z"),
        (1_795_375_801_000_000_001, "2026-11-22T19:30:01.000000001Z"),
    ],
)
def test_times_are_written_as_go_writes_them(now_ns: int, text: str) -> None:
    """
    RFC3339Nano trims zeros.
    """
    assert cri_time(now_ns) == text


def test_a_duplicate_does_not_stand_in_for_a_missing_line() -> None:
    """
    The counts are equal, the contents are not.
    """
    lines = Counter({("stdout", "a"): 1, ("stdout", "b"): 1})
    difference = compare(lines, Counter({("stdout", "a"): 2}))
    assert difference.found == lines.total()
    assert difference.missing == {("stdout", "b"): 1}
    assert difference.duplicated == {("stdout", "a"): 1}
    assert not difference.complete


def test_a_line_on_the_wrong_stream_is_a_difference() -> None:
    """
    Stream and text belong together.
    """
    difference = compare(Counter({("stdout", "a"): 1}), Counter({("stderr", "a"): 1}))
    assert difference.missing
    assert difference.unexpected


def test_duplicates_are_a_failure_in_parquet_only(container: Container) -> None:
    """
    CloudWatch is at least once, Parquet exactly once.
    """
    container.write(3)
    once = {container.key: written(container)}
    twice = {container.key: written(container) + Counter(list(written(container))[:1])}
    assert judge([container], once, once)[0].agrees
    assert judge([container], twice, once)[0].agrees
    assert not judge([container], once, twice)[0].agrees


def test_lines_of_a_container_that_nobody_started_are_seen(container: Container) -> None:
    """
    What was never written is a difference, too.
    """
    container.write(3)
    right = {container.key: written(container)}
    wrong = right | {("other", "pod", "app"): Counter({("stdout", "x"): 1})}
    assert [verdict.agrees for verdict in judge([container], wrong, right)] == [False, True]


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        for name, value in cloud.ENVIRONMENT.items():
            patch.setenv(name, value)
        with cloud.local_cloud() as url:
            yield url


def deliver(url: str, container: Container, rows: list[tuple[str, str]], directory: Path) -> None:
    """
    What the two routes do, in a few lines.
    """
    logs, s3 = cloud.client("logs", url), cloud.client("s3", url)
    namespace, pod, name = container.key
    stream = ".".join(container.key)
    logs.create_log_group(logGroupName=demo.GROUP)
    logs.create_log_stream(logGroupName=demo.GROUP, logStreamName=stream)
    kubernetes = {"namespace_name": namespace, "pod_name": pod, "container_name": name}
    now_ms = int(os.stat(container.path).st_mtime * 1000)
    events = [
        {
            "timestamp": now_ms,
            "message": json.dumps(
                {"stream": line.stream, "log": line.text, "kubernetes": kubernetes}
            ),
        }
        for line in container.lines
    ]
    for start in range(0, len(events), 40):
        logs.put_log_events(
            logGroupName=demo.GROUP, logStreamName=stream, logEvents=events[start : start + 40]
        )
    path = str(directory / "rows.parquet")
    with duckdb.connect() as database:
        database.execute("CREATE TABLE t (stream VARCHAR, message VARCHAR)")
        database.executemany("INSERT INTO t VALUES (?, ?)", rows)
        database.execute(
            f"COPY (SELECT *, '{namespace}' AS namespace, '{pod}' AS pod, '{name}' AS container, "
            f"NULL::VARCHAR AS level, now() AS time FROM t) TO '{path}' (FORMAT parquet)"
        )
    s3.create_bucket(Bucket=demo.BUCKET)
    s3.upload_file(path, demo.BUCKET, "logs/cluster=demo/dt=2026-11-22/hour=19/rows.parquet")


def test_the_demo_reads_both_destinations(
    aws: str, container: Container, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    It agrees where the contents agree, and names the line that is missing where they do not.
    """
    container.write(120)
    rows = [(line.stream, line.text) for line in container.lines]
    deliver(aws, container, rows, tmp_path)
    scene = demo.Scene(directory=str(tmp_path), url=aws, admin_port=0)
    console = Console(width=200)
    assert demo.inspect(scene, [container], console)

    lost, repeated = rows[7], rows[8]
    deliver_again = [row for row in rows if row != lost] + [repeated]
    cloud.client("logs", aws).delete_log_group(logGroupName=demo.GROUP)
    s3 = cloud.client("s3", aws)
    s3.delete_object(Bucket=demo.BUCKET, Key="logs/cluster=demo/dt=2026-11-22/hour=19/rows.parquet")
    s3.delete_bucket(Bucket=demo.BUCKET)
    deliver(aws, container, deliver_again, tmp_path)
    capsys.readouterr()
    assert not demo.inspect(scene, [container], console)
    shown = capsys.readouterr().out.replace("\n", "")
    assert "missing in Parquet" in shown
    assert lost[1][:60] in shown
    assert "duplicated in Parquet" in shown
    assert "missing in CloudWatch" not in shown
