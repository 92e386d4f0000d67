"""
The configuration's own keys; those of sources and sinks belong to their components.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from agent.core.instance import InstanceSettings
from agent.core.select import Select, SelectSettings
from agent.runtime.admin import split_listen
from agent.runtime.kubernetes_config import KubernetesSettings

MIB = 2**20
#: A route's name is a directory, a metric's label and an argument of commands.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
NAME_EXPECTED = "a name of letters, digits, `.`, `_` and `-`, at most 63, e.g. archive"

Name = Annotated[str, Meta(pattern=NAME_PATTERN, extra={"expected": NAME_EXPECTED})]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    """
    The admin endpoint: /healthz, /readyz, /metrics.
    """

    listen: Annotated[str, Meta(description="Address and port; empty: no endpoint.")] = (
        "127.0.0.1:2020"
    )

    def problems(self) -> list[tuple[str, object, str]]:
        """
        Check the address.
        """
        try:
            if self.listen:
                split_listen(self.listen)
        except ValueError:
            return [("listen", self.listen, 'address and port, e.g. "127.0.0.1:2020", or ""')]
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """
    Tailrace's own log lines, on stderr.
    """

    format: Annotated[Literal["json", "text"], Meta(description="Form of a line.")] = "json"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Lowest level written.")
    ] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """
    One source: what finds and reads log files.
    """

    name: Annotated[Name, Meta(description="Name that routes refer to.")] = "containers"
    type: Annotated[str, Meta(description="Kind of source.")] = "files"
    settings: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOptions:
    """
    What a route reads of its source.
    """

    select: SelectSettings = field(default_factory=SelectSettings)
    on_missing_metadata: Annotated[
        Literal["deliver", "hold", "drop"] | None,
        Meta(
            description="What to do with a Log whose pod is not known in time; by default hold where "
            "labels or annotations select, else deliver."
        ),
    ] = None

    @property
    def on_missing(self) -> Literal["deliver", "hold", "drop"]:
        """
        What is done: what must not leak is held while nobody can tell.
        """
        if self.on_missing_metadata is not None:
            return self.on_missing_metadata
        return "hold" if Select(self.select).needs_metadata else "deliver"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfig(RouteOptions):
    """
    One route: a source, a sink, and cursors of its own.
    """

    name: Annotated[Name, Meta(description="Name; cursors belong to it.")]
    source: Annotated[str, Meta(description="Name of the source; by default the first one.")]
    type: Annotated[str, Meta(description="Kind of sink.")]
    #: The Settings of the sink.
    sink: Any
    #: Settings, each of its own class (transforms/registry.py).
    transforms: Annotated[
        tuple[Any, ...], Meta(description="What is done to rows, in this order; see below.")
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseConfig:
    """
    A case for `tailrace test`: lines, and what a route's transforms make of them.
    """

    name: Annotated[str, Meta(description="What the case shows.")] = ""
    route: Annotated[str, Meta(description="Name of the route.")]
    path: Annotated[
        str, Meta(description="File that the lines are of; empty: of some container.")
    ] = ""
    lines: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="Lines, bare or as they are in the file."),
    ]
    expect: Annotated[tuple[str, ...], Meta(description="Messages of the rows that are left.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    Everything that one agent runs with.
    """

    cluster: Annotated[
        str, Meta(description="Cluster name, for templates and partitions: {cluster}.")
    ] = ""
    node: Annotated[
        str, Meta(description="Node name, for templates and object keys; empty: the host's name.")
    ] = ""
    state_dir: Annotated[
        str,
        Meta(
            min_length=1,
            description="Directory for cursors and staged rows, on a disk that survives restarts.",
            extra={"expected": "a directory, e.g. /var/lib/tailrace"},
        ),
    ] = "/var/lib/tailrace"
    memory_budget_bytes: Annotated[
        int,
        Meta(ge=4 * MIB, description="Bytes in flight in the whole process; readers wait at it."),
    ] = 32 * MIB
    dead_letter_bytes_max: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of dead letters: lines that are refused for ever, kept whole below state_dir. "
            "When they are full no more is kept, and that is said; 0: none is kept.",
        ),
    ] = 64 * MIB
    dead_letter_reasons: Annotated[
        tuple[Literal["refused", "poison", "too_old", "too_new", "expired"], ...],
        Meta(description="Reasons for which lines are kept as dead letters."),
    ] = ("refused", "poison")
    commit_interval_s: Annotated[
        float,
        Meta(
            gt=0,
            le=60,
            description="Seconds between commits of a route's cursors; a full window of Parquet brings one forward.",
        ),
    ] = 1
    uncommitted_bytes_max: Annotated[
        int,
        Meta(
            ge=MIB, description="Bytes read since the last commit that bring the next one forward."
        ),
    ] = 64 * MIB
    held_deleted_bytes_max: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of disk that deleted log files may take because a route has yet to read "
            "them; past it the ones deleted first are given up, with a loss record.",
        ),
    ] = 2048 * MIB
    disk_free_min_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="With fewer bytes free on the file system of the logs, deleted files are given up, "
            "the ones deleted first at first. 0: off.",
        ),
    ] = 1024 * MIB
    drain_timeout_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seconds to deliver what was read after SIGTERM; below Kubernetes' grace period.",
        ),
    ] = 25
    lock_wait_s: Annotated[
        float,
        Meta(ge=0, le=3600, description="Seconds to wait for another agent to leave state_dir."),
    ] = 30
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings)
    instance: InstanceSettings = field(default_factory=InstanceSettings)
    admin: AdminConfig = field(default_factory=AdminConfig)
    log: LogConfig = field(default_factory=LogConfig)
    tests: Annotated[
        tuple[CaseConfig, ...],
        Meta(description="Cases for `tailrace test`; an agent ignores them."),
    ] = ()
    sources: tuple[SourceConfig, ...] = ()
    routes: tuple[RouteConfig, ...] = ()
