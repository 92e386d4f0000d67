"""
The index of pods: what is found again, for how long, and what a change does.
"""

from __future__ import annotations

import pytest

from agent.core import pods
from agent.core.pods import Pods
from tests.core.pods_kit import HASH, MIRROR, UID, find, namespace, pod


@pytest.mark.parametrize("annotation", [MIRROR, HASH])
def test_a_static_pod_is_found_by_its_hash(annotation):
    index = Pods()
    digest = "0123456789abcdef0123456789abcdef"
    index.apply_pod(pod(metadata__annotations={annotation: digest}))
    assert find(index, digest).pod_uid == UID
    assert find(index, UID) is find(index, digest)
    # The kubelet makes the mirror pod anew under another uid, before or after the old one is gone.
    index.apply_pod(pod(uid="new", metadata__annotations={annotation: digest}))
    index.delete_pod(UID)
    index.release(UID, namespace="shop", pod="web")
    assert find(index, digest).pod_uid == "new"
    index.delete_pod("new")
    assert find(index, digest).pod_uid == "new"
    index.release(digest, namespace="shop", pod="web")
    assert index.find(digest, "app", namespace="shop", pod="web") is None


def test_no_pod_can_claim_the_lines_of_another_by_an_annotation():
    index = Pods()
    digest = "0123456789abcdef0123456789abcdef"
    index.apply_pod(pod(metadata__annotations={MIRROR: digest}))
    index.apply_pod(pod("thief", "2", metadata__annotations={MIRROR: digest, HASH: UID}))
    assert find(index, digest).pod == "web"
    assert find(index, UID).pod == "web"
    assert index.find(UID, "app", namespace="shop", pod="thief") is None


def test_a_pod_replaced_under_its_name_is_another_pod():
    index = Pods()
    index.apply_pod(pod(metadata__labels={"run": "1"}))
    index.delete_pod(UID)
    index.apply_pod(pod(uid="other", metadata__labels={"run": "2"}))
    assert find(index).labels == (("run", "1"),)
    assert find(index, "other").labels == (("run", "2"),)


def test_a_deleted_pod_stays_until_its_logs_are_drained():
    index = Pods()
    index.apply_pod(pod())
    index.release(UID, namespace="shop", pod="web")
    assert find(index).pod == "web", "a pod that lives is not forgotten"
    index.delete_pod(UID)
    index.delete_pod("never seen")
    assert (index.live, index.deleted) == (0, 1)
    assert find(index).pod == "web"
    index.release(UID, namespace="shop", pod="web")
    assert (index.live, index.deleted) == (0, 0)
    assert index.find(UID, "app", namespace="shop", pod="web") is None


def test_deleted_pods_are_bounded_and_the_first_one_goes_first():
    index = Pods(deleted_max=3)
    for number in range(5):
        index.apply_pod(pod(uid=f"u{number}"))
    for number in (4, 0, 1, 2, 3):
        index.delete_pod(f"u{number}")
    assert index.deleted == 3
    left = [n for n in range(5) if index.find(f"u{n}", "app", namespace="shop", pod="web")]
    assert left == [1, 2, 3]


def test_a_pod_that_comes_back_is_alive():
    index = Pods(deleted_max=1)
    index.apply_pod(pod())
    index.delete_pod(UID)
    index.apply_pod(pod())
    assert (index.live, index.deleted) == (1, 0)


def test_live_pods_and_namespaces_are_bounded(monkeypatch):
    monkeypatch.setattr(pods, "PODS_MAX", 2)
    monkeypatch.setattr(pods, "NAMESPACES_MAX", 2)
    index = Pods()
    for number in range(3):
        index.apply_pod(pod(uid=f"u{number}"))
        index.apply_namespace(namespace(f"n{number}"))
    assert (index.live, index.namespaces, index.dropped) == (2, 2, 2)
    assert index.apply_pod(pod(uid="u0", metadata__labels={"a": "b"})), "a known one still changes"


def test_an_edit_makes_a_new_metadata_and_leaves_the_old_one():
    index = Pods()
    index.apply_pod(pod(metadata__labels={"color": "blue"}))
    before = find(index)
    assert find(index) is before
    assert not index.apply_pod(
        pod(
            metadata__labels={"color": "blue"},
            metadata__resourceVersion="2",
            status__phase="Running",
        )
    )
    assert find(index) is before, "nothing that is kept has changed"
    assert index.apply_pod(pod(metadata__labels={"color": "green"}))
    after = find(index)
    assert (dict(before.labels), dict(after.labels)) == ({"color": "blue"}, {"color": "green"})
    assert after.version > before.version
    with pytest.raises(AttributeError):
        after.labels = ()  # type: ignore[misc]


def test_an_edit_of_a_namespace_shows_in_its_pods_alone():
    index = Pods()
    index.apply_namespace(namespace(team="a"))
    index.apply_pod(pod())
    before = find(index)
    assert not index.apply_namespace(namespace(team="a"))
    index.apply_namespace(namespace("other", team="b"))
    assert find(index) is before
    assert index.apply_namespace(namespace(team="c"))
    assert find(index).namespace_labels == (("team", "c"),)
    assert find(index).version > before.version


def test_labels_of_a_deleted_namespace_stay_as_long_as_its_pods():
    index = Pods()
    index.apply_namespace(namespace(team="a"))
    index.apply_pod(pod())
    index.delete_namespace("shop")
    index.delete_pod(UID)
    assert find(index).namespace_labels == (("team", "a"),)
    index.release(UID, namespace="shop", pod="web")
    assert index.namespaces == 0
