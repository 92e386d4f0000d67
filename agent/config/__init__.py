"""
The configuration: a YAML file and the environment, to frozen Settings.

    from agent.config import load
    config = load("/etc/tailrace/tailrace.yaml")

Everything is checked before anything is started, and every problem is reported at once; each message
names the file, the key's path, the value and what was expected (ConfigError, exit code 78).

To add a key: a field with a default and a description in values.py, or in the component's Settings.  The
JSON Schema, `--help` of editors and the reference in the documentation follow from it (schema.py).
"""

from agent.config.load import load, parse
from agent.config.problems import ConfigError, Problem
from agent.config.values import AdminConfig, Config, LogConfig, RouteConfig, SourceConfig

__all__ = [
    "AdminConfig",
    "Config",
    "ConfigError",
    "LogConfig",
    "Problem",
    "RouteConfig",
    "SourceConfig",
    "load",
    "parse",
]
