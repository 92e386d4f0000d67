"""
The command line: what people see, and with which code it ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent import __version__
from agent.cli import main as command
from agent.cli import usage
from agent.cli.table import age_text, printable, size_text, table
from agent.core.errors import RetryError, StopError

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = [
    "run",
    "puller",
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
]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = command.main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"tailrace {__version__}\n", "")


def test_help_lists_what_people_run(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Every command has a line, and there are examples; the internal one is not shown.
    """
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for name in COMMANDS:
        assert f"\n    {name.split()[0]} " in out
    assert "examples:\n  tailrace validate" in out
    assert "seal" not in out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_commands(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """
    Each command explains itself with an example that its own parser accepts.
    """
    code, out, _ = run(capsys, *name.split(), "--help")
    assert code == 0
    examples = [line.strip() for line in out.split("example:\n")[1].splitlines()]
    assert examples
    for example in examples:
        words = example.split(" > ")[0].split()
        assert words[0] == "tailrace"
        usage.parser().parse_args(words[1:])


@pytest.mark.parametrize("arguments", [[], ["fly"], ["ddl"], ["state"], ["status", "--logs", "x"]])
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """
    Usage errors end with 64, not with a traceback.
    """
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (64, "")
    assert err.startswith("usage: tailrace")


def test_help_imports_nothing_heavy() -> None:
    """
    `--help` does not wait for what it does not need.
    """
    code = (
        "import sys\nfrom agent.cli import main\ntry:\n    main.main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('asyncio', 'msgspec', 'yaml', 'sqlite3', 'uvloop') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_module_runs(tmp_path: Path) -> None:
    """
    `python -m agent` is the command; a configuration that is not there is exit 78.
    """
    done = subprocess.run(
        [sys.executable, "-m", "agent", "run", "-c", str(tmp_path / "no.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert (
        done.stderr
        == f"{tmp_path}/no.yaml: cannot be read: No such file or directory: is the path right?\n"
    )


def test_configuration_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    TAILRACE_CONFIG stands for -c.
    """
    monkeypatch.setenv("TAILRACE_CONFIG", "/x.yaml")
    assert usage.parser().parse_args(["run"]).config == "/x.yaml"
    monkeypatch.delenv("TAILRACE_CONFIG")
    assert usage.parser().parse_args(["run"]).config == "/etc/tailrace/tailrace.yaml"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RetryError("disk is full"), 75, "disk is full\n"),
        (KeyboardInterrupt(), 130, ""),
        (StopError("no", exit_code=78), 78, "no\n"),
        (
            ExceptionGroup(
                "routes",
                [
                    StopError("one", exit_code=78),
                    ExceptionGroup("more", [StopError("two", exit_code=70)]),
                ],
            ),
            78,
            "one\ntwo\n",
        ),
    ],
)
def test_errors_have_codes(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    text: str,
) -> None:
    from agent.cli import schema

    def fail(_args: object) -> int:
        raise error

    monkeypatch.setattr(schema, "main", fail)
    assert run(capsys, "schema") == (code, "", text)


def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What nobody foresaw keeps its traceback, also beside an error that was.
    """
    from agent.cli import schema

    def fail(_args: object) -> int:
        raise ExceptionGroup("routes", [StopError("one", exit_code=78), KeyError("bug")])

    monkeypatch.setattr(schema, "main", fail)
    with pytest.raises(ExceptionGroup):
        command.main(["schema"])


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    """
    `tailrace schema | head -1` ends quietly.
    """
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "schema"], stdout=write, stderr=subprocess.PIPE, text=True
    ) as child:
        os.close(write)
        _, err = child.communicate()
    assert (child.returncode, err) == (141, "")


def test_validate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """
    A valid configuration is shown as it was understood.
    """
    path = tmp_path / "t.yaml"
    path.write_text(
        "cluster: demo\nnode: n\nstate_dir: /s\nadmin: {listen: ':2020'}\n"
        "sources: [{name: a, paths: [/x]}, {name: b, paths: [/y]}]\n"
        "routes:\n- {name: archive, sink: {type: parquet, url: 's3://logs/p'}}\n"
    )
    code, out, err = run(capsys, "validate", "-c", str(path))
    assert (code, err) == (0, "")
    assert out == (
        f"{path}: valid\n\n"
        "route    source  sink\n"
        "archive  a       parquet s3://logs/p\n\n"
        "source  type   reads\n"
        "a       files  /x\n"
        "b       files  /y\n\n"
        "cluster demo, node n\n"
        "state in /s, memory budget 32MiB\n"
        "admin endpoint on :2020\n"
        "warning: no route reads source b\n"
        "warning: the admin endpoint is reachable from other hosts; it has no access control\n"
    )


def test_validate_problems(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """
    One line per problem on stderr, nothing on stdout, exit 78.
    """
    path = tmp_path / "t.yaml"
    path.write_text("clustr: x\nroutes: []\n")
    code, out, err = run(capsys, "validate", "-c", str(path))
    assert (code, out) == (78, "")
    assert err == (
        f"{path}: clustr: unknown key (did you mean cluster?)\n"
        f"{path}: routes: no routes, expected a list of routes, each with a name and a sink\n"
    )


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """
    JSON for editors, Markdown for people.
    """
    code, out, _ = run(capsys, "schema")
    assert code == 0
    assert json.loads(out)["required"] == ["routes"]
    code, out, _ = run(capsys, "schema", "--markdown")
    assert out.startswith("# Configuration reference\n")


def test_tables() -> None:
    """
    Columns are aligned, numbers to the right, and what is not known is a dash.
    """
    assert (
        table(("a", "bb"), [("xyz", 1), (None, 234)], right="1") == "a     bb\nxyz    1\n-    234\n"
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 << 20, "1.5 GiB"),
        (2**53, "8192.0 TiB"),
        (None, "-"),
    ],
)
def test_sizes(size: int | None, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "never"),
        (-5, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (90_061, "1 d 1 h"),
        (86_405, "1 d 5 s"),
    ],
)
def test_ages(seconds: float | None, text: str) -> None:
    assert age_text(seconds) == text


def test_names_of_files_do_not_reach_the_terminal_as_they_are() -> None:
    """
    A file can be called anything, also an escape sequence.
    """
    assert printable("a\x1b[31m\n\udce9é") == "a\\x1b[31m\\n\\udce9é"
