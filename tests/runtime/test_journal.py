"""
Entries of systemd's journal, and the command that reads them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.journal import (
    ABOUT_FIELDS,
    FIELDS,
    Lines,
    is_same,
    missing_between,
    read_entry,
    time_of,
)
from agent.runtime import journalctl
from agent.runtime.journalctl import command
from agent.sources.journal_settings import JournalSettings
from tests.refusals import refusal

if TYPE_CHECKING:
    from pathlib import Path

ENTRY: dict[str, Any] = {
    "__CURSOR": "s=1;i=2",
    "__REALTIME_TIMESTAMP": "1795374001123456",
    "MESSAGE": "two\nlines",
    "PRIORITY": "6",
    "_SYSTEMD_UNIT": "kubelet.service",
    "_BOOT_ID": "0",
}


def test_an_entry() -> None:
    entry = read_entry(json.dumps(ENTRY).encode())
    assert entry is not None
    assert entry == (
        "s=1;i=2",
        1_795_374_001_123_456_000,
        "two\nlines",
        {"PRIORITY": "6", "_SYSTEMD_UNIT": "kubelet.service"},
        ("kubelet.service",),
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([104, 105, 255], "hi\ufffd"),
        (["one", [116, 119, 111]], "one\ntwo"),
        (None, ""),
        ([], ""),
        ({"a": 1}, ""),
    ],
)
def test_what_a_message_can_be(value: Any, message: str) -> None:
    """
    Bytes that are not UTF-8, a field that is there several times, none.
    """
    entry = read_entry(json.dumps(ENTRY | {"MESSAGE": value}).encode())
    assert entry is not None
    assert entry.message == message


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"-- No entries --",
        b"[]",
        b"{}",
        json.dumps(ENTRY | {"__CURSOR": 7}).encode(),
        json.dumps(ENTRY | {"__CURSOR": "a\nb"}).encode(),
        json.dumps(ENTRY | {"__REALTIME_TIMESTAMP": "-1"}).encode(),
        json.dumps(ENTRY | {"__REALTIME_TIMESTAMP": "soon"}).encode(),
    ],
)
def test_what_is_no_entry(line: bytes) -> None:
    assert read_entry(line) is None


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), max_size=20))
def test_lines_however_they_are_read(data: bytes, sizes: list[int]) -> None:
    lines = Lines(line_bytes_max=30)
    found: list[bytes] = []
    rest = data
    for size in sizes:
        found += lines.take(rest[:size])
        rest = rest[size:]
    found += lines.take(rest)
    whole = data.split(b"\n")[:-1]
    assert found == [line for line in whole if len(line) <= 30]
    assert lines.too_long == len(whole) - len(found)


def test_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    Of all boots, and of this machine alone where no directory is named.
    """
    machine = tmp_path / "machine-id"
    monkeypatch.setattr(journalctl, "MACHINE_ID", str(machine))
    settings = JournalSettings(units=("kubelet.service",), matches=("_TRANSPORT=stdout",))
    assert command(settings, "s=1;i=2")[5:] == [
        "--merge",
        "--output-fields=" + ",".join(("MESSAGE", *FIELDS, *ABOUT_FIELDS)),
        "--cursor=s=1;i=2",
        "--follow",
        "--no-tail",
        "--unit=kubelet.service",
        "_TRANSPORT=stdout",
    ]
    machine.write_text("0" * 32 + "\n")
    assert command(settings)[-1] == "_MACHINE_ID=" + "0" * 32
    elsewhere = JournalSettings(directory="/j", journalctl="/bin/journalctl")
    assert command(elsewhere)[0] == "/bin/journalctl"
    assert command(elsewhere)[-3:] == ["--directory=/j", "--follow", "--no-tail"]
    named = JournalSettings(matches=("_MACHINE_ID=1",))
    assert command(named)[-2:] == ["--no-tail", "_MACHINE_ID=1"]


CURSOR = "s=aa;i=2a;b=bb;m=3e9;t=6615ddd0fe283;x=cc"


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (CURSOR, True),
        (CURSOR.replace("s=aa;i=2a", "s=dd;i=1"), True),
        (CURSOR.replace("x=cc", "x=cd"), False),
        (CURSOR.replace("b=bb", "b=bc"), False),
        ("s=aa;i=2a", False),
        ("", False),
    ],
)
def test_cursors_of_one_entry(other: str, same: bool) -> None:
    """
    An entry that journald has copied, from memory to the disk, has another number in another numbering.
    """
    assert is_same(CURSOR, other) is same
    assert is_same("s=1", "s=1")


def test_what_cursors_say() -> None:
    assert missing_between(CURSOR, CURSOR.replace("i=2a", "i=2f")) == 4
    assert missing_between(CURSOR, CURSOR.replace("s=aa;i=2a", "s=ab;i=2f")) is None
    assert missing_between(CURSOR, CURSOR.replace("i=2a", "i=1")) is None
    assert missing_between(CURSOR, CURSOR.replace("i=2a", "i=xyz")) is None
    assert time_of(CURSOR) == 0x6615DDD0FE283 * 1000
    assert time_of("a") is None
    assert time_of("t=" + "f" * 20) is None


def test_components() -> None:
    """
    A unit that is named has a Log of its own; there are as many as names, whatever runs on the node.
    """
    settings = JournalSettings(units=("kubelet.service", "getty@tty1.service", "docker*", "Ab"))
    assert settings.components == {
        "kubelet.service": "kubelet",
        "getty@tty1.service": "getty-tty1",
        "Ab": "ab",
    }
    find = settings.components_by_path.find
    assert find("/state/spool/j/kubelet.log") == "kubelet"
    assert find("/state/spool/j/kubelet.log-00000000-00000000000042") == "kubelet"
    assert find("/state/spool/j/position") == ""


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"units": ["--output=x"]}, "expected names of units"),
        ({"units": ["a b"]}, "expected names of units"),
        ({"matches": ["--merge"]}, "expected FIELD=VALUE"),
        ({"directory": "var"}, "expected an absolute path"),
        ({"component": "../x"}, "expected a name of a-z"),
        ({"unit": ["a"]}, "unknown key (did you mean units?)"),
    ],
)
def test_configuration(source: dict[str, Any], problem: str) -> None:
    """
    Nothing of the configuration becomes another option of journalctl.
    """
    assert problem in refusal({"type": "journal"} | source)
