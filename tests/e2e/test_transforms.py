"""
Transforms in the agent as a process: what is wanted arrives, and nothing falls between two routes.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from tests.e2e.world import World, tailrace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pods import Pod


def write_levels(pod: Pod, first: int, count: int) -> tuple[list[str], list[str]]:
    """
    Write lines of all levels; return those from warn on, and the others.
    """
    loud: list[str] = []
    quiet: list[str] = []
    for index in range(first, first + count):
        level = ("debug", "INFO", "warning", "error")[index % 4]
        line = json.dumps({"level": level, "n": index, "text": f'{pod.name} says "{index}"'})
        if index % 7 == 0:
            line = f"not JSON {index}"
        pod.write(line, stream=("stdout", "stderr")[index % 2])
        (loud if index % 7 and index % 4 > 1 else quiet).append(line)
    return loud, quiet


async def test_two_routes_split_the_rows(tmp_path: Path) -> None:
    """
    Complementary expressions: every line is at exactly one destination, over a rotation and a kill.
    """
    async with World(tmp_path) as world:
        by_name = {route["name"]: route for route in world.routes}
        by_name["cloudwatch"]["transforms"] = [{"parse": "json"}, {"where": "level >= warn"}]
        by_name["archive"]["transforms"] = [{"parse": "json"}, {"where": "not (level >= warn)"}]
        pod = world.pod("web-1")
        loud, quiet = write_levels(pod, 0, 200)
        await world.start()
        await world.until(lambda: len(world.events()) == len(loud), "the loud lines")
        await world.kill()
        pod.rotate()
        more = write_levels(pod, 200, 100)
        loud += more[0]
        quiet += more[1]
        await world.start()
        await world.until(lambda: len(world.events()) == len(loud), "all loud lines")
        assert await world.stop() == 0
        assert {text for _, _, text in world.events()} == set(loud)
        assert sorted(text for (text,) in world.columns("message")) == sorted(quiet)


async def test_names_made_of_fields(tmp_path: Path) -> None:
    """
    Lines of one file go to streams and prefixes by a value in them, each once at S3, over a rotation and kills.
    """
    async with World(tmp_path) as world:
        by_name = {route["name"]: route for route in world.routes}
        for route in world.routes:
            route["transforms"] = [{"parse": "json"}]
        by_name["cloudwatch"]["sink"]["stream"] = "{pod}.{fields.app|none}"
        by_name["archive"]["sink"]["prefix"] = "app={fields.app|none}"
        pod = world.pod("web-1")
        written: dict[str, list[str]] = {}

        def write(first: int) -> None:
            for index in range(first, first + 150):
                app = ("a", "b", "../c")[index % 3]
                line = json.dumps({"app": app, "n": index}) if index % 10 else f"bare {index}"
                pod.write(line, stream=("stdout", "stderr")[index % 2])
                written.setdefault(app if index % 10 else "none", []).append(line)

        def arrived(count: int) -> bool:
            return len(world.events()) == count

        write(0)
        await world.start()
        for first in (150, 300):
            await world.until(partial(arrived, first), "all lines")
            await world.kill()
            pod.rotate()
            write(first)
            await world.start()
        await world.until(lambda: len(world.events()) == 450, "all lines")
        assert await world.stop() == 0
        (group,) = world.cloudwatch.groups.values()
        (other,) = (name for name in group.streams if "_c-" in name)
        streams = {"a": "web-1.a", "b": "web-1.b", "none": "web-1.none", "../c": other}
        assert other.startswith("web-1..._c-")
        assert group.streams.keys() == set(streams.values())
        for app, stream in streams.items():
            texts = [json.loads(message)["log"] for _, message in group.streams[stream]]
            assert list(dict.fromkeys(texts)) == written[app]
        world.assert_parquet_exact(pod)
        prefixes: dict[str, list[str]] = {}
        for key, table in world.tables():
            prefix = key.split("app=")[1].split("/")[0]
            prefixes.setdefault(prefix, []).extend(table.column("message").to_pylist())
        assert prefixes.keys() == {"a", "b", "none", other.removeprefix("web-1.")}
        for app, stream in streams.items():
            assert sorted(prefixes[stream.removeprefix("web-1.")]) == sorted(written[app])


TRACE = [
    "2026-11-22 19:00:02 ERROR order failed",
    "com.acme.StockException: none left",
    "\tat com.acme.Cart.total(Cart.java:41)",
    "\tat com.acme.Main.main(Main.java:7)",
    "Caused by: com.acme.db.TimeoutException: 5s",
    "\t... 23 more",
]


async def test_a_trace_over_a_read_a_rotation_and_a_kill(tmp_path: Path, free_port: int) -> None:
    """
    A trace is one row, wherever its file or its reader ended; an open one is not lost, and not there twice.
    """
    async with World(tmp_path) as world:
        for route in world.routes:
            route["transforms"] = [{"multiline": "java", "hold_max_s": 60}]
        world.settings["admin"]["listen"] = f"127.0.0.1:{free_port}"
        pod = world.pod("web-1")
        await world.start()
        # Over a read: the agent sees the first half before there is a second.
        for line in TRACE[:2]:
            pod.write(line)
        await world.read(2)
        for line in TRACE[2:]:
            pod.write(line)
        pod.write("2026-11-22 19:00:03 INFO one")
        await world.until(lambda: len(world.events()) == 1, "the first trace")
        # Over a kill: what was open is read again.
        again = [TRACE[0] + " again", *TRACE[1:]]
        for line in again[:3]:
            pod.write(line)
        await world.until(lambda: len(world.events()) == 2, "the line before it")
        await world.kill()
        for line in again[3:4]:
            pod.write(line)
        # Over a rotation.
        pod.rotate()
        for line in again[4:]:
            pod.write(line)
        pod.write("2026-11-22 19:00:04 INFO two")
        pod.write("2026-11-22 19:00:05 INFO three")
        await world.start()
        await world.until(lambda: len(world.events()) == 4, "the second trace and the next line")
        assert await world.stop() == 0
        expected = [
            "\n".join(TRACE),
            "2026-11-22 19:00:03 INFO one",
            "\n".join(again),
            "2026-11-22 19:00:04 INFO two",
        ]
        # The last line may be continued yet: its cursor is held, the next run delivers it.
        pod.written.clear()
        pod.expect(*expected)
        world.assert_parquet_exact(pod)
        world.assert_cloudwatch_complete(pod)


async def test_columns_reach_parquet(tmp_path: Path) -> None:
    """
    Levels, promoted columns of every type, redaction, and the summary of a limit, in the objects.
    """
    async with World(tmp_path) as world:
        world.only("archive")
        world.routes[0]["transforms"] = [
            {"parse": "json"},
            {"redact": ["email"]},
            {"limit": "container", "lines_per_s_max": 0.001, "burst_lines": 3},
        ]
        world.sink("archive")["columns"] = [
            {"name": "user_name", "field": "user.name"},
            {"name": "status", "type": "bigint"},
            {"name": "seconds", "type": "double"},
            {"name": "ok", "type": "boolean"},
            {"name": "started", "type": "timestamp"},
        ]
        pod = world.pod("web-1")
        record = {
            "level": "WARN",
            "user": {"name": "joe@x.io"},
            "status": 503,
            "seconds": 0.25,
            "ok": True,
        }
        pod.write(json.dumps(record | {"started": "2026-11-22T19:00:01.5Z"}))
        pod.write(json.dumps({"level": 30, "status": "many"}))
        for _ in range(4):
            pod.write("text")
        await world.start()
        await world.until_committed(str(pod.path))
        assert await world.stop() == 0
        names = ("level", "user_name", "status", "seconds", "ok", "started", "row_kind")
        rows = world.columns(*names)
        assert rows[0][:5] == ("WARN", "[redacted:email]", 503, 0.25, True)
        assert rows[0][5].isoformat() == "2026-11-22T19:00:01.500000+00:00"
        assert rows[1] == ("INFO", None, None, None, None, None, "line")
        assert rows[2] == (None, None, None, None, None, None, "line")
        assert rows[3] == ("WARN", None, None, None, None, None, "summary")
        messages = [text for (text,) in world.columns("message")]
        assert "joe@x.io" not in messages[0]
        assert messages[3] == "tailrace: 3 lines dropped by limit: more than 0.001 a second"


async def test_the_last_line_is_let_go(tmp_path: Path) -> None:
    """
    After hold_max_s while the agent follows, and at the end of the files in a replay.
    """
    async with World(tmp_path) as world:
        world.only("cloudwatch")
        world.routes[0]["transforms"] = [{"multiline": "auto", "hold_max_s": 0.3}]
        pod = world.pod("web-1")
        for line in TRACE:
            pod.write(line)
        pod.written.clear()
        pod.expect("\n".join(TRACE))
        await world.start()
        await world.until(lambda: len(world.events()) == 1, "the trace")
        await world.until_committed(str(pod.path))
        assert await world.stop() == 0
        world.assert_cloudwatch_exact(pod)
        world.forget()
        world.routes[0]["transforms"][0]["hold_max_s"] = 60
        world.write_config()
        done = await tailrace("replay", "-c", world.config_path, pod.path)
        assert done.code == 0, done
        world.assert_cloudwatch_exact(pod)
