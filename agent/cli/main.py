"""
The command `tailrace`: runs a command and says how it ended.

Exit codes are those of sysexits: 0 done, 64 wrong usage, 70 broken state, 75 try again (the state directory is
held, the disk is full), 78 configuration.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING

from agent.cli.usage import parser
from agent.core.errors import RetryError, StopError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

EXIT_TRY_AGAIN = 75
#: 128 + SIGINT and SIGPIPE, as a shell reports them.
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one command and return its exit code.
    """
    # Imports make a hundred thousand objects and no garbage; what runs for long turns it on again.
    gc.disable()
    args = parser().parse_args(arguments)
    try:
        function: Callable[[argparse.Namespace], int] = getattr(
            importlib.import_module(args.module), args.function
        )
        code = function(args)
        sys.stdout.flush()
    except StopError as error:
        return _fail(str(error), error.exit_code)
    except RetryError as error:
        return _fail(str(error), EXIT_TRY_AGAIN)
    except ExceptionGroup as group:
        # Several routes may stop at once, each for its own reason.
        stops, others = group.split(StopError)
        if stops is None or others is not None:
            raise
        leaves = _leaves(stops)
        return _fail("\n".join(str(error) for error in leaves), leaves[0].exit_code)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `tailrace losses | head`: Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    finally:
        gc.enable()
    return code


def _leaves(group: ExceptionGroup[StopError]) -> list[StopError]:
    found = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, ExceptionGroup) else [error]
    return found


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"{message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
