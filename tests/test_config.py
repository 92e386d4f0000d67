"""
The configuration: what is understood, from which files.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import ConfigError, load, parse
from agent.config.text import Scalar, read_tree
from agent.core.errors import StopError
from tests.fakes.probe_sink import Nested, configured, install, sink

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _probe(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def test_defaults() -> None:
    """
    A route is all that must be given.
    """
    config = configured("routes: [{name: r, sink: {type: blackhole}}]")
    assert (config.cluster, config.node) == ("", os.uname().nodename)
    assert (config.state_dir, config.memory_budget_bytes) == ("/var/lib/tailrace", 32 << 20)
    assert (config.commit_interval_s, config.drain_timeout_s, config.lock_wait_s) == (1, 25, 30)
    assert config.admin.listen == "127.0.0.1:2020"
    assert (config.log.format, config.log.level) == ("json", "info")
    (source,) = config.sources
    assert (source.name, source.type) == ("containers", "files")
    assert source.settings.paths == ("/var/log/pods/*/*/*.log",)
    (route,) = config.routes
    assert (route.name, route.source, route.type) == ("r", "containers", "blackhole")


def test_everything() -> None:
    """
    Every key of the top level arrives where it belongs; a route's source is the first one by default.
    """
    config = configured(
        "cluster: demo\nnode: n1\nstate_dir: state\nmemory_budget_bytes: 64MiB\ncommit_interval_s: 0.5\n"
        "uncommitted_bytes_max: 1048576\ndrain_timeout_s: 0\nlock_wait_s: 1\nadmin: {listen: ''}\n"
        "log: {format: text, level: debug}\n"
        "sources:\n- {name: one, paths: [/a, /b]}\n- {name: two, type: files, paths: [/c]}\n"
        "routes:\n- {name: r, sink: {type: blackhole}}\n- {name: s, source: two, sink: {type: blackhole}}\n"
    )
    assert (config.cluster, config.node, config.state_dir) == ("demo", "n1", "state")
    assert (config.memory_budget_bytes, config.uncommitted_bytes_max) == (64 << 20, 1 << 20)
    assert (config.commit_interval_s, config.drain_timeout_s, config.lock_wait_s) == (0.5, 0, 1)
    assert (config.admin.listen, config.log.format, config.log.level) == ("", "text", "debug")
    assert [source.settings.paths for source in config.sources] == [("/a", "/b"), ("/c",)]
    assert [route.source for route in config.routes] == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("linger_s: 2", "linger_s", 2.0),
        ("linger_s: 1e-3", "linger_s", 0.001),
        ("linger_s: ${FIVE}", "linger_s", 5.0),
        ("linger_s: '${NONE:-0.5}'", "linger_s", 0.5),
        ("count: 0x10", "count", 16),
        ("count: ${FIVE}", "count", 5),
        ("count: 1${FIVE}", "count", 15),
        ("on: true", "on", True),
        ("on: ${TRUE}", "on", True),
        ("mode: careful", "mode", "careful"),
        ("window_bytes_max: 2048", "window_bytes_max", 2048),
        ("window_bytes_max: 1.5KiB", "window_bytes_max", 1536),
        ("window_bytes_max: ${SIZE}", "window_bytes_max", 2 << 20),
        ("window_bytes_max: 1 GiB", "window_bytes_max", 1 << 30),
        ("text: no", "text", "no"),
        ("text: 2026-11-23", "text", "2026-11-23"),
        ("text: 12:30:45", "text", "12:30:45"),
        ("text: '123'", "text", "123"),
        ("text: !!str 123", "text", "123"),
        ("text: ${ZERO}", "text", "0123"),
        ("text: ${EMPTY}", "text", ""),
        ("text: a${EMPTY:-b}c", "text", "abc"),
        ("text: ${NONE:-}", "text", ""),
        ("text: ${NONE:-a:-$$b}", "text", "a:-$b"),
        ("text: $$HOME/$${X}", "text", "$HOME/${X}"),
        ("text: a $ b $1", "text", "a $ b $1"),
        ("text: '{namespace}'", "text", "{namespace}"),
        ("names: [a, '${REGION}']", "names", ("a", "eu-west-1")),
        ("names: []", "names", ()),
        ("tags: {a: b}", "tags", {"a": "b"}),
        ("limit: 3", "limit", 3),
        ("limit: null", "limit", None),
        ("limit: ~", "limit", None),
        ("nested: {deep: 3}", "nested", Nested(deep=3)),
        ("many: [{deep: 3}, {}]", "many", (Nested(deep=3), Nested())),
    ],
)
def test_values(text: str, key: str, value: object) -> None:
    """
    Values take the type of their key, also out of the environment.
    """
    found = getattr(sink(text), key)
    assert found == value
    assert type(found) is type(value)


def test_anchors() -> None:
    """
    A whole value can be given once.
    """
    config = configured(
        "routes:\n- {name: a, sink: &s {type: blackhole, delay_s: 3}}\n- {name: b, sink: *s}"
    )
    assert [route.sink.delay_s for route in config.routes] == [3, 3]


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A file is read with the process's environment; a byte order mark does not matter.
    """
    path = tmp_path / "t.yaml"
    path.write_bytes(
        b"\xef\xbb\xbfcluster: ${TAILRACE_TEST_CLUSTER}\nroutes: [{name: r, sink: {type: blackhole}}]\n"
    )
    monkeypatch.setenv("TAILRACE_TEST_CLUSTER", "demo")
    assert load(str(path)).cluster == "demo"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: No such file or directory: is the path right?"),
        (b"a: b\nc: \xff", "line 2: is not UTF-8"),
        (b"#" * (2**20 + 1), "is larger than 1MiB: is this the right file?"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, expected: str) -> None:
    """
    The path is in the message.
    """
    path = tmp_path / "t.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StopError) as caught:
        load(str(path))
    assert (str(caught.value), caught.value.exit_code) == (f"{path}: {expected}", 78)


@pytest.mark.parametrize(
    ("source", "path", "text"),
    [
        ("", "sources[0].clusters", "`cluster` is not set"),
        ("clusters: [{name: a}, {name: a}]", "sources[0].clusters", '"a" is there twice'),
        ("clusters: [{name: a, group: aws/x}]", "sources[0].clusters", "expected a log group"),
        ("clusters: [{name: a, regiom: x}]", "sources[0].clusters[0].regiom", "region"),
        ("clusters: [{name: a}], log_types: [audits]", "sources[0].log_types[0]", "audit"),
        ("clusters: [{name: a}], election: leader", "sources[0].election", "lease"),
        ("clusters: [{name: a}], lease_name: A_b", "sources[0].lease_name", "expected a name"),
        ("clusters: [{name: a}], requests_per_s_max: 50", "sources[0].requests_per_s_max", "25"),
        ("clusters: [{name: a}], spool_bytes_max: 1MiB", "sources[0].spool_bytes_max", "16"),
    ],
)
def test_problems_of_a_control_plane(source: str, path: str, text: str) -> None:
    """
    What it lacks or gets wrong has a key path and an expectation.
    """
    sources = f"sources: [{{name: s, type: eks_control_plane, {source}}}]"
    with pytest.raises(ConfigError) as caught:
        parse(f"{sources}\nroutes: [{{name: r, sink: {{type: blackhole}}}}]", name="t", environ={})
    assert f"{path}: " in str(caught.value)
    assert text in str(caught.value)


def test_only_what_is_configured_is_imported() -> None:
    """
    A blackhole route does not pay for the AWS SDK or for Parquet.
    """
    import subprocess

    code = (
        "import sys\nfrom agent.config import parse\n"
        "parse('routes: [{name: r, sink: {type: blackhole}}]', name='t', environ={})\n"
        "print(*[m for m in sys.modules if m.startswith(('aiobotocore', 'botocore', 'pyarrow', 'aiohttp', "
        "'agent.sinks.parquet', 'agent.sinks.cloudwatch', 'agent.core.pull', 'agent.sources.eks', "
        "'prometheus_client', 'rich'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# --- Any text.


@given(st.text(alphabet="ab:-[]{}'\"\n #&*!|>%@`$~0.1,", max_size=40))
def test_any_text_is_a_tree_or_a_problem(text: str) -> None:
    """
    No text makes the reader raise, nor the checks behind it.
    """
    tree, found = read_tree(text, {})
    assert tree is not None or found
    with contextlib.suppress(ConfigError):
        parse(text, name="t", environ={})


@given(st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=20))
def test_quoted_text_is_text(text: str) -> None:
    """
    A value in quotes is what it says, but for dollar signs.
    """
    import json

    tree, found = read_tree(f"a: {json.dumps(text.replace('$', '$$'))}", {})
    assert not found
    assert isinstance(tree["a"], Scalar)
    assert tree["a"].value == text
