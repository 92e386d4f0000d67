"""
The `transforms` of a route: a list of mappings, each with the name of exactly one transform among its keys.

    transforms:
      - parse: json
        time_field: ts
      - where: level >= warn
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from agent.config import registry
from agent.config.convert import BAD, shown
from agent.config.problems import Problem, child, nearest, wrong
from agent.core.templates import fields_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.config.convert import Converter
    from agent.config.values import RouteConfig, SourceConfig

#: A person writes five.
TRANSFORMS_MAX = 32


def read_transforms(tree: Any, path: str, converter: Converter) -> tuple[Any, ...] | None:
    """
    Return the Settings of the transforms in *tree*; None where something is wrong, which is noted.
    """
    problems = converter.problems
    if tree is None:
        return ()
    if not isinstance(tree, list) or len(tree) > TRANSFORMS_MAX:
        got = f"{len(tree)} of them" if isinstance(tree, list) else shown(tree)
        problems.append(wrong(path, got, f"a list of at most {TRANSFORMS_MAX} transforms"))
        return None
    made = [_transform(item, f"{path}[{index}]", converter) for index, item in enumerate(tree)]
    if any(item is None for item in made):
        return None
    before = len(problems)
    for index, item in enumerate(made):
        for key, text in registry.transforms_misplaced(item, made[:index]):
            problems.append(Problem(child(f"{path}[{index}]", key), text))
    return tuple(made) if len(problems) == before else None


def fields_without_parse(
    sink: Any, transforms: tuple[Any, ...], path: str, converter: Converter
) -> None:
    """
    Note columns and names of *sink* that are made of fields which nothing extracts.
    """
    columns, names = getattr(sink, "promoted", ()), getattr(sink, "name_fields", ())
    if not columns and not names:
        return
    parse = registry.transforms()["parse"].settings
    if any(isinstance(item, parse) for item in transforms):
        return
    if columns:
        key = "columns" if sink.columns else "column_sets"
        text = "are filled by a parse: put one among the transforms of this route"
        converter.problems.append(Problem(child(path, key), text))
    for key in ("group", "stream", "prefix"):
        if used := fields_of(getattr(sink, key, "")):
            text = f"uses {{fields.{used[0]}}}, which a parse finds: put one among the transforms of this route"
            converter.problems.append(Problem(child(path, key), text))


def refuse_conflicts(
    routes: Sequence[RouteConfig], sources: Sequence[SourceConfig], problems: list[Problem]
) -> None:
    """
    Note transforms that do not agree with the source of their route, or with those of other routes.
    """
    timeouts = {
        source.name: getattr(source.settings, "piece_timeout_s", math.inf) for source in sources
    }
    metrics: dict[str, tuple[object, str]] = {}
    for number, route in enumerate(routes):
        for index, item in enumerate(route.transforms):
            path = f"routes[{number}].transforms[{index}]"
            timeout_s = timeouts[route.source]
            hold_s = getattr(item, "hold_max_s", 0.0)
            if hold_s > timeout_s:
                text = (
                    f"is {hold_s:g}, longer than piece_timeout_s of source {route.source} ({timeout_s:g}), after which "
                    "what is open is let go: lower it, or raise that"
                )
                problems.append(Problem(child(path, "hold_max_s"), text))
            if name := getattr(item, "metric", ""):
                # Prometheus refuses a whole scrape in which one name stands for two things.
                family = name.removesuffix("_total")
                shape, first = metrics.setdefault(family, (item.shape, path))
                if shape != item.shape:
                    text = (
                        f'"{name}" has another type, label, bucket or help at {first}: '
                        "make them alike, or rename one"
                    )
                    problems.append(Problem(child(path, "metric"), text))


def _transform(tree: Any, path: str, converter: Converter) -> Any:
    known = registry.transforms()
    expected = f"a mapping with one of the keys {', '.join(known)}"
    if not isinstance(tree, dict):
        converter.problems.append(wrong(path, shown(tree), expected))
        return None
    names = [key for key in tree if key in known]
    if len(names) != 1:
        if names:
            text = f"got {' and '.join(names)}, expected one transform an item"
        else:
            hints = [hint for key in tree if (hint := nearest(str(key), known))]
            text = f"got {', '.join(tree) or 'nothing'}, expected {expected}{''.join(hints[:1])}"
        converter.problems.append(Problem(path, text))
        return None
    settings = converter.settings(known[names[0]].settings, tree, path)
    return None if settings is BAD else settings
