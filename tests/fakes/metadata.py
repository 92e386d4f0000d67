"""
What the API server says about a container, for tests.
"""

from __future__ import annotations

from typing import Any

from agent.core.pod_facts import Metadata


def metadata(**known: Any) -> Metadata:
    """
    Return Metadata in which only *known* is known.
    """
    texts = (
        *("namespace", "pod", "pod_uid", "container", "container_id", "image", "image_id"),
        *("node", "pod_ip", "owner_kind", "owner_name"),
    )
    pairs = ("labels", "annotations", "namespace_labels", "owners")
    nothing: dict[str, Any] = dict.fromkeys(texts, "") | dict.fromkeys(pairs, ())
    nothing |= {"deciding_labels": (), "deciding_annotations": ()}
    return Metadata(**(nothing | {"version": 1, "restart_count": 0} | known))
