"""
What is constant for a container: from its path at once, and from the API server when it is known.

A Resource is made anew when the pod's metadata changes, and never otherwise: whoever renders something
of it can keep what was rendered with the object.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.core.kubelet_path import Shape, path_facts, resource_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.core.batch import Resource
    from agent.core.components import ComponentPaths
    from agent.core.kubelet_path import PathFacts
    from agent.core.pods import Pods
    from agent.sources.followed import FollowedLog


@dataclass(slots=True, kw_only=True)
class Resources:
    """
    Makes the Resources of a source's Logs.
    """

    cluster: str = ""
    node: str = ""
    region: str = ""
    zone: str = ""
    instance_id: str = ""
    #: None where nobody asks an API server.
    pods: Pods | None = None
    #: Names the container of files that are no container's; None where nobody does.
    components: ComponentPaths | None = None

    def facts(self, path: str) -> PathFacts:
        """
        Return what *path* says, and whose it is where it is no container's.
        """
        facts = path_facts(path)
        if facts.shape is Shape.OTHER and self.components is not None:
            return facts._replace(container=self.components.find(path))
        return facts

    def of(self, key: str, target: str) -> Resource:
        """
        Return the Resource of the Log *key*, by its path, *target* where that is a link, and the node.
        """
        resource = resource_of(key, cluster=self.cluster, node=self.node)
        if not resource.pod_uid:
            # The kubelet's links have no uid in their name; what they lead to has.
            facts = path_facts(target)
            same = (facts.namespace, facts.pod, facts.container)
            if facts.pod_uid and same == (resource.namespace, resource.pod, resource.container):
                resource = replace(resource, pod_uid=facts.pod_uid, restart=facts.restart)
        return replace(
            resource,
            container=resource.container or self.facts(key).container,
            region=self.region,
            zone=self.zone,
            instance_id=self.instance_id,
        )

    def refresh(self, log: FollowedLog) -> None:
        """
        Give *log* what is known of its pod now.

        Where the pod is not known any more, what was known stays.
        """
        resource = log.resource
        if (self.region, self.zone, self.instance_id) != (
            resource.region,
            resource.zone,
            resource.instance_id,
        ):
            resource = log.resource = replace(
                resource, region=self.region, zone=self.zone, instance_id=self.instance_id
            )
        if self.pods is None or not resource.pod_uid:
            return
        metadata = self.pods.find(
            resource.pod_uid,
            resource.container,
            namespace=resource.namespace,
            pod=resource.pod,
            restart=resource.restart,
        )
        if metadata is not None and metadata is not resource.metadata:
            log.resource = replace(resource, metadata=metadata)

    def release(self, log: FollowedLog, others: Iterable[FollowedLog]) -> None:
        """
        Note that *log* is over: with the last Log of a deleted pod, what is known of the pod may go.
        """
        resource = log.resource
        if self.pods is None or not resource.pod_uid:
            return
        if all(other.resource.pod_uid != resource.pod_uid for other in others):
            self.pods.release(resource.pod_uid, namespace=resource.namespace, pod=resource.pod)
