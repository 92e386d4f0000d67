"""
A sink with one key of every kind, and configurations with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from msgspec import Meta

from agent.config import ConfigError, parse, registry
from agent.config.registry import Component

if TYPE_CHECKING:
    from agent.config import Config

ENVIRON = {
    "REGION": "eu-west-1",
    "FIVE": "5",
    "EMPTY": "",
    "ZERO": "0123",
    "TRUE": "true",
    "SIZE": "2MiB",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    deep: Annotated[int, Meta(ge=1)] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """
    One key of every kind.
    """

    type: Literal["probe"] = "probe"
    url: Annotated[str, Meta(description="Where to.")]
    text: str = ""
    linger_s: Annotated[float, Meta(ge=0)] = 5.0
    count: Annotated[int, Meta(ge=1, le=64)] = 16
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    window_bytes_max: Annotated[int, Meta(ge=1024)] = 1 << 20
    on: bool = False
    mode: Literal["fast", "careful"] = "fast"
    names: Annotated[tuple[str, ...], Meta(max_length=2)] = ()
    tags: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    nested: Nested = field(default_factory=Nested)
    many: tuple[Nested, ...] = ()

    def problems(self) -> list[tuple[str, object, str]]:
        if not self.url.startswith("probe://"):
            return [("url", self.url, "a URL, e.g. probe://host")]
        return []


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Let the configuration know the sink type `probe`.
    """
    monkeypatch.setitem(registry.SINKS, "probe", Component(__name__, "ProbeSettings"))


def configured(text: str, **environ: str) -> Config:
    return parse(text, name="t.yaml", environ=ENVIRON | environ)


def problems(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configured(text, **environ)
    assert caught.value.exit_code == 78
    lines = str(caught.value).split("\n")
    assert len(lines) == len(caught.value.problems)
    assert all(line.startswith("t.yaml: ") for line in lines)
    return [line.removeprefix("t.yaml: ") for line in lines]


def sink(text: str, **environ: str) -> Any:
    body = "\n".join(f"      {line}" for line in text.splitlines())
    config = configured(
        f"routes:\n  - name: r\n    sink:\n      type: probe\n      url: probe://x\n{body}",
        **environ,
    )
    return config.routes[0].sink


def sink_problems(text: str, **environ: str) -> list[str]:
    body = "\n".join(f"      {line}" for line in text.splitlines())
    found = problems(
        f"routes:\n  - name: r\n    sink:\n      type: probe\n      url: probe://x\n{body}",
        **environ,
    )
    return [line.removeprefix("routes[0].sink.") for line in found]
