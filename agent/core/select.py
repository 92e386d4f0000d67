"""
Which containers a route reads: by what their path says, then by what their metadata says.

A file whose path already excludes it is not opened.  Where labels or annotations decide, the file is held until
metadata is known, so that what was to be excluded never leaks.

Globs are those of a shell (`*`, `?`, `[a-z]`), matched against whole names and case-sensitively.  An empty
list of inclusions includes everything; exclusions win.

Annotations of a pod, honoured only where `annotations` names their owner:

| annotation, value `"true"` | excludes |
|---|---|
| `tailrace.io/exclude` | the pod |
| `tailrace.io/exclude-<container>` | one container |
| `fluentbit.io/exclude` | the pod |
| `fluentbit.io/exclude-<container>` | one container |
| `fluentbit.io/exclude_stdout` `fluentbit.io/exclude_stderr` | one stream of the pod |
| `fluentbit.io/exclude_stdout-<container>` `fluentbit.io/exclude_stderr-<container>` | one stream of one container |

The most specific one that is there decides, so `fluentbit.io/exclude-app: "false"` keeps one container of a pod that
is excluded.  True is `true`, `on` or `yes` in any case, as Fluent Bit reads it; anything else is false.

No I/O.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from enum import Enum, IntFlag, auto
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from msgspec import Meta

from agent.core.kubelet_path import Shape
from agent.core.labels import LabelSelector, LabelSelectorError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.kubelet_path import PathFacts
    from agent.core.pod_facts import Metadata

#: Whose annotations a route may honour, and where they begin.
ANNOTATION_PREFIXES = {"tailrace": "tailrace.io/exclude", "fluentbit": "fluentbit.io/exclude"}
_TRUE = frozenset({"true", "on", "yes"})


class Decision(Enum):
    """
    What a path alone says.
    """

    YES = auto()
    NO = auto()
    NEEDS_METADATA = auto()


class Streams(IntFlag):
    """
    Which streams of a container are selected.
    """

    NONE = 0
    STDOUT = 1
    STDERR = 2
    BOTH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectSettings:
    """
    Which containers a route reads.
    """

    namespaces: Annotated[
        tuple[str, ...], Meta(description="Globs of namespaces to read; empty: all.")
    ] = ()
    exclude_namespaces: Annotated[
        tuple[str, ...], Meta(description="Globs of namespaces not to read.")
    ] = ()
    pods: Annotated[tuple[str, ...], Meta(description="Globs of pods to read; empty: all.")] = ()
    exclude_pods: Annotated[tuple[str, ...], Meta(description="Globs of pods not to read.")] = ()
    containers: Annotated[
        tuple[str, ...], Meta(description="Globs of containers to read; empty: all.")
    ] = ()
    exclude_containers: Annotated[
        tuple[str, ...], Meta(description="Globs of containers not to read.")
    ] = ()
    labels: Annotated[
        str,
        Meta(
            description="Label selector of pods, as for kubectl: `app=web,tier!=cache,env in (dev,qa),!debug`."
        ),
    ] = ""
    annotations: Annotated[
        tuple[Literal["tailrace", "fluentbit"], ...],
        Meta(
            description="Whose annotations of pods are honoured: `tailrace.io/exclude…`, `fluentbit.io/exclude…`."
        ),
    ] = ()

    def problems(self) -> list[tuple[str, object, str]]:
        """
        Check the selector and the globs.
        """
        found: list[tuple[str, object, str]] = []
        for key in ("namespaces", "pods", "containers"):
            found += [
                (name, "", "globs that are not empty, e.g. kube-*")
                for name in (key, f"exclude_{key}")
                if "" in getattr(self, name)
            ]
        try:
            LabelSelector(self.labels)
        except LabelSelectorError as error:
            found.append(("labels", self.labels, f"a label selector: {error}"))
        return found


class Select:
    """
    The decisions of one route.
    """

    __slots__ = ("_families", "_globs", "_labels")

    def __init__(self, settings: SelectSettings) -> None:
        """
        Compile *settings*; raises LabelSelectorError.
        """
        self._globs = (
            _Globs.of(settings.namespaces, settings.exclude_namespaces),
            _Globs.of(settings.pods, settings.exclude_pods),
            _Globs.of(settings.containers, settings.exclude_containers),
        )
        self._labels = LabelSelector(settings.labels)
        self._families = settings.annotations

    @property
    def label_keys(self) -> frozenset[str]:
        """
        Labels that must be kept of a pod for a decision.
        """
        return self._labels.keys

    @property
    def annotation_prefixes(self) -> tuple[str, ...]:
        """
        Prefixes of annotations that must be kept of a pod for a decision.
        """
        return tuple(ANNOTATION_PREFIXES[name] for name in self._families)

    @property
    def needs_metadata(self) -> bool:
        """
        Whether labels or annotations can exclude: such a route holds back what it does not know.
        """
        return bool(self._labels.requirements or self._families)

    def by_path(self, facts: PathFacts) -> Decision:
        """
        Decide by the path alone.
        """
        if facts.shape is Shape.DOCKER_FILE:
            # Only an id is known: no glob may pass what it cannot see.
            open_to_all = all(globs.empty for globs in self._globs)
            plain = open_to_all and not self.needs_metadata
            return Decision.YES if plain else Decision.NEEDS_METADATA
        names = (facts.namespace, facts.pod, facts.container)
        if not all(globs.takes(name) for globs, name in zip(self._globs, names, strict=True)):
            return Decision.NO
        if not self.needs_metadata:
            return Decision.YES
        if facts.shape is Shape.OTHER:
            # No pod, so no labels, ever.
            return Decision.YES if self._labels.matches({}) else Decision.NO
        return Decision.NEEDS_METADATA

    def by_metadata(self, metadata: Metadata) -> Streams:
        """
        Decide by metadata: which streams are read.
        """
        container = metadata.container
        names = (metadata.namespace, metadata.pod, container)
        if not all(globs.takes(name) for globs, name in zip(self._globs, names, strict=True)):
            return Streams.NONE
        if not self._labels.matches(dict(metadata.deciding_labels)):
            return Streams.NONE
        annotations = dict(metadata.deciding_annotations)
        selected = Streams.BOTH
        if "tailrace" in self._families:
            prefix = ANNOTATION_PREFIXES["tailrace"]
            if _first(annotations, f"{prefix}-{container}", prefix):
                return Streams.NONE
        if "fluentbit" in self._families:
            prefix = ANNOTATION_PREFIXES["fluentbit"]
            for stream, name in ((Streams.STDOUT, "_stdout"), (Streams.STDERR, "_stderr")):
                if _first(
                    annotations,
                    f"{prefix}{name}-{container}",
                    f"{prefix}-{container}",
                    f"{prefix}{name}",
                    prefix,
                ):
                    selected &= ~stream
        return selected


class _Globs(NamedTuple):
    include: re.Pattern[str] | None
    exclude: re.Pattern[str] | None

    @classmethod
    def of(cls, include: tuple[str, ...], exclude: tuple[str, ...]) -> _Globs:
        return cls(_compiled(include), _compiled(exclude))

    @property
    def empty(self) -> bool:
        return self.include is None and self.exclude is None

    def takes(self, name: str) -> bool:
        if self.include is not None and not self.include.match(name):
            return False
        # What has no name is excluded by no glob, not even by `*`.
        return self.exclude is None or not name or not self.exclude.match(name)


def _compiled(globs: tuple[str, ...]) -> re.Pattern[str] | None:
    if not globs:
        return None
    return re.compile("|".join(f"(?:{fnmatch.translate(glob)})" for glob in globs))


def _first(annotations: Mapping[str, str], *keys: str) -> bool:
    for key in keys:
        value = annotations.get(key)
        if value is not None:
            return value.strip().lower() in _TRUE
    return False
