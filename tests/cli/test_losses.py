"""
`tailrace losses`: joined, chosen, bounded, and never less than everything.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.cli import losses
from agent.cli import main as command
from agent.core.batch import Loss, LossReason
from agent.core.checkpoint import Transaction
from agent.core.errors import StopError
from agent.runtime.store import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

HOUR_NS = 3600 * 10**9


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """
    A state directory with losses of two routes, three files and three ages.
    """
    store = await SqliteStore.open(
        str(tmp_path), now_ns=time.time_ns, tell=lambda *_a, **_k: None, routes=("a", "b")
    )
    now_ns = time.time_ns()
    one, two = "/var/log/pods/x/one.log", "/var/log/pods/x/\x1btwo.log"
    for route in ("a", "b"):
        await store.load_route(route, "sink")

    def loss(log: str, start: int, stop: int, reason: LossReason, **more: Any) -> Loss:
        return Loss(log, f"{hash(log) % 97:032x}", 0, start, stop, reason, **more)

    gone, old = LossReason.DELETED, LossReason.TOO_OLD
    for age_h, lost in (
        (50, [loss(one, 0, 10, old, rows=1, detail="x"), loss(two, 0, 1000, gone)]),
        (3, [loss(one, 20, 30, old, rows=2, detail="y"), loss(one, 500, 600, gone)]),
        (1, [loss(one, 10, 20, old, rows=4, detail="z"), loss(two, 2000, 2001, gone)]),
    ):
        await store.commit(Transaction("a", now_ns - age_h * HOUR_NS, losses=lost))
    await store.commit(Transaction("b", now_ns, losses=[loss(one, 0, 30, old, rows=7)]))
    await store.close()
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], state: Path, *arguments: str) -> tuple[int, str, str]:
    """
    Run the command.
    """
    code = command.main(["losses", *arguments, "--state-dir", str(state)])
    return code, *capsys.readouterr()


def found(capsys: pytest.CaptureFixture[str], state: Path, *arguments: str) -> list[dict[str, Any]]:
    """
    Return what it prints as JSON.
    """
    code, out, err = run(capsys, state, "--json", *arguments)
    assert (code, err) == (0, "")
    rows: list[dict[str, Any]] = json.loads(out)
    return rows


async def test_ranges_that_touch_are_one(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Of one file, route and reason, in whatever order they were recorded; with the latest time, oldest first.
    """
    rows = found(capsys, state)
    assert [(row["route"], row["start"], row["stop"], row["rows"]) for row in rows] == [
        ("a", 0, 1000, 0),
        ("a", 500, 600, 0),
        ("a", 2000, 2001, 0),
        ("a", 0, 30, 7),
        ("b", 0, 30, 7),
    ]
    assert (rows[3]["records"], rows[3]["detail"]) == (3, "x; z; y")
    assert rows[0]["log"] == "/var/log/pods/x/\\x1btwo.log"


async def test_choosing(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    By route, reason and time, together.
    """
    assert len(found(capsys, state, "--route", "b")) == 1
    assert {row["reason"] for row in found(capsys, state, "--reason", "deleted")} == {"deleted"}
    recent = found(capsys, state, "--since", "2h", "--route", "a")
    assert [(row["start"], row["stop"]) for row in recent] == [(2000, 2001), (10, 20)]
    assert len(found(capsys, state, "--since", "100d")) == 5
    assert found(capsys, state, "--since", "2999-01-01") == []
    assert run(capsys, state, "--since", "5min", "--route", "a") == (0, "nothing was lost\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--route", "c"], 78, "no route is called"),
        (["--reason", "delete"], 78, "did you mean deleted"),
        (["--since", "yesterday"], 64, "expected an age such as 90min"),
    ],
)
async def test_what_is_not_known_is_said(
    state: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    """
    A name that is not there, or a time that is none.
    """
    result, out, err = run(capsys, state, *arguments)
    assert (result, out) == (code, "")
    assert message in err


async def test_the_rest_is_summed(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A limit shows the newest; lines in front say by reason how many are folded into them: nothing is left out.
    """
    everything = found(capsys, state)
    rows = found(capsys, state, "--limit", "1")
    assert rows[-1:] == everything[-1:]
    assert [(row["reason"], row["records"], row["rows"]) for row in rows[:-1]] == [
        ("deleted", 3, 0),
        ("too_old", 3, 7),
    ]
    for column in ("rows", "records"):
        assert sum(row[column] for row in rows) == sum(row[column] for row in everything)
    lost = [sum(row["stop"] - row["start"] for row in rows) for rows in (rows, everything)]
    assert lost[0] == lost[1]
    _, out, _ = run(capsys, state, "--limit", "1")
    assert len(out.splitlines()) == 4
    assert "(older records)" in out.splitlines()[1]
    assert "3 records folded (--limit 0 shows all)" in out
    assert found(capsys, state, "--limit", "0") == everything
    with pytest.raises(SystemExit) as caught:
        run(capsys, state, "--limit", "-1")
    assert caught.value.code == 64


def test_moments() -> None:
    """
    Ages count from now; a time without a zone is UTC.
    """
    now_ns = 10**18
    assert losses.since("90min", now_ns) == now_ns - 5400 * 10**9
    assert losses.since("7d", now_ns) == now_ns - 7 * 24 * HOUR_NS
    assert losses.since("1970-01-01T01:00:00", now_ns) == HOUR_NS
    assert losses.since("1970-01-01T01:00:00+01:00", now_ns) == 0
    with pytest.raises(StopError, match="--since: got 'soon'"):
        losses.since("soon", now_ns)
