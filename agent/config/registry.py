"""
Sources and sinks by `type`, and transforms by name: where their Settings are.

Importing a module here costs start-up time and memory for ever, so only what a configuration names is
imported.  To add a sink: its module and Settings class in one line here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.transforms.registry import Kind


class Component(NamedTuple):
    """
    The Settings class of a source or sink.
    """

    module: str
    settings: str

    def load(self) -> type:
        """
        Import and return the Settings class.
        """
        cls = getattr(importlib.import_module(self.module), self.settings)
        assert isinstance(cls, type)
        return cls


SOURCES: dict[str, Component] = {
    "files": Component("agent.sources.settings", "FilesSettings"),
    "control_plane": Component("agent.sources.settings", "ControlPlaneSettings"),
    "eks_control_plane": Component("agent.sources.eks_settings", "EksControlPlaneSettings"),
    "journal": Component("agent.sources.journal_settings", "JournalSettings"),
}
SINKS: dict[str, Component] = {
    "cloudwatch": Component("agent.sinks.cloudwatch_settings", "CloudWatchSettings"),
    "parquet": Component("agent.sinks.parquet_settings", "ParquetSettings"),
    "blackhole": Component("agent.sinks.blackhole", "BlackholeSettings"),
}


def transforms() -> dict[str, Kind]:
    """
    Import and return the kinds of transforms, by name.
    """
    kinds: dict[str, Kind] = importlib.import_module("agent.transforms.registry").KINDS
    return kinds


def transforms_misplaced(settings: object, before: Sequence[object]) -> Iterable[tuple[str, str]]:
    """
    Yield (key, problem) of a transform's *settings* behind the transforms *before*.
    """
    found: Iterable[tuple[str, str]] = importlib.import_module(
        "agent.transforms.registry"
    ).misplaced(settings, before)
    return found
