"""
What a configuration is refused with.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.config import parse
from agent.config.problems import ConfigError

ROUTE = {"name": "r", "sink": {"type": "blackhole"}}


def refusal(source: dict[str, Any]) -> str:
    """
    Return every problem of a configuration with *source* in it, which has one.
    """
    text = json.dumps({"sources": [{"name": "s"} | source], "routes": [ROUTE]})
    with pytest.raises(ConfigError) as refused:
        parse(text, name="t.yaml", environ={})
    return str(refused.value)
