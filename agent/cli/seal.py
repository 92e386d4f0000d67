"""
`tailrace seal SPEC.json…`: sealed windows of staging to Parquet, one after the other, in a process of its own.

pyarrow costs 38–75 MB for ever in the process that imports it, so the agent starts this child instead.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.core.errors import StopError
from agent.runtime import heap
from agent.sinks.parquet_manifest import SealSpec

if TYPE_CHECKING:
    import argparse


def main(args: argparse.Namespace) -> int:
    """
    Run the command; returns its exit code.
    """
    if "numpy" not in sys.modules and find_spec("numpy") is not None:
        # pyarrow would import it, for conversions that nobody asks for here: 12 MiB and 0.2 s.
        sys.modules["numpy"] = None  # type: ignore[assignment]  # as if it were not installed
    heap.use_one_heap()

    import pyarrow as pa

    from agent.cli.seal_window import seal

    # One core of a node that has other work: a thread pool would only add memory.  The system's
    # allocator gives back what a row group needed: 135 MiB at the peak instead of 178 with mimalloc.
    pa.set_cpu_count(1)
    pa.set_memory_pool(pa.system_memory_pool())
    for path in args.specs:
        try:
            spec = msgspec.json.decode(Path(path).read_bytes(), type=SealSpec)
            seal(spec)
        except StopError as error:
            print(error, file=sys.stderr)
            return error.exit_code
        except (OSError, msgspec.DecodeError) as error:
            # Cut off, where the next agent is writing it anew: then nobody waits for this child any more.
            print(f"the window of {path} cannot be sealed: {error}", file=sys.stderr)
            return 1
    return 0
