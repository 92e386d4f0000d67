"""
The JSON Schema and the reference agree with what the configuration accepts.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config import load, parse, registry
from agent.config.schema import config_reference, schema
from agent.config.values import Config

#: Comes with moto, without types.
jsonschema: Any = importlib.import_module("jsonschema")

EXAMPLES = sorted((Path(__file__).parent.parent / "config" / "examples").glob("*.yaml"))
ENVIRON = {"CLUSTER_NAME": "demo", "ARCHIVE_BUCKET": "my-logs"}


@pytest.fixture(scope="module")
def validator() -> Any:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples(path: Path, validator: Any) -> None:
    """
    What people copy is valid, for the agent and in an editor.
    """
    config = load(str(path), ENVIRON)
    assert config.routes
    validator.validate(yaml.safe_load(path.read_text()))


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"minimal.yaml", "eks.yaml", "local-files.yaml"}


@pytest.mark.parametrize(
    "text",
    [
        "routes: [{name: r, sink: {type: blackhole, delay_s: '${DELAY:-1}'}}]",
        "memory_budget_bytes: 64MiB\nroutes: [{name: r, sink: {type: blackhole}}]",
        "memory_budget_bytes: 67108864\nroutes: [{name: r, sink: {type: blackhole}}]",
        "log: {level: '${LEVEL:-info}'}\nroutes: [{name: r, sink: {type: blackhole}}]",
        "sources: [{paths: [/a]}]\nroutes: [{name: r, sink: {type: blackhole}}]",
    ],
)
def test_accepted(text: str, validator: Any) -> None:
    parse(text, name="t", environ={})
    validator.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"routes": []},
        {"routes": [{"name": "r"}]},
        {"routes": [{"name": "../r", "sink": {"type": "blackhole"}}]},
        {"routes": [{"name": "r", "sink": {"type": "blackhole", "delay": 1}}]},
        {"routes": [{"name": "r", "sink": {"type": "blackhole", "delay_s": -1}}]},
        {"routes": [{"name": "r", "sink": {"type": "parquet"}}]},
        {"routes": [{"name": "r", "sink": {"type": "nothing"}}]},
        {"routes": [{"name": "r", "sink": {"type": "blackhole"}}], "clustr": "x"},
        {"routes": [{"name": "r", "sink": {"type": "blackhole"}}], "memory_budget_bytes": "1MB"},
        {"routes": [{"name": "r", "sink": {"type": "blackhole"}}], "sources": [{"type": "file"}]},
    ],
)
def test_refused(document: dict[str, Any], validator: Any) -> None:
    assert not validator.is_valid(document)


def test_every_key_is_described() -> None:
    """
    Schema and reference have a sentence for every key of every component.
    """
    reference = config_reference()
    made = schema()
    components = {
        **{f"source_{name}": item for name, item in registry.SOURCES.items()},
        **{f"sink_{name}": item for name, item in registry.SINKS.items()},
    }
    for name, item in components.items():
        for field in dataclasses.fields(item.load()):
            if field.name != "type":
                assert made["$defs"][name]["properties"][field.name].get("description"), (
                    name,
                    field.name,
                )
                assert f"| `{field.name}` |" in reference, (name, field.name)
    for field in dataclasses.fields(Config):
        assert field.name in made["properties"]
    assert "| `url` | text | required |" in reference
    assert "| `memory_budget_bytes` | bytes at least 4MiB" in reference
    assert "| `32MiB` |" in reference
