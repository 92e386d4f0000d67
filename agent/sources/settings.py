"""
Settings of the files source.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from agent.core.components import COMPONENTS, CONTROL_PLANE, ComponentName, ComponentPaths


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSettings:
    """
    Which log files to follow, and how.
    """

    type: Literal["files"] = "files"
    paths: Annotated[
        tuple[str, ...],
        Meta(
            description="Globs of live files, absolute; `**` matches any directories. "
            "Rotated files belong to their live one."
        ),
    ] = ("/var/log/pods/*/*/*.log",)
    rotated: Annotated[
        bool,
        Meta(
            description="Rotated files belong to the Log of their live one; "
            "false: every file that a glob matches is a Log of its own."
        ),
    ] = True
    exclude: Annotated[tuple[str, ...], Meta(description="Globs of files not to follow.")] = ()
    format: Annotated[
        Literal["auto", "cri", "docker", "raw"],
        Meta(description="Format of the lines; auto decides per file by its path and first line."),
    ] = "auto"
    line_bytes_max: Annotated[
        int,
        Meta(description="A longer line is cut here, marked and counted.", ge=1024, le=64 << 20),
    ] = 1 << 20
    start: Annotated[
        Literal["beginning", "end"],
        Meta(
            description="Where to begin in files that exist when a route starts for the first "
            "time. Later ones are read from their beginning."
        ),
    ] = "beginning"
    ignore_older_s: Annotated[
        float,
        Meta(
            description="At first sight skip what is in files not modified for longer; Logs with "
            "a cursor always resume. 0: off.",
            ge=0,
        ),
    ] = 0
    piece_timeout_s: Annotated[
        float,
        Meta(description="A partial row whose end does not come is released after this.", gt=0),
    ] = 60.0
    poll_interval_s: Annotated[
        float, Meta(description="Tick on which active files are looked at.", gt=0)
    ] = 0.2
    idle_after_s: Annotated[
        float,
        Meta(description="A quiet file leaves the tick after this and gets a watch.", gt=0),
    ] = 10.0
    rescan_interval_s: Annotated[
        float, Meta(description="Rescan of directories that changed.", gt=0)
    ] = 5.0
    rescan_full_interval_s: Annotated[
        float, Meta(description="Rescan of all directories.", gt=0)
    ] = 60.0
    rotate_grace_s: Annotated[
        float,
        Meta(
            description="Quiet time after which a renamed or deleted file counts as finished, and "
            "for which a copy of a truncated one is waited for.",
            ge=0,
        ),
    ] = 5.0
    chunk_bytes: Annotated[int, Meta(description="Bytes read at once.", ge=4096, le=16 << 20)] = (
        256 << 10
    )
    open_files_max: Annotated[
        int,
        Meta(
            description="Descriptors held; past it, files that are read to their end are closed, "
            "and opened again when they grow.",
            ge=8,
        ),
    ] = 8192

    @property
    def components_by_path(self) -> ComponentPaths | None:
        """
        Whose the files are that are no container's; None where nobody asks.
        """
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneSettings(FilesSettings):
    """
    Log files of components of the control plane and of the node.

    Paths follow from the components; otherwise it is a source of type `files`, with all of its keys.  A route names
    the component `{container}`, selects it with `containers`, and reads it with `parse: component`.
    """

    type: Literal["control_plane"] = "control_plane"  # type: ignore[assignment]
    components: Annotated[
        tuple[ComponentName, ...],
        Meta(
            min_length=1,
            description="Which to follow: static pods (kube-apiserver, kube-controller-manager, kube-scheduler, "
            "cloud-controller-manager, etcd), audit files, aws-iam-authenticator, kube-proxy, and of the node dmesg, "
            "messages and secure.",
        ),
    ] = CONTROL_PLANE
    more_paths: Annotated[
        dict[str, tuple[str, ...]],
        Meta(
            description="Globs of further files of a component, where an installer has put them, e.g. of "
            "`--audit-log-path`: `{audit: [/srv/audit/audit.log]}`."
        ),
    ] = field(default_factory=dict)
    paths: Annotated[
        tuple[str, ...],
        Meta(description="Globs to follow in place of those of the components; empty: those."),
    ] = ()
    line_bytes_max: Annotated[
        int,
        Meta(
            description="A longer line is cut here, marked and counted.  Audit events with request and response can "
            "have several MiB.",
            ge=1024,
            le=64 << 20,
        ),
    ] = 4 << 20

    def __post_init__(self) -> None:
        """
        Fill in the paths of the components.
        """
        if not self.paths:
            paths = [path for path, _ in self._globs()]
            object.__setattr__(self, "paths", tuple(dict.fromkeys(paths)))

    def problems(self) -> list[tuple[str, object, str]]:
        """
        Check the paths.
        """
        found: list[tuple[str, object, str]] = []
        for name, paths in self.more_paths.items():
            if name not in COMPONENTS:
                expected = f"a component: {', '.join(COMPONENTS)}"
                found.append((f"more_paths.{name}", name, expected))
            found += [
                (f"more_paths.{name}", path, "globs of files, absolute, e.g. /srv/audit/audit.log")
                for path in paths
                if not path.startswith("/")
            ]
        return found

    @property
    def components_by_path(self) -> ComponentPaths:
        """
        Whose the files are that are no container's.
        """
        return ComponentPaths((*self._globs(), *_all_globs()))

    def _globs(self) -> list[tuple[str, str]]:
        more = [(path, name) for name, paths in self.more_paths.items() for path in paths]
        return more + [(path, name) for name in self.components for path in COMPONENTS[name].paths]


def _all_globs() -> list[tuple[str, str]]:
    # A file that is replayed need not be of a component that is followed.
    return [(path, name) for name, item in COMPONENTS.items() for path in item.paths]
