"""
The staging format: what is written is read, what is damaged is named.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from agent._fastparse import FLAG_EARLIER, Columns
from agent._faststage import staging_buffers
from agent.core.batch import Resource, Segment
from agent.core.budget import Budget
from agent.core.cursor import cursor_at
from agent.core.errors import StopError
from agent.runtime.state_disk import OsStateDisk
from agent.sinks import staging
from agent.sinks.parquet_staging import StagingFile
from agent.sinks.staging import FILE_HEAD, block_bytes, encode_frame
from agent.sinks.staging_scan import read_created_ns, scan
from tests.fakes.metadata import metadata

if TYPE_CHECKING:
    from pathlib import Path

Row = tuple[int, int, bytes, int]
SHARE = Budget(1 << 20, ("r",)).shares["r"]
DISK = OsStateDisk()
CREATED_NS = 1_795_341_595_000_000_000

rows_of_a_segment = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.integers(0, 2**62),
        st.binary(max_size=40),
        st.integers(0, 2).map(int),
    ),
    max_size=8,
)


def segment_of(
    rows: list[Row],
    *,
    number: int = 0,
    labels: tuple[tuple[str, str], ...] = (),
    earlier: tuple[int, int, int] | None = None,
    earlier_file_ids: dict[int, str] | None = None,
) -> Segment:
    """
    Return a segment of *rows*: (time, offset, message, flags).
    """
    data = b"".join(row[2] for row in rows)
    built, at = [], 0
    for time_ns, offset, message, flags in rows:
        built.append((time_ns, offset, 0, 0, at, len(message), flags))
        at += len(message)
    columns = Columns.build(data, built) if earlier is None else Columns.build(data, built, earlier)
    return Segment(
        log=f"/l/{number}.log",
        generation=3,
        file_id=f"{number:032x}",
        start=100 * number,
        stop=100 * number + 100,
        resource=Resource(
            path=f"/l/{number}.log", namespace="shop", metadata=metadata(labels=labels)
        ),
        columns=columns,
        cursor_after=cursor_at(3, 100),
        read_ns=0,
        charge=SHARE.take(0),  # type: ignore[arg-type]
        earlier_file_ids=earlier_file_ids or {},
        rows=len(rows),
    )


def write(path: Path, *frames: bytes) -> StagingFile:
    file = StagingFile(str(path), disk=DISK, window=7, length=0, created_ns=CREATED_NS)
    for frame in frames:
        file.append(frame)
    file.sync()
    file.close()
    return file


def block_of(segment: Segment) -> bytes:
    """
    Return the segment's block as the specification has it.
    """
    assert segment.columns is not None
    staged = staging_buffers(segment.columns)
    block = staged.time_ns + staged.offset + bytes(4) + staged.message_ends + staged.flags
    block += staged.messages
    return block + bytes(-len(block) % 8)


@settings(deadline=None)  # Other work on the machine is not a failure.
@given(st.lists(st.lists(rows_of_a_segment, min_size=1, max_size=4), min_size=1, max_size=4))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, frames: list[list[list[Row]]]
) -> None:
    """
    Every segment of every frame comes back, with its columns.
    """
    path = tmp_path_factory.mktemp("staging") / "7.staging"
    written = [
        [segment_of(rows, number=number, labels=(("a", "b"),)) for number, rows in enumerate(frame)]
        for frame in frames
    ]
    file = write(path, *(encode_frame(segments).encoded for segments in written))
    found = list(scan(DISK, str(path), file.length))
    assert len(found) == len(written)
    for scanned, segments in zip(found, written, strict=True):
        assert scanned.header is not None
        assert scanned.data == b"".join(block_of(segment) for segment in segments)
        for header, segment in zip(scanned.header.segments, segments, strict=True):
            resource = scanned.header.resources[header.resource]
            assert (header.file_id, header.generation) == (segment.file_id, segment.generation)
            assert (header.start, header.stop) == (segment.start, segment.stop)
            assert header.rows == segment.rows
            assert (resource.log, resource.namespace) == (segment.log, "shop")
            assert resource.labels == (("a", "b"),)
    assert read_created_ns(DISK, str(path)) == CREATED_NS


def test_the_documented_example_is_what_is_written(tmp_path: Path) -> None:
    """
    The example of the module's docstring, byte by byte.
    """
    text = staging.__doc__
    assert text is not None
    quoted = text.partition("    header  ")[2].partition("This module")[0]
    header_text, _, rest = quoted.partition("    data    ")
    data = bytes.fromhex(re.match(r"[0-9a-f\s]+", rest)[0])  # type: ignore[index]
    segment = segment_of([(123456789, 70, b"hello", 1)])
    segment.log = "/l/0.log"
    segment.generation, segment.start, segment.stop = 0, 70, 114
    segment.file_id = "00112233445566778899aabbccddeeff"
    segment.resource = Resource(
        path="/l/0.log",
        cluster="c",
        node="n",
        namespace="shop",
        pod="web-1",
        pod_uid="u-1",
        container="web",
        restart="0",
        region="eu-central-1",
        zone="euc1-az1",
        instance_id="i-1",
        metadata=metadata(
            labels=(("app", "web"),),
            image="acme/web:1",
            pod_ip="10.0.0.9",
            owner_kind="Deployment",
            owner_name="web",
        ),
    )
    encoded = encode_frame([segment]).encoded
    header_length = int.from_bytes(encoded[:4], "little")
    header = isal_zlib.decompress(encoded[20 : 20 + header_length], -15)
    assert header.decode() == "".join(header_text.split())
    assert isal_zlib.decompress(encoded[20 + header_length :], -15) == data
    assert int.from_bytes(encoded[8:12], "little") == len(data)


@settings(deadline=None)  # Other work on the machine is not a failure.
@given(st.data())
def test_a_flipped_bit_costs_at_most_what_it_must(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """
    No damage passes for a row; frames before it are whole; damaged data are still named.
    """
    path = tmp_path_factory.mktemp("staging") / "7.staging"
    segments = [segment_of([(1, 2, b"m%d" % number, 1)], number=number) for number in range(4)]
    frames = [encode_frame([segment]).encoded for segment in segments]
    file = write(path, *frames)
    whole = path.read_bytes()
    at = data.draw(st.integers(FILE_HEAD.size, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    intact = {bytes(block_of(segment)) for segment in segments}
    found = list(scan(DISK, str(path), file.length))
    assert found[0].start == FILE_HEAD.size
    assert all(one.stop == two.start for one, two in pairwise(found))
    assert found[-1].stop == file.length
    good = [item for item in found if item.data is not None]
    assert {bytes(item.data or b"") for item in good} <= intact
    hit, position = 0, FILE_HEAD.size
    while position + len(frames[hit]) <= at:
        position += len(frames[hit])
        hit += 1
    assert [item.data is not None for item in found[:hit]] == [True] * hit
    head_length = 20 + int.from_bytes(frames[hit][:4], "little")
    if at - position >= head_length:
        assert len(good) == 3
        header = found[hit].header
        assert header is not None
        assert header.segments[0].file_id == segments[hit].file_id
    elif at - position >= 16 and hit < 3:
        assert len(good) == 3, "lengths are right, so the frames behind are found"


@pytest.mark.parametrize("cut", [1, 25, 60])
def test_a_file_that_is_too_short_ends_in_damage(tmp_path: Path, cut: int) -> None:
    """
    Recorded bytes that are not there are named as the end of the file.
    """
    path = tmp_path / "7.staging"
    frames = [encode_frame([segment_of([(1, 2, b"x" * 50, 1)])]).encoded] * 2
    file = write(path, *frames)
    path.write_bytes(path.read_bytes()[:-cut])
    found = list(scan(DISK, str(path), file.length))
    assert [item.data is not None for item in found] == [True, False]
    assert found[-1].stop == file.length


def test_what_is_behind_the_recorded_length_is_not_read(tmp_path: Path) -> None:
    """
    The recorded length rules, not the file's.
    """
    path = tmp_path / "7.staging"
    first = encode_frame([segment_of([(1, 2, b"one", 1)])]).encoded
    write(path, first, encode_frame([segment_of([(1, 2, b"two", 1)])]).encoded)
    found = list(scan(DISK, str(path), FILE_HEAD.size + len(first)))
    assert len(found) == 1


def test_a_damaged_file_head_costs_no_row(tmp_path: Path) -> None:
    """
    Frames have checksums of their own.
    """
    path = tmp_path / "7.staging"
    file = write(path, encode_frame([segment_of([(1, 2, b"one", 1)])]).encoded)
    path.write_bytes(b"?" + path.read_bytes()[1:])
    found = list(scan(DISK, str(path), file.length))
    assert [(item.start, item.data is not None) for item in found] == [(0, False), (24, True)]
    assert read_created_ns(DISK, str(path)) is None


def test_another_version_is_refused(tmp_path: Path) -> None:
    """
    A format that this code does not know stops the process instead of being cut away.
    """
    path = tmp_path / "7.staging"
    file = write(path, encode_frame([segment_of([(1, 2, b"one", 1)])]).encoded)
    head = bytearray(path.read_bytes())
    head[7] = 2
    path.write_bytes(head)
    with pytest.raises(StopError, match="version 2") as caught:
        list(scan(DISK, str(path), file.length))
    assert caught.value.exit_code == 70


def test_rows_of_an_earlier_generation_name_their_file() -> None:
    """
    FLAG_EARLIER rows carry, per stream, the file in which they began.
    """
    segment = segment_of(
        [(1, 2, b"one", 1 | FLAG_EARLIER)],
        earlier=(-1, 2, -1),
        earlier_file_ids={2: "a" * 32},
    )
    frame = encode_frame([segment])
    header_length = int.from_bytes(frame.encoded[:4], "little")
    header = isal_zlib.decompress(frame.encoded[20 : 20 + header_length], -15)
    assert f'["","{"a" * 32}",""]'.encode() in header


def test_names_that_are_not_utf8_become_replacement_characters() -> None:
    """
    A file name of any bytes can be staged.
    """
    segment = segment_of([(1, 2, b"one", 1)])
    segment.log = b"/l/\xff.log".decode("utf-8", "surrogateescape")
    frame = encode_frame([segment])
    header_length = int.from_bytes(frame.encoded[:4], "little")
    header = isal_zlib.decompress(frame.encoded[20 : 20 + header_length], -15)
    assert "/l/\ufffd.log".encode() in header


def test_a_closed_file_takes_nothing(tmp_path: Path) -> None:
    """
    A write that comes late, from a run that was ended, does not reach the next run's file.
    """
    path = tmp_path / "7.staging"
    file = write(path, encode_frame([segment_of([(1, 2, b"one", 1)])]).encoded)
    before = path.read_bytes()
    file.append(b"late")
    file.sync()
    assert path.read_bytes() == before


def test_blocks_are_aligned() -> None:
    """
    Every block begins at a multiple of 8, so that int64 columns can be used where they are.
    """
    assert all(block_bytes(rows, size) % 8 == 0 for rows in range(5) for size in range(9))
