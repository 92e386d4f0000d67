"""
Kill the process at a named point, for the crash tests.

`TAILRACE_CRASH_AT=commit_before:3` kills the process with SIGKILL when the point `commit_before` is
passed for the third time.  Without the variable nothing is installed.
"""

from __future__ import annotations

import os
import signal

from agent.core import faults

VARIABLE = "TAILRACE_CRASH_AT"


def install() -> None:
    """
    Read TAILRACE_CRASH_AT and arm the point that it names.
    """
    wanted = os.environ.get(VARIABLE, "")
    if not wanted:
        return
    name, _, count = wanted.partition(":")
    left = int(count or 1)

    def hook(passed: str) -> None:
        nonlocal left
        if passed == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    faults.hook = hook
