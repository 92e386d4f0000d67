"""
What the agent knows about containers beyond their paths: the API server's view, and where the node runs.
"""

from __future__ import annotations

import os
from glob import escape
from typing import TYPE_CHECKING

from agent.core.errors import StopError
from agent.core.pod_facts import Wanted
from agent.core.pods import Pods
from agent.core.select import Select
from agent.core.templates import Template
from agent.runtime.kubernetes_config import find_access

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config.values import Config
    from agent.core.counters import Counters
    from agent.core.host import Host
    from agent.runtime.kubernetes import Kubernetes
    from agent.sources.resources import Resources


#: Settings of sinks that are templates.
TEMPLATES = ("group", "stream", "prefix")


def wanted_of(config: Config) -> Wanted:
    """
    Return what of pods and namespaces the routes of *config* use.
    """
    selects = [Select(route.select) for route in config.routes]
    return Wanted(
        labels=config.kubernetes.labels + _named(config, "labels"),
        annotations=config.kubernetes.annotations + _named(config, "annotations"),
        namespace_labels=config.kubernetes.namespace_labels + _named(config, "namespace_labels"),
        deciding_labels=frozenset().union(*(select.label_keys for select in selects)),
        deciding_annotations=tuple(
            prefix for select in selects for prefix in select.annotation_prefixes
        ),
    )


def _named(config: Config, field: str) -> tuple[str, ...]:
    """
    Return the keys of *field* that templates of the routes' sinks name, as globs of themselves.
    """
    texts = [
        text
        for route in config.routes
        for name in TEMPLATES
        if (text := getattr(route.sink, name, ""))
    ]
    return tuple(sorted({escape(key) for text in texts for key in Template(text).keys(field)}))


def open_kubernetes(config: Config, *, host: Host, counters: Counters) -> Kubernetes | None:
    """
    Return the watcher of the node's pods; None where there is no API server to ask, or it is not wanted.

    Raises StopError (78) for an access that is configured and cannot be used.
    """
    access = find_access(config.kubernetes, os.environ)
    if access is None:
        return None
    # Without Kubernetes nothing of this is imported.
    from agent.runtime.kubernetes import Kubernetes

    return Kubernetes(
        config.kubernetes,
        access,
        node=config.node,
        pods=Pods(wanted_of(config), deleted_max=config.kubernetes.deleted_pods_max),
        clock=host.clock,
        counters=counters,
        tell=host.tell,
    )


def refuse_blind_routes(config: Config, kubernetes: Kubernetes | None) -> None:
    """
    Raise StopError (78) for a route that would hold every Log for ever, because nobody can be asked.
    """
    if kubernetes is not None:
        return
    for index, route in enumerate(config.routes):
        if route.on_missing == "hold":
            raise StopError(
                f"routes[{index}].select: route {route.name} selects by labels or annotations, and there is no "
                "API server to ask: run in a cluster, set kubernetes.kubeconfig, "
                "or say with on_missing_metadata what to do without (deliver or drop)",
                exit_code=os.EX_CONFIG,
            )


async def learn_instance(
    config: Config, kubernetes: Kubernetes | None, resources: Iterable[Resources]
) -> None:  # network op
    """
    Find out Region, zone and instance id, and let *resources* have them.

    Without Kubernetes only what is configured counts: a laptop has no metadata service to wait for.
    """
    settings = config.instance
    if kubernetes is None:
        found = (settings.region, settings.zone, settings.instance_id)
    else:
        from agent.runtime.instance import find_instance

        instance = await find_instance(settings, os.environ, node=await kubernetes.node())
        found = (instance.region, instance.zone, instance.instance_id)
    for item in resources:
        item.region, item.zone, item.instance_id = found
