"""
The files source over what applications and logrotate do: truncation, copies, numbers, late writers.
"""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

from agent.core.batch import LossReason
from tests.fakes.source_host import Source
from tests.sources.conftest import append

if TYPE_CHECKING:
    from pathlib import Path

    from agent.sources.settings import FilesSettings


async def test_copytruncate_reads_the_rest_from_the_copy(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    What was not read when the file was cut comes from the copy, once, before what follows.
    """
    append(app_log, b"banner 1\none\n")
    source = Source(raw_settings)
    route = await source.start()
    await source.settle(1)
    append(app_log, b"two\n")
    app_log.with_name("app.log.1").write_bytes(app_log.read_bytes())
    os.truncate(app_log, 0)
    await source.settle(1)
    append(app_log, b"three\n")
    await source.settle(1)
    assert route.texts(app_log) == [b"banner 1", b"one", b"two", b"three"]
    assert not route.losses
    source.close()


async def test_many_copies_between_two_reads(raw_settings: FilesSettings, app_log: Path) -> None:
    """
    A route that stands still while the file is copied and cut again and again reads every copy, in order.
    """
    append(app_log, b"start\n")
    source = Source(raw_settings)
    route = await source.start()
    await source.settle(1)
    expected = [b"start"]
    for number in range(6):
        lines = [b"%d before" % number, b"%d last" % number]
        append(app_log, b"\n".join(lines) + b"\n")
        await source.files.tick()
        app_log.with_name(f"app.log-20261122-{number:06d}").write_bytes(app_log.read_bytes())
        os.truncate(app_log, 0)
        append(app_log, b"%d after\n" % number)
        source.host.watches.pending.append((str(app_log.parent), None))
        await source.files.tick()
        expected += [*lines, b"%d after" % number]
    await route.read_all()
    await source.settle(7)
    assert route.texts(app_log) == expected
    assert not route.losses
    source.close()


async def test_cut_file_without_a_name_is_not_its_compressed_copy(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    What was copied, cut, compressed and removed between two looks is read from the gz at the next.
    """
    append(app_log, b"one\n")
    source = Source(raw_settings)
    route = await source.start()
    await source.settle(1)
    append(app_log, b"two\n")
    await source.files.tick()
    data = app_log.read_bytes()
    app_log.with_name("app.log.2.gz").write_bytes(gzip.compress(data))
    os.truncate(app_log, 0)
    app_log.unlink()
    append(app_log, b"three\n")
    await source.files.scan()
    first = source.files.logs[str(app_log)].chain.generations[0]
    assert first.key == first.place.key  # type: ignore[union-attr]
    await source.settle(7)
    assert route.texts(app_log) == [b"one", b"two", b"three"]
    assert not route.losses
    source.close()


async def test_truncation_without_copy_is_a_loss(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    Unread bytes that were cut are recorded after the grace for a copy; the new content follows.
    """
    append(app_log, b"one\n")
    source = Source(raw_settings)
    route = await source.start()
    await source.settle(1)
    append(app_log, b"two\n")
    await source.files.tick()
    os.truncate(app_log, 0)
    append(app_log, b"x\n")
    await source.settle(3)
    assert route.texts(app_log) == [b"one"]
    await source.settle(4)
    assert route.texts(app_log) == [b"one", b"x"]
    (loss,) = route.losses
    assert (loss.start, loss.stop, loss.reason) == (4, 8, LossReason.TRUNCATED)
    source.close()


async def test_overwritten_with_a_constant_banner(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    The same first line twice: the size tells, and the ordinal gives the second file an id of its own.
    """
    append(app_log, b"banner\none\ntwo\n")
    source = Source(raw_settings)
    route = await source.start()
    await source.settle(1)
    os.truncate(app_log, 0)
    append(app_log, b"banner\nnew\n")
    await source.settle(10)
    assert route.texts(app_log) == [b"banner", b"one", b"two", b"banner", b"new"]
    assert not route.losses
    assert len({segment.file_id for segment in route.segments}) == 2
    source.close()


async def test_content_replaced_in_place_is_not_read_as_the_old(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    Another head at the same inode, although the file is longer than the offset.
    """
    append(app_log, b"one\n")
    source = Source(raw_settings)
    route = await source.start()
    await source.settle(1)
    with app_log.open("r+b") as file:
        file.write(b"all of this is new\nand more\n")
    await source.settle(10)
    assert route.texts(app_log) == [b"one", b"all of this is new", b"and more"]
    assert not route.losses
    source.close()


async def test_logrotate_numbers(raw_settings: FilesSettings, app_log: Path) -> None:
    """
    app.log.2, app.log.1 and app.log are one Log, oldest first, and shifting the numbers repeats nothing.
    """
    append(app_log.with_name("app.log.2"), b"1\n")
    append(app_log.with_name("app.log.1"), b"2\n")
    append(app_log, b"3\n")
    source = Source(raw_settings)
    route = await source.start()
    await source.settle(8)
    app_log.with_name("app.log.2").rename(app_log.with_name("app.log.3"))
    app_log.with_name("app.log.1").rename(app_log.with_name("app.log.2"))
    app_log.rename(app_log.with_name("app.log.1"))
    await source.settle(1)
    append(app_log, b"4\n")
    await source.settle(8)
    assert route.texts(app_log) == [b"1", b"2", b"3", b"4"]
    assert set(source.files.logs) == {str(app_log)}
    source.close()


async def test_writer_that_stays_in_the_renamed_file_is_followed(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    The new file exists and is empty: the renamed one is read until it was quiet for the grace.
    """
    with app_log.open("ab", buffering=0) as writer:
        writer.write(b"1\n")
        source = Source(raw_settings)
        route = await source.start()
        await source.settle(1)
        app_log.rename(app_log.with_name("app.log.1"))
        app_log.touch()
        for number in range(2, 6):
            await source.settle(3)
            writer.write(b"%d\n" % number)
        await source.settle(1)
    append(app_log, b"6\n")
    await source.settle(3)
    assert route.texts(app_log) == [b"1", b"2", b"3", b"4", b"5", b"6"]
    source.close()


async def test_late_write_to_a_finished_generation_is_recorded(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    A writer that comes back to a renamed file after everybody has left it: a loss, not silence.
    """
    with app_log.open("ab", buffering=0) as writer:
        writer.write(b"1\n")
        source = Source(raw_settings)
        route = await source.start()
        await source.settle(1)
        app_log.rename(app_log.with_name("app.log.1"))
        append(app_log, b"2\n")
        await source.settle(8)
        writer.write(b"late\n")
    route.commit()
    await route.read_all()
    (loss,) = route.losses
    assert (loss.generation, loss.start, loss.stop) == (0, 2, 7)
    source.close()


async def test_after_a_power_loss_a_shorter_file_is_clamped(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    Same head, other boot: no new generation, and what is appended is read.
    """
    append(app_log, b"one\ntwo\nthree\n")
    source = Source(raw_settings)
    route = await source.start()
    await source.settle()
    cursors, rows = route.commit()
    source.close()
    os.truncate(app_log, 8)
    again = Source(raw_settings, rows=rows, rebooted=True)
    resumed = await again.start(cursors=cursors, first_start=False)
    await again.settle(1)
    append(app_log, b"four\n")
    await again.settle(1)
    assert resumed.texts(app_log) == [b"four"]
    assert {segment.generation for segment in resumed.segments} == {0}
    again.close()


async def test_content_replaced_between_tick_and_read_is_not_delivered_as_the_old(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    The file grew, and is another one: what was read is thrown away, because its head no longer agrees.
    """
    append(app_log, b"one\n")
    source = Source(raw_settings)
    route = await source.start()
    await source.settle(1)
    with app_log.open("r+b") as file:
        file.write(b"all of this is new\nand more\n")
    await source.files.tick()
    await route.read_all()
    assert route.texts(app_log) == [b"one"]
    await source.settle(8)
    assert route.texts(app_log) == [b"one", b"all of this is new", b"and more"]
    source.close()


async def test_last_flush_into_the_renamed_file_comes_before_the_new_one(
    raw_settings: FilesSettings, app_log: Path
) -> None:
    """
    The new file has bytes, and the copier of the other stream still flushes a line into the old one.
    """
    with app_log.open("ab", buffering=0) as writer:
        writer.write(b"1\n")
        source = Source(raw_settings)
        route = await source.start()
        await source.settle(1)
        app_log.rename(app_log.with_name("app.log.1"))
        append(app_log, b"3\n")
        await source.settle(0.4)
        writer.write(b"2\n")
    await source.settle(3)
    assert route.texts(app_log) == [b"1", b"2", b"3"]
    assert not route.losses
    source.close()
