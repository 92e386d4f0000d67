"""
The puller of EKS control planes: every event once, whatever the service and the process do.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from agent.core import counters as metric
from agent.core import pull
from agent.core.pull import LOG_TYPES, queries_of, type_of
from agent.runtime import eks
from agent.sources.eks_settings import ClusterSettings
from tests.runtime.eks_kit import GROUP, HEAD, STREAMS, Node, add, service

if TYPE_CHECKING:
    from pathlib import Path

    from agent.runtime.producers import Pace


def test_types_and_prefixes() -> None:
    """
    Audit is told from api, and both are one query.
    """
    assert [type_of(stream) for stream in STREAMS.values()] == list(STREAMS)
    assert [query.prefix for query in queries_of("c", "", GROUP, LOG_TYPES, {})] == [
        "kube-apiserver-",
        "authenticator-",
        "kube-controller-manager-",
        "kube-scheduler-",
    ]
    assert type_of("something-new-1") == ""
    (audit,) = queries_of("c", "", GROUP, ["audit"], {})
    assert audit.prefix == "kube-apiserver-audit-"


async def test_every_event_with_its_type_time_and_stream(tmp_path: Path) -> None:
    """
    As a record of the spool; what is not wanted of a query is left out.
    """
    made = service()
    expected = {add(made, kind, 900 + n): kind for n, kind in enumerate(STREAMS)}
    node = Node(tmp_path, made, log_types=("api", "authenticator", "scheduler"))
    await node.start()
    await node.run(120)
    await node.kill()
    found = {item["attrs"]["event_id"]: item for item in node.records()}
    assert {found[key]["attrs"]["log_type"] for key in found} == set(node.settings.log_types)
    for key, item in found.items():
        kind = expected[key]
        assert item["log"] == f"{HEAD}{kind} at {900 + list(STREAMS).index(kind)}\n"
        assert item["attrs"]["log_stream"] == STREAMS[kind]
        assert item["attrs"]["cluster"] == "c1"
    assert node.counters.get(metric.PULLED_EVENTS, "eks", "c1", "api") == 1


@pytest.mark.parametrize("seed", range(8))
async def test_every_event_once_through_all_of_it(seed: int, tmp_path: Path) -> None:
    """
    Late and unordered arrival, short and empty pages, throttling, expired tokens, and a process that is killed.
    """
    dice = random.Random(seed)
    made = service()
    expected = []
    for _ in range(400):
        late_s = dice.choice([0, 1, 20, 200, dice.uniform(0, 590)])
        kind = dice.choice(list(STREAMS))
        expected.append(add(made, kind, dice.uniform(0, 5400), late_s=late_s))
    made.filter.page_events = dice.choice([1, 7, 50])
    made.filter.empty_pages = dice.choice([0, 1, 3])
    made.filter.tps = dice.choice([None, 0.7])
    expiries = iter(range(dice.choice([0, 10])))

    def expire() -> None:
        if dice.random() < 0.05 and next(expiries, None) is not None:
            made.filter.expire_tokens()

    made.before = expire
    node = Node(tmp_path, made)
    for _ in range(dice.choice([1, 5, 9])):
        await node.start()
        await node.run(dice.uniform(1, 900))
        await node.kill()
    await node.start()
    for _ in range(20):
        await node.run(3000)
        if made.clock.seconds > 9000 and len(node.ids()) >= len(expected):
            break
    await node.run(1000)
    await node.kill()
    assert sorted(node.ids()) == sorted(expected)


async def test_hours_away(tmp_path: Path) -> None:
    """
    It goes on where it was, and an hour at a time: what was found is kept meanwhile.
    """
    made = service()
    expected = [add(made, "audit", 900 + 60 * n) for n in range(600)]
    node = Node(tmp_path, made, late_s=86400)
    await node.start()
    await node.run(60)
    await node.kill()
    made.clock.seconds += 10 * 3600
    made.requests.clear()
    await node.start()
    await node.run(60)
    await node.kill()
    assert sorted(node.ids()) == sorted(expected)
    spans = [body["endTime"] - body["startTime"] for _, body in made.requests]
    assert max(spans) <= pull.SPAN_MS_MAX + node.settings.overlap_s * 1000


async def test_no_faster_than_it_may(tmp_path: Path) -> None:
    """
    All queries of a Region together keep the rate, also far behind, and back off under throttling.
    """
    made = service()
    for n in range(300):
        add(made, "audit", n)
    made.filter.page_events = 1
    node = Node(tmp_path, made, requests_per_s_max=2)
    await node.start()
    await node.run(30)
    assert 50 <= len(made.requests) <= 61
    made.filter.tps = 0.2
    made.requests.clear()
    await node.run(300)
    await node.kill()
    assert len(made.requests) <= 120
    assert node.counters.get(metric.PULL_REQUESTS, "eks", "eu-central-1", "ThrottlingException")


async def test_sources_of_one_region_share_its_rate(tmp_path: Path) -> None:
    """
    The quota is the account's, whatever the configuration is divided into.
    """
    made = service()
    paces: dict[str, Pace] = {}
    nodes = []
    for name in ("a", "b"):
        for n in range(200):
            add(made, "audit", n, group=f"/aws/eks/{name}/cluster")
        (tmp_path / name).mkdir()
        clusters = (ClusterSettings(name=name),)
        nodes.append(Node(tmp_path / name, made, clusters=clusters, requests_per_s_max=2))
        nodes[-1].paces = paces
    made.filter.page_events = 1
    for node in nodes:
        await node.start()
    await nodes[0].run(60)
    for node in nodes:
        await node.kill()
    assert 100 <= len(made.requests) <= 121
    assert {body["logGroupName"] for _, body in made.requests[:20]} == {
        "/aws/eks/a/cluster",
        "/aws/eks/b/cluster",
    }


async def test_a_group_that_is_missing_or_denied(tmp_path: Path) -> None:
    """
    Said once a minute with the remedy, and counted; everything else goes on, and it heals.
    """
    made = service()
    names = ("c1", "gone", "closed")
    late = add(made, "audit", 990, group="/aws/eks/closed/cluster")
    expected = [add(made, "audit", 900 + n) for n in range(300)]
    made.filter.denied = {"/aws/eks/closed/cluster"}
    clusters = tuple(ClusterSettings(name=name) for name in names)
    node = Node(tmp_path, made, clusters=clusters, log_types=("audit", "scheduler"))
    await node.start()
    await node.run(600)
    assert sorted(node.ids()) == sorted(expected)
    told = [text for _, event, text in node.host.told if event == "eks_fetch_failed"]
    assert sum("update-cluster-config --name gone" in text for text in told) in range(2, 11)
    assert sum("logs:FilterLogEvents" in text for text in told) in range(2, 11)
    outcome = node.counters.get
    assert outcome(metric.PULL_REQUESTS, "eks", "eu-central-1", "ResourceNotFoundException") > 4
    assert outcome(metric.PULL_REQUESTS, "eks", "eu-central-1", "AccessDeniedException") > 4
    made.filter.denied = set()
    await node.run(200)
    await node.kill()
    assert late in node.ids()


async def test_tokens_that_are_refused_for_ever(tmp_path: Path) -> None:
    """
    It is said, and asked less and less often; other queries go on, and it heals.
    """
    made = service()
    audit = [add(made, "audit", 900 + n / 10) for n in range(200)]
    other = add(made, "scheduler", 990)
    made.filter.page_events = 10
    made.before = made.filter.expire_tokens
    node = Node(tmp_path, made, log_types=("audit", "scheduler"))
    await node.start()
    await node.run(600)
    assert other in node.ids()
    told = [text for _, event, text in node.host.told if event == "eks_fetch_failed"]
    assert 1 <= len(told) <= 10
    assert len(made.requests) < 120
    made.before = lambda: None
    await node.run(400)
    await node.kill()
    assert sorted(node.ids()) == sorted([*audit, other])


async def test_a_full_spool_stops_the_asking(tmp_path: Path) -> None:
    """
    It is said, and goes on when there is room.
    """
    made = service()
    expected = [add(made, "audit", 900 + n / 10) for n in range(100)]
    node = Node(tmp_path, made)
    await node.start()
    node.spool._bytes_max = 1
    await node.run(30)
    await node.run(400)
    asked = len(made.requests)
    late = add(made, "audit", made.clock.seconds)
    await node.run(300)
    assert len(made.requests) == asked
    assert any(event == "spool_full" for _, event, _ in node.host.told)
    assert late not in node.ids()
    node.spool._bytes_max = 1 << 30
    await node.run(300)
    await node.kill()
    assert sorted(node.ids()) == sorted([*expected, late])


@pytest.mark.parametrize("jump_s", [86400.0, -86400.0])
async def test_a_wall_clock_that_jumps(jump_s: float, tmp_path: Path) -> None:
    """
    What is asked for follows the clock of the service.
    """
    made = service()
    expected = [add(made, "audit", 900 + n) for n in range(1200)]
    node = Node(tmp_path, made)
    made.clock.jump_s = jump_s if jump_s > 0 else 0.0
    await node.start()
    await node.run(300)
    made.clock.jump_s = jump_s
    await node.run(300)
    await node.kill()
    await node.start()
    await node.run(700)
    made.clock.jump_s = 0.0
    await node.run(200)
    await node.kill()
    assert sorted(node.ids()) == sorted(expected)


async def test_what_is_remembered_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Beyond it the overlap is shorter, which is said; nothing comes twice.
    """
    monkeypatch.setattr(pull, "SEEN_MAX", 200)
    made = service()
    expected = [add(made, "audit", 600 + n) for n in range(900)]
    node = Node(tmp_path, made)
    await node.start()
    await node.run(2500)
    await node.kill()
    assert sorted(node.ids()) == sorted(expected)
    assert any(event == "eks_overlap_shortened" for _, event, _ in node.host.told)


async def test_how_far_batches_reach_is_forgotten_without_an_election(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nobody asks for it then.
    """
    made = service()
    for n in range(100):
        add(made, "audit", 900 + 60 * n)
    node = Node(tmp_path, made)
    monkeypatch.setattr(
        eks, "passed_by_all", lambda _, spool: dict.fromkeys(spool.components, 1 << 30)
    )
    await node.start()
    await node.run(7200)
    assert node.puller is not None
    assert node.spool.number > 20
    assert len(node.puller._reaches) <= 2
    await node.kill()


async def test_what_a_holder_before_left(tmp_path: Path) -> None:
    """
    A node that never fetched begins there, less the overlap: nothing is missing, and what is twice has the same id.
    """
    made = service()
    first, second = Node(tmp_path / "a", made), Node(tmp_path / "b", made)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    expected = [add(made, "audit", 900 + n) for n in range(3000)]
    await first.start()
    await first.run(1500)
    await first.kill()
    assert first.puller is not None
    reach = first.puller._reach()
    made.clock.seconds += 600
    await second.start(reach)
    await second.run(1500)
    await second.kill()
    assert set(first.ids()) | set(second.ids()) == set(expected)
    twice = set(first.ids()) & set(second.ids())
    assert 0 < len(twice) < 1200
    for node in (first, second):
        assert len(node.ids()) == len(set(node.ids()))
