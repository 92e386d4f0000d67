"""
The transforms by name: where their Settings and their stages are.

A transform in the configuration is a mapping with the name of exactly one of them among its keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agent.transforms.limit import LimitSettings, LimitStage
from agent.transforms.metric import MetricSettings, MetricStage
from agent.transforms.multiline import MultilineSettings
from agent.transforms.parse import ParseSettings, ParseStage
from agent.transforms.record import RecordSettings, RecordStage
from agent.transforms.redact import RedactSettings, RedactStage
from agent.transforms.sample import SampleSettings, SampleStage
from agent.transforms.where import WhereSettings, WhereStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent.transforms.stage import Stage


class Kind(NamedTuple):
    """
    A transform: its Settings, and what makes a stage of them.
    """

    settings: type
    stage: Callable[[Any], Stage]


def _no_stage(settings: object) -> Stage:
    raise AssertionError(f"{settings}: lines are joined before the stages")


KINDS: dict[str, Kind] = {
    "multiline": Kind(MultilineSettings, _no_stage),
    "parse": Kind(ParseSettings, ParseStage),
    "where": Kind(WhereSettings, WhereStage),
    "redact": Kind(RedactSettings, RedactStage),
    "sample": Kind(SampleSettings, SampleStage),
    "limit": Kind(LimitSettings, LimitStage),
    "record": Kind(RecordSettings, RecordStage),
    "metric": Kind(MetricSettings, MetricStage),
}


def kind_of(settings: object) -> Kind:
    """
    Return the kind that *settings* belong to.
    """
    return next(kind for kind in KINDS.values() if isinstance(settings, kind.settings))


def misplaced(settings: object, before: Sequence[object]) -> Iterator[tuple[str, str]]:
    """
    Yield (key, problem) of *settings* that stand behind the transforms *before*.
    """
    if isinstance(settings, MultilineSettings):
        if before:
            yield (
                "multiline",
                "stands behind another transform: lines are joined as they are read, put it first",
            )
        return
    stage = kind_of(settings).stage(settings)
    key = name_of(settings)
    needs = [f"fields.{name}" for name in stage.fields_used()] if key != "parse" else []
    needs += ["level"] if stage.uses_level else []
    if needs and not any(isinstance(item, ParseSettings) for item in before):
        yield key, f"uses {needs[0]}, but no parse stands before it: put one there"


def name_of(settings: object) -> str:
    """
    Return the name of the transform that *settings* belong to.
    """
    return next(name for name, kind in KINDS.items() if isinstance(settings, kind.settings))
