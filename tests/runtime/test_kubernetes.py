"""
The pods of this node from an API server: over TLS, through outages, and never late.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.core import counters as metric
from agent.runtime import kubernetes as module
from tests.fakes.kube_api import FakeKubeApi
from tests.fakes.kube_certificates import Authority
from tests.runtime.kube_kit import NODE, World, namespace, pod, until

pytestmark = pytest.mark.tls


@pytest.fixture
async def world(tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text("token-1\n")
    async with FakeKubeApi(tmp_path) as api:
        api.put("namespaces", namespace("shop", team="web"))
        made = World(api, token_file)
        yield made
        assert not api.problems


def stop_streaming(world: World, mode: str) -> dict[str, Any]:
    """
    Set the server up for *mode* and return the settings for it.
    """
    if mode in ("off", "ignored"):
        world.api.streaming = mode
    return {"streaming_list": mode != "pages", "request_timeout_s": 0.5}


@pytest.mark.parametrize("mode", ["on", "off", "ignored", "pages"])
async def test_pods_and_namespaces_are_known_and_kept_up_to_date(world, mode):
    world.api.put("pods", pod("a", color="blue"))
    world.api.put("pods", pod("elsewhere", node="node-2"))
    world.api.piece = 7
    async with world.running(**stop_streaming(world, mode)) as kubernetes:
        await until(lambda: kubernetes.synced and kubernetes.namespaces_synced)
        assert world.labels("a") == {"color": "blue"}
        assert world.labels("elsewhere") is None
        before = world.pods.find("uid-a", "app", namespace="shop", pod="a")
        assert before is not None
        assert dict(before.namespace_labels) == {"team": "web"}
        world.api.put("pods", pod("a", color="green"))
        world.api.put("pods", pod("b"))
        world.api.put("namespaces", namespace("shop", team="db"))
        await until(lambda: world.labels("a") == {"color": "green"} and world.pods.live == 2)
        assert dict(before.labels) == {"color": "blue"}
        after = world.pods.find("uid-a", "app", namespace="shop", pod="a")
        assert after is not None
        assert after.version > before.version
        world.api.delete("pods", "a", "shop")
        await until(lambda: world.pods.deleted == 1)
        assert world.labels("a") == {"color": "green"}, "its logs are drained later"
        world.pods.release("uid-a", namespace="shop", pod="a")
        assert world.labels("a") is None
    assert all(query["fieldSelector"] == f"spec.nodeName={NODE}" for query in world.requests())


async def test_there_is_no_request_per_pod(world):
    async with world.running() as kubernetes:
        await until(lambda: kubernetes.synced and kubernetes.namespaces_synced)
        for number in range(300):
            world.api.put("pods", pod(f"p{number}"))
        await until(lambda: world.pods.live == 300)
        assert len(world.api.requests) == 2


async def test_a_list_in_pages_holds_all_of_them(world):
    for number in range(250):
        world.api.put("pods", pod(f"p{number}"))
    async with world.running(streaming_list=False) as kubernetes:
        await until(lambda: kubernetes.synced)
        assert world.pods.live == 250
    pages = [query for query in world.requests() if "limit" in query]
    assert len(pages) == 3


async def test_a_list_that_is_too_large_comes_in_smaller_pages(world, monkeypatch):
    for number in range(60):
        large = pod(f"p{number}")
        large["metadata"]["annotations"] = {"note": "x" * 1000}
        world.api.put("pods", large)
    # Out of the cache of an older server a list comes whole, whatever the limit.
    world.api.limit_ignored = True
    monkeypatch.setattr(module, "PAGE_BYTES_MAX", 30_000)
    async with world.running(streaming_list=False, namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
        assert world.pods.live == 60
    assert [query["limit"] for query in world.requests() if "limit" in query] == ["100"] + [
        "12"
    ] * 5


@pytest.mark.parametrize("in_stream", [False, True])
@pytest.mark.parametrize("streaming", ["on", "off"])
async def test_after_compaction_old_metadata_serves_until_the_new_is_there(
    world, streaming, in_stream
):
    api = world.api
    api.streaming = streaming
    api.gone_in_stream = in_stream
    api.put("pods", pod("stays"))
    api.put("pods", pod("goes"))
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced and api.watchers == 1)
        await api.stop()
        api.delete("pods", "goes", "shop")
        api.put("pods", pod("comes"))
        api.compact()
        # Nothing of the old is forgotten while it cannot be known.
        assert world.labels("goes") is not None
        await api.start()
        await until(lambda: world.labels("comes") is not None and world.pods.deleted == 1)
        assert world.labels("stays") is not None
        await until(lambda: world.counters.get(metric.KUBERNETES_RELISTS, "pods") == 1)


@pytest.mark.parametrize("streaming", ["on", "off"])
async def test_a_restarted_server_goes_on_where_it_was(world, streaming):
    api = world.api
    api.streaming = streaming
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced and api.watchers == 1)
        api.put("pods", pod("before"))
        await until(lambda: world.pods.live == 1)
        await api.stop()
        seen = len(api.requests)
        api.put("pods", pod("meanwhile"))
        await until(lambda: len(world.clock.slept) >= 3)
        assert world.labels("before") is not None
        await api.start()
        await until(lambda: world.labels("meanwhile") is not None)
    resumed = world.requests()[seen]
    assert resumed["resourceVersion"] not in ("", "0")
    assert "sendInitialEvents" not in resumed
    assert any("going on with the metadata that is known" in text for text in world.told)


async def test_the_server_is_away_at_the_start(world):
    await world.api.stop()
    world.api.put("pods", pod("a"))
    async with world.running() as kubernetes:
        await until(lambda: len(world.clock.slept) >= 4)
        assert not kubernetes.synced
        await world.api.start()
        await until(lambda: kubernetes.synced)
        assert world.labels("a") == {}


async def test_throttling_waits_as_long_as_the_server_says(world):
    world.api.answers = [(429, {"Retry-After": "23"})]
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
    assert world.clock.slept[0] >= 23
    assert world.counters.get(metric.KUBERNETES_REQUESTS, "pods", "429") == 1


async def test_a_token_is_read_again_after_401(world):
    world.api.tokens = {"token-2"}
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: len(world.clock.slept) >= 1)
        assert world.clock.slept[0] >= 45, "nobody mends it within seconds"
        world.token_file.write_text("token-2")
        await until(lambda: kubernetes.synced)
    assert {item.token for item in world.api.requests} == {"token-1", "token-2"}
    assert any("401" in text for text in world.told)


async def test_a_token_that_was_replaced_during_a_request_is_used_at_once(world):
    world.api.tokens = {"token-2"}
    answer = world.api._answer

    async def replace(request):
        world.token_file.write_text("token-2")
        return await answer(request)

    world.api._answer = replace
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
    assert world.clock.slept[0] <= 2


async def test_a_permission_that_is_lacking_is_said(world):
    world.api.answers = [(403, {})]
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
    assert any("ClusterRole must allow list and watch" in text for text in world.told)


@pytest.mark.parametrize("when", ["hang", "silent"])
async def test_a_connection_that_is_half_dead_is_noticed(world, when):
    """
    Accepted and never answered, or answered and then silent: the next request gets through.
    """
    setattr(world.api, when, True)
    async with world.running(
        request_timeout_s=0.2, idle_timeout_s=0.3, namespace_labels=()
    ) as kubernetes:
        await until(lambda: len(world.requests()) >= 2)
        assert when == "silent" or not kubernetes.synced
        setattr(world.api, when, False)
        world.api.put("pods", pod("a"))
        await until(lambda: world.labels("a") is not None)


async def test_a_watch_that_falls_silent_later_is_left(world):
    async with world.running(idle_timeout_s=0.3, namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
        world.api.silent = True
        world.api.put("pods", pod("a"))
        seen = len(world.requests())
        await until(lambda: len(world.requests()) > seen)
        assert world.labels("a") is None
        world.api.silent = False
        await until(lambda: world.labels("a") is not None)


async def test_bookmarks_keep_a_quiet_watch_alive_and_move_it_on(world):
    async with world.running(idle_timeout_s=1.5, namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
        for number in range(5):
            # Of another node: nothing but bookmarks tells how far history is.
            world.api.put("pods", pod(f"other-{number}", node="node-2"))
            world.api.bookmark()
            await asyncio.sleep(0.4)
        assert len(world.requests()) == 1
        await until(lambda: world.counters.get(metric.KUBERNETES_EVENTS, "pods") == 6)
        version = world.api.version
        world.api.end_watches()
        await until(lambda: len(world.requests()) == 2)
        assert world.requests()[1]["resourceVersion"] == str(version)


async def test_garbage_is_counted_and_the_rest_is_read(world):
    world.api.garbage = b'{"type":\n\n\x00\xff\n"text"\n'
    world.api.put("pods", pod("a"))
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
        assert world.labels("a") is not None
        assert world.counters.get(metric.KUBERNETES_BAD_FRAMES, "pods") == 3


async def test_a_pod_of_1_mb_is_read(world):
    large = pod("large", app="web")
    large["metadata"]["annotations"] = {"huge": "h" * 1_000_000}
    large["spec"]["containers"][0]["env"] = [{"name": "E", "value": "v" * 200_000}]
    world.api.piece = 100_000
    world.api.put("pods", large)
    async with world.running() as kubernetes:
        await until(lambda: kubernetes.synced)
        assert world.labels("large") == {"app": "web"}
        large["metadata"]["labels"] = {"app": "db"}
        world.api.put("pods", large)
        await until(lambda: world.labels("large") == {"app": "db"})


async def test_500_pods_and_thousands_of_events_leave_nothing_behind(world):
    """
    What is known at the end is what the server has; measured in bench form, not here.
    """
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
        for round_ in range(8):
            for number in range(500):
                world.api.put("pods", pod(f"p{number}", round=str(round_)))
            await asyncio.sleep(0)
        for number in range(250):
            world.api.delete("pods", f"p{number}", "shop")
        await until(lambda: world.pods.live == 250 and world.pods.deleted == 250)
        assert all(world.labels(f"p{number}") == {"round": "7"} for number in range(500))
        assert world.counters.get(metric.KUBERNETES_EVENTS, "pods") == 8 * 500 + 250 + 1
        assert len(world.requests()) == 1


async def test_churn_through_restarts_and_compactions_ends_right(world):
    """
    Whatever the server goes through: at the end exactly its pods are alive.
    """
    api = world.api
    api.piece = 500
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
        for number in range(60):
            api.put("pods", pod("web", f"uid-{number}", run=str(number)))
            if number % 7 == 3:
                await until(lambda: world.pods.live >= 1)
                api.cut()
            if number % 15 == 8:
                api.compact()
            if number % 20 == 11:
                await api.stop()
                await api.start()
            if number < 59:
                api.delete("pods", "web", "shop")
            await asyncio.sleep(0)
        await until(lambda: world.labels("web", "uid-59") == {"run": "59"} and world.pods.live == 1)


async def test_another_authority_is_not_trusted(world, tmp_path):
    other = Authority(tmp_path, "other CA")
    async with world.running(world.access(ca_file=str(other.path)), namespace_labels=()):
        await until(lambda: any("certificate not trusted" in text for text in world.told))
    assert not world.api.requests


async def test_a_certificate_for_another_name_is_not_trusted(world):
    access = world.access(server_name="kubernetes.default.svc")
    async with world.running(access, namespace_labels=()):
        await until(lambda: any("certificate not trusted" in text for text in world.told))
    assert not world.api.requests


async def test_an_authority_that_was_replaced_is_read_again(world, tmp_path):
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(Authority(tmp_path, "old CA").path.read_bytes())
    async with world.running(world.access(ca_file=str(bundle)), namespace_labels=()) as kubernetes:
        await until(lambda: any("certificate not trusted" in text for text in world.told))
        bundle.write_bytes(world.api.authority.path.read_bytes())
        await until(lambda: kubernetes.synced)


async def test_a_client_certificate_stands_for_a_token(world):
    pair = world.api.authority.issue("person")
    access = world.access(
        token_file="", certificate_file=str(pair.certificate), key_file=str(pair.key)
    )
    async with world.running(access, namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
    assert world.api.requests[0].token == ""


async def test_a_token_file_that_is_missing_is_said_and_waited_for(world):
    world.token_file.unlink()
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: any("No such file" in text for text in world.told))
        world.token_file.write_text("token-1")
        await until(lambda: kubernetes.synced)


async def test_a_node_without_pods_is_said(world):
    async with world.running(node_name="node-typo", namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
        assert any("no pod on node node-typo" in text for text in world.told)
    world.told.clear()
    world.api.put("pods", pod("a"))
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
        assert not world.told


async def test_namespaces_are_not_asked_for_where_nobody_wants_their_labels(world):
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced and kubernetes.namespaces_synced)
    assert not world.requests("namespaces")


async def test_the_node_is_asked_for_once_and_may_be_out_of_reach(world):
    kubernetes = world.make()
    assert await kubernetes.node() is None
    labels = {"topology.kubernetes.io/zone": "us-east-1a"}
    world.api.put(
        "nodes",
        {
            "metadata": {"name": NODE, "labels": labels},
            "spec": {"providerID": "aws:///us-east-1a/i-1"},
        },
    )
    found = await kubernetes.node()
    assert found is not None
    assert (found.metadata.labels, found.spec.provider_id) == (labels, "aws:///us-east-1a/i-1")
    await world.api.stop()
    assert await kubernetes.node() is None


async def test_gauges_say_how_old_the_knowledge_is(world):
    world.api.put("pods", pod("a"))
    async with world.running(namespace_labels=()) as kubernetes:
        await until(lambda: kubernetes.synced)
        kubernetes.refresh()
        assert world.counters.get(metric.KUBERNETES_PODS, "live") == 1
        assert 0 <= world.counters.get(metric.KUBERNETES_HEARD_SECONDS, "pods") < 60


async def test_a_stopped_watch_leaves_no_connection(world):
    async with world.running() as kubernetes:
        await until(lambda: kubernetes.synced and kubernetes.namespaces_synced)
        assert world.api.connections == 2
    await until(lambda: world.api.connections == 0)
