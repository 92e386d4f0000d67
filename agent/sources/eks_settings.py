"""
Settings of the source `eks_control_plane`: the logs of managed control planes, out of CloudWatch Logs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from agent.core.aws import AwsSettings
from agent.core.components import COMPONENTS, ComponentPaths
from agent.core.pull import LOG_TYPES, STREAM_PREFIXES, Query, queries_of
from agent.sources.spooled import SPOOL_BYTES, SpoolBytes

#: A queries' progress is kept in one position, and its reach in one annotation.
CLUSTERS_MAX = 64
_GROUP = re.compile(r"[\.\-_/#A-Za-z0-9]{1,512}")
_PREFIX = re.compile(r"[^:*\s]{1,512}")
_COMPONENT = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LEASE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
LogType = Literal[
    "api", "audit", "authenticator", "controllerManager", "scheduler", "cloudControllerManager"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """
    One cluster whose control plane is fetched.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100, description="Name of the cluster.")]
    region: Annotated[
        str, Meta(description="AWS Region of the cluster; empty: that of the source.")
    ] = ""
    group: Annotated[
        str, Meta(description="Log group; empty: /aws/eks/NAME/cluster, where EKS writes.")
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EksControlPlaneSettings(AwsSettings):
    """
    Fetches the logs of EKS control planes from CloudWatch Logs.  One agent of all that have such a source does it.
    """

    type: Literal["eks_control_plane"] = "eks_control_plane"
    clusters: Annotated[
        tuple[ClusterSettings, ...],
        Meta(
            max_length=CLUSTERS_MAX,
            description="Clusters to fetch; empty: the one of the key `cluster`.",
        ),
    ] = ()
    log_types: Annotated[
        tuple[LogType, ...],
        Meta(min_length=1, description="Logs to fetch; each has to be turned on for the cluster."),
    ] = LOG_TYPES  # type: ignore[assignment]
    more_streams: Annotated[
        dict[str, str],
        Meta(
            description="Further streams to fetch: how their names begin, by the component that writes them, e.g. "
            "`{kube-proxy: kube-proxy-}`."
        ),
    ] = field(default_factory=dict)
    poll_interval_s: Annotated[
        float, Meta(ge=1, le=3600, description="Seconds between two looks for new events.")
    ] = 30
    lag_s: Annotated[
        float,
        Meta(ge=0, le=3600, description="Events younger than this are left for the next look."),
    ] = 10
    overlap_s: Annotated[
        float,
        Meta(
            ge=60,
            le=6 * 3600,
            description="How late events usually are: so far back is looked again, every third of this time.",
        ),
    ] = 900
    late_s: Annotated[
        float,
        Meta(
            ge=600,
            le=7 * 86400,
            description="How late an event may arrive at all: so often, while nothing else is to do, all that is older "
            "than overlap_s is looked through once more for what came since.  At least twice overlap_s.",
        ),
    ] = 7200
    history_s: Annotated[
        float,
        Meta(
            ge=0,
            le=14 * 86400,
            description="How far back the very first start begins; later ones go on where the last one was.",
        ),
    ] = 3600
    requests_per_s_max: Annotated[
        float,
        Meta(
            gt=0,
            le=25,
            description="FilterLogEvents a second in each Region. The account has 5 to 25 for everybody, and that "
            "cannot be raised; a page has at most 1 MB.",
        ),
    ] = 2
    request_timeout_s: Annotated[
        float, Meta(ge=1, le=300, description="Seconds for one request.")
    ] = 20
    spool_bytes_max: SpoolBytes = SPOOL_BYTES
    election: Annotated[
        Literal["lease", "none"],
        Meta(
            description="How the one agent is chosen: by a Kubernetes Lease, or none: this agent fetches whatever "
            "others do, for a Deployment of one."
        ),
    ] = "lease"
    lease_name: Annotated[
        str, Meta(description="Name of the Lease; agents with another one are another election.")
    ] = "tailrace-eks-control-plane"
    lease_namespace: Annotated[
        str, Meta(description="Namespace of the Lease; empty: that of the pod.")
    ] = ""
    lease_duration_s: Annotated[
        int,
        Meta(
            ge=6,
            le=600,
            description="Seconds after which an agent that does not renew the Lease is replaced.",
        ),
    ] = 30

    def __post_init__(self) -> None:
        """
        Refuse what no service would take.
        """
        for item in self.clusters:
            if item.group and (not _GROUP.fullmatch(item.group) or item.group.startswith("aws/")):
                raise ValueError(
                    f'clusters: group: got "{item.group}", expected a log group, e.g. /aws/eks/{item.name}/cluster'
                )
        keys = [(item.region, item.group or item.name) for item in self.clusters]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise ValueError(f'clusters: "{self.clusters[index].name}" is there twice')
        if self.late_s < 2 * self.overlap_s:
            raise ValueError(
                f"late_s: got {self.late_s:g}, expected at least twice overlap_s: {2 * self.overlap_s:g}"
            )
        self._check_more_streams()
        if len(set(self.log_types)) != len(self.log_types):
            raise ValueError("log_types: names a type twice")
        if not _LEASE.fullmatch(self.lease_name):
            raise ValueError(
                f'lease_name: got "{self.lease_name}", expected a name of a-z, 0-9 and -'
            )

    def _check_more_streams(self) -> None:
        known = list(STREAM_PREFIXES.values())
        for name, prefix in self.more_streams.items():
            if not _COMPONENT.fullmatch(name) or not _PREFIX.fullmatch(prefix):
                raise ValueError(
                    f'more_streams: got "{name}": "{prefix}", expected a component of a-z, 0-9 and -, and how its '
                    "streams begin"
                )
            twin = next((p for p in known if p.startswith(prefix) or prefix.startswith(p)), None)
            if twin is not None:
                raise ValueError(
                    f'more_streams: {name}: "{prefix}" and "{twin}" begin alike: events would come twice'
                )
            known.append(prefix)

    @property
    def components_by_path(self) -> ComponentPaths:
        """
        Whose a file is that is called like a Log of the spool.
        """
        return ComponentPaths((f"*/{name}.log", name) for name in (*COMPONENTS, *self.more_streams))

    def queries(self, cluster: str) -> list[Query]:
        """
        Return what is asked for; *cluster* is the agent's own.
        """
        clusters = self.clusters or ((ClusterSettings(name=cluster),) if cluster else ())
        return [
            query
            for item in clusters
            for query in queries_of(
                item.name,
                item.region or self.region,
                item.group or f"/aws/eks/{item.name}/cluster",
                self.log_types,
                self.more_streams,
            )
        ]
