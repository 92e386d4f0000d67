"""
What paths and rotated names say.
"""

from __future__ import annotations

import pytest

from agent.core.kubelet_path import Shape, identity_seed, path_facts, resource_of
from agent.core.rotated_names import as_live, as_rotated, ignored

ID = "0123456789abcdef" * 4
UID = "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            f"/var/log/pods/shop_cart-0_{UID}/app/3.log",
            (Shape.POD_FILE, "shop", "cart-0", UID, "app", "3"),
        ),
        (
            "/host/pods/kube-system_etcd-node.a_0123456789abcdef0123456789abcdef/etcd/0.log",
            (
                Shape.POD_FILE,
                "kube-system",
                "etcd-node.a",
                "0123456789abcdef0123456789abcdef",
                "etcd",
                "0",
            ),
        ),
        (
            f"/var/log/containers/cart-0_shop_my-app-{ID}.log",
            (Shape.CONTAINER_LINK, "shop", "cart-0", "", "my-app", ""),
        ),
        (
            f"/var/log/containers/cart-0_shop_app-{ID[:9]}.log",
            (Shape.CONTAINER_LINK, "shop", "cart-0", "", "app", ""),
        ),
        (
            f"/var/lib/docker/containers/{ID}/{ID}-json.log",
            (Shape.DOCKER_FILE, "", "", "", ID[:12], ""),
        ),
        ("/var/log/app/app.log", (Shape.OTHER, "", "", "", "", "")),
        ("/var/log/pods/shop_cart_more_uid/app/0.log", (Shape.OTHER, "", "", "", "", "")),
    ],
)
def test_path_facts(path: str, expected: tuple[object, ...]) -> None:
    """
    Each well-known shape gives its fields, and nothing else gives any.
    """
    assert tuple(path_facts(path)) == expected


def test_resource_and_identity_seed() -> None:
    """
    The seed is the pod's where there is one, so that a moved root changes no file id.
    """
    path = f"/var/log/pods/shop_cart-0_{UID}/app/3.log"
    resource = resource_of(path, cluster="c", node="n")
    assert (resource.path, resource.cluster, resource.node) == (path, "c", "n")
    assert (resource.pod_uid, resource.restart) == (UID, "3")
    assert identity_seed(path) == identity_seed(f"/host{path}") == f"{UID}/app/3"
    assert identity_seed("/var/log/app.log") == "/var/log/app.log"


def test_order_of_rotated_names() -> None:
    """
    Dates ascending, numbers descending, the live file last.
    """
    dated = ["0.log.20261121-090000.gz", "0.log.20261122-101500", "0.log.20261122-101510"]
    numbered = ["0.log.10.gz", "0.log.9", "0.log.1"]
    parts = [as_rotated(name) for name in dated + numbered]
    orders = [part.order for part in parts if part is not None]
    assert len(orders) == len(parts)
    orders.append(as_live("0.log").order)
    assert orders == sorted(orders)
    assert {part.live for part in parts if part is not None} == {"0.log"}


def test_the_rotator_of_the_api_server() -> None:
    """
    Lumberjack puts the time before the extension, and compresses behind it.
    """
    names = [
        "audit-2026-11-21T09-00-00.000.log.gz",
        "audit-2026-11-22T20-41-02.677.log",
        "audit-2026-11-22T20-41-02.678.log",
    ]
    parts = [as_rotated(name) for name in names]
    orders = [part.order for part in parts if part is not None]
    assert len(orders) == len(parts)
    assert [*orders, as_live("audit.log").order] == [*sorted(orders), as_live("audit.log").order]
    assert {part.live for part in parts if part is not None} == {"audit.log"}
    assert [part.compressed for part in parts if part is not None] == [True, False, False]
    for name, live, compressed in (
        ("audit-2026-11-22T20-41-02.677", "audit", False),
        ("audit-2026-11-22T20-41-02.677.gz", "audit", True),
    ):
        found = as_rotated(name)
        assert found is not None
        assert (found.live, found.compressed) == (live, compressed)


@pytest.mark.parametrize(
    "name", ["audit-2026-11-22.log", "0.log", "app.log", "app.log.bak", "app.gz", "a-1.log"]
)
def test_names_that_no_rotator_gives(name: str) -> None:
    """
    They are live files.
    """
    assert as_rotated(name) is None
    assert as_live(name).is_live


@pytest.mark.parametrize("name", ["0.log.20261122-101500.gz.tmp", "x.tmp"])
def test_files_under_construction_are_ignored(name: str) -> None:
    """
    The kubelet compresses into them.
    """
    assert ignored(name)


@pytest.mark.parametrize(
    ("name", "live"),
    [
        ("app.log-20261122", "app.log"),
        ("app.log-20261122.gz", "app.log"),
        ("app.log-20261122-1763806500", "app.log"),
        ("app.log-2026112210", "app.log"),
        (f"{ID}-json.log.2", f"{ID}-json.log"),
    ],
)
def test_live_name_of_rotated_names(name: str, live: str) -> None:
    """
    Logrotate's dateext and docker's numbers.
    """
    parts = as_rotated(name)
    assert parts is not None
    assert parts.live == live
    assert parts.compressed == name.endswith(".gz")
