"""
Uploads to S3 under every scripted fault: one visible object, the right bytes, nothing left behind.
"""

from __future__ import annotations

import os
import weakref
from itertools import product
from typing import TYPE_CHECKING

import pytest

from agent.core.aws import AwsSettings
from agent.core.counters import Counters
from agent.core.errors import RetryError
from agent.core.retry import Backoff
from agent.runtime.aws import Aws
from agent.sinks.parquet_directory import DirectoryStore
from agent.sinks.parquet_s3 import UPLOAD_ID_SUFFIX, S3Options, S3Store
from agent.sinks.parquet_upload import Upload, wait_after
from tests.fakes.garbage import Body
from tests.fakes.s3 import (
    ACCESS_DENIED,
    CONFLICT,
    INTERNAL_ERROR,
    LATE_ERROR,
    RESET_AFTER,
    RESET_BEFORE,
    SLOW_DOWN,
    FakeS3,
)
from tests.sinks.parquet_kit import TestHost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PART = 1000
KEY = "cluster=prod/dt=2026-11-22/hour=10/n-00000000-ab.parquet"
FAULTS = [SLOW_DOWN, INTERNAL_ERROR, RESET_BEFORE, RESET_AFTER, CONFLICT]


class Bench:
    """
    A store in front of a fake bucket, and a file to upload.
    """

    def __init__(self, s3: FakeS3, aws: Aws, host: TestHost, path: Path) -> None:
        self.s3 = s3
        self.host = host
        self.path = path
        self._aws = aws

    def store(self, bucket: str = "logs", prefix: str = "p/") -> S3Store:
        options = S3Options(
            bucket=bucket,
            prefix=prefix,
            storage_class="",
            sse="",
            kms_key_id="",
            multipart_bytes_min=2 * PART,
            part_bytes=PART,
        )
        settings = AwsSettings(endpoint_url=self.s3.url, region="eu-central-1")
        client = self._aws.client("s3", settings)
        return S3Store(
            options,
            client=client,
            host=self.host,  # type: ignore[arg-type]
            counters=Counters(),
            route="archive",
        )

    def upload(self, size: int, *, resumed: bool = False) -> Upload:
        self.path.write_bytes(os.urandom(size))
        return Upload(key=KEY, path=str(self.path), size=size, resumed=resumed)

    async def put_until_done(self, upload: Upload, attempts: int = 6) -> tuple[bool, int]:
        """
        Try as the sink does; returns what the last attempt returned, and how many there were.
        """
        store = self.store()
        for attempt in range(1, attempts + 1):
            try:
                return await store.put(upload), attempt
            except RetryError:
                upload = upload._replace(resumed=True)
        raise AssertionError("never done")

    def assert_whole(self) -> None:
        assert list(self.s3.objects) == ["p/" + KEY]
        assert self.s3.objects["p/" + KEY].body == self.path.read_bytes()
        assert self.s3.uploads == {}
        assert not os.path.exists(str(self.path) + UPLOAD_ID_SUFFIX)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    host = TestHost()
    aws = Aws(clock=host.clock)
    async with FakeS3(part_bytes_min=PART) as s3:
        yield Bench(s3, aws, host, tmp_path / "x.parquet")
        await aws.close()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_put_survives_each_fault(bench: Bench, fault: object) -> None:
    """
    One request failed, one more succeeds or finds the object there.
    """
    bench.s3.script("PutObject", fault)  # type: ignore[arg-type]
    new, attempts = await bench.put_until_done(bench.upload(500))
    # A connection that broke under an idempotent request may have been tried again below us.
    assert attempts == 2 or fault in (RESET_BEFORE, RESET_AFTER)
    assert new is (fault != RESET_AFTER)
    assert bench.s3.count("PutObject") == 2
    bench.assert_whole()


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        *product(("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"), FAULTS),
        ("CompleteMultipartUpload", LATE_ERROR),
    ],
)
async def test_a_multipart_upload_survives_each_fault(
    bench: Bench, operation: str, fault: object
) -> None:
    """
    Whatever request fails, in whatever way: one object, no unfinished upload.
    """
    bench.s3.script(operation, fault)  # type: ignore[arg-type]
    await bench.put_until_done(bench.upload(3 * PART + 1))
    bench.assert_whole()
    assert bench.s3.objects["p/" + KEY].parts == 4


async def test_a_conflict_at_complete_begins_again_from_create(bench: Bench) -> None:
    """
    409 on Complete spoils the upload: its id is not used again.
    """
    bench.s3.script("CompleteMultipartUpload", CONFLICT)
    await bench.put_until_done(bench.upload(3 * PART))
    assert bench.s3.count("CreateMultipartUpload") == 2
    assert bench.s3.count("AbortMultipartUpload") == 1
    bench.assert_whole()


async def test_a_lost_answer_to_complete_is_asked_for_again(bench: Bench) -> None:
    """
    The object is there although nobody said so: the parts sent again are aborted after the 412.
    """
    bench.s3.script("CompleteMultipartUpload", RESET_AFTER)
    new, _ = await bench.put_until_done(bench.upload(3 * PART))
    assert not new
    assert bench.s3.count("CompleteMultipartUpload") == 3
    bench.assert_whole()


async def test_a_part_is_asked_for_its_checksum(bench: Bench) -> None:
    """
    Bytes that change on the way are refused by S3 and sent again.
    """
    bench.s3.script("UploadPart", (400, "BadDigest"))
    await bench.put_until_done(bench.upload(3 * PART))
    bench.assert_whole()


async def test_an_upload_of_an_earlier_run_is_aborted_by_its_note(bench: Bench) -> None:
    """
    The process died after Create: the next run aborts what it noted, without a right to list.
    """
    upload = bench.upload(3 * PART, resumed=True)
    bench.s3.script("UploadPart", INTERNAL_ERROR)
    with pytest.raises(RetryError):
        await bench.store().put(upload)
    assert len(bench.s3.uploads) == 1
    bench.s3.script("ListMultipartUploads", ACCESS_DENIED)
    await bench.put_until_done(upload)
    bench.assert_whole()


async def test_an_upload_whose_id_was_lost_is_found_by_listing(bench: Bench) -> None:
    """
    The answer to Create was lost: only a listing knows the id.
    """
    bench.s3.script("CreateMultipartUpload", RESET_AFTER)
    await bench.put_until_done(bench.upload(3 * PART))
    assert bench.s3.count("ListMultipartUploads") == 1
    bench.assert_whole()


async def test_a_listing_without_uploads_may_be_an_error(bench: Bench) -> None:
    """
    Some servers say NoSuchUpload where there is nothing to list.
    """
    bench.s3.script("ListMultipartUploads", (404, "NoSuchUpload"))
    assert await bench.store().put(bench.upload(3 * PART, resumed=True))
    bench.assert_whole()


async def test_an_upload_that_may_not_be_aborted_is_told(bench: Bench) -> None:
    """
    Without s3:AbortMultipartUpload the object still arrives, and a lifecycle rule is advised.
    """
    bench.s3.script("UploadPart", INTERNAL_ERROR)
    bench.s3.script("AbortMultipartUpload", ACCESS_DENIED)
    await bench.put_until_done(bench.upload(3 * PART))
    assert "upload_not_aborted" in bench.host.events
    assert len(bench.s3.uploads) == 1


async def test_what_is_there_is_not_replaced(bench: Bench) -> None:
    """
    The same key again is a success without an effect, whole or in parts.
    """
    for size in (500, 3 * PART):
        bench.s3.objects.clear()
        upload = bench.upload(size)
        assert await bench.store().put(upload)
        assert not await bench.store().put(upload)
        bench.assert_whole()


@pytest.mark.parametrize(
    ("answer", "slow", "throttled"),
    [
        (SLOW_DOWN, False, True),
        ((429, "TooManyRequests"), False, True),
        (INTERNAL_ERROR, False, False),
        ((400, "RequestTimeout"), False, False),
        (ACCESS_DENIED, True, False),
        ((400, "KMS.DisabledException"), True, False),
        ((501, "NotImplemented"), True, False),
        ((301, "PermanentRedirect"), True, False),
    ],
)
async def test_answers_are_classed(
    bench: Bench, answer: tuple[int, str], slow: bool, throttled: bool
) -> None:
    """
    Each answer is retried in the way that may help.
    """
    bench.s3.script("PutObject", answer)
    with pytest.raises(RetryError) as caught:
        await bench.store().put(bench.upload(10))
    assert (caught.value.slow, caught.value.throttled) == (slow, throttled)
    assert caught.value.code == answer[1]


async def test_a_missing_bucket_is_named(bench: Bench) -> None:
    """
    The text says what, where and what to do.
    """
    with pytest.raises(
        RetryError, match=r"s3://nowhere/p/.*NoSuchBucket.*create the bucket"
    ) as caught:
        await bench.store(bucket="nowhere").put(bench.upload(10))
    assert caught.value.slow


async def test_keys_are_signed_as_they_are_sent(bench: Bench) -> None:
    """
    Prefixes with spaces, plus signs and letters beyond ASCII arrive as they were written.
    """
    await bench.store(prefix="a b/c+d/é=ü/").put(bench.upload(10))
    assert list(bench.s3.objects) == ["a b/c+d/é=ü/" + KEY]


async def test_what_failed_is_not_held_while_its_retry_waits() -> None:
    """
    A part is up to 8 MiB, and a wait up to minutes; the error would hold the frames that it passed.
    """
    bodies = []

    async def put() -> None:
        body = Body(b"x")
        bodies.append(weakref.ref(body))
        try:
            raise OSError(len(body))
        except OSError as error:
            raise RetryError("no answer", code="timeout") from error

    alive = []

    async def sleep(_: float) -> None:
        alive.append(bodies[0]() is not None)

    host = TestHost()
    host.clock.sleep = sleep  # type: ignore[assignment, method-assign]
    try:
        await put()
    except RetryError as error:
        await wait_after(error, Backoff(), host=host)  # type: ignore[arg-type]
    assert alive == [False]


async def test_a_vanished_file_is_no_retry(bench: Bench) -> None:
    """
    What cannot be read any more is the caller's to record.
    """
    upload = bench.upload(10)
    bench.path.unlink()
    with pytest.raises(FileNotFoundError):
        await bench.store().put(upload)


@pytest.mark.parametrize("linked", [True, False])
async def test_a_directory_is_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    """
    Files appear whole and are never replaced, on one file system or across two.
    """
    if not linked:
        link = os.link

        def refuse(source: str, target: str) -> None:
            if not os.path.basename(source).startswith("."):
                raise OSError(18, "Invalid cross-device link")
            link(source, target)

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "x.parquet"
    path.write_bytes(b"one")
    store = DirectoryStore(str(tmp_path / "target"), host=TestHost())  # type: ignore[arg-type]
    upload = Upload(key=KEY, path=str(path), size=3, resumed=False)
    assert await store.put(upload)
    path.unlink()
    path.write_bytes(b"two")
    assert not await store.put(upload)
    found = [item for item in (tmp_path / "target").rglob("*") if item.is_file()]
    assert found == [tmp_path / "target" / KEY]
    assert found[0].read_bytes() == b"one"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        await store.put(upload._replace(key="other.parquet"))


async def test_a_directory_that_cannot_be_written_is_a_slow_retry(tmp_path: Path) -> None:
    """
    A file in the place of the directory is told with its path.
    """
    (tmp_path / "target").write_text("")
    path = tmp_path / "x.parquet"
    path.write_bytes(b"one")
    store = DirectoryStore(str(tmp_path / "target"), host=TestHost())  # type: ignore[arg-type]
    with pytest.raises(RetryError, match="target"):
        await store.put(Upload(key=KEY, path=str(path), size=3, resumed=False))
