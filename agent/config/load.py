"""
From a file to a Config: reading, converting, and the checks between keys.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from agent.config import registry
from agent.config.convert import BAD, Converter, expectation, shown
from agent.config.problems import ConfigError, Problem, child, nearest, wrong
from agent.config.text import Scalar, read_tree
from agent.config.transforms import fields_without_parse, read_transforms, refuse_conflicts
from agent.config.values import Config, Name, RouteConfig, RouteOptions, SourceConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config.registry import Component

#: Hundreds of routes; anything larger is not a configuration.
FILE_BYTES_MAX = 2**20
#: Name of a source that has none.
DEFAULT_SOURCE = "containers"
_OPTION_KEYS = tuple(item.name for item in dataclasses.fields(RouteOptions))
_ROUTE_KEYS = ("name", "source", "sink", "transforms", *_OPTION_KEYS)


def load(path: str, environ: Mapping[str, str] | None = None) -> Config:
    """
    Return the configuration in the file *path*.

    Raises ConfigError (78) with every problem.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        problem = Problem("", f"cannot be read: {error.strerror}: is the path right?")
        raise ConfigError(path, [problem]) from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(path, [Problem("", "is larger than 1MiB: is this the right file?")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(path, [Problem("", f"line {line}: is not UTF-8")]) from error
    return parse(text, name=path, environ=os.environ if environ is None else environ)


def parse(text: str, *, name: str, environ: Mapping[str, str]) -> Config:
    """
    Return the configuration in *text*; *name* stands for its file in messages.

    Raises ConfigError (78) with every problem.
    """
    tree, problems = read_tree(text, environ)
    if tree is None:
        raise ConfigError(name, problems)
    reader = _Reader()
    config = reader.config(tree)
    # Where a value could not be read, what is said about its substitute is noise.
    known = {problem.path for problem in problems}
    problems += [problem for problem in reader.problems if problem.path not in known]
    if problems or config is None:
        raise ConfigError(name, problems)
    return config


class _Reader:
    """
    Reads a tree into a Config.
    """

    def __init__(self) -> None:
        self._converter = Converter()
        self.problems = self._converter.problems

    def config(self, tree: Any) -> Config | None:
        if not isinstance(tree, dict):
            self.problems.append(wrong("", shown(tree), "a mapping with the key routes"))
            return None
        own = {key: value for key, value in tree.items() if key not in {"sources", "routes"}}
        config = self._converter.settings(Config, own, "")
        sources = self._sources(tree.get("sources"))
        known = _names(tree.get("sources", [{}]), DEFAULT_SOURCE)
        names = [name for name in dict.fromkeys(known) if name]
        routes = self._routes(tree.get("routes"), names)
        if config is BAD or sources is None or routes is None:
            return None
        assert isinstance(config, Config)
        self._name_clusters(config, sources)
        refuse_conflicts(routes, sources, self.problems)
        return dataclasses.replace(
            config, node=config.node or os.uname().nodename, sources=sources, routes=routes
        )

    def _name_clusters(self, config: Config, sources: tuple[SourceConfig, ...]) -> None:
        for index, source in enumerate(sources):
            if source.type == "eks_control_plane" and not source.settings.queries(config.cluster):
                text = "is empty and `cluster` is not set, expected the clusters to fetch, each with a name"
                self.problems.append(Problem(f"sources[{index}].clusters", text))

    def _sources(self, tree: Any) -> tuple[SourceConfig, ...] | None:
        if tree is None:
            tree = [{}]
        items = self._list("sources", tree, "a list of sources, each with paths")
        found = [self._source(item, f"sources[{index}]") for index, item in enumerate(items)]
        self._refuse_twins("sources", _names(items, DEFAULT_SOURCE))
        sources = tuple(source for source in found if source is not None)
        return sources if sources and len(sources) == len(found) else None

    def _source(self, tree: Any, path: str) -> SourceConfig | None:
        if not isinstance(tree, dict):
            self.problems.append(wrong(path, shown(tree), "a mapping with name, type and paths"))
            return None
        name = self._name(tree.get("name", Scalar(DEFAULT_SOURCE, DEFAULT_SOURCE)), path)
        kind = tree.get("type", Scalar("files", "files"))
        settings = self._component(
            registry.SOURCES, kind, tree, path, given=frozenset({"name", "type"})
        )
        if name is None or settings is None:
            return None
        return SourceConfig(name=name, type=str(kind.value), settings=settings)

    def _routes(self, tree: Any, sources: list[str]) -> tuple[RouteConfig, ...] | None:
        if tree is None or tree == [] or (isinstance(tree, Scalar) and tree.value is None):
            expected = "a list of routes, each with a name and a sink"
            self.problems.append(Problem("routes", f"no routes, expected {expected}"))
            return None
        items = self._list("routes", tree, "a list of routes, each with a name and a sink")
        found = [self._route(item, f"routes[{index}]", sources) for index, item in enumerate(items)]
        self._refuse_twins("routes", _names(items, ""))
        routes = tuple(route for route in found if route is not None)
        return routes if routes and len(routes) == len(found) else None

    def _route(self, tree: Any, path: str, sources: list[str]) -> RouteConfig | None:
        if not isinstance(tree, dict):
            self.problems.append(wrong(path, shown(tree), "a mapping with name and sink"))
            return None
        for key in tree:
            if key not in _ROUTE_KEYS:
                self._converter.unknown(child(path, key), key, _ROUTE_KEYS)
        name = self._name(tree.get("name"), path)
        source = self._route_source(tree.get("source"), path, sources)
        sink_path = child(path, "sink")
        sink = tree.get("sink")
        if not isinstance(sink, dict):
            expected = f"a mapping with type, one of {', '.join(registry.SINKS)}"
            text = (
                f"is missing, expected {expected}"
                if sink is None
                else f"got {shown(sink)}, expected {expected}"
            )
            self.problems.append(Problem(sink_path, text))
            return None
        settings = self._component(
            registry.SINKS, sink.get("type"), sink, sink_path, given=frozenset({"type"})
        )
        given = {key: value for key, value in tree.items() if key in _OPTION_KEYS}
        options = self._converter.settings(RouteOptions, given, path)
        transforms = read_transforms(
            tree.get("transforms"), child(path, "transforms"), self._converter
        )
        fields_without_parse(settings, transforms or (), sink_path, self._converter)
        if None in (name, source, settings, transforms) or options is BAD:
            return None
        assert name is not None
        assert source is not None
        assert transforms is not None
        return RouteConfig(
            name=name,
            source=source,
            type=sink["type"].text,
            sink=settings,
            transforms=transforms,
            select=options.select,
            on_missing_metadata=options.on_missing_metadata,
        )

    def _route_source(self, tree: Any, path: str, sources: list[str]) -> str | None:
        if tree is None:
            return sources[0] if sources else None
        if isinstance(tree, Scalar) and tree.text in sources:
            return tree.text
        hint = nearest(tree.text, sources) if isinstance(tree, Scalar) else ""
        expected = (
            f"the name of a source: {', '.join(sources)}{hint}"
            if sources
            else "the name of a source"
        )
        self.problems.append(wrong(child(path, "source"), shown(tree), expected))
        return None

    def _component(
        self,
        known: dict[str, Component],
        kind: Any,
        tree: dict[str, Any],
        path: str,
        *,
        given: frozenset[str],
    ) -> Any:
        expected = f"one of {', '.join(known)}"
        if kind is None:
            self.problems.append(Problem(child(path, "type"), f"is missing, expected {expected}"))
            return None
        if not isinstance(kind, Scalar) or kind.text not in known:
            hint = nearest(kind.text, known) if isinstance(kind, Scalar) else ""
            self.problems.append(wrong(child(path, "type"), shown(kind), expected + hint))
            return None
        cls = known[kind.text].load()
        settings = self._converter.settings(cls, tree, path, given=given)
        return None if settings is BAD else settings

    def _name(self, tree: Any, path: str) -> str | None:
        where, expected = child(path, "name"), expectation(Name, "name")
        if tree is None:
            self.problems.append(Problem(where, f"is missing, expected {expected}"))
            return None
        value = self._converter.leaf(Name, tree, where)
        return None if value is BAD else str(value)

    def _list(self, path: str, tree: Any, expected: str) -> list[Any]:
        if isinstance(tree, list) and tree:
            return tree
        self.problems.append(wrong(path, "an empty list" if tree == [] else shown(tree), expected))
        return []

    def _refuse_twins(self, path: str, names: list[str]) -> None:
        for index, name in enumerate(names):
            first = names.index(name)
            if name and first != index:
                text = f'"{name}" is the name of {path}[{first}] as well: give each its own'
                self.problems.append(Problem(f"{path}[{index}].name", text))


def _names(items: Any, default: str) -> list[str]:
    """
    Return the names in a list of sources or routes; empty for those that have none.
    """
    if not isinstance(items, list):
        return []
    default_name = Scalar(default, default)
    found = [item.get("name", default_name) if isinstance(item, dict) else None for item in items]
    return [name.text if isinstance(name, Scalar) else "" for name in found]
