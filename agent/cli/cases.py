"""
`tailrace test`: the cases that a configuration has for its own routes.

    tests:
      - route: alerts
        lines: ['{"level":"info"}', '{"level":"error","mail":"joe@example.com"}']
        expect: ['{"level":"error","mail":"[redacted:email]"}']
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from agent.cli.trial import PATH, find_route, through
from agent.config import load

if TYPE_CHECKING:
    import argparse

    from agent.config.values import CaseConfig, Config

EXIT_FAILED = 1


def main(args: argparse.Namespace) -> int:
    """
    Run the cases.  Exit codes: 0 all hold, 1 some do not, 78 the configuration is wrong.
    """
    config = load(args.config)
    failed = 0
    for index, case in enumerate(config.tests):
        name = case.name or f"tests[{index}]"
        problem = run(config, case, args.config)
        sys.stdout.write(f"{'FAILED' if problem else 'ok'}  {name}\n{problem}")
        failed += bool(problem)
    sys.stdout.write(f"{len(config.tests)} cases, {failed} failed\n")
    return EXIT_FAILED if failed else 0


def run(config: Config, case: CaseConfig, path: str) -> str:
    """
    Return in what a case fails; empty where it holds.
    """
    route = find_route(config, case.route, path)
    lines = [line.encode("utf-8", "surrogateescape") for line in case.lines]
    done = through(config, route, lines, case.path or PATH, count=len(route.transforms))
    found = [row.message.decode("utf-8", "replace") for row in done.rows]
    expected = list(case.expect)
    if found == expected:
        return ""
    parts = [f"    - {text}\n" for text in expected if text not in found]
    parts += [f"    + {text}\n" for text in found if text not in expected]
    order = "" if parts else "    the rows are there, in another order or number\n"
    return f"    expected (-) and found (+):\n{''.join(parts)}{order}"
