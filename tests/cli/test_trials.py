"""
`tailrace explain` and `tailrace test`: lines through routes, without an agent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main as command

EXAMPLE = Path(__file__).parents[2] / "config" / "examples" / "transforms.yaml"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CLUSTER_NAME", "demo")
    monkeypatch.setenv("ARCHIVE_BUCKET", "my-logs")
    return str(EXAMPLE)


def test_the_cases_of_the_example(capsys: pytest.CaptureFixture[str], example: str) -> None:
    assert command.main(["test", "-c", example]) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "ok  a warning with an address goes out without it",
        "ok  a stack trace is one row",
        "2 cases, 0 failed",
    ]


def config(tmp_path: Path, **more: Any) -> str:
    route = {
        "name": "r",
        "sink": {"type": "blackhole"},
        "select": {"containers": ["app"]},
        "transforms": [{"parse": "json"}, {"redact": ["email"]}, {"where": "level >= warn"}],
    }
    path = tmp_path / "t.yaml"
    path.write_text(json.dumps({"routes": [route]} | more))
    return str(path)


def test_a_case_that_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """
    It says what was expected and what was found, and the exit code is 1.
    """
    cases = [
        {
            "route": "r",
            "lines": ['{"level":"info"}', '{"level":"warn"}'],
            "expect": ['{"level":"info"}'],
        }
    ]
    assert command.main(["test", "-c", config(tmp_path, tests=cases)]) == 1
    out = capsys.readouterr().out
    assert "FAILED  tests[0]\n" in out
    assert '    - {"level":"info"}\n    + {"level":"warn"}\n' in out
    wrong = [{"route": "x", "lines": ["a"], "expect": []}]
    assert command.main(["test", "-c", config(tmp_path, tests=wrong)]) == 78
    assert "no route is called 'x'; there are r" in capsys.readouterr().err


def test_explain(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """
    Every stage with what it changed; a line as the runtime wrote it; a path that is not selected.
    """
    path = config(tmp_path)
    line = '2026-11-22T19:00:01.000000000Z stderr F {"level":"error","to":"joe@x.io"}'
    assert (
        command.main(
            ["explain", "-c", path, "--line", line, "--line", line.replace("error", "info")]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "select: taken, by its path" in out
    assert 'stderr | {"level":"error","to":"joe@x.io"}' in out
    assert '1. parse:\n       stderr error | {"level":"error","to":"joe@x.io"}' in out
    assert "tailrace_redacted email +2" in out
    assert "2. redact:" in out
    assert 'stderr error | {"level":"error","to":"[redacted:email]"}' in out
    assert "3. where:\n       tailrace_filtered_rows +1" in out
    assert out.endswith("  sink blackhole: 1 rows\n")
    other = "/var/log/pods/shop_web_11111111-2222-3333-4444-555555555555/sidecar/0.log"
    assert command.main(["explain", "-c", path, "--path", other, "--line", "x"]) == 0
    out = capsys.readouterr().out
    assert "not read: the route's select excludes it" in out
    assert "sink" not in out


@pytest.mark.parametrize(
    ("sink", "places"),
    [
        (
            {"type": "cloudwatch", "region": "r", "group": "g/{pod}", "stream": "{fields.app|x}"},
            ["group g/web stream a: 2 rows", "group g/web stream x: 1 rows"],
        ),
        (
            {"type": "parquet", "url": "file:///x", "prefix": "{fields.app}"},
            ["prefix a: 2 rows", "prefix unknown: 1 rows"],
        ),
        ({"type": "parquet", "url": "file:///x"}, []),
    ],
)
def test_explain_says_where_rows_go(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, sink: dict[str, str], places: list[str]
) -> None:
    """
    Rows by their values, as the sink will name them.
    """
    path = tmp_path / "t.yaml"
    route = {"name": "r", "sink": sink, "transforms": [{"parse": "json"}]}
    path.write_text(json.dumps({"routes": [route]}))
    pod = "/var/log/pods/shop_web_11111111-2222-3333-4444-555555555555/app/0.log"
    lines = ['{"app":"a","n":1}', '{"n":2}', '{"app":"a","n":3}']
    given = [argument for line in lines for argument in ("--line", line)]
    assert command.main(["explain", "-c", str(path), "--path", pod, *given]) == 0
    out = capsys.readouterr().out.splitlines()
    sink_at = next(index for index, line in enumerate(out) if line.startswith("  sink "))
    assert out[sink_at].endswith(": 3 rows")
    assert [line.strip() for line in out[sink_at + 1 :]] == places
