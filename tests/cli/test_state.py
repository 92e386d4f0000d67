"""
status, losses and state: reading and changing a state directory from outside.
"""

from __future__ import annotations

import json
import sqlite3
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from agent.cli import main as command
from agent.core.batch import Loss, LossReason
from agent.core.checkpoint import GenerationRow, SinkRows, Transaction, Window
from agent.core.cursor import StreamCursor, cursor_at
from agent.core.errors import StopError
from agent.runtime import store_file
from agent.runtime.lock import StateLock
from agent.runtime.store import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


class State:
    """
    A state directory with a Log of two generations.
    """

    def __init__(self, root: Path) -> None:
        self.directory = root / "state"
        self.directory.mkdir()
        self.log = root / "0.log"
        self.log.write_bytes(b"x" * 500)

    async def open(self, *routes: str) -> SqliteStore:
        return await SqliteStore.open(
            str(self.directory), now_ns=time.time_ns, tell=lambda *_a, **_k: None, routes=routes
        )

    async def fill(self) -> None:
        store = await self.open("archive", "cloudwatch")
        stat = self.log.stat()
        log = str(self.log)

        def generation(number: int, inode: int, size: int) -> GenerationRow:
            return GenerationRow(
                log, number, b"h" * 16, 10, 0, f"{number:032x}", stat.st_dev, inode, "n", size
            )

        await store.load_route("cloudwatch", "cloudwatch eu-west-1 /g")
        await store.load_route("archive", "parquet s3://b/p")
        losses = [
            Loss(log, "ab" * 16, 3, 0, 2048, LossReason.DELETED, 0, "gone"),
            Loss(log, "ab" * 16, 4, 10, 20, LossReason.TOO_OLD, 5),
        ]
        await store.commit(
            Transaction(
                "cloudwatch",
                time.time_ns() - 90 * 10**9,
                cursors={
                    log: (StreamCursor(4, 900), StreamCursor(4, 1000), StreamCursor(5, 10)),
                    "/gone/\x1b.log": cursor_at(1, 7),
                },
                generations=[
                    generation(3, 1, 9999),
                    generation(4, 2, 1000),
                    generation(5, stat.st_ino, 10),
                ],
                losses=losses,
            )
        )
        windows = [
            Window("archive", 6, 4096, 1),
            Window(
                "archive",
                5,
                9999,
                1,
                (("k1", "sealed/archive/5/a", 1024, False), ("k2", "sealed/archive/5/b", 50, True)),
            ),
        ]
        await store.commit(
            Transaction(
                "archive",
                time.time_ns(),
                cursors={log: cursor_at(5, 500)},
                sink=SinkRows(7, 2048),
                windows=windows,
            )
        )
        await store.close()
        for name in ("staging", "sealed"):
            path = self.directory / name / "archive" / "5"
            path.mkdir(parents=True)
            (path / "a").write_text(name)


@pytest.fixture
async def state(tmp_path: Path) -> State:
    made = State(tmp_path)
    await made.fill()
    return made


def run(capsys: pytest.CaptureFixture[str], state: State, *arguments: str) -> tuple[int, str, str]:
    code = command.main([*arguments, "--state-dir", str(state.directory)])
    out, err = capsys.readouterr()
    return code, out, err


def found(capsys: pytest.CaptureFixture[str], state: State) -> dict[str, Any]:
    code, out, _ = run(capsys, state, "status", "--json")
    assert code == 0
    return {route["name"]: route for route in json.loads(out)["routes"]}


async def test_status_json(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Lag counts the rest of the cursor's generation and every one behind it, the live file as it is now.
    """
    routes = found(capsys, state)
    cloudwatch, archive = routes["cloudwatch"], routes["archive"]
    lag = {log["log"]: log["lag_bytes"] for log in cloudwatch["logs"]}
    assert lag == {str(state.log): 100 + 500, "/gone/\\x1b.log": None}
    assert cloudwatch["lag_bytes"] == 600
    assert 89 < cloudwatch["committed_age_s"] < 120
    assert cloudwatch["losses"] == [
        {"reason": "deleted", "bytes": 2048, "rows": 0},
        {"reason": "too_old", "bytes": 10, "rows": 5},
    ]
    assert (archive["staged_bytes"], archive["sealed_bytes"], archive["lag_bytes"]) == (
        2048 + 4096,
        1024,
        0,
    )
    state.log.write_bytes(b"x" * 800)
    assert found(capsys, state)["archive"]["lag_bytes"] == 300
    state.log.rename(state.log.with_suffix(".1"))
    state.log.write_bytes(b"x" * 70)
    assert found(capsys, state)["archive"]["lag_bytes"] == 70


async def test_status_text(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Three tables, furthest behind first; a limit says what it leaves out.
    """
    code, out, err = run(capsys, state, "status", "--logs", "1")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{state.directory}: no agent is running"
    assert lines[2].split() == ["route", "committed", "Logs", "lag", "staged", "sealed", "sink"]
    assert lines[3].split()[-8:] == ["0", "B", "6.0", "KiB", "1.0", "KiB", "parquet", "s3://b/p"]
    assert lines[4].startswith("cloudwatch  1 min 3")
    assert "cloudwatch  deleted       2.0 KiB     -" in lines
    assert f"{state.log}   4:900  600 B" in lines
    assert lines[-1] == "and 1 more (--logs 0 shows all)"
    assert "\x1b" not in out


async def test_status_while_an_agent_runs(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The owner is named, what it committed is seen, and it is not disturbed.
    """
    store = await state.open("archive")
    lock = StateLock(str(state.directory), wait_s=0, tell=lambda *_a, **_k: None, clock=_clock())
    assert lock.take()
    await store.load_route("archive", "parquet s3://b/p")
    await store.commit(
        Transaction("archive", time.time_ns(), cursors={str(state.log): cursor_at(5, 450)})
    )
    code, out, _ = run(capsys, state, "status")
    assert code == 0
    assert f"{state.directory}: held by pid " in out
    assert "cloudwatch (removed)" in out
    assert "5:450" in out
    await store.commit(Transaction("archive", time.time_ns()))
    lock.release()
    await store.close()


async def test_status_of_the_configurations_directory(
    state: State, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """
    Without --state-dir the configuration says where.
    """
    path = tmp_path / "t.yaml"
    path.write_text(
        f"state_dir: {state.directory}\nroutes: [{{name: r, sink: {{type: blackhole}}}}]\n"
    )
    assert command.main(["status", "-c", str(path)]) == 0
    assert str(state.directory) in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["status"], ["losses"], ["state", "reset", "a"], ["state", "rename", "a", "b"]]
)
def test_no_state(capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]) -> None:
    """
    A directory without state is exit 78, and stays as it is.
    """
    code = command.main([*words, "--state-dir", str(tmp_path)])
    assert code == 78
    assert capsys.readouterr().err == (
        f"{tmp_path}/tailrace.db: no such file: is state_dir right? An agent that never ran has no state\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["status"], ["losses"], ["state", "reset", "archive"], ["state", "rename", "a", "b"]]
)
@pytest.mark.parametrize("trouble", ["scribbled", "no database", "deleted", "locked"])
def test_state_in_trouble(
    state: State,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
    words: list[str],
) -> None:
    """
    Damaged and deleted: 70, and the agent goes on from the backup; locked: 75.  Nothing is changed.
    """
    monkeypatch.setattr(store_file, "BUSY_TIMEOUT_S", 0.05)
    database = state.directory / "tailrace.db"
    other = sqlite3.connect(database, isolation_level=None)
    if trouble == "locked":
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
    else:
        other.close()
    if trouble == "deleted":
        database.unlink()
    elif trouble == "scribbled":
        with database.open("r+b") as file:
            file.seek(4096)
            file.write(b"\x55" * 30_000)
    elif trouble == "no database":
        database.write_bytes(b"no database at all, but long enough to look at" * 100)
    before = {path.name: path.read_bytes() for path in state.directory.glob("*.db*")}
    code, out, err = run(capsys, state, *words)
    assert not out
    assert code == (75 if trouble == "locked" else 70), err
    remedy = "holds a lock" if trouble == "locked" else "start the agent"
    assert remedy in err
    assert str(database) in err
    assert err.count("\n") == 1
    # SQLite's own -wal and -shm may come.
    assert {name: (state.directory / name).read_bytes() for name in before} == before
    other.close()


async def test_losses(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Each record: where, how much, why.
    """
    code, out, _ = run(capsys, state, "losses")
    head, first, second = out.splitlines()
    assert code == 0
    assert head.split() == ["time", "route", "reason", "bytes", "rows", "Log", "range", "detail"]
    assert first.split()[1:] == [
        "cloudwatch",
        "deleted",
        "2.0",
        "KiB",
        "-",
        str(state.log),
        "3:0-2048",
        "gone",
    ]
    assert second.split()[1:] == [
        "cloudwatch",
        "too_old",
        "10",
        "B",
        "5",
        str(state.log),
        "4:10-20",
    ]
    code, out, _ = run(capsys, state, "losses", "--json", "--route", "cloudwatch")
    assert [row["stop"] for row in json.loads(out)] == [2048, 20]
    assert run(capsys, state, "losses", "--route", "archive") == (0, "nothing was lost\n", "")


async def test_reset(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A reset route starts for the first time; the other one is untouched.
    """
    code, out, err = run(capsys, state, "state", "reset", "cloudwatch")
    assert (code, err) == (0, "")
    assert out == "route cloudwatch: 2 cursors forgotten; its next start is its first one\n"
    store = await state.open("archive", "cloudwatch")
    assert (await store.load_route("cloudwatch", "another sink")).first_start
    assert (await store.load_route("archive", "parquet s3://b/p")).cursors
    assert await store.load_losses() == []
    assert {row.log for row in await store.load_generations()} == {str(state.log)}
    await store.close()


async def test_reset_keeps_staged_rows(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Rows that were confirmed and are not uploaded are not thrown away by accident.
    """
    code, out, err = run(capsys, state, "state", "reset", "archive")
    assert (code, out) == (78, "")
    assert "2.0 KiB staged and 2 windows are not uploaded yet" in err
    assert "--discard-staged" in err
    assert (state.directory / "staging" / "archive").exists()
    code, _, _ = run(capsys, state, "state", "reset", "archive", "--discard-staged")
    assert code == 0
    assert not (state.directory / "staging" / "archive").exists()
    assert not (state.directory / "sealed" / "archive").exists()


async def test_rename(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The new name has cursors, windows and files of the old one, and takes any sink.
    """
    code, out, _ = run(capsys, state, "state", "rename", "archive", "lake")
    assert code == 0
    assert (
        out
        == "route lake: goes on from 1 cursors of archive, with the sink that its next start has\n"
    )
    assert (state.directory / "sealed" / "lake" / "5" / "a").read_text() == "sealed"
    assert (state.directory / "staging" / "lake" / "5" / "a").read_text() == "staging"
    store = await state.open("lake", "cloudwatch")
    found = await store.load_route("lake", "parquet s3://other")
    assert (found.first_start, found.cursors) == (False, {str(state.log): cursor_at(5, 500)})
    assert [window.route for window in found.windows] == ["lake", "lake"]
    assert found.windows[0].objects[0][1] == "sealed/lake/5/a"
    await store.close()


async def test_rename_to_itself_adopts_a_changed_sink(
    state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    What the message about a changed sink says does what it says.
    """
    store = await state.open("cloudwatch")
    with pytest.raises(StopError, match="tailrace state rename cloudwatch cloudwatch"):
        await store.load_route("cloudwatch", "changed")
    await store.close()
    assert run(capsys, state, "state", "rename", "cloudwatch", "cloudwatch")[0] == 0
    store = await state.open("cloudwatch")
    assert len((await store.load_route("cloudwatch", "changed")).cursors) == 2
    await store.close()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["reset", "cloudwach"],
            78,
            "no route cloudwach (did you mean cloudwatch?): it knows archive, cloudwatch",
        ),
        (["rename", "nothing", "b"], 78, "no route nothing"),
        (["rename", "archive", "cloudwatch"], 78, "route cloudwatch has cursors of its own"),
        (["rename", "archive", "../x"], 78, "got '../x', expected a name of letters"),
    ],
)
async def test_wrong_names(
    state: State, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    """
    Nothing is changed for a name that is not known, or is taken.
    """
    before = found(capsys, state)
    result, out, err = run(capsys, state, "state", *words)
    assert (result, out) == (code, "")
    assert message in err
    after = found(capsys, state)
    assert [route["logs"] for route in before.values()] == [
        route["logs"] for route in after.values()
    ]


async def test_state_of_a_running_agent_is_not_changed(
    state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Exit 75 with the owner, so that a script can wait.
    """
    lock = StateLock(str(state.directory), wait_s=0, tell=lambda *_a, **_k: None, clock=_clock())
    assert lock.take()
    code, _, err = run(capsys, state, "state", "reset", "cloudwatch")
    assert code == 75
    assert "is still held by pid" in err
    lock.release()


def _clock() -> Any:
    return SimpleNamespace(now_ns=time.time_ns)
