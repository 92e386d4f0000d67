"""
`tailrace schema`: the JSON Schema of the configuration, or its reference in Markdown.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from agent.config.schema import config_reference, schema

if TYPE_CHECKING:
    import argparse


def main(args: argparse.Namespace) -> int:
    """
    Print it.
    """
    if args.markdown:
        sys.stdout.write(config_reference())
        return 0
    text = msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode()
    sys.stdout.write(text + "\n")
    return 0
