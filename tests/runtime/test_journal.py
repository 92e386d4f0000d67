"""
Entries of systemd's journal, and the command that reads them.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import parse as parse_config
from agent.config.problems import ConfigError
from agent.core.journal import Lines, read_entry
from agent.runtime.journal import command
from agent.sources.journal_settings import JournalSettings

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


def test_commands() -> None:
    """
    A first start begins where it is told to, a later one at the entry of the cursor.
    """
    settings = JournalSettings(units=("kubelet.service",), matches=("_TRANSPORT=stdout",))
    assert "--no-tail" in command(settings, "")
    assert command(settings, "s=1;i=2")[-4:] == [
        "--no-tail",
        "--cursor=s=1;i=2",
        "--unit=kubelet.service",
        "_TRANSPORT=stdout",
    ]
    end = JournalSettings(start="end", directory="/j", journalctl="/bin/journalctl")
    assert command(end, "")[0] == "/bin/journalctl"
    assert command(end, "")[-2:] == ["--lines=0", "--directory=/j"]
    assert "--lines=0" not in command(end, "s=1")


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
    text = json.dumps(
        {
            "sources": [{"name": "j", "type": "journal"} | source],
            "routes": [{"name": "r", "sink": {"type": "blackhole"}}],
        }
    )
    with pytest.raises(ConfigError) as refused:
        parse_config(text, name="t.yaml", environ={})
    assert problem in str(refused.value)
